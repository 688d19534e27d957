package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

// HeaderQuestion asks for the header of a block, or for the newest.
type HeaderQuestion struct {
	_      struct{} `cbor:",toarray"`
	Height int64    // 0: the newest
	// Above lets the answer wait until the newest is above this height, or the time is over.
	// Such an answer says how high the newest is and leaves the block out: whoever waits asks
	// several, and needs it of one.
	Above int64
	Wait  uint32 // milliseconds, see MaxWait
}

// HeaderAnswer has it, and from where to where the one who answers has headers.
type HeaderAnswer struct {
	_      struct{} `cbor:",toarray"`
	Base   int64
	Newest int64
	Block  []byte // a LightBlock as the engine encodes it; null: not there
}

const (
	// MaxWait is how long an answer waits for news.
	MaxWait = 20 * time.Second
	// maxWaiting bounds how many wait at a time: each holds one of the network's slots for
	// requests. Whoever is above it is answered at once.
	maxWaiting = 48
	// maxLightBlock bounds an encoded LightBlock: 100 validators have about 20 kB.
	maxLightBlock = 256 << 10
)

func answerHeader(ctx context.Context, n *Node, _ ed25519.PublicKey, q *HeaderQuestion) (*HeaderAnswer, error) {
	if q.Height < 0 || q.Above < 0 {
		return nil, fmt.Errorf("%w: height %d, above %d: want 0 or more", ErrQuestion, q.Height, q.Above)
	}
	if q.Height == 0 && q.Wait > 0 {
		n.awaitHeader(ctx, q.Above, min(time.Duration(q.Wait)*time.Millisecond, MaxWait))
	}
	e := n.engine.Load()
	if e == nil {
		return nil, ErrClosed
	}
	a := &HeaderAnswer{}
	err := sound("block store", func() error {
		blocks := e.node.BlockStore()
		a.Base, a.Newest = blocks.Base(), blocks.Height()
		height := q.Height
		if height == 0 {
			height = a.Newest
		}
		if q.Height == 0 && q.Wait > 0 || height == 0 || height < a.Base || height > a.Newest {
			return nil
		}
		block, err := e.lightBlock(height)
		if err == nil {
			a.Block, err = encodeLightBlock(block)
		}
		return err
	})
	if err != nil {
		n.log.WarnContext(ctx, "header not given", "height", q.Height, "err", err)
		return nil, errors.New("the header cannot be read here")
	}
	return a, nil
}

// awaitHeader waits for a block above a height.
func (n *Node) awaitHeader(ctx context.Context, above int64, wait time.Duration) {
	if n.waiting.Add(1) > maxWaiting {
		n.waiting.Add(-1)
		return
	}
	defer n.waiting.Add(-1)
	events, cancel := n.Subscribe()
	defer cancel()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		if e := n.engine.Load(); e == nil || e.node.BlockStore().Height() > above {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case _, open := <-events:
			if !open {
				return
			}
		}
	}
}

// lightBlock reads a header, the signatures on it and the validators whose they are. Of the
// newest block there are only those signatures that this node has seen.
func (e *engine) lightBlock(height int64) (*types.LightBlock, error) {
	blocks := e.node.BlockStore()
	meta := blocks.LoadBlockMeta(height)
	commit := blocks.LoadBlockCommit(height)
	if commit == nil {
		commit = blocks.LoadSeenCommit(height)
	}
	if meta == nil || commit == nil {
		return nil, fmt.Errorf("block %d: the header or its signatures are missing", height)
	}
	set, err := e.states.LoadValidators(height)
	if err != nil {
		return nil, err
	}
	return &types.LightBlock{
		SignedHeader: &types.SignedHeader{Header: &meta.Header, Commit: commit}, ValidatorSet: set,
	}, nil
}

func encodeLightBlock(b *types.LightBlock) ([]byte, error) {
	p, err := b.ToProto()
	if err != nil {
		return nil, err
	}
	return p.Marshal()
}

// decodeLightBlock reads a LightBlock and checks that its parts fit together: that the
// validators are those the header names, and that the signatures are on this header. Whether
// they are right, and whether those are the chain's validators, is not asked here.
func decodeLightBlock(chainID string, raw []byte) (b *types.LightBlock, err error) {
	if len(raw) == 0 || len(raw) > maxLightBlock {
		return nil, fmt.Errorf("%w: header: %d bytes, want 1 to %d", ErrAnswer, len(raw), maxLightBlock)
	}
	// The engine's types panic on sums of votes that no chain can have.
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("%w: header: %s", ErrAnswer, firstLine(r))
		}
	}()
	p := new(cmtproto.LightBlock)
	if err := p.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrAnswer, err)
	}
	if b, err = types.LightBlockFromProto(p); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrAnswer, err)
	}
	if err := b.ValidateBasic(chainID); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrAnswer, err)
	}
	// Whose turn it is to propose is in no header and matters to nobody here; so that
	// providers need not agree on it, it is set anew.
	all := make([]*types.Validator, b.ValidatorSet.Size())
	for i, v := range b.ValidatorSet.Validators {
		all[i] = types.NewValidator(v.PubKey, v.VotingPower)
	}
	b.ValidatorSet = types.NewValidatorSet(all)
	return b, b.ValidateBasic(chainID)
}
