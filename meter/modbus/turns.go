package modbus

import (
	"context"
	"slices"
	"sync"
)

// turns gives the line to one request at a time: to the units in turn, and to the requests of one unit in their order.
// So a unit waits for at most one request of each other unit, however many they have and however slow they are.
type turns struct {
	mu      sync.Mutex
	busy    bool
	units   []int                   // that wait, in the order of their turn
	waiting map[int][]chan struct{} // per unit in units; a closed channel is a turn
}

// closing waits for its turn like a unit.
const closing = -1

// take waits for a turn of the unit. It fails with the context's error.
func (t *turns) take(ctx context.Context, unit int) error {
	t.mu.Lock()
	if !t.busy {
		t.busy = true
		t.mu.Unlock()
		return nil
	}
	if t.waiting == nil {
		t.waiting = map[int][]chan struct{}{}
	}
	mine := make(chan struct{})
	if len(t.waiting[unit]) == 0 {
		t.units = append(t.units, unit)
	}
	t.waiting[unit] = append(t.waiting[unit], mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(t.waiting[unit], mine)
	if i < 0 {
		t.next() // the turn came meanwhile, and goes on
		return ctx.Err()
	}
	t.waiting[unit] = slices.Delete(t.waiting[unit], i, i+1)
	if len(t.waiting[unit]) == 0 {
		delete(t.waiting, unit)
		t.units = slices.DeleteFunc(t.units, func(u int) bool { return u == unit })
	}
	return ctx.Err()
}

// give ends a turn.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next()
}

// next hands the turn to the next unit; mu is held.
func (t *turns) next() {
	if len(t.units) == 0 {
		t.busy = false
		return
	}
	unit := t.units[0]
	t.units = t.units[1:]
	first, rest := t.waiting[unit][0], t.waiting[unit][1:]
	if len(rest) == 0 {
		delete(t.waiting, unit)
	} else {
		t.waiting[unit] = rest
		t.units = append(t.units, unit)
	}
	close(first)
}
