package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// equivocating is a home that makes two orders of one sequence number and tells one to half
// of the validators and the other to the rest.
func equivocating() *adversary {
	return &adversary{name: "equivocating", play: func(h *home, rnd *rand.Rand) {
		h.loose = true
		h.w.every(rnd, 12*minute, func() {
			s := h.view()
			if s == nil || h.from == 0 {
				return
			}
			h.w.trick()
			h.seq++
			for i, price := range []market.Price{110_000, 250_000} {
				raw := h.looseOrder(ledger.PlaceOrder{Interval: s.Next(), Seq: h.seq, Side: market.Bid, Steps: []ledger.Step{{Price: price, WattHours: 300}}})
				tx, err := h.w.engine.decode(raw)
				for _, r := range h.w.replicas {
					if err == nil && r.i%2 == i {
						h.w.net.send(h.i, r.i, func() { r.take(tx, rnd.IntN(2) == 0) })
					}
				}
			}
		})
	}}
}

// looseOrder makes an order that the home does not deserve to have counted, though it may.
func (h *home) looseOrder(o ledger.PlaceOrder) []byte {
	raw := o.Sign(chainID, h.id, h.device)
	h.w.check.ordered(h, raw, &orderNote{interval: o.Interval, side: o.Side, seq: o.Seq, steps: o.Steps, loose: true})
	return raw
}
