package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// late is a home that orders when the gate has closed, and much too early.
func late() *adversary {
	return &adversary{name: "late", play: func(h *home, rnd *rand.Rand) {
		h.loose = true
		for k := h.w.first; k <= h.w.last; k++ {
			h.w.at(h.w.gate(k)+1+rnd.Int64N(20*minute), func() {
				if !h.takes(k) || h.w.over {
					return
				}
				h.w.trick()
				h.seq++
				h.send(h.looseOrder(ledger.PlaceOrder{Interval: k, Seq: h.seq, Side: market.Bid, Steps: []ledger.Step{{Price: 200_000, WattHours: 100}}}))
				h.send(h.looseOrder(ledger.PlaceOrder{Interval: k + 200, Seq: h.seq, Side: market.Bid, Steps: []ledger.Step{{Price: 200_000, WattHours: 100}}}))
			})
		}
	}}
}
