package sim

import (
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	beforeGate = 30 * second // when orders and reports are collected, before each gate
	perHome    = 64          // transactions of one household in a pool
	perBlock   = 200         // transactions of a block, the tick not counted
)

// replica is one validator: what its disk has, and what a crash loses.
type replica struct {
	w   *world
	i   int // also its node in the network
	key ledger.Key

	offset    int64 // its clock is ahead by so many ms
	up        bool
	crashIn   crashPoint // where the next commit ends
	adversary *adversary

	disk disk

	// Lost in a crash.
	state   *ledger.State
	height  int64
	pool    []*pooled // in the order of arrival
	waiting map[[32]byte]bool
	voted   map[vote]bool
	wakes   int64 // the instant for which a wake is planned; 0: none
	pause   int64 // between two rings for a tick that did not come
	ringAt  int64
	swept   market.Interval // for whose gate the pool has been emptied
	tries   int             // and how many blocks that took
}

type pooled struct {
	tx   *ledger.Tx
	home market.HouseholdID
	at   int64
}

// vote is what a validator votes on once.
type vote struct {
	height int64
	round  int
}

// disk is what a crash leaves: the records of the ledger and how far they are, written
// together or not at all, and the blocks, which are written before.
type disk struct {
	records map[string][]byte
	height  int64
	hash    [32]byte
	blocks  int64
}

// crashPoint is where a commit is cut.
type crashPoint int

const (
	crashNowhere crashPoint = iota
	crashBefore             // the block is on the disk, the ledger is not
	crashAfter              // both are, memory is not
)

func newReplica(w *world, i int) *replica {
	r := &replica{w: w, i: i, key: public(key("validator", i)), up: true}
	state, first, err := ledger.Found(chainID, w.genesis)
	if err != nil {
		panic("sim: the genesis that it made: " + err.Error())
	}
	r.disk.records = map[string][]byte{}
	r.disk.write(first)
	r.disk.hash = state.AppHash()
	r.state = state
	r.forgetMemory()
	return r
}

func (d *disk) write(delta *ledger.Delta) {
	for _, rec := range delta.Records {
		if rec.Value == nil {
			delete(d.records, rec.Key)
		} else {
			d.records[rec.Key] = rec.Value
		}
	}
}

// load builds the state that the disk has.
func (d *disk) load(g ledger.Genesis) (*ledger.State, error) {
	return ledger.LoadState(chainID, g, func(yield func(string, []byte) bool) {
		for _, k := range slices.Sorted(maps.Keys(d.records)) {
			if !yield(k, d.records[k]) {
				return
			}
		}
	})
}

func (r *replica) forgetMemory() {
	r.pool, r.waiting, r.voted = nil, map[[32]byte]bool{}, map[vote]bool{}
	r.wakes, r.pause, r.ringAt, r.swept, r.tries = 0, 0, 0, -1, 0
}

// clock is the replica's own.
func (r *replica) clock() int64 { return r.w.now + r.offset }

func (r *replica) stop(why string) {
	if !r.up {
		return
	}
	r.w.trace("validator %d: %s at height %d", r.i, why, r.height)
	r.w.report.Crashes++
	r.up, r.state = false, nil
	r.forgetMemory()
}

// start loads what the disk has and goes on from there.
func (r *replica) start() {
	if r.up {
		return
	}
	s, err := r.disk.load(r.w.genesis)
	if err != nil {
		r.w.check.bad("validator %d does not start: %v", r.i, err)
		return
	}
	if s.AppHash() != r.disk.hash {
		r.w.check.bad("validator %d: what the disk had at height %d comes to %x, it was %x", r.i, r.disk.height, s.AppHash(), r.disk.hash)
		return
	}
	r.up, r.state, r.height = true, s, r.disk.height
	r.w.trace("validator %d starts at height %d of %d", r.i, r.height, len(r.w.engine.chain))
	r.apply(r.disk.blocks)
	r.catchUp()
	r.wake()
}

// take judges a transaction that comes from a home or from another validator. One that is
// new goes on to the others, once.
func (r *replica) take(tx *ledger.Tx, pass bool) {
	if !r.up || r.waiting[tx.Hash()] {
		return
	}
	if err := r.state.CheckTx(tx); err != nil {
		return
	}
	mine := 0
	for _, p := range r.pool {
		if p.home == tx.Household() {
			mine++
		}
	}
	if mine >= perHome {
		return
	}
	r.pool = append(r.pool, &pooled{tx: tx, home: tx.Household(), at: r.w.now})
	r.waiting[tx.Hash()] = true
	if pass {
		for _, o := range r.w.replicas {
			if o != r {
				r.w.net.send(r.i, o.i, func() { o.take(tx, false) })
			}
		}
	}
	r.wake()
}

// due says whether something is worth a block by this replica's clock, and if not when to
// look again.
func (r *replica) due() (due bool, again int64) {
	gate := r.w.gate(r.state.Next())
	if r.clock() > gate {
		if r.w.now < r.ringAt {
			return false, r.ringAt
		}
		return true, 0
	}
	again = gate + 1 - r.offset
	collect := gate - beforeGate
	for _, p := range r.pool {
		switch k := p.tx.Kind(); {
		case k != ledger.KindOrder && k != ledger.KindReport:
			return true, 0
		case r.clock() < collect:
			again = min(again, collect-r.offset)
		case r.swept != r.state.Next(), r.tries <= (validators-1)/3 && r.w.now-p.at > 3*second:
			return true, 0
		}
	}
	return false, again
}

// wake looks whether there is something to do, now or later.
func (r *replica) wake() {
	if !r.up {
		return
	}
	due, again := r.due()
	if due {
		r.w.engine.ring(r)
		return
	}
	again = max(again, r.w.now+1)
	if r.wakes > r.w.now && r.wakes <= again {
		return
	}
	r.wakes = again
	r.w.at(again, func() {
		if r.up && r.wakes == again {
			r.wakes = 0
			r.wake()
		}
	})
}

// propose makes the block of this replica's turn.
func (r *replica) propose(height int64) [][]byte {
	var txs [][]byte
	tick, closing := dueTick(r.state, r.clock())
	collecting := closing
	if due, _ := r.due(); due {
		collecting = true
	}
	if collecting {
		pool := slices.Clone(r.pool)
		slices.SortStableFunc(pool, func(a, b *pooled) int { return int(a.tx.Kind()) - int(b.tx.Kind()) })
		for _, p := range pool[:min(len(pool), perBlock)] {
			if r.state.VerifyTx(p.tx, nil) == nil {
				txs = append(txs, p.tx.Bytes())
			}
		}
	}
	if closing {
		txs = append(txs, tick)
	}
	if a := r.adversary; a != nil && a.propose != nil {
		return a.propose(r, height, txs)
	}
	return txs
}

// judge is a replica's vote on a proposal.
func (r *replica) judge(p *proposal) bool {
	if a := r.adversary; a != nil && a.vote != nil {
		return a.vote(r, p)
	}
	if r.voted[vote{p.height, p.round}] {
		return false
	}
	r.voted[vote{p.height, p.round}] = true
	err := judge(r.state, p.txs, r.clock(), r.w.engine.decode)
	if err != nil {
		r.w.report.BadProposals++
		r.w.trace("validator %d refuses the proposal of %d at height %d: %v", r.i, p.from, p.height, err)
	}
	return err == nil
}

// apply applies decided blocks up to a height.
func (r *replica) apply(to int64) {
	for r.up && r.height < to {
		r.commit(&r.w.engine.chain[r.height])
	}
}

// commit applies one block, makes it durable and then visible.
func (r *replica) commit(b *block) {
	height := r.height + 1
	r.disk.blocks = max(r.disk.blocks, height)
	if r.cut(crashBefore) {
		return
	}
	delta, receipts, err := ledger.Apply(r.state, ledger.Block{
		Seed: b.seed, Txs: b.txs, Signed: b.signed, Faulty: b.faulty, Verified: r.w.engine.verified,
	})
	if err != nil {
		r.w.check.bad("validator %d: block %d: %v", r.i, height, err)
		return
	}
	r.disk.write(delta)
	r.disk.height, r.disk.hash = height, delta.AppHash()
	if r.cut(crashAfter) {
		return
	}
	r.state.Absorb(delta)
	r.height = height
	r.settle(receipts)
	r.w.check.applied(r, b, delta, receipts)
}

// cut crashes the replica if this is the place.
func (r *replica) cut(at crashPoint) bool {
	if r.crashIn != at {
		return false
	}
	r.crashIn = crashNowhere
	r.stop("crashes in a commit")
	r.w.after(10*second+r.w.rnd.Int64N(5*minute), r.start)
	return true
}

// settle takes out of the pool what the block had, and what it made worthless.
func (r *replica) settle(receipts []ledger.Receipt) {
	orders, ticked := false, false
	for _, x := range receipts {
		orders = orders || x.Kind != ledger.KindTick
		ticked = ticked || x.Kind == ledger.KindTick
		if r.waiting[x.Hash] {
			r.waiting[x.Hash] = false
		}
	}
	r.pool = slices.DeleteFunc(r.pool, func(p *pooled) bool {
		if r.waiting[p.tx.Hash()] && r.state.CheckTx(p.tx) == nil {
			return false
		}
		delete(r.waiting, p.tx.Hash())
		return true
	})
	if ticked {
		r.pause, r.ringAt, r.tries = 0, 0, 0
	}
	if orders && r.clock() >= r.w.gate(r.state.Next())-beforeGate {
		if r.swept == r.state.Next() {
			r.tries++
		}
		r.swept = r.state.Next()
	}
}

// catchUp asks others for blocks as long as there are some that this replica has not.
func (r *replica) catchUp() {
	if !r.up || r.height >= int64(len(r.w.engine.chain)) {
		return
	}
	best := r.height
	for _, o := range r.w.replicas {
		if o.up && r.w.net.joined(r.i, o.i) {
			best = max(best, o.height)
		}
	}
	r.apply(best)
	r.wake()
	if r.up && r.height < int64(len(r.w.engine.chain)) {
		r.w.after(2*second, r.catchUp)
	}
}
