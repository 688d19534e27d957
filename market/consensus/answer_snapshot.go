package consensus

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// The kinds of question that a machine asks that joins as a replica.
const (
	AskOffers   Question = 10 // which snapshots are there, and which blocks?
	AskManifest Question = 11 // what a snapshot consists of, and the headers that prove it
	AskChunk    Question = 12 // a chunk of the state
	AskPage     Question = 13 // a page of the history
)

// OffersQuestion asks what there is.
type OffersQuestion struct {
	_ struct{} `cbor:",toarray"`
}

// OffersAnswer says it. Nothing of it is proven.
type OffersAnswer struct {
	_         struct{}     `cbor:",toarray"`
	Base      int64        // of the first block that is kept; 0: none
	Newest    int64        // of the newest
	Every     int64        // after how many blocks a snapshot is made; less than 1: none are
	Pruned    market.Month // newest month whose lines are not kept
	Snapshots []Offer      // newest first
}

// Offer is one snapshot.
type Offer struct {
	_        struct{} `cbor:",toarray"`
	Height   int64
	Manifest [32]byte // store.Manifest.ID
}

// ManifestQuestion asks for the manifest of a height.
type ManifestQuestion struct {
	_      struct{} `cbor:",toarray"`
	Height int64
}

// ManifestAnswer has it, with what proves it: the header of its block, and that of the next,
// in which the AppHash is, each with its signatures and validators; the validators of the
// block after those; and the way from the genesis document to all of them.
type ManifestAnswer struct {
	_        struct{} `cbor:",toarray"`
	Manifest []byte   // store.Manifest.Encode
	Block    []byte   // as in HeaderAnswer
	Next     []byte
	After    []byte // the ValidatorSet of the block behind Next, as the engine encodes it
	Changes  []byte // of the validators up to After: []Change in JSON
}

// ChunkQuestion asks for one chunk of the state.
type ChunkQuestion struct {
	_      struct{} `cbor:",toarray"`
	Height int64
	Chunk  uint32
}

// ChunkAnswer has it.
type ChunkAnswer struct {
	_     struct{} `cbor:",toarray"`
	Bytes []byte
}

// PageAnswer has a page of the history.
type PageAnswer struct {
	_    struct{} `cbor:",toarray"`
	Page []byte   // store.Page.Encode
}

// errStranger: the ledger as a whole is for members.
var errStranger = errors.New("only members may ask for that")

// memberAsks is true of the network key of a member, as of the newest state.
func (n *Node) memberAsks(from ed25519.PublicKey) (err error) {
	n.book.read(func(s *ledger.State) {
		if !s.IsMember(from) {
			err = errStranger
		}
	})
	if err == nil && !n.book.open() {
		err = ErrClosed
	}
	return err
}

func answerOffers(_ context.Context, n *Node, from ed25519.PublicKey, _ *OffersQuestion) (*OffersAnswer, error) {
	if err := n.memberAsks(from); err != nil {
		return nil, err
	}
	e := n.engine.Load()
	if e == nil {
		return nil, ErrClosed
	}
	a := &OffersAnswer{Base: e.node.BlockStore().Base(), Newest: e.node.BlockStore().Height(), Every: n.snapshots.every}
	var err error
	if a.Pruned, err = n.book.store.Pruned(); err != nil {
		return nil, err
	}
	for _, s := range n.snapshots.list() {
		// Of its block and the next the headers are needed.
		if h := s.Manifest.Height; h >= a.Base && h < a.Newest {
			a.Snapshots = append(a.Snapshots, Offer{Height: h, Manifest: s.Manifest.ID()})
		}
	}
	return a, nil
}

func answerManifest(_ context.Context, n *Node, from ed25519.PublicKey, q *ManifestQuestion) (*ManifestAnswer, error) {
	if err := n.memberAsks(from); err != nil {
		return nil, err
	}
	s, err := n.snapshots.at(q.Height)
	if err != nil {
		return nil, err
	}
	e := n.engine.Load()
	if e == nil {
		return nil, ErrClosed
	}
	a := &ManifestAnswer{Manifest: s.Manifest.Encode()}
	err = sound("block store", func() error {
		block, err := e.lightBlock(q.Height)
		if err != nil {
			return err
		}
		next, err := e.lightBlock(q.Height + 1)
		if err != nil {
			return err
		}
		after, err := e.states.LoadValidators(q.Height + 2)
		if err != nil {
			return err
		}
		if a.Block, err = encodeLightBlock(block); err != nil {
			return err
		}
		if a.Next, err = encodeLightBlock(next); err != nil {
			return err
		}
		if a.After, err = encodeValidators(after); err != nil {
			return err
		}
		way, err := n.changes.wayTo(q.Height+2, e.node.BlockStore())
		if err == nil {
			a.Changes, err = json.Marshal(way)
		}
		return err
	})
	return a, err
}

func encodeValidators(set *types.ValidatorSet) ([]byte, error) {
	p, err := set.ToProto()
	if err != nil {
		return nil, err
	}
	return p.Marshal()
}

func answerChunk(_ context.Context, n *Node, from ed25519.PublicKey, q *ChunkQuestion) (*ChunkAnswer, error) {
	if err := n.memberAsks(from); err != nil {
		return nil, err
	}
	s, err := n.snapshots.at(q.Height)
	if err != nil {
		return nil, err
	}
	b, err := s.Chunk(int(q.Chunk))
	if err != nil {
		return nil, err
	}
	return &ChunkAnswer{Bytes: b}, nil
}

func answerPage(_ context.Context, n *Node, from ed25519.PublicKey, q *store.Want) (*PageAnswer, error) {
	if err := n.memberAsks(from); err != nil {
		return nil, err
	}
	p, err := n.book.store.Page(*q)
	if err != nil {
		return nil, fmt.Errorf("reading a page: %w", err)
	}
	return &PageAnswer{Page: p.Encode()}, nil
}
