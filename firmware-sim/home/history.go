package home

import (
	"context"
	"fmt"
	"sync"
)

// History knows a house's state at each refresh, the period at which its meters
// renew their counters, from the beginning of time to as late as it was asked
// for. It keeps the state at every marksEvery-th refresh and computes the
// others anew from there: a year of three-minute refreshes is 350 kB a home, and
// any instant of it costs some tens of microseconds.
//
// A History may be used by many goroutines.
type History struct {
	refresh int64 // milliseconds
	steps   int64 // of the physics in a refresh
	first   int64 // index of the refresh at which time begins

	mu    sync.Mutex
	home  *Home
	plan  Plan
	told  int64   // the instant of the newest command
	marks []State // of refresh first + i*marksEvery
	last  State
	index int64 // of last
}

const marksEvery = 64

// maxStepMS is the longest step of the physics: within one step the sun and the
// load are netted against each other, as the meter at the door would not.
const maxStepMS = 5 * minuteMS

// NewHistory begins a house's time at refresh index first; an index counts
// refreshes since 1970, so refresh i is at i*refresh milliseconds. The history
// owns the home from now on.
func NewHistory(h *Home, refreshMS, first int64) *History {
	begin := h.Begin()
	return &History{
		refresh: refreshMS,
		steps:   (refreshMS + maxStepMS - 1) / maxStepMS,
		first:   first,
		home:    h,
		marks:   []State{begin},
		last:    begin,
		index:   first,
	}
}

// First is the refresh at which time begins.
func (h *History) First() int64 { return h.first }

// Advance computes the history up to a refresh. It returns early only with the
// context's error, and may then be called again.
func (h *History) Advance(ctx context.Context, index int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.advance(ctx, index)
}

// advance needs h.mu.
func (h *History) advance(ctx context.Context, index int64) error {
	for h.index < index {
		h.last = h.next(h.last, h.index)
		h.index++
		if (h.index-h.first)%marksEvery == 0 {
			h.marks = append(h.marks, h.last)
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("integrating a home's history: %w", err)
			}
		}
	}
	return nil
}

// next moves a state from refresh index to the one after it.
func (h *History) next(s State, index int64) State { return h.until(s, index, (index+1)*h.refresh) }

// until moves a state from refresh index to an instant not later than the
// refresh after it. Besides the steps of the physics, time is cut where the
// control changes.
func (h *History) until(s State, index, end int64) State {
	begin := index * h.refresh
	for i := range h.steps {
		from, to := begin+h.refresh*i/h.steps, min(end, begin+h.refresh*(i+1)/h.steps)
		for from < to {
			control, until := h.plan.At(from)
			until = min(until, to)
			s = h.home.StepUnder(s, control, from, until)
			from = until
		}
	}
	return s
}

// Command changes what the inverter holds to from an instant on, or from the
// newest refresh that was computed, or from the command before, whichever is
// latest: the past does not change. apply is told that instant and says what
// holds from then on; with its error nothing changes. It runs under the
// history's lock, so that no state is computed between.
func (h *History) Command(at int64, apply func(at int64) ([]Piece, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	at = max(at, h.index*h.refresh, h.told)
	pieces, err := apply(at)
	if err != nil {
		return err
	}
	h.told = at
	h.plan.replace(at, pieces)
	return nil
}

// Moment is the house at an instant. An instant before the beginning of time is
// answered with the beginning.
func (h *History) Moment(ctx context.Context, at int64) (Moment, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at = max(at, h.first*h.refresh)
	index := floorDiv(at, h.refresh)
	var s State
	if err := h.walk(ctx, index, index, func(_ int64, found State) { s = found }); err != nil {
		return Moment{}, err
	}
	control, _ := h.plan.At(at)
	return h.home.Moment(h.until(s, index, at), control, at), nil
}

// Mean is the mean power of one of the home's sources over a time. Sources
// belong to the history, so it is asked.
func (h *History) Mean(s Source, from, to int64) MilliWatts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return MilliWatts(int64(energyBetween(s, from, to)) / max(1, to-from))
}

// At is the state at a refresh and at the one before it. A refresh before the
// beginning of time is answered with the beginning.
func (h *History) At(ctx context.Context, index int64) (state, before State, err error) {
	err = h.Walk(ctx, index-1, index, func(i int64, s State) {
		if i < index {
			before = s
		}
		state = s
	})
	return state, before, err
}

// Walk gives the states at the refreshes from..to in order, both included.
// Those before the beginning of time are the beginning.
func (h *History) Walk(ctx context.Context, from, to int64, each func(index int64, s State)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.walk(ctx, from, to, each)
}

// walk needs h.mu.
func (h *History) walk(ctx context.Context, from, to int64, each func(index int64, s State)) error {
	if err := h.advance(ctx, to); err != nil {
		return err
	}
	for ; from < h.first && from <= to; from++ {
		each(from, h.marks[0])
	}
	if from > to {
		return nil
	}
	if from == h.index {
		each(from, h.last)
		return nil
	}
	mark := (from - h.first) / marksEvery
	s := h.marks[mark]
	for i := h.first + mark*marksEvery; ; i++ {
		if i >= from {
			each(i, s)
		}
		if i == to {
			return nil
		}
		s = h.next(s, i)
	}
}
