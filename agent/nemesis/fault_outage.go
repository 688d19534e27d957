package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// outage is how long the street has no quorum, in community time.
const outage = 3 * time.Hour

// strikeOutage lets two of four validators lose power for three hours of community time.
// Nothing is decided meanwhile, the meters go on; afterwards everything is settled by what was
// metered. That it is, and rightly, the checker finds at the end.
func strikeOutage(ctx context.Context, r *rig, rnd *rand.Rand) error {
	order := rnd.Perm(4)
	v := r.validators()
	off := []*home{v[order[0]], v[order[1]]}
	r.harm("outage")
	r.harm("outage", off...)
	r.count("outage of 3 hours")
	for _, h := range off {
		h.kill()
	}
	pause(ctx, r.opt.pace()/4)
	before := r.height(ctx, r.homes...)
	from := r.community(time.Now())
	r.tell("outage: %s and %s have no power for %v, from %s", off[0].name, off[1].name, outage, from.Format("15:04"))
	for r.community(time.Now()).Sub(from) < outage {
		if !pause(ctx, r.opt.pace()) {
			break
		}
		r.tell("outage: %v of %v", r.community(time.Now()).Sub(from).Round(time.Minute), outage)
	}
	if after := r.height(ctx, r.homes...); after != before {
		r.wrong("a street without quorum went on from block %d to %d", before, after)
	}
	for _, h := range off {
		if err := h.start(r); err != nil {
			return err
		}
	}
	return ctx.Err()
}
