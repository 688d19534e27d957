package sim

import "math/rand/v2"

// wrongClock is a validator whose clock is ahead or behind, by seconds or hours, and jumps.
func wrongClock() *adversary {
	return &adversary{name: "wrong-clock", turn: func(r *replica, rnd *rand.Rand) {
		r.w.every(rnd, 5*hour, func() {
			r.w.trick()
			off := []int64{second, 5 * minute, 2 * hour}[rnd.IntN(3)]
			if rnd.IntN(2) == 0 {
				off = -off
			}
			r.offset = off
			r.w.trace("the clock of validator %d is off by %d s", r.i, off/second)
			r.wake()
		})
	}}
}
