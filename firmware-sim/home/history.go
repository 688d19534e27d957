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
func (h *History) next(s State, index int64) State {
	from := index * h.refresh
	for i := range h.steps {
		s = h.home.Step(s, from+h.refresh*i/h.steps, from+h.refresh*(i+1)/h.steps)
	}
	return s
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
