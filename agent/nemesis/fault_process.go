package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// hold is how long a fault lasts: some seconds, longer in a long run.
func (r *rig) hold(rnd *rand.Rand) time.Duration {
	longest := 2 * time.Second
	if r.opt.long() {
		longest = 15 * time.Second
	}
	return 2*time.Second + time.Duration(rnd.Int64N(int64(longest)))
}

// strikeKill ends a home as kill -9 does, and starts it again: at once or later. Sometimes
// all homes go in one instant.
func strikeKill(ctx context.Context, r *rig, rnd *rand.Rand) error {
	homes := []*home{pick(rnd, r.homes)}
	if r.opt.long() && rnd.IntN(6) == 0 {
		homes = r.homes
		r.harm("kill")
	}
	r.harm("kill", homes...)
	for _, h := range homes {
		h.kill()
		r.count("kill -9")
	}
	if rnd.IntN(3) > 0 {
		pause(ctx, r.hold(rnd))
	}
	for _, h := range homes {
		if err := h.start(r); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// strikePause stops a home in its tracks, as a machine that hangs does, and lets it go on.
func strikePause(ctx context.Context, r *rig, rnd *rand.Rand) error {
	h := pick(rnd, r.homes)
	r.harm("pause", h)
	h.pause()
	r.count("pause")
	pause(ctx, r.hold(rnd))
	h.resume()
	return ctx.Err()
}

// strikeRestart ends a home in order and starts it again.
func strikeRestart(ctx context.Context, r *rig, rnd *rand.Rand) error {
	h := pick(rnd, r.homes)
	r.harm("restart", h)
	r.count("restart")
	if err := h.restart(r); err != nil {
		return err
	}
	return ctx.Err()
}
