package main

import (
	"context"
	"errors"
	"math/rand/v2"
)

// strikeHalves cuts the street into two halves of two validators each. Neither may decide
// anything.
func strikeHalves(ctx context.Context, r *rig, rnd *rand.Rand) (err error) {
	order := rnd.Perm(4)
	v := r.validators()
	here := []*home{v[order[0]], v[order[1]], r.homes[4]}
	there := []*home{v[order[2]], v[order[3]], r.homes[5]}
	r.harm("halves")
	r.count("partition 2|2")
	defer func() { err = errors.Join(err, r.mendAll(ctx)) }()
	if err := r.part(ctx, here, there); err != nil {
		return err
	}
	// What was under way, bytes on the wire among it, may still end in a block.
	pause(ctx, r.opt.pace()/4)
	before := r.height(ctx, r.homes...)
	pause(ctx, r.hold(rnd)+r.opt.pace())
	if after := r.height(ctx, r.homes...); after != before {
		r.wrong("half a street went on from block %d to %d", before, after)
	}
	return ctx.Err()
}

// part makes two groups deaf to each other.
func (r *rig) part(ctx context.Context, here, there []*home) error {
	var errs []error
	for _, a := range here {
		for _, b := range there {
			errs = append(errs, a.space.deafTo(ctx, b.space), b.space.deafTo(ctx, a.space))
		}
	}
	return errors.Join(errs...)
}

// mendAll undoes all that was done to lines; also when the run is being ended.
func (r *rig) mendAll(ctx context.Context) error {
	var errs []error
	for _, h := range r.homes {
		errs = append(errs, h.space.mend(context.WithoutCancel(ctx)))
	}
	return errors.Join(append(errs, r.world.space.mend(context.WithoutCancel(ctx)))...)
}

// strikeCut takes the line of one home away.
func strikeCut(ctx context.Context, r *rig, rnd *rand.Rand) (err error) {
	h := pick(rnd, r.homes)
	r.harm("cut", h)
	r.count("cut off")
	defer func() { err = errors.Join(err, r.mendAll(ctx)) }()
	if err := h.space.in(ctx, "ip link set eth0 down"); err != nil {
		return err
	}
	pause(ctx, r.hold(rnd))
	return ctx.Err()
}

// strikeLoss loses a fifth of all packets at every home. The street goes on.
func strikeLoss(ctx context.Context, r *rig, rnd *rand.Rand) (err error) {
	r.count("loss of 20 %")
	defer func() { err = errors.Join(err, r.mendAll(ctx)) }()
	for _, h := range r.homes {
		if err := h.space.lossy(ctx, 0.2); err != nil {
			return err
		}
	}
	pause(ctx, 2*r.hold(rnd))
	return ctx.Err()
}

// strikeSlow gives one home a line of 256 kbit/s.
func strikeSlow(ctx context.Context, r *rig, rnd *rand.Rand) (err error) {
	h := pick(rnd, r.homes)
	r.count("slow line")
	defer func() { err = errors.Join(err, r.mendAll(ctx)) }()
	if err := h.space.slow(ctx, 256); err != nil {
		return err
	}
	pause(ctx, 2*r.hold(rnd))
	return ctx.Err()
}

// strikeMeters takes all meters and their broker away: the program hangs, or its line is cut.
func strikeMeters(ctx context.Context, r *rig, rnd *rand.Rand) (err error) {
	r.count("meters away")
	if rnd.IntN(2) == 0 {
		r.world.pause()
		pause(ctx, r.hold(rnd))
		r.world.resume()
		return ctx.Err()
	}
	defer func() { err = errors.Join(err, r.mendAll(ctx)) }()
	if err := r.world.space.in(ctx, "ip link set eth0 down"); err != nil {
		return err
	}
	pause(ctx, r.hold(rnd))
	return ctx.Err()
}
