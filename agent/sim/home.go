package sim

import (
	"crypto/ed25519"
	"math/rand/v2"
	"strconv"

	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	resendFirst = 20 * second
	resendLast  = 3 * minute
	heardMost   = 300
)

// home is a household with its meter and its agent.
type home struct {
	w    *world
	i    int // also its node in the network
	rnd  *rand.Rand
	id   market.HouseholdID
	name string // of its node in the community's network

	device, meter ed25519.PrivateKey
	meterID       ledger.MeterID

	// What the meter shows at the start of each Interval, by its distance from world.first.
	imported, exported []uint64

	from  market.Interval // the first in which it takes part; 0: not admitted yet
	off   int             // switched off, so many times over
	loose bool            // it cheats, so that its orders may not count

	// On disk.
	seq    uint64
	read   *reading // the newest
	outbox []*item

	known []trader.Metered // the newest few
}

// reading is a reading of a boundary.
type reading struct {
	at market.Interval // the one that begins
	ledger.Reading
}

// item is something that the home keeps until the ledger has it.
type item struct {
	raw   []byte
	order *orderNote
	from  market.Interval // of a report
	count uint32
	pause int64
}

func newHome(w *world, i int) *home {
	h := &home{w: w, i: i, rnd: w.stream("home" + strconv.Itoa(i)), device: key("device", i), meter: key("meter", i), name: ledger.RootNode}
	h.id = market.HouseholdIDOf(key("household", i).Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
	h.meterID = ledger.MeterIDOf(public(h.meter))
	if n := w.genesis.Network; len(n) > 0 {
		h.name = n[i%len(n)].ID
	}
	h.live()
	for k := w.first; k <= w.last+1; k++ {
		w.at(w.start(k)+h.rnd.Int64N(5*second), func() { h.boundary(k) })
		if k <= w.last {
			w.at(w.gate(k)-h.rnd.Int64N(8*minute), func() { h.trade(k) })
		}
	}
	return h
}

// live draws what the home uses and what its roof gives, for the whole run.
func (h *home) live() {
	n := h.w.opt.Intervals + 2
	h.imported, h.exported = make([]uint64, n), make([]uint64, n)
	base, peak := 20+h.rnd.Int64N(150), int64(0)
	if h.rnd.IntN(3) > 0 {
		peak = 400 + h.rnd.Int64N(1400)
	}
	in, out := uint64(h.rnd.Int64N(1e6)), uint64(h.rnd.Int64N(1e6)) //nolint:gosec // not negative
	for i := range n {
		h.imported[i], h.exported[i] = in, out
		slot := (int64(h.w.first) + int64(i)) % 96
		use := base + h.rnd.Int64N(base)
		if slot >= 68 && slot < 88 {
			use += h.rnd.Int64N(900)
		}
		sun := int64(0)
		if d := 24*24 - (slot-48)*(slot-48); d > 0 {
			sun = peak * d / (24 * 24) * (40 + h.rnd.Int64N(60)) / 100
		}
		switch h.rnd.IntN(12) {
		case 0: // nothing at all
		case 1: // clouds: both ways in one Interval
			in, out = in+uint64(use), out+uint64(sun) //nolint:gosec // not negative
		default:
			if sun > use {
				out += uint64(sun - use) //nolint:gosec // not negative
			} else {
				in += uint64(use - sun) //nolint:gosec // not negative
			}
		}
	}
}

// counted is what the meter counted in an Interval.
func (h *home) counted(k market.Interval) (imported, exported market.WattHours) {
	i := k - h.w.first
	return market.WattHours(h.imported[i+1] - h.imported[i]), market.WattHours(h.exported[i+1] - h.exported[i]) //nolint:gosec // small
}

func (h *home) up() bool {
	return h.off == 0 && (h.i >= len(h.w.replicas) || h.w.replicas[h.i].up)
}

// readAt makes the meter's signed reading of a boundary.
func (h *home) readAt(k market.Interval) *reading {
	i := k - h.w.first
	r := ledger.Reading{
		Meter: h.meterID, Seq: uint64(k), AtMs: h.w.start(k) + h.rnd.Int64N(2*second), //nolint:gosec // never negative
		ImportWh: &h.imported[i], ExportWh: &h.exported[i],
	}
	r.Signature = ed25519.Sign(h.meter, r.SignedBytes())
	return &reading{at: k, Reading: r}
}

// boundary reads the meter, and reports what has passed since the reading before.
func (h *home) boundary(k market.Interval) {
	if !h.up() || !h.takes(k) {
		return
	}
	end, start := h.readAt(k), h.read
	h.read = end
	if start == nil {
		return
	}
	h.w.report.Reports++
	r := ledger.ReportMeter{From: start.at, Count: uint32(k - start.at), Start: start.Reading, End: end.Reading} //nolint:gosec // a day at most
	for j := start.at; j < k && k-start.at == 1; j++ {
		in, out := h.counted(j)
		h.known = append(h.known[max(0, len(h.known)-3):], trader.Metered{Interval: j, Import: in, Export: out})
	}
	it := &item{raw: r.Sign(chainID, h.id, h.device), from: start.at, count: r.Count}
	h.w.check.reported(h, it)
	h.keep(it)
}

// trade orders for an Interval, now and then twice, or takes an order back.
func (h *home) trade(k market.Interval) {
	if !h.up() || !h.takes(k) {
		return
	}
	tariff := market.Tariff{ImportPrice: h.w.genesis.Rules.Tariff.ImportPrice, ExportPrice: h.w.genesis.Rules.Tariff.ExportPrice}
	f, ok := trader.Persist(k, h.known)
	if !ok {
		return
	}
	side, step, ok := trader.Quote(f, market.NoRegret(tariff), h.w.genesis.Rules.MaxWattHours)
	if !ok {
		return
	}
	h.order(k, side, h.curve(side, step))
	if h.rnd.IntN(10) == 0 {
		h.w.after(h.rnd.Int64N(2*minute), func() {
			if !h.up() {
				return
			}
			again := h.curve(side, step)
			if h.rnd.IntN(4) == 0 {
				again = []ledger.Step{{}}
			}
			h.order(k, side, again)
		})
	}
}

// curve draws a price or a few for a quantity; many homes choose the same, which makes ties.
func (h *home) curve(side market.Side, step market.Step) []ledger.Step {
	span := market.Price(220_000)
	low, high := market.Price(80_000), market.Price(300_000)
	if h.rnd.IntN(3) == 0 {
		return []ledger.Step{{Price: step.Price, WattHours: step.WattHours}}
	}
	n := market.WattHours(1 + h.rnd.IntN(3))
	if step.WattHours < n {
		n = 1
	}
	steps := make([]ledger.Step, 0, n)
	for i := range n {
		off := span / market.Price(n) * market.Price(i)
		off += span / market.Price(n) / 4 * market.Price(h.rnd.IntN(4))
		s := ledger.Step{Price: high - off, WattHours: step.WattHours*(i+1)/n - step.WattHours*i/n}
		if side == market.Offer {
			s.Price = low + off
		}
		steps = append(steps, s)
	}
	return steps
}

// order makes an order and keeps it: from here on it is acknowledged.
func (h *home) order(k market.Interval, side market.Side, steps []ledger.Step) {
	h.seq++
	h.w.report.Orders++
	o := ledger.PlaceOrder{Interval: k, Seq: h.seq, Side: side, Steps: steps}
	it := &item{raw: o.Sign(chainID, h.id, h.device), order: &orderNote{interval: k, side: side, seq: h.seq, steps: steps}}
	h.w.check.ordered(h, it.raw, it.order)
	h.keep(it)
}

// keep writes an item to the outbox and sends it until the ledger has it.
func (h *home) keep(it *item) {
	h.outbox = append(h.outbox, it)
	it.pause = resendFirst
	h.sendOn(it)
}

func (h *home) sendOn(it *item) {
	if h.up() {
		if h.done(it) {
			h.forget(it)
			return
		}
		h.send(it.raw)
	}
	h.w.after(it.pause+h.rnd.Int64N(second), func() { h.sendOn(it) })
	it.pause = min(2*it.pause, resendLast)
}

// send brings a transaction to all validators that can be reached.
func (h *home) send(raw []byte) {
	if h.w.heard = append(h.w.heard, raw); len(h.w.heard) > 2*heardMost {
		h.w.heard = append(h.w.heard[:0], h.w.heard[heardMost:]...)
	}
	tx, err := h.w.engine.decode(raw)
	if err != nil {
		return // whoever gets it finds the same
	}
	for _, r := range h.w.replicas {
		h.w.net.send(h.i, r.i, func() { r.take(tx, true) })
	}
}

func (h *home) forget(it *item) {
	for i, x := range h.outbox {
		if x == it {
			h.outbox = append(h.outbox[:i], h.outbox[i+1:]...)
			return
		}
	}
}

// view is the ledger that the home looks at: its own, or that of somebody it can reach.
func (h *home) view() *ledger.State {
	for i := range h.w.replicas {
		r := h.w.replicas[(h.i+i)%len(h.w.replicas)]
		if r.up && h.w.net.joined(h.i, r.i) {
			return r.state
		}
	}
	return nil
}

// done says whether the ledger has an item, or will never.
func (h *home) done(it *item) bool {
	s := h.view()
	switch {
	case s == nil:
		return false
	case it.order != nil:
		if s.Next() > it.order.interval {
			return true
		}
		r, ok := s.Interval(it.order.interval)
		if !ok {
			return false
		}
		e, ok := r.Entry(h.id)
		return ok && max(e.BidSeq, e.OfferSeq) >= it.order.seq
	}
	m, ok := s.Meter(h.meterID)
	if !ok || m.Last < it.from+market.Interval(it.count)-1 {
		return false
	}
	for _, g := range m.Gaps {
		if g.From <= it.from && it.from <= g.To {
			return false
		}
	}
	return true
}
