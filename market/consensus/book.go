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
	changes changes // the newest blocks'
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

// commit makes a delta durable, calls stored, and makes the delta part of the state. It is
// not called concurrently, and readers do not wait for the disk.
func (b *book) commit(height int64, d *ledger.Delta, stored func()) error {
	hash := d.AppHash()
	if err := b.store.Commit(height, d); err != nil {
		return err
	}
	stored()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes.add(b.appHash, d)
	b.state.Absorb(d)
	b.height, b.appHash = height, hash
	return nil
}

// open says whether the file can still be read. That it is closed right after does no
// harm: it waits for readers, and later ones get an error.
func (b *book) open() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return !b.closed
}

func (b *book) appHashAt(height int64) ([]byte, bool) {
	if !b.open() {
		return nil, false
	}
	return b.store.AppHashAt(height)
}

func (b *book) close() error {
	b.mu.Lock()
	was := b.closed
	b.closed = true
	b.mu.Unlock()
	if was {
		return nil
	}
	return b.store.Close()
}
