package ledger

import (
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// Audit lists every invariant that the state violates, nil if none: what R10 and
// this package's own rules say about a state between two blocks. A state made by
// Apply alone has none. It costs as much as reading the whole state.
func (s *State) Audit() []error {
	var bad []error
	note := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	sum := new(big.Int)
	for _, m := range s.Accounts() {
		sum.Add(sum, big.NewInt(int64(m)))
	}
	if sum.Sign() != 0 {
		note("the sum over all accounts is %v, want 0", sum)
	}
	if m := s.accounts[market.AccountMarket]; m != 0 {
		note("account %s: got %d between two blocks, want 0", market.AccountMarket, m)
	}
	if err := s.auditValidators(); err != nil {
		note("%w", err)
	}
	for _, id := range s.Households() {
		if err := s.auditHousehold(id); err != nil {
			note("household %s: %w", id, err)
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.meters), func(a, b MeterID) int { return slices.Compare(a[:], b[:]) }) {
		if err := s.auditMeter(id); err != nil {
			note("meter %s: %w", id, err)
		}
	}
	for _, k := range s.Intervals() {
		for _, err := range s.auditInterval(k) {
			note("interval %d: %w", k, err)
		}
	}
	return bad
}

func (s *State) auditHousehold(id market.HouseholdID) error {
	h := s.households[id]
	switch m, ok := s.meters[h.Meter]; {
	case !h.HasMeter && h.Meter != MeterID{}:
		return fmt.Errorf("names meter %s but has none", h.Meter)
	case h.HasMeter && !ok:
		return fmt.Errorf("its meter %s is not registered", h.Meter)
	case h.HasMeter && m.Household != id:
		return fmt.Errorf("its meter %s belongs to household %s", h.Meter, m.Household)
	case (h.Closed == 0) != (h.ClosedChain == [32]byte{}):
		return fmt.Errorf("%d closed months, but the chain over them is %x", h.Closed, h.ClosedChain)
	}
	if (h.Device == Key{}) != (h.Network == Key{}) {
		return fmt.Errorf("has one of device key %s and network key %s, want both or none", h.Device, h.Network)
	}
	if _, ok := s.networkAt(s.clock.Next).Index(h.Node); !ok && h.Takes(s.clock.Next) {
		return fmt.Errorf("hangs on node %q, which the network does not have", h.Node)
	}
	lines, net := uint64(0), new(big.Int)
	for i, m := range h.Months {
		if m.Month < s.clock.Month || i > 0 && m.Month <= h.Months[i-1].Month || m.Lines == 0 {
			return fmt.Errorf("month %s with %d lines, want rising ones from %s on with 1 or more", m.Month, m.Lines, s.clock.Month)
		}
		lines += m.Lines
		for _, part := range []market.Money{m.Market, m.Supplier, m.Cooperative} {
			net.Add(net, big.NewInt(int64(part)))
		}
	}
	// What closed months came to is in the history.
	if h.Closed == 0 && (lines != h.Settled || net.Cmp(big.NewInt(int64(h.Balance))) != 0) {
		return fmt.Errorf("%d settlements and a balance of %d, its months have %d and come to %v", h.Settled, h.Balance, lines, net)
	}
	return nil
}

func (s *State) auditMeter(id MeterID) error {
	m := s.meters[id]
	switch h, ok := s.households[m.Household]; {
	case !ok:
		return fmt.Errorf("belongs to household %s, which is not registered", m.Household)
	case (h.Meter == id) != (m.Until == 0):
		return fmt.Errorf("is used until %d (0: it is in use), and its household %s names meter %s", m.Until, m.Household, h.Meter)
	case m.Until > 0 && (m.Last >= m.Until || m.Until > s.clock.Next):
		return fmt.Errorf("has reported up to %d, and another meter reports from %d on; the next interval is %d", m.Last, m.Until, s.clock.Next)
	case m.EpochFrom < m.From || m.EpochFrom > m.Last+1:
		return fmt.Errorf("epoch %d begins with %d, want %d to %d", m.Epoch, m.EpochFrom, m.From, m.Last+1)
	case m.From > s.clock.Next:
		return fmt.Errorf("reports from %d on, after the next interval %d", m.From, s.clock.Next)
	case len(m.Gaps) > maxGaps:
		return fmt.Errorf("has %d gaps, want at most %d", len(m.Gaps), maxGaps)
	case m.Last < m.From-1 || m.Last >= s.clock.Next:
		return fmt.Errorf("has reported up to %d, want %d to %d", m.Last, m.From-1, s.clock.Next-1)
	}
	free := m.From // the first Interval that the next gap may have
	for _, g := range m.Gaps {
		end := m.Last - 1 // something is reported after it, unless the counter was replaced there
		if m.EpochFrom == m.Last+1 {
			end++
		}
		if g.From < free || g.To < g.From || g.To > end {
			return fmt.Errorf("has a gap from %d to %d, want rising ones from %d to %d", g.From, g.To, free, end)
		}
		free = g.To + 2 // something reported is between two, or a replacement
		if g.End == [32]byte{} {
			free--
		}
	}
	return nil
}

func (s *State) auditInterval(k market.Interval) []error {
	r := s.intervals[k]
	var bad []error
	if (r.State == IntervalOpen) != (k >= s.clock.Next) {
		bad = append(bad, fmt.Errorf("state %s, though the next interval is %d", r.State, s.clock.Next))
	}
	if len(r.Entries) == 0 && r.State != IntervalSettled {
		bad = append(bad, fmt.Errorf("has no entries"))
	}
	if (r.State == IntervalSettled) != (r.Root != [32]byte{}) {
		bad = append(bad, fmt.Errorf("state %s with the root %x of its settlements", r.State, r.Root))
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		if err := s.auditEntry(r, e); err != nil {
			bad = append(bad, fmt.Errorf("household %s: %w", e.Household, err))
		}
	}
	if r.State == IntervalOpen || r.State == IntervalDelivered {
		return bad
	}
	return append(bad, s.auditClearing(k, r)...)
}

// auditClearing holds R10 for an Interval that has been cleared: the balance of every node
// and, with the grid present, the band of the prices.
func (s *State) auditClearing(k market.Interval, r *IntervalRecord) []error {
	network := s.networkAt(k)
	n := len(network.Nodes)
	if len(r.Prices) != n || len(r.Flows) != n {
		return []error{fmt.Errorf("has %d prices and %d flows, the network %d nodes", len(r.Prices), len(r.Flows), n)}
	}
	if r.State == IntervalSettled {
		return nil // most entries are gone, and so may be the Envelopes
	}
	net := make([]big.Int, n)
	for i := range r.Entries {
		e := &r.Entries[i]
		if int(e.Node) >= n {
			return []error{fmt.Errorf("household %s: is at node %d of %d", e.Household, e.Node, n)}
		}
		net[e.Node].Add(&net[e.Node], big.NewInt(int64(e.Sold-e.Bought)))
	}
	for i, flow := range r.Flows {
		net[i].Sub(&net[i], big.NewInt(int64(flow)))
		net[network.parent[i]].Add(&net[network.parent[i]], big.NewInt(int64(flow)))
	}
	net[network.root].Add(&net[network.root], big.NewInt(int64(r.GridImport-r.GridExport)))
	var bad []error
	for i := range net {
		if net[i].Sign() != 0 {
			bad = append(bad, fmt.Errorf("node %q: %v Wh more come in than go out", network.Nodes[i].ID, &net[i]))
		}
	}
	return append(bad, s.auditPrices(k, r)...)
}

// auditPrices looks for a price outside of the tariff where every edge to the root has
// room. The rule uniform is the only one whose prices the rules bind so.
func (s *State) auditPrices(k market.Interval, r *IntervalRecord) []error {
	if r.Rule.String() != market.RuleUniform || s.rulesAt(k).Tariff == nil {
		return nil
	}
	network := s.networkAt(k)
	limits := s.marketNetwork(k).Nodes
	full := func(limit *market.WattHours, flow market.WattHours) bool { return limit != nil && flow >= *limit }
	var bad []error
	for i := range network.Nodes {
		exports, imports := true, true // room on the way to the root
		for at := uint32(i); at != network.root; at = network.parent[at] {
			exports = exports && !full(limits[at].ExportLimit, r.Flows[at])
			imports = imports && !full(limits[at].ImportLimit, -r.Flows[at])
		}
		t := s.tariffAt(k, uint32(i))
		if p := r.Prices[i]; exports && p < t.ExportPrice || imports && p > t.ImportPrice {
			bad = append(bad, fmt.Errorf("node %q: price %d, want %d to %d", network.Nodes[i].ID, p, t.ExportPrice, t.ImportPrice))
		}
	}
	return bad
}

func (s *State) auditEntry(r *IntervalRecord, e *Entry) error {
	h, ok := s.households[e.Household]
	mostBought, mostSold := quantity(e.Bid), quantity(e.Offer)
	if r.Metered {
		mostBought, mostSold = e.Import, e.Export
	}
	open := r.State == IntervalOpen || r.State == IntervalDelivered
	switch {
	case !ok:
		return fmt.Errorf("is not registered")
	case !h.HasMeter:
		return fmt.Errorf("has no meter")
	case (r.State == IntervalSettled) != (e.Version != 0):
		return fmt.Errorf("settled %d times in state %s", e.Version, r.State)
	case e.Version == 1 && e.Quality != QualitySubstitute:
		return fmt.Errorf("is settled with quality %s, and should be gone", e.Quality)
	case open && (e.Bought != 0 || e.Sold != 0):
		return fmt.Errorf("allocated before the auction")
	case r.State == IntervalOpen && e.Quality != QualityMissing:
		return fmt.Errorf("reported before the gate has closed")
	case e.Bought < 0 || e.Sold < 0 || e.Version == 0 && (e.Bought > mostBought || e.Sold > mostSold):
		return fmt.Errorf("allocated %d and %d Wh, asked for %d and %d", e.Bought, e.Sold, mostBought, mostSold)
	case e.Import < 0 || e.Export < 0:
		return fmt.Errorf("metered %d and %d Wh, want 0 or more", e.Import, e.Export)
	case e.ShareFrom > e.ShareTo || e.ShareTo > wholeMeter:
		return fmt.Errorf("takes part with %d to %d per mille of its meter", e.ShareFrom, e.ShareTo)
	}
	return nil
}

func quantity(steps []Step) market.WattHours {
	var total market.WattHours
	for _, s := range steps {
		total += s.WattHours
	}
	return total
}
