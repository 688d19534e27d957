package sim

import "math/rand/v2"

// replaying sends again what it has heard.
func replaying() *adversary {
	return &adversary{name: "replaying", play: func(h *home, rnd *rand.Rand) {
		h.w.every(rnd, 4*minute, func() {
			if n := len(h.w.heard); n > 0 {
				h.w.trick()
				h.send(h.w.heard[rnd.IntN(n)])
			}
		})
	}}
}
