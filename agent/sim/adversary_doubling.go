package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// doubling is a home that was set up from an old copy of its disk: it gives out sequence
// numbers again, and reports again what it has reported, with other readings.
func doubling() *adversary {
	return &adversary{name: "doubling", play: func(h *home, rnd *rand.Rand) {
		h.loose = true
		h.w.every(rnd, 40*minute, func() {
			s := h.view()
			if s == nil || h.from == 0 || h.seq == 0 {
				return
			}
			h.w.trick()
			old := h.seq - min(h.seq-1, rnd.Uint64N(3))
			h.send(h.looseOrder(ledger.PlaceOrder{Interval: s.Next(), Seq: old, Side: market.Bid, Steps: []ledger.Step{{Price: 150_000, WattHours: 70}}}))
			m, ok := s.Meter(h.meterID)
			if !ok || m.Last <= h.from {
				return
			}
			for _, g := range m.Gaps {
				if g.From <= m.Last && m.Last <= g.To {
					return
				}
			}
			k := m.Last - market.Interval(rnd.IntN(int(m.Last-h.from)))
			for _, g := range m.Gaps {
				if g.From <= k && k <= g.To {
					return // what is not reported yet would be the truth
				}
			}
			r := ledger.ReportMeter{From: k, Count: 1, Start: h.readAt(k).Reading, End: h.readAt(k + 1).Reading}
			h.send(r.Sign(chainID, h.id, h.device))
		})
	}}
}
