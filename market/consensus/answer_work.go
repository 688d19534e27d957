package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// AskWork is the first kind of question about the engine.
const AskWork Question = 20

// WorkQuestion asks whether somebody else is at work with the asker's validator key.
type WorkQuestion struct {
	_     struct{}   `cbor:",toarray"`
	Key   ledger.Key // the validator key
	Nonce [workNonce]byte
}

// WorkAnswer is what the answering home knows. All that speaks against the asker is signed
// with a key of the asker's own.
type WorkAnswer struct {
	_ struct{} `cbor:",toarray"`
	// Vote is the newest vote of the key that it has seen, in the engine's encoding.
	Vote []byte
	// Runs are what processes prove that it is connected with under the asker's network key.
	Runs [][]byte
	// Same is the nonce signed with the validator key, if it is the answering home's too.
	Same []byte
}

const (
	maxVote = 1 << 10 // bytes of a vote
	maxRuns = 8       // proofs in an answer

	workNonce  = 32
	workDomain = "commonwatt/work/1"
)

// workMessage is what a home that has the same validator key signs with it. No vote looks
// like that.
func (n *Node) workMessage(nonce [workNonce]byte) []byte {
	return slices.Concat([]byte(workDomain), []byte(n.doc.ChainID), nonce[:])
}

func answerWork(ctx context.Context, n *Node, from ed25519.PublicKey, q *WorkQuestion) (*WorkAnswer, error) {
	e := n.engine.Load()
	if e == nil {
		return nil, errors.New("the ledger has not started here")
	}
	a := &WorkAnswer{}
	if v := n.newestVote(e, cmted25519.PubKey(q.Key[:])); v != nil {
		raw, err := v.ToProto().Marshal()
		if err != nil {
			return nil, err
		}
		a.Vote = raw
	}
	a.Runs = n.network.Runs(ctx, from, q.Nonce[:])
	a.Runs = a.Runs[:min(len(a.Runs), maxRuns)]
	if q.Key == n.ownKey() && n.isValidator() && !from.Equal(n.cfg.NodeKey.Public()) && n.guard.isOpen() {
		signature, err := n.validator.Key.PrivKey.Sign(n.workMessage(q.Nonce))
		if err != nil {
			return nil, err
		}
		a.Same = signature
	}
	return a, nil
}

// newestVote finds the last vote of a validator that this node knows of: in the rounds that
// are being decided, or else in the last block's commit.
func (n *Node) newestVote(e *engine, key cmted25519.PubKey) *types.Vote {
	var newest *types.Vote
	take := func(v *types.Vote) {
		if v != nil && (newest == nil || stepOf(v).compare(stepOf(newest)) > 0) {
			newest = v
		}
	}
	address := key.Address()
	// While the guard has somebody wait, the engine holds its locks.
	if !e.syncing() && n.guard.waiting.Load() == 0 {
		rs := e.state.GetRoundState()
		if rs.Votes != nil && rs.Validators != nil && rs.Validators.HasAddress(address) {
			for round := rs.Votes.Round(); round >= 0; round-- {
				take(rs.Votes.Prevotes(round).GetByAddress(address))
				take(rs.Votes.Precommits(round).GetByAddress(address))
			}
		}
		if rs.LastCommit != nil && rs.LastValidators != nil && rs.LastValidators.HasAddress(address) {
			take(rs.LastCommit.GetByAddress(address))
		}
	}
	store := e.node.BlockStore()
	if commit := store.LoadSeenCommit(store.Height()); commit != nil {
		take(voteIn(commit, address))
	}
	return newest
}

func stepOf(v *types.Vote) step { return voteStep(v.Height, v.Round, v.Type) }

// voteIn finds a validator's vote in a commit.
func voteIn(commit *types.Commit, address types.Address) *types.Vote {
	for i, s := range commit.Signatures {
		if s.BlockIDFlag != types.BlockIDFlagAbsent && s.ValidatorAddress.String() == address.String() {
			return commit.GetVote(int32(i))
		}
	}
	return nil
}

// judgeWork returns an error that wraps ErrElsewhere if an answer proves that our validator
// key is at work elsewhere.
func (n *Node) judgeWork(from p2p.ID, nonce [workNonce]byte, a *WorkAnswer) error {
	if len(a.Runs) > maxRuns || len(a.Vote) > maxVote {
		return nil // it proves nothing, and is not worth looking at
	}
	for _, proof := range a.Runs {
		if n.network.Elsewhere(nonce[:], proof) {
			return fmt.Errorf("%w: home %s is connected with another process that has this home's network key as well", ErrElsewhere, n.nameOf(from))
		}
	}
	pub := n.validator.Key.PubKey
	if len(a.Same) > 0 && pub.VerifySignature(n.workMessage(nonce), a.Same) {
		return fmt.Errorf("%w: home %s runs with the same validator key", ErrElsewhere, n.nameOf(from))
	}
	v, ok := n.readVote(a.Vote)
	if !ok {
		return nil // there is none, or it proves nothing
	}
	if n.guard.noteLost(v.Height) {
		return nil // of the time before
	}
	if last := n.guard.signed(); stepOf(v).compare(last) > 0 {
		return fmt.Errorf("%w: home %s has its vote for block %d, round %d, and this home has signed no further than block %d, round %d",
			ErrElsewhere, n.nameOf(from), v.Height, v.Round, last.height, last.round)
	}
	return nil
}

// readVote reads a vote of our own validator key.
func (n *Node) readVote(b []byte) (v *types.Vote, ok bool) {
	var raw cmtproto.Vote
	if len(b) == 0 || raw.Unmarshal(b) != nil {
		return nil, false
	}
	v, err := types.VoteFromProto(&raw)
	return v, err == nil && v.Verify(n.doc.ChainID, n.validator.Key.PubKey) == nil
}

// nameOf is how a home is called in an error: its pseudonym, or what the engine calls it.
func (n *Node) nameOf(id p2p.ID) string {
	for _, key := range n.network.Peers() {
		if engineID(key) == id {
			if h, err := n.householdOf(key); err == nil {
				return h.String()
			}
		}
	}
	return string(id)
}

// checkBlocks looks for our own signature in blocks above what this home has signed: it has
// been given an older state of its validator key.
func (n *Node) checkBlocks(e *engine) error {
	if !n.isValidator() {
		return nil
	}
	store, last := e.node.BlockStore(), n.guard.signed()
	address := n.validator.GetAddress()
	for height := store.Height(); height >= max(store.Base(), last.height, 1); height-- {
		commit := store.LoadBlockCommit(height)
		if height == store.Height() {
			commit = store.LoadSeenCommit(height)
		}
		if commit == nil {
			continue
		}
		if v := voteIn(commit, address); v != nil && stepOf(v).compare(last) > 0 {
			return fmt.Errorf("%w: block %d has its signature, and this home has signed no further than block %d",
				ErrElsewhere, height, last.height)
		}
	}
	return nil
}

// checkVotes looks for votes of our key in the rounds being decided that this home has not
// made: the other one was out of reach when we started.
func (n *Node) checkVotes(e *engine) {
	if !n.guard.isOpen() || n.cfg.faults.unguarded {
		return
	}
	v := n.newestVote(e, cmted25519.PubKey(n.validator.Key.PubKey.Bytes()))
	if v == nil || stepOf(v).compare(n.guard.signed()) <= 0 {
		return
	}
	n.fail(fmt.Errorf("%w: a vote of it for block %d, round %d came that this home did not make", ErrElsewhere, v.Height, v.Round))
}
