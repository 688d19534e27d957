package ledger_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// FuzzRecords: what a disk or a provider gives for a line of history or a household's record is refused, or is the only
// spelling of itself.
func FuzzRecords(f *testing.F) {
	c := ledgertest.New(shortRules())
	r := newReplica(f, c.Genesis)
	traffic := ledgertest.NewTraffic(c, r.state, 3, rand.New(rand.NewPCG(1, 0)))
	for range 60 {
		d, _, err := ledger.Apply(r.state, traffic.Block())
		if err != nil {
			f.Fatal(err)
		}
		traffic.Note(d)
		r.state.Absorb(d)
		for _, e := range d.History[:min(len(d.History), 1)] {
			switch {
			case e.Settlement != nil:
				f.Add(uint8(0), e.Settlement.Encode())
			case e.Result != nil:
				f.Add(uint8(1), e.Result.Encode())
			default:
				f.Add(uint8(2), e.Month.Month.Encode())
			}
		}
	}
	for _, id := range r.state.Households() {
		h, _ := r.state.Household(id)
		f.Add(uint8(3), h.Encode())
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte) {
		var again []byte
		var err error
		switch kind {
		case 0:
			var s *ledger.Settlement
			if s, err = ledger.DecodeSettlement(market.HouseholdID{1}, raw); err == nil {
				again = s.Encode()
			}
		case 1:
			var m *ledger.MarketResult
			if m, err = ledger.DecodeMarketResult(raw); err == nil {
				again = m.Encode()
			}
		case 2:
			var m *ledger.Month
			if m, err = ledger.DecodeMonth(raw); err == nil {
				again = m.Encode()
			}
		case 3:
			var h *ledger.Household
			if h, err = ledger.DecodeHousehold(raw); err == nil {
				again = h.Encode()
			}
		default:
			given := func(string) ([]byte, error) { return raw, nil }
			_, _ = ledger.OpenMonthOf(given)                             // no panic
			_, _ = ledger.HistoryLength(market.HouseholdID{}, given)     // no panic
			_, _ = ledger.HistoryLength(market.HouseholdID{kind}, given) // no panic
			return
		}
		if err == nil && !bytes.Equal(again, raw) {
			t.Errorf("kind %d: % x becomes % x", kind, raw, again)
		}
	})
}
