package sim

import (
	"math/rand/v2"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// malformed is a validator whose proposals are no good: bytes that mean nothing, something
// twice, a tick in the middle, a signature that is wrong.
func malformed() *adversary {
	var draw *rand.Rand
	return &adversary{
		name: "malformed",
		turn: func(_ *replica, rnd *rand.Rand) { draw = rnd },
		propose: func(r *replica, height int64, txs [][]byte) [][]byte {
			if height%2 > 0 || len(txs) == 0 {
				return txs
			}
			r.w.trick()
			i := draw.IntN(len(txs))
			switch draw.IntN(5) {
			case 0:
				return append(txs, []byte("bell"))
			case 1:
				return append(txs, txs[i])
			case 2:
				next := r.state.Next()
				return slices.Insert(txs, 0, ledger.NewTick(next, next, next))
			case 3:
				txs[i] = bent(txs[i], draw)
				return txs
			default:
				h := r.w.homes[0]
				o := ledger.PlaceOrder{Interval: r.state.Next(), Seq: 1 << 40, Side: market.Bid, Steps: []ledger.Step{{Price: 1, WattHours: 1}}}
				return slices.Insert(txs, 0, o.Sign(chainID, h.id, h.meter)) // of another key
			}
		},
	}
}

// bent is a transaction with one bit changed.
func bent(raw []byte, rnd *rand.Rand) []byte {
	b := append(slices.Clone(raw), 0)
	if len(raw) > 0 {
		b = b[:len(raw)]
	}
	b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
	return b
}
