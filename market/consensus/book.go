package consensus

import (
	"sync"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// book is the state and the file that keeps it.
type book struct {
	store *store.Store

	mu      sync.RWMutex
	state   *ledger.State
	height  int64
	appHash [32]byte
	closed  bool
}

func openBook(path, chainID string, g ledger.Genesis) (*book, error) {
	s, err := store.Open(path, chainID, g)
	if err != nil {
		return nil, err
	}
	state := s.State()
	return &book{store: s, state: state, height: s.Height(), appHash: state.AppHash()}, nil
}

// read calls f with the state, which f must not keep or change. f must not call read.
func (b *book) read(f func(s *ledger.State)) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	f(b.state)
}

// tip is the newest height and its hash.
func (b *book) tip() (height int64, hash [32]byte) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.height, b.appHash
}

// commit makes a delta durable, then part of the state. It is not called concurrently, and
// readers do not wait for the disk.
func (b *book) commit(height int64, d *ledger.Delta) error {
	hash := d.AppHash()
	if err := b.store.Commit(height, d); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Absorb(d)
	b.height, b.appHash = height, hash
	return nil
}

func (b *book) appHashAt(height int64) ([]byte, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return nil, false
	}
	return b.store.AppHashAt(height)
}

func (b *book) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	return b.store.Close()
}
