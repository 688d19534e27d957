package market

import (
	"fmt"
	"slices"
	"time"
)

// An Interval is a market time unit: Interval k is the half-open span
// [k × length, (k+1) × length) since the Unix epoch, in community time.
type Interval int64

// MaxInterval is the last interval with a time of its own (two million years
// away or more); -MaxInterval is the first. A Calendar takes anything beyond for
// them, so that a hostile number cannot wrap around into the present.
const MaxInterval Interval = 1 << 40

// maxLead is the longest a gate may close before its interval.
const maxLead = 24 * time.Hour

// A Calendar says how long intervals are and when their gates close. All its
// times are UTC. The zero value is not valid; see Validate.
type Calendar struct {
	Length time.Duration // 1, 5, 15, 30 or 60 minutes
	Lead   time.Duration // from gate closure to the interval's start, 0 to 24 h
}

// Validate returns an error that wraps ErrBadCalendar unless length and lead are allowed.
func (c Calendar) Validate() error {
	allowed := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}
	if !slices.Contains(allowed, c.Length) {
		return fmt.Errorf("calendar: interval length: got %v, want 1, 5, 15, 30 or 60 minutes: %w", c.Length, ErrBadCalendar)
	}
	if c.Lead < 0 || c.Lead > maxLead {
		return fmt.Errorf("calendar: lead: got %v, want 0 to %v: %w", c.Lead, maxLead, ErrBadCalendar)
	}
	return nil
}

// seconds returns the interval length; every allowed one is whole seconds.
func (c Calendar) seconds() int64 { return int64(c.Length / time.Second) }

// At returns the interval that t lies in.
func (c Calendar) At(t time.Time) Interval {
	// Unix rounds down, before 1970 too, and so must the division.
	s, n := t.Unix(), c.seconds()
	k := s / n
	if s%n < 0 {
		k--
	}
	return Interval(k)
}

// Start returns the first instant of interval k.
func (c Calendar) Start(k Interval) time.Time {
	k = min(max(k, -MaxInterval), MaxInterval)
	return time.Unix(int64(k)*c.seconds(), 0).UTC()
}

// End returns the first instant after interval k.
func (c Calendar) End(k Interval) time.Time { return c.Start(k).Add(c.Length) }

// GateClosure returns the last instant at which an order for interval k is accepted.
func (c Calendar) GateClosure(k Interval) time.Time { return c.Start(k).Add(-c.Lead) }

// NextGate returns the first interval whose gate closes at t or later: the
// first one that an order may still be for.
func (c Calendar) NextGate(t time.Time) Interval { return c.startingFrom(t.Add(c.Lead)) }

// OfDay returns the intervals that start on the calendar day which the instant
// day falls on in loc, as the half-open range [first, end). With 15 minutes
// these are 96, but 92 or 100 on the days that daylight saving begins or ends.
// The ranges of successive days join without gap or overlap.
func (c Calendar) OfDay(day time.Time, loc *time.Location) (first, end Interval) {
	y, m, d := day.In(loc).Date()
	return c.startingFrom(midnight(y, m, d, loc)), c.startingFrom(midnight(y, m, d+1, loc))
}

// startingFrom returns the first interval that starts at t or later.
func (c Calendar) startingFrom(t time.Time) Interval {
	k := c.At(t)
	if c.Start(k).Before(t) {
		k++
	}
	return k
}

// midnight returns the instant at which a day begins. Where clocks change at
// midnight there may be none, or two.
func midnight(y int, m time.Month, d int, loc *time.Location) time.Time {
	t := time.Date(y, m, d, 0, 0, 0, 0, loc)
	start, end := t.ZoneBounds()
	if dateOf(t).Before(time.Date(y, m, d, 0, 0, 0, 0, time.UTC)) {
		// None, and Date has answered with the day before: it ends with its offset.
		return end
	}
	if start.IsZero() {
		return t
	}
	_, offset := t.Zone()
	_, earlier := start.Add(-1).Zone()
	if first := t.Add(time.Duration(offset-earlier) * time.Second); first.Before(start) {
		// Two, and Date has answered with the second.
		return first
	}
	return t
}

// dateOf returns the calendar day of t, for comparing.
func dateOf(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
}
