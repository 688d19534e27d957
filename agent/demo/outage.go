package demo

import (
	"context"
	"fmt"
	"time"
)

// Outage is a loss of power in so many homes that the ledger stands still. Both are
// community time.
type Outage struct {
	After time.Duration // since every home has joined
	For   time.Duration // 0: there is none
}

// check says whether the outage can be had and be over within the span.
func (o Outage) check(span time.Duration) error {
	switch {
	case o.For == 0 && o.After == 0:
		return nil
	case o.After < 0 || o.For < intervalLength || o.For > longestAbsence || o.After > longestAbsence:
		return fmt.Errorf("%w: --outage: got %v+%v, want a time from now on and at least %v", ErrUsage, o.After, o.For, intervalLength)
	case span > 0 && o.After+o.For > span:
		return fmt.Errorf("%w: --outage: got %v+%v, want it to be over within --span %v", ErrUsage, o.After, o.For, span)
	}
	return nil
}

// lost is how many of the validators an outage takes: the fewest that leave no more than
// two thirds.
func lost(validators int) int { return (validators + 2) / 3 }

// suffer switches the last validators off as a power cut does, and on again. It returns
// when the outage is over or ctx ends.
func (s *street) suffer(ctx context.Context, since time.Time) {
	o := s.opt.Outage
	validators := min(len(s.agents), maxValidators)
	off := s.agents[validators-lost(validators) : validators]
	from := since.Add(s.plan.pace().wall(o.After))
	if !sleepUntil(ctx, from) {
		return
	}
	fmt.Fprintf(s.opt.Say, "outage: %d of %d validators lose power for %v; the ledger stands still, the meters go on\n",
		len(off), validators, o.For)
	for _, p := range off {
		p.switchOff()
	}
	sleepUntil(ctx, from.Add(s.plan.pace().wall(o.For)))
	for _, p := range off {
		p.switchOn()
	}
}

// sleepUntil waits; false if ctx ended first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
