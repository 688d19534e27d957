package api

import (
	"context"
	"sync"
	"time"
)

// hub turns the Provider's change signal into wake-ups for the streams, at most
// one per gap, and keeps the frame they share. Nothing is queued: a stream that
// comes late finds the newest frame, so memory does not depend on clients.
type hub struct {
	provider Provider
	pages    *pages
	gap      time.Duration
	refresh  time.Duration // also without a change, since "12 s ago" ages by itself
	limit    int

	mu      sync.Mutex
	seq     uint64                     // of the last change; grows
	streams map[chan struct{}]struct{} // each of capacity 1
	frame   *frame                     // of seq, or older; nil before the first
}

func newHub(cfg Config, p *pages) *hub {
	return &hub{
		provider: cfg.Provider,
		pages:    p,
		gap:      cfg.StreamGap,
		refresh:  cfg.Heartbeat,
		limit:    cfg.MaxStreams,
		seq:      1,
		streams:  make(map[chan struct{}]struct{}),
	}
}

// run wakes the streams until ctx ends.
func (h *hub) run(ctx context.Context) {
	changes, cancel := h.provider.Subscribe()
	defer cancel()
	refresh := time.NewTicker(h.refresh)
	defer refresh.Stop()
	gap := time.NewTimer(h.gap)
	defer gap.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		case <-refresh.C:
		}
		h.wake()
		// What changes from here on is collected in the one place of changes.
		gap.Reset(h.gap)
		select {
		case <-ctx.Done():
			return
		case <-gap.C:
		}
	}
}

func (h *hub) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	for s := range h.streams {
		select {
		case s <- struct{}{}:
		default: // it has one waiting already
		}
	}
}

// join adds a stream; ok is false if there are too many. The caller must leave.
func (h *hub) join() (wake chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= h.limit {
		return nil, false
	}
	wake = make(chan struct{}, 1)
	h.streams[wake] = struct{}{}
	return wake, true
}

func (h *hub) leave(wake chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, wake)
}

func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// latest returns the frame of the last change. The first stream to ask makes
// it, the others share it; without streams nothing is made at all.
func (h *hub) latest() *frame {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frame == nil || h.frame.seq != h.seq {
		h.frame = newFrame(h.seq, snapshot(h.provider), h.pages)
	}
	return h.frame
}
