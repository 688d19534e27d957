package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// spamming is a home that orders, and orders again, more than a pool takes of one home.
func spamming() *adversary {
	return &adversary{name: "spamming", play: func(h *home, rnd *rand.Rand) {
		h.loose = true
		h.w.every(rnd, 2*hour, func() {
			s := h.view()
			if s == nil || h.from == 0 {
				return
			}
			h.w.trick()
			for i := range market.Interval(perHome + 6) {
				h.seq++
				h.send(h.looseOrder(ledger.PlaceOrder{Interval: s.Next() + i%3, Seq: h.seq, Side: market.Bid, Steps: []ledger.Step{{Price: 90_000, WattHours: 1 + market.WattHours(i)}}}))
			}
		})
	}}
}
