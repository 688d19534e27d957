package consensus

import (
	"errors"
	"fmt"
	"os"
	"sync"

	dbm "github.com/cometbft/cometbft-db"
	cmtcfg "github.com/cometbft/cometbft/config"
)

var errDBClosed = errors.New("engine database closed")

// databases opens the engine's databases and keeps hold of them, so that they can be
// closed when the engine failed to start as well.
type databases struct {
	mu   sync.Mutex
	open []*guardedDB
}

func (d *databases) provide(ctx *cmtcfg.DBContext) (dbm.DB, error) {
	dir := ctx.Config.DBDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening engine database %s: %w", ctx.ID, err)
	}
	db, err := dbm.NewGoLevelDB(ctx.ID, dir)
	if err != nil {
		return nil, fmt.Errorf("opening engine database %s in %s: %w", ctx.ID, dir, err)
	}
	g := &guardedDB{db: db}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, g)
	return g, nil
}

func (d *databases) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, g := range d.open {
		errs = append(errs, g.shut())
	}
	d.open = nil
	return errors.Join(errs...)
}

// guardedDB makes the end of the engine orderly. Its gossip goroutines are not waited for
// by the engine and may be asleep for two seconds after it stopped; then they read the
// block store, and would panic on a closed database, which ends the process. Here a read
// after the end finds nothing instead, and they go home.
//
// The engine's own Close is taken as a wish only: shut closes.
type guardedDB struct {
	mu     sync.RWMutex // read-held during each call, so that shut waits for them
	closed bool
	db     dbm.DB
}

var _ dbm.DB = (*guardedDB)(nil)

func (g *guardedDB) shut() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return g.db.Close()
}

// Close does nothing, see guardedDB.
func (g *guardedDB) Close() error { return nil }

// Get finds nothing once the database is closed.
func (g *guardedDB) Get(key []byte) ([]byte, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return nil, nil
	}
	return g.db.Get(key)
}

// Has finds nothing once the database is closed.
func (g *guardedDB) Has(key []byte) (bool, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return false, nil
	}
	return g.db.Has(key)
}

func (g *guardedDB) write(f func() error) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return errDBClosed
	}
	return f()
}

// Set fails once the database is closed, as all writing does.
func (g *guardedDB) Set(key, value []byte) error {
	return g.write(func() error { return g.db.Set(key, value) })
}

// SetSync is a Set that is on the disk when it returns.
func (g *guardedDB) SetSync(key, value []byte) error {
	return g.write(func() error { return g.db.SetSync(key, value) })
}

// Delete removes a key.
func (g *guardedDB) Delete(key []byte) error {
	return g.write(func() error { return g.db.Delete(key) })
}

// DeleteSync is a Delete that is on the disk when it returns.
func (g *guardedDB) DeleteSync(key []byte) error {
	return g.write(func() error { return g.db.DeleteSync(key) })
}

// Iterator walks the keys upwards.
func (g *guardedDB) Iterator(start, end []byte) (it dbm.Iterator, err error) {
	err = g.write(func() error { it, err = g.db.Iterator(start, end); return err })
	return it, err
}

// ReverseIterator walks the keys downwards.
func (g *guardedDB) ReverseIterator(start, end []byte) (it dbm.Iterator, err error) {
	err = g.write(func() error { it, err = g.db.ReverseIterator(start, end); return err })
	return it, err
}

// NewBatch collects writes.
func (g *guardedDB) NewBatch() dbm.Batch {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return closedBatch{}
	}
	return guardedBatch{g.db.NewBatch(), g}
}

// Print is for debugging.
func (g *guardedDB) Print() error { return g.write(g.db.Print) }

// Stats is for debugging.
func (g *guardedDB) Stats() map[string]string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return nil
	}
	return g.db.Stats()
}

// Compact gives space back.
func (g *guardedDB) Compact(start, end []byte) error {
	return g.write(func() error { return g.db.Compact(start, end) })
}

type guardedBatch struct {
	dbm.Batch
	g *guardedDB
}

func (b guardedBatch) Write() error     { return b.g.write(b.Batch.Write) }
func (b guardedBatch) WriteSync() error { return b.g.write(b.Batch.WriteSync) }

type closedBatch struct{}

func (closedBatch) Set(_, _ []byte) error { return errDBClosed }
func (closedBatch) Delete(_ []byte) error { return errDBClosed }
func (closedBatch) Write() error          { return errDBClosed }
func (closedBatch) WriteSync() error      { return errDBClosed }
func (closedBatch) Close() error          { return nil }
