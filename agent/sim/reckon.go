package sim

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// What follows is the published rules once more, slow and plain.

// times is price × energy in whole micro-units, half to even (R0).
func times(price market.Price, wh market.WattHours) market.Money {
	product := int64(price) * int64(wh)
	whole, rest := product/1000, product%1000
	if rest < 0 {
		whole, rest = whole-1, rest+1000
	}
	if rest > 500 || rest == 500 && whole%2 != 0 {
		whole++
	}
	return market.Money(whole)
}

// tariff is what the grid takes and pays at a home's node (R1).
func (w *world) tariff(node string) (retail, feedIn market.Price) {
	retail, feedIn = w.genesis.Rules.Tariff.ImportPrice, w.genesis.Rules.Tariff.ExportPrice
	for _, n := range w.genesis.Network {
		if n.ID == node { // all hang on the root
			retail, feedIn = retail+n.ImportFee, feedIn-n.ExportFee
		}
	}
	return retail, feedIn
}

// prices compares those of a settlement with the tariff.
func (c *checker) prices(h *home, s *ledger.Settlement) {
	retail, feedIn := c.w.tariff(h.name)
	if s.Retail != retail || s.FeedIn != feedIn || s.Fee != c.w.genesis.Rules.CommunityFee {
		c.bad("interval %d of home %d is settled at %d, %d and a fee of %d, want %d, %d and %d",
			s.Interval, h.i, s.Retail, s.FeedIn, s.Fee, retail, feedIn, c.w.genesis.Rules.CommunityFee)
	}
	if alone := times(retail, s.Import) - times(feedIn, s.Export); s.Alone != alone {
		c.bad("interval %d of home %d: without the community %d, computed anew %d", s.Interval, h.i, s.Alone, alone)
	}
}

// net is what an Interval brings a home (R7), received minus paid.
func net(s *ledger.Settlement) market.Money {
	sum := times(s.Price, s.Sold) - times(s.Price, s.Bought) - times(s.Fee, s.Bought)
	if s.Import > s.Bought {
		sum -= times(s.Retail, s.Import-s.Bought)
	} else {
		sum += times(s.FeedIn, s.Bought-s.Import)
	}
	if s.Export > s.Sold {
		sum += times(s.FeedIn, s.Export-s.Sold)
	} else {
		sum -= times(s.Retail, s.Sold-s.Export)
	}
	return sum
}

// lot is a quantity at a price that somebody wants or has.
type lot struct {
	owner int
	price market.Price
	wh    market.WattHours
	got   market.WattHours
}

// clearing clears an Interval of a community at one node anew (R3, R6) and compares.
func (c *checker) clearing(m *ledger.MarketResult, gate gateNote, list []*ledger.Settlement) {
	var bids, offers []lot
	retail, feedIn := c.w.tariff(ledger.RootNode)
	for i, s := range list {
		have := c.at(m.Interval, c.w.homeOf(s.Household).i)
		switch {
		case !gate.metered:
			bids = append(bids, lotsOf(i, have.steps[0])...)
			offers = append(offers, lotsOf(i, have.steps[1])...)
		case s.Quality != ledger.QualitySubstitute: // one that is missing has no part in the auction
			bids = append(bids, spread(i, s.Import, have.steps[0], retail)...)
			offers = append(offers, spread(i, s.Export, have.steps[1], feedIn)...)
		}
	}
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(append([]byte("commonwatt/seed/1"), gate.seed[:]...), uint64(m.Interval))) //nolint:gosec // never negative
	rank := func(side market.Side) func(int) [32]byte {
		return func(owner int) [32]byte {
			id := list[owner].Household
			return sha256.Sum256(slices.Concat(seed[:], []byte{0}, id[:], []byte{byte(side)}))
		}
	}
	price, gridIn, gridOut := reckon(bids, offers, retail, feedIn, rank(market.Bid), rank(market.Offer))
	if price != m.Price || gridIn != m.GridImport || gridOut != m.GridExport {
		c.bad("interval %d: price %d with %d Wh in and %d out, computed anew %d with %d and %d", m.Interval, m.Price, m.GridImport, m.GridExport, price, gridIn, gridOut)
	}
	for i, s := range list {
		if b, o := total(bids, i), total(offers, i); s.Bought != b || s.Sold != o || s.Price != price {
			c.bad("interval %d of home %s: bought %d and sold %d Wh at %d, computed anew %d and %d at %d",
				m.Interval, s.Household, s.Bought, s.Sold, s.Price, b, o, price)
		}
	}
}

func lotsOf(owner int, steps []ledger.Step) []lot {
	var out []lot
	for _, s := range steps {
		out = append(out, lot{owner: owner, price: s.Price, wh: s.WattHours})
	}
	return out
}

// spread prices what was metered by the home's own curve, and what is beyond it otherwise.
func spread(owner int, wh market.WattHours, steps []ledger.Step, beyond market.Price) []lot {
	var out []lot
	add := func(price market.Price, wh market.WattHours) {
		for i := range out {
			if out[i].price == price {
				out[i].wh += wh
				return
			}
		}
		if wh > 0 {
			out = append(out, lot{owner: owner, price: price, wh: wh})
		}
	}
	for _, s := range steps {
		part := min(s.WattHours, wh)
		add(s.Price, part)
		wh -= part
	}
	add(beyond, wh)
	return out
}

// reckon clears one node: the price, and what the grid gives and takes. What each lot got is
// written into it.
func reckon(bids, offers []lot, retail, feedIn market.Price, bidRank, offerRank func(int) [32]byte) (price market.Price, gridIn, gridOut market.WattHours) {
	wants := func(p market.Price) (wh market.WattHours) { // at a price, or at any above
		for _, b := range bids {
			if b.price >= p {
				wh += b.wh
			}
		}
		return wh
	}
	has := func(p market.Price) (wh market.WattHours) {
		for _, o := range offers {
			if o.price <= p {
				wh += o.wh
			}
		}
		return wh
	}
	if gap := wants(retail) - has(retail); gap > 0 {
		fill(bids, wants(retail), true, bidRank)
		fill(offers, has(retail), false, offerRank)
		return retail, gap, 0
	}
	if gap := has(feedIn) - wants(feedIn); gap > 0 {
		fill(bids, wants(feedIn), true, bidRank)
		fill(offers, has(feedIn), false, offerRank)
		return feedIn, 0, gap
	}
	var traded market.WattHours // the most that can change hands at some price
	for _, at := range [][]lot{bids, offers} {
		for _, l := range at {
			traded = max(traded, min(wants(l.price), has(l.price)))
		}
	}
	fill(bids, traded, true, bidRank)
	fill(offers, traded, false, offerRank)
	low, high := feedIn, retail
	for _, b := range bids {
		if b.got > 0 {
			high = min(high, b.price)
		}
		if b.got < b.wh {
			low = max(low, b.price)
		}
	}
	for _, o := range offers {
		if o.got > 0 {
			low = max(low, o.price)
		}
		if o.got < o.wh {
			high = min(high, o.price)
		}
	}
	return half(low + high), 0, 0
}

// half is rounded to even.
func half(sum market.Price) market.Price {
	h := sum >> 1
	if sum&1 != 0 && h&1 != 0 {
		h++
	}
	return h
}

// fill gives a quantity to lots, the best first; those at the last price share what is left
// pro rata, and single Wh go by largest remainder, then by rank.
func fill(lots []lot, wh market.WattHours, dearest bool, rank func(int) [32]byte) {
	order := make([]int, len(lots))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if dearest {
			a, b = b, a
		}
		return cmp.Compare(lots[a].price, lots[b].price)
	})
	for i := 0; i < len(order) && wh > 0; {
		end, sum := i, market.WattHours(0)
		for ; end < len(order) && lots[order[end]].price == lots[order[i]].price; end++ {
			sum += lots[order[end]].wh
		}
		group := order[i:end]
		i = end
		if sum == 0 {
			continue
		}
		part := min(sum, wh)
		wh -= part
		rest := part
		for _, j := range group {
			lots[j].got = part * lots[j].wh / sum
			rest -= lots[j].got
		}
		slices.SortFunc(group, func(a, b int) int {
			x, y := part*lots[a].wh%sum, part*lots[b].wh%sum
			if x != y {
				return cmp.Compare(y, x)
			}
			p, q := rank(lots[a].owner), rank(lots[b].owner)
			return bytes.Compare(p[:], q[:])
		})
		for _, j := range group[:rest] {
			lots[j].got++
		}
	}
}

func total(lots []lot, owner int) (wh market.WattHours) {
	for _, l := range lots {
		if l.owner == owner {
			wh += l.got
		}
	}
	return wh
}

// finish judges the run as a whole.
func (c *checker) finish() {
	if len(c.wrong) > 0 {
		return
	}
	w := c.w
	tip := int64(len(w.engine.chain))
	for _, r := range w.replicas {
		r.start()
		r.apply(tip)
		if len(c.wrong) > 0 {
			return
		}
		again, err := r.disk.load(w.genesis)
		if err != nil || again.AppHash() != r.state.AppHash() {
			c.bad("validator %d: its disk does not give the state after the last block: %v", r.i, err)
		}
	}
	for _, err := range w.replicas[0].state.Audit() {
		c.bad("after the last block: %w", err)
	}
	if w.opt.Seed%replayed == 0 || w.opt.Trace != nil {
		c.replay()
	}
	for _, h := range w.homes {
		c.account(h)
	}
	c.kept()
	if tip > 0 {
		w.report.AppHash = hex.EncodeToString(c.hashes[tip-1][:])
	}
}

// replayed: the chain of one seed in so many is applied once more, to its genesis. A replica
// that was restarted, and all others that were not, have done so to their own already.
const replayed = 4

// replay applies the whole chain to the genesis (S2).
func (c *checker) replay() {
	s, err := ledger.NewState(chainID, c.w.genesis)
	if err != nil {
		c.bad("replaying: %w", err)
		return
	}
	for i, b := range c.w.engine.chain {
		d, _, err := ledger.Apply(s, ledger.Block{Seed: b.seed, Txs: b.txs, Signed: b.signed, Faulty: b.faulty, Verified: c.w.engine.verified})
		if err != nil {
			c.bad("replaying block %d: %w", i+1, err)
			return
		}
		s.Absorb(d)
		if s.AppHash() != c.hashes[i] {
			c.bad("replaying block %d gives the hash %x, it was %x", i+1, s.AppHash(), c.hashes[i])
			return
		}
	}
}

// account computes a home's balance anew, and looks whether all that it metered is settled.
func (c *checker) account(h *home) {
	if h.from == 0 {
		c.bad("home %d was never admitted", h.i)
		return
	}
	var sum market.Money
	for k := h.from; k <= c.w.last; k++ {
		s := c.newest[h.i][k]
		if s == nil || s.Quality == ledger.QualitySubstitute {
			_, acknowledged := c.counted[h.i][k]
			c.bad("interval %d of home %d is not settled on what its meter counted (reported %t)", k, h.i, acknowledged)
			return
		}
		sum += net(s)
		c.w.report.Bought += int64(s.Bought)
		c.w.report.Saved += s.Alone + net(s)
	}
	if balance, _ := c.w.replicas[0].state.Balance(market.HouseholdAccount(h.id)); balance != sum {
		c.bad("the balance of home %d is %d, computed anew %d", h.i, balance, sum)
	}
}

// inTime is how long before its gate an order must be made to be sure to count.
const inTime = 90 * second

// kept looks for orders that were acknowledged in quiet times and did not count (S5).
func (c *checker) kept() {
	for _, o := range c.made {
		gate := c.w.gate(o.interval)
		if o.loose || o.made > gate-inTime || !c.w.quiet(o.made, gate+minute) {
			continue
		}
		if have := c.at(o.interval, o.home).seq[o.side-market.Bid]; have < o.seq {
			c.bad("order %d of home %d for interval %d, made %d s before the gate in quiet times, does not count: there is %d",
				o.seq, o.home, o.interval, (gate-o.made)/second, have)
		}
	}
	if n := len(c.made); n == 0 {
		c.bad("nobody has ordered anything: %s", fmt.Sprint(c.w.report.Intervals))
	}
}
