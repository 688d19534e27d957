package household

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
)

// pictureGap is the shortest time between two pictures.
const pictureGap = 200 * time.Millisecond

// follow rebuilds the picture when a block came, a meter spoke or time went by.
func (h *Home) follow(ctx context.Context) error {
	events, cancel := h.opt.Ledger.Subscribe()
	defer cancel()
	idle := time.NewTicker(min(max(h.wallInterval()/10, time.Second), 10*time.Second))
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-events:
			if !open {
				events = nil // the ledger has ended
			}
		case <-h.dirty:
		case <-idle.C:
		}
		if err := h.book.refresh(); err != nil {
			return err
		}
		h.rebuild()
		if !pause(ctx, pictureGap) {
			return nil
		}
	}
}

func (h *Home) rebuild() {
	s := h.picture()
	h.snapshot.Store(&s)
	h.watchers.wake()
}

// Snapshot returns the newest picture.
func (h *Home) Snapshot() api.Snapshot { return *h.snapshot.Load() }

// Subscribe implements api.Provider.
func (h *Home) Subscribe() (changes <-chan struct{}, cancel func()) { return h.watchers.add() }

// AppHash implements api.Provider.
func (h *Home) AppHash(height int64) (string, bool) {
	hash, ok := h.opt.Ledger.AppHashAt(height)
	return hex.EncodeToString(hash), ok
}

// watchers are those who want to know of new pictures.
type watchers struct {
	mu  sync.Mutex
	all map[chan struct{}]bool
}

func (w *watchers) add() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = map[chan struct{}]bool{}
	}
	w.all[c] = true
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, c)
	}
}

func (w *watchers) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.all {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
