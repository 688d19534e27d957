package sim

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// maxWrong is how many broken promises of one run are told.
const maxWrong = 5

// checker watches the run from outside. It believes the homes' journals and the meters, and
// computes anew what the ledger says; it shares no arithmetic with the market.
type checker struct {
	w     *world
	wrong []error

	hashes  [][32]byte // after each block
	next    market.Interval
	orders  map[[32]byte]*orderNote // acknowledged, by the hash of their transactions
	reports map[[32]byte]*reportNote
	made    []*orderNote // in the order of their making
	book    map[market.Interval][]curves
	gates   map[market.Interval]gateNote
	counted []map[market.Interval]share              // by home: what its acknowledged reports say
	newest  []map[market.Interval]*ledger.Settlement // by home
	left    int                                      // settlements that are still missing or substituted, see whole
}

// orderNote is an acknowledged order.
type orderNote struct {
	home     int
	interval market.Interval
	side     market.Side
	seq      uint64
	steps    []ledger.Step
	made     int64
	loose    bool // its home does not deserve that it counts
}

// reportNote is an acknowledged report.
type reportNote struct {
	home  int
	from  market.Interval
	count uint32
}

// curves are what a home has ordered for an Interval.
type curves struct {
	seq   [2]uint64
	steps [2][]ledger.Step // bid, offer
}

// gateNote is what the block that closed a gate decided.
type gateNote struct {
	seed    [32]byte // of the block
	metered bool
}

// share is what a report gives an Interval.
type share struct {
	imported, exported market.WattHours
	quality            ledger.Quality
}

func newChecker(w *world) *checker {
	c := &checker{
		w: w, next: w.first, orders: map[[32]byte]*orderNote{}, reports: map[[32]byte]*reportNote{},
		book: map[market.Interval][]curves{}, gates: map[market.Interval]gateNote{},
	}
	for range w.report.Homes {
		c.counted = append(c.counted, map[market.Interval]share{})
		c.newest = append(c.newest, map[market.Interval]*ledger.Settlement{})
	}
	return c
}

func (c *checker) bad(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	c.w.trace("WRONG: %v", err)
	if len(c.wrong) < maxWrong {
		c.wrong = append(c.wrong, err)
	}
}

// ordered takes in that a home has acknowledged an order.
func (c *checker) ordered(h *home, raw []byte, o *orderNote) {
	o.home, o.made, o.loose = h.i, c.w.now, o.loose || h.loose
	c.orders[sha256.Sum256(raw)] = o
	c.made = append(c.made, o)
}

// reported takes in that a home has acknowledged a report. What it gives each Interval is
// computed here: the floor of the running sum.
func (c *checker) reported(h *home, it *item) {
	c.reports[sha256.Sum256(it.raw)] = &reportNote{home: h.i, from: it.from, count: it.count}
	n, q := int64(it.count), ledger.QualityGood
	if n > 1 {
		q = ledger.QualityEstimated
	}
	at := it.from - c.w.first
	in := int64(h.imported[at+market.Interval(n)] - h.imported[at])  //nolint:gosec // small
	out := int64(h.exported[at+market.Interval(n)] - h.exported[at]) //nolint:gosec // small
	for i := range n {
		c.counted[h.i][it.from+market.Interval(i)] = share{
			imported: market.WattHours(in*(i+1)/n - in*i/n), exported: market.WattHours(out*(i+1)/n - out*i/n), quality: q,
		}
	}
}

// applied takes in that a replica has applied a block.
func (c *checker) applied(r *replica, b *block, delta *ledger.Delta, receipts []ledger.Receipt) {
	hash := r.state.AppHash()
	if hash != delta.AppHash() {
		c.bad("height %d: validator %d has the hash %x after a change to %x", r.height, r.i, hash, delta.AppHash())
	}
	if at := r.height - 1; at < int64(len(c.hashes)) {
		if c.hashes[at] != hash {
			c.bad("height %d: validator %d has the hash %x, others have %x", r.height, r.i, hash, c.hashes[at])
		}
		return
	}
	c.hashes = append(c.hashes, hash)
	c.sum(r)
	for i, x := range receipts {
		if x.Refusal != nil {
			c.w.report.Refused++
			c.w.trace("refused at height %d: %s: %v", r.height, x.Kind, x.Refusal)
			continue
		}
		c.accepted(r, b.txs[i], x)
	}
	for k := c.next; k < r.state.Next(); k++ {
		c.closed(r, b, k)
	}
	c.next = r.state.Next()
	for _, e := range delta.History {
		switch {
		case e.Settlement != nil:
			c.settlement(e.Settlement)
		case e.Result != nil:
			c.result(e.Result)
		}
	}
}

// sum holds S3.
func (c *checker) sum(r *replica) {
	var total market.Money
	for _, m := range r.state.Accounts() {
		total += m
	}
	if total != 0 {
		c.bad("height %d: the balances add up to %d", r.height, total)
	}
	if pool, _ := r.state.Balance(market.AccountMarket); pool != 0 {
		c.bad("height %d: the market's own balance is %d", r.height, pool)
	}
}

// accepted takes in a transaction that the ledger has applied: somebody must have made it.
func (c *checker) accepted(r *replica, raw []byte, x ledger.Receipt) {
	switch x.Kind { //nolint:exhaustive // nobody sends the others
	case ledger.KindOrder:
		o, ok := c.orders[x.Hash]
		if !ok {
			c.bad("height %d: an order of %s counts that its home has not made", r.height, x.Household)
			return
		}
		c.w.report.OrdersKept++
		all := c.book[o.interval]
		if all == nil {
			all = make([]curves, len(c.w.homes))
			c.book[o.interval] = all
		}
		at := o.side - market.Bid
		mine := &all[o.home]
		if o.interval < c.next || o.seq <= mine.seq[at] {
			c.bad("height %d: order %d of home %d for interval %d counts after order %d, and interval %d is next",
				r.height, o.seq, o.home, o.interval, mine.seq[at], c.next)
		}
		mine.seq[at], mine.steps[at] = o.seq, o.steps
		if len(o.steps) == 1 && o.steps[0].WattHours == 0 {
			mine.steps[at] = nil
		}
	case ledger.KindReport:
		if _, ok := c.reports[x.Hash]; !ok {
			c.bad("height %d: a report of %s counts that its home has not made", r.height, x.Household)
		}
	case ledger.KindTick, ledger.KindHousehold:
	case ledger.KindMeter:
		for _, h := range c.w.homes {
			if m, ok := r.state.Meter(h.meterID); ok && h.from == 0 {
				h.from = m.From
				c.left += int(max(0, c.w.last-m.From+1))
			}
		}
	default:
		c.bad("height %d: a transaction of kind %s, %d bytes, counts that nobody has made", r.height, x.Kind, len(raw))
	}
}

// closed judges the gate of an Interval that a block has just closed (S6), and what the
// ledger has noted of the orders.
func (c *checker) closed(r *replica, b *block, k market.Interval) {
	const slack = tolerance + honestClock
	if early := c.w.gate(k) - b.at; early > slack {
		c.bad("height %d: the gate of %d closes %d ms before its time", r.height, k, early)
	}
	rec, ok := r.state.Interval(k)
	waited := 0
	for _, h := range c.w.homes {
		if h.takes(k) {
			waited++
		}
	}
	if !ok && waited == 0 {
		return
	}
	if !ok || len(rec.Entries) != waited {
		c.bad("height %d: the gate of %d closes, and not for all of %d homes", r.height, k, waited)
		return
	}
	if rec.Metered != (c.w.genesis.Rules.Clearing == ledger.ClearingMetered) && (!rec.Metered || c.w.start(k)-b.at > slack) {
		c.bad("height %d: metered is %t of interval %d, which begins in %d ms", r.height, rec.Metered, k, c.w.start(k)-b.at)
	}
	if rec.Metered {
		c.w.report.Metered++
	}
	c.gates[k] = gateNote{seed: b.seed, metered: rec.Metered}
	for _, h := range c.w.homes {
		e, ok := rec.Entry(h.id)
		if !ok {
			if h.takes(k) {
				c.bad("height %d: home %d has no part in interval %d", r.height, h.i, k)
			}
			continue
		}
		have := c.at(k, h.i)
		if e.BidSeq != have.seq[0] || e.OfferSeq != have.seq[1] || !slices.Equal(e.Bid, have.steps[0]) || !slices.Equal(e.Offer, have.steps[1]) {
			c.bad("height %d, interval %d: home %d has the orders %d and %d at the gate, its accepted ones are %d and %d",
				r.height, k, h.i, e.BidSeq, e.OfferSeq, have.seq[0], have.seq[1])
		}
	}
}

func (c *checker) at(k market.Interval, home int) curves {
	if all := c.book[k]; all != nil {
		return all[home]
	}
	return curves{}
}

// settlement takes in that a home's Interval is settled (S4).
func (c *checker) settlement(s *ledger.Settlement) {
	h := c.w.homeOf(s.Household)
	if h == nil || !h.takes(s.Interval) {
		c.bad("interval %d is settled for %s, who has no part in it", s.Interval, s.Household)
		return
	}
	old, again := c.newest[h.i][s.Interval]
	switch {
	case !again && s.Version != 1, again && s.Version != old.Version+1:
		c.bad("interval %d of home %d: version %d is settled, and before it %t", s.Interval, h.i, s.Version, again)
	case again && old.Quality != ledger.QualitySubstitute:
		c.bad("interval %d of home %d was settled on a report and is settled again", s.Interval, h.i)
	}
	if again {
		c.w.report.Corrections++
	} else {
		c.w.report.Settlements++
	}
	c.newest[h.i][s.Interval] = s
	if s.Quality != ledger.QualitySubstitute {
		c.left--
	}
	have := c.at(s.Interval, h.i)
	if s.BidSeq != have.seq[0] || s.OfferSeq != have.seq[1] {
		c.bad("interval %d of home %d is settled on orders %d and %d, at the gate there were %d and %d", s.Interval, h.i, s.BidSeq, s.OfferSeq, have.seq[0], have.seq[1])
	}
	c.energy(h, s)
	c.prices(h, s)
}

// energy compares a settlement with what the home's meter has counted.
func (c *checker) energy(h *home, s *ledger.Settlement) {
	want, ok := c.counted[h.i][s.Interval]
	if s.Quality == ledger.QualitySubstitute {
		want, ok = share{s.Bought, s.Sold, s.Quality}, true
	}
	if got := (share{s.Import, s.Export, s.Quality}); !ok || got != want {
		c.bad("interval %d of home %d is settled on %d Wh in and %d out (%s), its meter has %d and %d (%s)",
			s.Interval, h.i, got.imported, got.exported, got.quality, want.imported, want.exported, want.quality)
	}
}

// result takes in that an Interval is settled for all, and clears it anew.
func (c *checker) result(m *ledger.MarketResult) {
	gate, ok := c.gates[m.Interval]
	if !ok || gate.metered != m.Metered {
		c.bad("interval %d is settled, metered %t, and its gate closed %t", m.Interval, m.Metered, ok)
		return
	}
	var list []*ledger.Settlement
	var bought, sold market.WattHours
	for _, h := range c.w.homes {
		s := c.newest[h.i][m.Interval]
		if s == nil {
			if h.takes(m.Interval) {
				c.bad("interval %d is settled without home %d", m.Interval, h.i)
			}
			continue
		}
		list = append(list, s)
		bought, sold = bought+s.Bought, sold+s.Sold
	}
	if bought != m.Bought || sold != m.Sold || bought+m.GridExport != sold+m.GridImport {
		c.bad("interval %d: bought %d and sold %d Wh, the grid has %d in and %d out", m.Interval, bought, sold, m.GridImport, m.GridExport)
	}
	if len(c.w.genesis.Network) == 0 {
		c.clearing(m, gate, list)
	}
}

// whole says whether everything metered in the run is settled on what the meters counted.
func (c *checker) whole() bool {
	for _, h := range c.w.homes {
		if h.from == 0 {
			return false
		}
	}
	return c.left <= 0
}

// takes says whether the home takes part in an Interval.
func (h *home) takes(k market.Interval) bool { return h.from > 0 && k >= h.from }

func (w *world) homeOf(id market.HouseholdID) *home {
	for _, h := range w.homes {
		if h.id == id {
			return h
		}
	}
	return nil
}
