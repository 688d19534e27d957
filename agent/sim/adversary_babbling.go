package sim

import (
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// babbling sends bytes that mean nothing, and too many of them.
func babbling() *adversary {
	return &adversary{name: "babbling", play: func(h *home, rnd *rand.Rand) {
		h.w.every(rnd, 5*minute, func() {
			h.w.trick()
			b := make([]byte, []int{0, 1, 200, ledger.MaxTxBytes + 1}[rnd.IntN(4)])
			for i := range b {
				b[i] = byte(rnd.Uint32()) //nolint:gosec // a byte of it
			}
			h.send(b)
		})
	}}
}
