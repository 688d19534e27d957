package market

import (
	"fmt"
	"strings"
	"time"
)

// MaxRate is the fastest that community time may run.
const MaxRate = 10_000

// A Clock maps a computer's wall clock to community time:
//
//	community = Epoch + Rate × (wall − Start)
//
// It is fixed when the community is founded, and is the same at every home.
// Monotonic clock readings are ignored. The zero value is not valid.
type Clock struct {
	Epoch time.Time // community time at Start
	Start time.Time // wall-clock time at which the community begins
	Rate  int64     // community seconds per second, 1 to 10,000
}

// Validate returns an error that wraps ErrBadClock unless the rate is allowed
// for a community of this name: only names that begin with "demo-" or "sim-"
// may run at another rate than 1, so that no real one can be made to by mistake.
func (c Clock) Validate(name string) error {
	if c.Rate < 1 || c.Rate > MaxRate {
		return fmt.Errorf("clock: rate: got %d, want 1 to %d: %w", c.Rate, MaxRate, ErrBadClock)
	}
	if c.Rate != 1 && !IsSimulated(name) {
		return fmt.Errorf("clock: rate: got %d in community %q, want 1, or a name that begins with %q or %q: %w",
			c.Rate, name, "demo-", "sim-", ErrBadClock)
	}
	return nil
}

// IsSimulated says whether a community of this name is a rehearsal, whose time may run at
// another rate: it begins with "demo-" or "sim-".
func IsSimulated(name string) bool {
	return strings.HasPrefix(name, "demo-") || strings.HasPrefix(name, "sim-")
}

// Community returns the community time at a wall-clock instant, in UTC.
func (c Clock) Community(wall time.Time) time.Time {
	// Seconds and nanoseconds apart: a time.Duration would overflow after 292
	// community years, which the fastest clock reaches in eleven days.
	s := wall.Unix() - c.Start.Unix()
	ns := int64(wall.Nanosecond() - c.Start.Nanosecond())
	return time.Unix(c.Epoch.Unix()+s*c.Rate, int64(c.Epoch.Nanosecond())+ns*c.Rate).UTC()
}

// Wall returns the first wall-clock instant, to the nanosecond, at which it is
// that community time or later, in UTC.
func (c Clock) Wall(community time.Time) time.Time {
	s := community.Unix() - c.Epoch.Unix()
	ns := int64(community.Nanosecond() - c.Epoch.Nanosecond())
	// What the seconds leave after division goes into the nanoseconds, which
	// are then rounded up.
	whole, rest := s/c.Rate, s%c.Rate
	ns += rest * int64(time.Second)
	return time.Unix(c.Start.Unix()+whole, int64(c.Start.Nanosecond())+ceilDiv(ns, c.Rate)).UTC()
}

// WallDuration returns how long a span of community time takes on the wall
// clock, rounded up to the nanosecond.
func (c Clock) WallDuration(d time.Duration) time.Duration {
	return time.Duration(ceilDiv(int64(d), c.Rate))
}

// ceilDiv returns a / b rounded up, for b > 0.
func ceilDiv(a, b int64) int64 {
	q := a / b
	if a%b > 0 {
		q++
	}
	return q
}
