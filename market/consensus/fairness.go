package consensus

import (
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// longest is the patience of a node whose Intervals leave the time: an order that has been
// here for so long was sent twice by its home (at once, and after republishFirst), and
// several blocks could have been made since. So who had it not by then is not just slow.
const longest = republishFirst + 3*time.Second

// fairness remembers, for the Interval whose gate is next, what C10 needs.
type fairness struct {
	mu     sync.Mutex
	of     market.Interval
	before time.Time // orders held since then, and waiting still, were left out by a block
	tries  int       // blocks since that could have had them
}

func (f *fairness) about(k market.Interval) (before time.Time, tries int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of != k {
		return time.Time{}, 0
	}
	return f.before, f.tries
}

// leftOut notes that a block has left out what has waited since before.
func (f *fairness) leftOut(k market.Interval, before time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of != k {
		f.of, f.before, f.tries = k, time.Time{}, 0
	}
	if before.After(f.before) {
		f.before = before
	}
}

// tried notes a block that could have had what is overdue, and whether it had all of it.
func (f *fairness) tried(k market.Interval, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of != k {
		f.of, f.before, f.tries = k, time.Time{}, 0
	}
	if f.tries++; all {
		f.tries = 0
	}
}

// learn notes what a block says about C10, once it is in the ledger.
func (n *Node) learn(s *ledger.State, j *judgement) {
	if j.interval != s.Next() || !j.inTime {
		return
	}
	if len(j.hashes) > 0 {
		n.fair.leftOut(j.interval, j.before)
	}
	if j.extra {
		n.fair.tried(j.interval, !n.waitsOverdue(s, n.cfg.Now()))
	}
}

// lastCall is how long before a gate orders that came after the block before it are
// collected once more.
func (n *Node) lastCall() time.Duration { return n.beforeGate / 3 }

// overdue says whether orders for the next gate ask for a block of their own (C10). As many
// blocks in a row are tried for them as have an honest proposer among them, and no more: they
// may be orders that the others do not have.
func (n *Node) overdue(s *ledger.State, now time.Time) bool {
	_, tries := n.fair.about(s.Next())
	return tries <= (len(s.Validators())-1)/3 && n.waitsOverdue(s, now)
}

// waitsOverdue says whether orders for the next gate wait that a block should have had: those
// that one left out, and from the last call on those that came after it.
func (n *Node) waitsOverdue(s *ledger.State, now time.Time) bool {
	next := s.Next()
	before, _ := n.fair.about(next)
	if late := now.Sub(wallGate(s, next).Add(-n.lastCall())); late >= 0 {
		if called := time.Now().Add(-late - n.patience); called.After(before) {
			before = called
		}
	}
	return !before.IsZero() && n.pool.holdsOrder(next, before)
}

// holdsOrder says whether an order for k has waited since before.
func (p *pool) holdsOrder(k market.Interval, before time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.byHash {
		if o, ok := e.tx.Order(); ok && o.Interval == k && e.since.Before(before) {
			return true
		}
	}
	return false
}

// heldOrders returns the orders that have waited since before.
func (p *pool) heldOrders(before time.Time) (held []*ledger.Tx) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.byHash {
		if e.tx.Kind() == ledger.KindOrder && e.since.Before(before) {
			held = append(held, e.tx)
		}
	}
	return held
}

// curve names what a later order replaces.
type curve struct {
	home     market.HouseholdID
	interval market.Interval
	side     market.Side
}

// judgement is what a node notes of a proposal when it judges it, so as to know what it
// left out should it become a block.
type judgement struct {
	proposer ledger.ValidatorAddress
	interval market.Interval // whose gate was next
	hashes   map[[32]byte]bool
	orders   map[curve]uint64 // their highest sequence numbers
	txs      int              // the tick not counted
	bytes    int              // with what framing may cost
	// before: orders held since then could have been in it; zero: it was not to have any.
	before time.Time
	inTime bool // before the gate, when orders are collected
	extra  bool // some were overdue
}

func newJudgement(proposer []byte, txs int) *judgement {
	return &judgement{proposer: addressOf(proposer), hashes: make(map[[32]byte]bool, txs), orders: map[curve]uint64{}}
}

// add notes a transaction of the proposal.
func (j *judgement) add(tx *ledger.Tx) {
	j.bytes += len(tx.Bytes()) + blockOverhead
	if tx.Kind() != ledger.KindTick {
		j.txs++
	}
	if o, ok := tx.Order(); ok {
		c := curve{tx.Household(), o.Interval, o.Side}
		j.orders[c] = max(j.orders[c], o.Seq)
	}
}

// expect says what the proposal should have had. Blocks that prove the hash of the one before
// are empty for good reason; one that comes well after orders were due is not.
func (n *Node) expect(s *ledger.State, j *judgement) {
	now, held := n.cfg.Now(), time.Now()
	j.interval = s.Next()
	since := now.Sub(wallGate(s, j.interval).Add(-n.beforeGate))
	j.inTime = since >= 0
	j.extra = j.inTime && n.overdue(s, now)
	switch {
	case len(j.hashes) > 0:
		j.before = held.Add(-n.patience)
	case since >= n.patience && n.dueTxs(s, now).due:
		j.before = held.Add(-since - n.patience)
	}
}

// fits says whether the proposal had room for a transaction, whatever its proposer took the
// limits for.
func (j *judgement) fits(tx *ledger.Tx) bool {
	return j.txs < maxBlockTxs && j.bytes+len(tx.Bytes())+blockOverhead <= maxBlockBytes*3/4
}

// leftOut counts the orders that a block left out though this node had held them for long
// before it was proposed, they were good, and there was room (C11).
func (n *Node) leftOut(s *ledger.State, j *judgement) (count uint64) {
	if j.before.IsZero() {
		return 0
	}
	for _, tx := range n.pool.heldOrders(j.before) {
		o, _ := tx.Order()
		if j.hashes[tx.Hash()] || j.orders[curve{tx.Household(), o.Interval, o.Side}] > o.Seq || !j.fits(tx) || s.CheckTx(tx) != nil {
			continue
		}
		count++
	}
	return count
}
