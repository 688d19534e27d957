package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// forging sends orders and reports in others' names, with signatures that are not theirs.
func forging() *adversary {
	return &adversary{name: "forging", play: func(h *home, rnd *rand.Rand) {
		w := h.w
		w.every(rnd, 10*minute, func() {
			s, victim := h.view(), w.homes[rnd.IntN(len(w.homes))]
			if s == nil || len(w.heard) == 0 || victim.from == 0 {
				return
			}
			w.trick()
			switch rnd.IntN(3) {
			case 0:
				h.send(bent(w.heard[rnd.IntN(len(w.heard))], rnd))
			case 1:
				o := ledger.PlaceOrder{Interval: s.Next(), Seq: 1 << 32, Side: market.Bid, Steps: []ledger.Step{{Price: 900_000, WattHours: 9_000}}}
				h.send(o.Sign(chainID, victim.id, key("nobody", 0)))
			default: // the gateway's own signature is right, the meter's is not
				if k := s.Next() - 2; k > victim.from {
					a, b := victim.readAt(k), victim.readAt(k+1)
					b.ImportWh = new(*b.ImportWh + 1)
					r := ledger.ReportMeter{From: k, Count: 1, Start: a.Reading, End: b.Reading}
					h.send(r.Sign(chainID, victim.id, victim.device))
				}
			}
		})
	}}
}
