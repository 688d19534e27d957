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
	case (h.Settled == 0) != (h.Chain == [32]byte{}):
		return fmt.Errorf("%d settlements, but the chain over them is %x", h.Settled, h.Chain)
	}
	return nil
}

func (s *State) auditMeter(id MeterID) error {
	m := s.meters[id]
	switch h, ok := s.households[m.Household]; {
	case !ok:
		return fmt.Errorf("belongs to household %s, which is not registered", m.Household)
	case h.Meter != id:
		return fmt.Errorf("belongs to household %s, which names meter %s", m.Household, h.Meter)
	case m.From > s.clock.Next:
		return fmt.Errorf("reports from %d on, after the next interval %d", m.From, s.clock.Next)
	case len(m.Gaps) > maxGaps:
		return fmt.Errorf("has %d gaps, want at most %d", len(m.Gaps), maxGaps)
	case m.Last < m.From-1 || m.Last >= s.clock.Next:
		return fmt.Errorf("has reported up to %d, want %d to %d", m.Last, m.From-1, s.clock.Next-1)
	}
	free := m.From // the first Interval that the next gap may have
	for _, g := range m.Gaps {
		if g.From < free || g.To < g.From || g.To >= m.Last {
			return fmt.Errorf("has a gap from %d to %d, want rising ones from %d to %d", g.From, g.To, free, m.Last-1)
		}
		free = g.To + 2 // something reported is between two
	}
	return nil
}

func (s *State) auditInterval(k market.Interval) []error {
	r := s.intervals[k]
	var bad []error
	if (r.State == IntervalOpen) != (k >= s.clock.Next) {
		bad = append(bad, fmt.Errorf("state %d, though the next interval is %d", r.State, s.clock.Next))
	}
	if len(r.Entries) == 0 {
		bad = append(bad, fmt.Errorf("has no entries"))
	}
	bought, sold := new(big.Int), new(big.Int)
	for i := range r.Entries {
		e := &r.Entries[i]
		if err := s.auditEntry(r.State, e); err != nil {
			bad = append(bad, fmt.Errorf("household %s: %w", e.Household, err))
		}
		bought.Add(bought, big.NewInt(int64(e.Bought)))
		sold.Add(sold, big.NewInt(int64(e.Sold)))
	}
	// Of a settled Interval most entries are gone.
	bought.Sub(bought, sold).Sub(bought, big.NewInt(int64(r.GridImport))).Add(bought, big.NewInt(int64(r.GridExport)))
	if r.State != IntervalSettled && bought.Sign() != 0 {
		bad = append(bad, fmt.Errorf("%v Wh more bought and exported than sold and imported", bought))
	}
	return bad
}

func (s *State) auditEntry(state IntervalState, e *Entry) error {
	h, ok := s.households[e.Household]
	switch {
	case !ok:
		return fmt.Errorf("is not registered")
	case !h.HasMeter:
		return fmt.Errorf("has no meter")
	case state != IntervalSettled && e.Version != 0, state == IntervalSettled && e.Version == 0:
		return fmt.Errorf("settled %d times in state %d", e.Version, state)
	case state == IntervalSettled && e.Quality != QualitySubstitute:
		return fmt.Errorf("is final with quality %s, and should be gone", e.Quality)
	case state == IntervalOpen && (e.Bought != 0 || e.Sold != 0 || e.Quality != QualityMissing):
		return fmt.Errorf("allocated or reported before the gate has closed")
	case e.Bought < 0 || e.Bought > quantity(e.Bid) || e.Sold < 0 || e.Sold > quantity(e.Offer):
		return fmt.Errorf("allocated %d and %d Wh, ordered %d and %d", e.Bought, e.Sold, quantity(e.Bid), quantity(e.Offer))
	case e.Import < 0 || e.Export < 0:
		return fmt.Errorf("metered %d and %d Wh, want 0 or more", e.Import, e.Export)
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
