package consensus

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// guard stands between the engine and the validator key (C8). It signs nothing new before it
// has been opened, which clear does once it is sure that nobody else signs with this key.
// Until then a signature is waited for: an engine that is refused one goes on as if it had
// abstained, and if all validators did so after a power cut, they would wait for each other
// for ever.
type guard struct {
	pv      *privval.FilePV
	open    chan struct{} // closed: it may sign
	done    chan struct{} // closed: it will not
	wanted  chan struct{} // capacity 1: a signature has been asked for
	waiting atomic.Int32  // signatures that wait, while the engine holds its locks

	mu      sync.Mutex
	last    step            // of the last signature
	lost    string          // file that says that last is not the last signature; empty: it is
	seen    int64           // height of the newest of our votes that others have, if lost
	cleared map[p2p.ID]bool // peers that know of nobody else; at most one for each member
}

// step is a place in the order in which a validator signs.
type step struct {
	height int64
	round  int32
	part   int8 // 1 a proposal, 2 a prevote, 3 a precommit
}

func (s step) compare(o step) int {
	return cmp.Or(cmp.Compare(s.height, o.height), cmp.Compare(s.round, o.round), cmp.Compare(s.part, o.part))
}

func voteStep(height int64, round int32, kind cmtproto.SignedMsgType) step {
	s := step{height: height, round: round, part: 2}
	if kind == cmtproto.PrecommitType {
		s.part = 3
	}
	return s
}

func newGuard(pv *privval.FilePV) *guard {
	return &guard{
		pv: pv, open: make(chan struct{}), done: make(chan struct{}), wanted: make(chan struct{}, 1),
		last:    step{pv.LastSignState.Height, pv.LastSignState.Round, pv.LastSignState.Step},
		cleared: map[p2p.ID]bool{},
	}
}

var _ types.PrivValidator = (*guard)(nil)

// GetPubKey is the engine's question whose validator this is.
func (g *guard) GetPubKey() (crypto.PubKey, error) { return g.pv.GetPubKey() }

// SignVote is the engine's wish to vote.
func (g *guard) SignVote(chainID string, v *cmtproto.Vote) error {
	return g.sign(voteStep(v.Height, v.Round, v.Type), func() error { return g.pv.SignVote(chainID, v) })
}

// SignProposal is the engine's wish to propose.
func (g *guard) SignProposal(chainID string, p *cmtproto.Proposal) error {
	return g.sign(step{p.Height, p.Round, 1}, func() error { return g.pv.SignProposal(chainID, p) })
}

var errNotCleared = errors.New("the node ends before it is clear whether its validator key is at work elsewhere")

func (g *guard) sign(at step, sign func() error) error {
	// What it has signed once it may sign again: the same comes out, or an error.
	if at.compare(g.signed()) > 0 {
		g.waiting.Add(1)
		defer g.waiting.Add(-1)
		poke(g.wanted)
		select {
		case <-g.open:
		case <-g.done:
			return errNotCleared
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	err := sign()
	if err == nil && at.compare(g.last) > 0 {
		g.last = at
	}
	return err
}

// signed is the last step that this home has signed.
func (g *guard) signed() step {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last
}

func (g *guard) isOpen() bool {
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}

func (g *guard) clear(id p2p.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cleared[id] = true
}

func (g *guard) isClear(id p2p.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cleared[id]
}

// Times of asking.
const (
	voteEvery  = time.Second            // how often a replica looks whether it has a vote by now
	clearEvery = 100 * time.Millisecond // how often it is looked whom to ask
	clearPause = 500 * time.Millisecond // after an answer that did not come
	clearWait  = 5 * time.Second        // for one answer
)

// inquiry is the search for another home that has our validator key.
type inquiry struct {
	n     *Node
	nonce [workNonce]byte
	next  map[p2p.ID]time.Time // when it is asked again; one for each peer that was asked
	busy  map[p2p.ID]bool
	told  chan reply
}

// reply is what one peer said.
type reply struct {
	id     p2p.ID
	answer *WorkAnswer
	err    error
}

// clear is the goroutine that opens the guard. It returns an error that wraps ErrElsewhere
// if another home has our key. One answer is not enough, for the one who gives it may not
// know the other; so it asks everybody until those who have answered could decide a block
// together with us. Before that our signature would be of no use to anybody.
func (n *Node) clear(ctx context.Context, e *engine) error {
	if !n.awaitVote(ctx) {
		return nil
	}
	ticker := time.NewTicker(clearEvery)
	defer ticker.Stop()
	q := &inquiry{n: n, next: map[p2p.ID]time.Time{}, busy: map[p2p.ID]bool{}, told: make(chan reply)}
	_, _ = rand.Read(q.nonce[:]) // never fails, see crypto/rand
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the waiting: defers run from the last to the first
	for !n.guard.isOpen() {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			q.askAll(ctx, &asking)
		case r := <-q.told:
			if err := q.take(ctx, r); err != nil {
				return err
			}
		}
		if !n.enough() {
			continue
		}
		if n.guard.isLost() {
			if settled, err := n.settleSigned(e); !settled || err != nil {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := n.checkBlocks(e); err != nil {
			return err
		}
		close(n.guard.open)
		n.log.InfoContext(ctx, "nobody else has this validator key", "answers", len(n.guard.cleared))
	}
	return nil
}

// awaitVote returns when this home has a vote, or the engine thinks so; false if ctx ends
// before.
func (n *Node) awaitVote(ctx context.Context) bool {
	ticker := time.NewTicker(voteEvery)
	defer ticker.Stop()
	for !n.isValidator() {
		select {
		case <-ctx.Done():
			return false
		case <-n.guard.wanted:
			return true
		case <-ticker.C:
		}
	}
	return true
}

func (q *inquiry) askAll(ctx context.Context, asking *sync.WaitGroup) {
	now := time.Now()
	for _, key := range q.n.network.Peers() {
		id := engineID(key)
		if q.busy[id] || q.n.guard.isClear(id) || now.Before(q.next[id]) || !q.n.isMember(id) {
			continue
		}
		q.busy[id] = true
		asking.Go(func() {
			a, err := q.ask(ctx, key)
			select {
			case q.told <- reply{id, a, err}:
			case <-ctx.Done():
			}
		})
	}
}

func (q *inquiry) ask(ctx context.Context, key ed25519.PublicKey) (*WorkAnswer, error) {
	if q.n.cfg.Ask == nil {
		return nil, errors.New("this node cannot ask anybody")
	}
	ctx, cancel := context.WithTimeout(ctx, clearWait)
	defer cancel()
	return Put[WorkAnswer](ctx, func(ctx context.Context, _ string, question []byte) ([]byte, error) {
		return q.n.cfg.Ask(ctx, key, question)
	}, "", AskWork, &WorkQuestion{Key: q.n.ownKey(), Nonce: q.nonce})
}

// take judges an answer. What speaks against us has to be proven: no member can keep another
// from signing by a lie.
func (q *inquiry) take(ctx context.Context, r reply) error {
	q.busy[r.id] = false
	if r.answer == nil {
		q.next[r.id] = time.Now().Add(clearPause)
		q.n.log.DebugContext(ctx, "not told whether our validator key is at work elsewhere", "peer", string(r.id), "err", r.err)
		return nil
	}
	if err := q.n.judgeWork(r.id, q.nonce, r.answer); err != nil {
		return err
	}
	q.n.guard.clear(r.id)
	return nil
}

// enough says whether those who have answered could decide a block with us.
func (n *Node) enough() bool {
	own, have, all := n.ownKey(), 0, 0
	n.book.read(func(s *ledger.State) {
		for _, v := range s.Validators() {
			if all++; v.Key == own || n.guard.isClear(engineID(v.Network[:])) {
				have++
			}
		}
	})
	return have >= quorum(all)
}

// openAlone opens the guard before the engine starts if there is nobody to ask: a validator
// that decides by itself has to be able to.
func (n *Node) openAlone(e *engine) error {
	if n.cfg.faults.unguarded {
		close(n.guard.open)
		return nil
	}
	if n.guard.isLost() {
		return nil
	}
	if err := n.checkBlocks(e); err != nil {
		return err
	}
	if !n.guard.isOpen() && n.isValidator() && n.enough() {
		close(n.guard.open)
	}
	return nil
}

// mayDial says whether the engine may call a peer: not before the peer has said that it does
// not know another of us, whose connections our call would break.
func (n *Node) mayDial(id p2p.ID) bool {
	return !n.isValidator() || n.guard.isOpen() || n.guard.isClear(id)
}

func (g *guard) isLost() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost != ""
}

// noteLost says whether it is unknown what was signed; then a vote of ours that others have is
// no sign of another home, but what we may not sign again.
func (g *guard) noteLost(height int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost == "" {
		return false
	}
	g.seen = max(g.seen, height)
	return true
}

// lostMargin is how far above the newest block a validator may have signed that does not
// know any more what: the block behind the newest one, and, if it alone had seen that decided
// before it was damaged, the one behind that.
const lostMargin = 2

// settleSigned finds what may be signed by a validator that does not know what it has signed:
// nothing up to lostMargin above the newest block. It is asked when those who have answered
// could decide a block with us, so that one of them was there when the last block was decided
// before the one that we can have signed; and it waits until we have the blocks that they
// have.
func (n *Node) settleSigned(e *engine) (settled bool, err error) {
	if e.syncing() {
		return false, nil
	}
	height, _ := n.book.tip()
	height = max(height, e.node.BlockStore().Height())
	g := n.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	next := max(height, g.seen) + lostMargin + 1
	state := g.pv.LastSignState
	state.Height, state.Round, state.Step, state.Signature, state.SignBytes = next, 0, 0, nil, nil
	if err := writeSignState(n.cfg.ValidatorStateFile, &state); err != nil {
		return false, err
	}
	g.pv.LastSignState = state
	if err := os.Remove(g.lost); err != nil {
		return false, fmt.Errorf("beginning to sign again: %w", err)
	}
	g.last, g.lost = step{height: next}, ""
	n.log.Info("what this validator had signed is lost, it signs again from a later block on", "newest", height, "from", next)
	return true, nil
}
