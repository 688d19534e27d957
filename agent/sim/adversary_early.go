package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// early is a validator that closes gates before their time, says that intervals have begun
// which have not, or leaves some out.
func early() *adversary {
	var draw *rand.Rand
	return &adversary{
		name: "early",
		turn: func(r *replica, rnd *rand.Rand) {
			draw = rnd
			r.w.every(rnd, 5*minute, func() {
				if r.up {
					r.w.engine.ring(r)
				}
			})
		},
		propose: func(r *replica, _ int64, txs [][]byte) [][]byte {
			r.w.trick()
			if n := len(txs); n > 0 {
				if tx, err := r.w.engine.decode(txs[n-1]); err == nil && tx.Kind() == ledger.KindTick {
					txs = txs[:n-1]
				}
			}
			next := r.state.Next()
			from, span := next+market.Interval(draw.IntN(2)), market.Interval(draw.IntN(3))
			return append(txs, ledger.NewTick(from, from+span, from+market.Interval(draw.IntN(int(span)+2))))
		},
	}
}
