package consensus

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/cometbft/cometbft/consensus"
	cstypes "github.com/cometbft/cometbft/consensus/types"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	bellKind  = 'D'
	bellBytes = 1 + 16

	echoEvery   = 200 * time.Millisecond // how often peers are looked at
	echoPause   = time.Second            // between two echoes, lest a peer make us ring at will
	tickPause   = 100 * time.Millisecond // after a ring for a tick that did not come; doubles
	tickPauseTo = 2 * time.Second
)

// bell asks the engine for a block (C1): it is the only thing that ever is in the engine's
// mempool. One rings on every validator, not on the proposer alone, because a validator
// that does not expect a proposal does not notice when it stays away.
type bell struct {
	wake chan struct{} // capacity 1: there is something new to look at

	mu  sync.Mutex
	now []byte // the last one rung
	of  int64  // the height that it asks for

	// Of the goroutine in tend.
	rungFor   int64           // height that the last bell asks for
	echoAfter time.Time       //
	tickFor   market.Interval // what was rung for last, and when it may be again
	tickAfter time.Time
	tickTries int
}

func newBell() *bell { return &bell{wake: make(chan struct{}, 1)} }

// owns says whether a transaction is the bell that this node rang last, for this height. It
// is a secret, so a peer cannot ring it. The height matters when a bell had to wait for a
// commit: what it asked for may be in that block, and the next one would be empty.
func (b *bell) owns(tx []byte, height int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.now) == bellBytes && b.of == height && bytes.Equal(b.now, tx)
}

func (b *bell) draw(height int64) []byte {
	tx := make([]byte, bellBytes)
	tx[0] = bellKind
	_, _ = rand.Read(tx[1:]) // never fails, see crypto/rand
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now, b.of = tx, height
	return tx
}

// duty is whether what waits is worth a block now, and if not when to look again.
type duty struct {
	due   bool
	after time.Duration
}

// dueTxs judges what is in the pool (C2).
func (n *Node) dueTxs(s *ledger.State, now time.Time) duty {
	l := n.pool.load()
	gather := wallGate(s, s.Next()).Add(-n.beforeGate)
	switch {
	case l.txs == 0:
		return duty{after: echoEvery}
	case l.urgent > 0, l.txs >= n.cfg.Pace.Backlog, l.bytes >= n.cfg.Pace.BacklogBytes:
		return duty{due: true}
	case now.Before(gather):
		return duty{after: gather.Sub(now)}
	default:
		// Once before each gate, if nothing is left out; what comes later has a last call,
		// and what comes after that goes with the gate's block.
		return duty{due: n.swept.Load() != int64(s.Next()) || n.overdue(s, now), after: echoEvery}
	}
}

// tend is the goroutine that rings. It looks when poked, at each gate, and every echoEvery.
func (n *Node) tend(ctx context.Context, e *engine) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-n.bell.wake:
		}
		timer.Reset(n.look(e))
	}
}

// look rings if there is a reason to, and says when to look again.
func (n *Node) look(e *engine) time.Duration {
	if e.syncing() {
		return echoEvery
	}
	e.watchConsensus(n)
	if !n.isValidator() {
		return time.Second
	}
	n.checkVotes(e)
	b, now := n.bell, n.cfg.Now()
	height, _ := n.book.tip()
	var txs, gate duty
	n.book.read(func(s *ledger.State) {
		txs = n.dueTxs(s, now)
		gate = b.dueGate(s, now)
	})
	wait := echoEvery
	switch {
	case txs.due || gate.due:
		n.ring(e, height+1)
	case n.hearsEcho(e, height+1):
		b.echoAfter = time.Now().Add(echoPause)
		n.ring(e, height+1)
	default:
		wait = min(wait, txs.after, gate.after)
	}
	return max(wait, time.Millisecond)
}

// dueGate says whether a gate has closed. After a ring that brought no tick it takes its
// time: our clock may be the one that is fast, and each ring costs everybody a block.
func (b *bell) dueGate(s *ledger.State, now time.Time) duty {
	tick, due := dueTick(s, now)
	if !due {
		b.tickTries = 0
		return duty{after: wallGate(s, s.Next()).Sub(now) + time.Nanosecond}
	}
	if next := tick.From; next != b.tickFor {
		b.tickFor, b.tickTries, b.tickAfter = next, 0, time.Time{}
	}
	if wait := time.Until(b.tickAfter); wait > 0 {
		return duty{after: wait}
	}
	return duty{due: true}
}

// ring rings once for each height.
func (n *Node) ring(e *engine, height int64) {
	b := n.bell
	if b.rungFor == height && e.mempool.Size() > 0 {
		return
	}
	if err := e.mempool.CheckTx(b.draw(height), nil, mempool.TxInfo{}); err != nil {
		if full := (mempool.ErrMempoolIsFull{}); !errors.As(err, &full) {
			n.log.Warn("bell not rung", "height", height, "err", err)
		}
		return
	}
	b.rungFor = height
	b.tickAfter = time.Now().Add(min(tickPause<<min(b.tickTries, 16), tickPauseTo))
	b.tickTries++
}

// hearsEcho says whether a peer is busy with our height while we are not. A validator that
// was restarted has an empty pool, so nothing would wake it; and if it is the others'
// missing vote, or the proposer, they would wait for it for ever.
func (n *Node) hearsEcho(e *engine, height int64) bool {
	if e.mempool.Size() > 0 || n.bell.rungFor == height || time.Now().Before(n.bell.echoAfter) {
		return false
	}
	busy := false
	e.node.Switch().Peers().ForEach(func(p p2p.Peer) {
		ps, ok := p.Get(types.PeerStateKey).(*consensus.PeerState)
		if !ok {
			return
		}
		rs := ps.GetRoundState()
		busy = busy || rs.Height == height && (rs.Step >= cstypes.RoundStepPropose || rs.Round > 0)
	})
	return busy
}
