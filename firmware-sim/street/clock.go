package street

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Clock turns wall time into community time.
type Clock struct {
	Epoch, Start time.Time
	Rate         int64 // 1 to 100,000
}

// Community is the community time at a wall time; before Start it is before
// Epoch. It counts seconds and nanoseconds apart, since a time.Duration ends
// after 292 years, which pass in a day at the highest rate.
func (c Clock) Community(wall time.Time) time.Time {
	seconds := wall.Unix() - c.Start.Unix()
	nanos := int64(wall.Nanosecond() - c.Start.Nanosecond())
	return time.Unix(c.Epoch.Unix()+seconds*c.Rate, int64(c.Epoch.Nanosecond())+nanos*c.Rate).UTC()
}

// Wall is the earliest wall time, in whole nanoseconds, at which a community
// time is reached.
func (c Clock) Wall(community time.Time) time.Time {
	seconds := community.Unix() - c.Epoch.Unix()
	nanos := int64(community.Nanosecond() - c.Epoch.Nanosecond())
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+int64(time.Second)
	}
	whole := seconds / c.Rate
	if seconds%c.Rate < 0 {
		whole--
	}
	rest := (seconds-whole*c.Rate)*int64(time.Second) + nanos // below rate × 10^9, at most 10^14
	return time.Unix(c.Start.Unix()+whole, int64(c.Start.Nanosecond())+(rest+c.Rate-1)/c.Rate).UTC()
}

// Errors of moving the time by hand.
var (
	// ErrRuns is returned for a street whose time goes on by itself.
	ErrRuns = errors.New("the clock goes by itself")
	// ErrBackwards is returned for an instant that is over.
	ErrBackwards = errors.New("time does not go back")
	// ErrTooFar is returned for an instant further away than a history may be long.
	ErrTooFar = errors.New("too far")
)

// hand is a community time that stands still until it is moved.
type hand struct {
	moving sync.Mutex // held by the one that moves it

	mu sync.Mutex
	at time.Time
}

func (h *hand) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hand) set(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = at
}

// Pusher is what sends a meter's readings by itself.
type Pusher interface {
	// Push sends the reading of a refresh and returns when it is on its way. An error
	// says that nobody was there to send it to; it is not tried again.
	Push(ctx context.Context, index int64) error
}

// Manual says whether time stands still until Move.
func (s *Street) Manual() bool { return s.manual != nil }

// Moved says what a move of the time did.
type Moved struct {
	Refreshes int64 // that came and went
	Sent      int64 // pushes
	Lost      int64 // pushes that nobody was there for
}

// Move sets a manual clock to an instant. Each refresh on the way is pushed by
// each pusher in turn, in their order, before the next one comes. If the context
// ends meanwhile, time stands at the refresh that was reached.
func (s *Street) Move(ctx context.Context, to time.Time) (moved Moved, err error) {
	if s.manual == nil {
		return moved, ErrRuns
	}
	s.manual.moving.Lock()
	defer s.manual.moving.Unlock()
	if now := s.Now(); to.Before(now) {
		return moved, fmt.Errorf("%s is before %s: %w", to.Format(time.RFC3339Nano), now.Format(time.RFC3339Nano), ErrBackwards)
	}
	if to.Year() > 9999 || s.index(to)-s.first > maxRefreshes {
		return moved, fmt.Errorf("%s is %w: want at most %d refreshes after the epoch", to.Format(time.RFC3339), ErrTooFar, maxRefreshes)
	}
	for index := s.Latest() + 1; index <= s.index(to); index++ {
		s.manual.set(s.At(index))
		moved.Refreshes++
		if s.OnRefresh != nil {
			s.OnRefresh(ctx)
		}
		for _, p := range s.pushers {
			if err := p.Push(ctx, index); err == nil {
				moved.Sent++
			} else if ctx.Err() == nil {
				moved.Lost++
			}
		}
		if err := ctx.Err(); err != nil {
			return moved, fmt.Errorf("moving the time: %w", err)
		}
	}
	s.manual.set(to.UTC())
	return moved, nil
}

// Run has the pushers send at each refresh until the context ends; those of a
// manual clock are asked by Move. It is called once, before any Move.
func (s *Street) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if s.manual != nil {
		return nil
	}
	if s.OnRefresh != nil {
		wg.Go(func() { s.each(ctx, func(int64) { s.OnRefresh(ctx) }) })
	}
	for _, p := range s.pushers {
		wg.Go(func() {
			s.each(ctx, func(index int64) { _ = p.Push(ctx, index) }) // the pusher tells who cares
		})
	}
	return nil
}

// each calls at each refresh; while do is slow, refreshes pass it by.
func (s *Street) each(ctx context.Context, do func(index int64)) {
	for {
		timer := time.NewTimer(max(0, s.Until(s.Latest()+1)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			do(s.Latest())
		}
	}
}

// Push adds pushers, before Run.
func (s *Street) Push(pushers ...Pusher) { s.pushers = append(s.pushers, pushers...) }
