package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// overfull is a validator that puts more into a block than may be in it.
func overfull() *adversary {
	var many [][]byte
	return &adversary{
		name: "overfull",
		turn: func(r *replica, _ *rand.Rand) {
			h := r.w.homes[r.i%len(r.w.homes)]
			for i := range uint64(perBlock + 1) {
				o := ledger.PlaceOrder{Interval: r.w.last + 50, Seq: i + 1, Side: market.Bid, Steps: []ledger.Step{{Price: 90_000, WattHours: 1}}}
				many = append(many, o.Sign(chainID, h.id, h.device))
			}
		},
		propose: func(r *replica, height int64, txs [][]byte) [][]byte {
			if height%3 > 0 {
				return txs
			}
			r.w.trick()
			return append(append([][]byte(nil), many...), txs...)
		},
	}
}
