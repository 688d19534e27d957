package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// The errors that a caller can act on.
var (
	ErrCorrupt = errors.New("the ledger file is damaged")
	ErrInUse   = errors.New("the ledger file is in use by another process")
	ErrForeign = errors.New("the ledger file belongs to another community")
	ErrFailed  = errors.New("an earlier commit failed: open the ledger file again")
	ErrFormat  = errors.New("the ledger file is of another version of the program")
)

const lockTimeout = time.Second

// Store is an open ledger file.
type Store struct {
	db      *bolt.DB
	state   *ledger.State
	height  int64
	base    int64 // the first height that the file knows
	appHash [32]byte
	failed  error // of the Commit after which no other is taken (S5)

	mu     sync.Mutex
	proven map[market.HouseholdID]bool // nothing is missing in the history, guarded by mu
}

// Open opens the file or makes it with the state before the first block. The error
// wraps ErrCorrupt, ErrInUse or ErrForeign where one of them is the reason.
func Open(path, chainID string, g ledger.Genesis) (*Store, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path, chainID, g); err != nil {
			return nil, fmt.Errorf("creating %s: %w", path, err)
		}
	}
	// bbolt reads the list of free pages while it opens a file for writing: the
	// pages have to be looked at before, and under the lock.
	if err := inspect(path); err != nil {
		return nil, err
	}
	return open(path, chainID, g, false)
}

// OpenReadOnly opens a file that is there for reading alone; Commit then fails. Any
// number of processes may do so, but none while one has it open for writing.
func OpenReadOnly(path, chainID string, g ledger.Genesis) (*Store, error) {
	if err := inspect(path); err != nil {
		return nil, err
	}
	return open(path, chainID, g, true)
}

func open(path, chainID string, g ledger.Genesis, readOnly bool) (*Store, error) {
	db, err := openFile(path, readOnly)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, proven: map[market.HouseholdID]bool{}}
	if err := s.load(chainID, g); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), db.Close())
	}
	if readOnly {
		s.failed = errors.New("it was opened for reading")
	}
	return s, nil
}

func openFile(path string, readOnly bool) (db *bolt.DB, err error) {
	// bbolt would fill an empty file: only create may begin a ledger.
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("opening ledger: %w", err)
	case !info.Mode().IsRegular() || info.Size() == 0:
		return nil, fmt.Errorf("opening %s: %w: it is no file, or empty", path, ErrCorrupt)
	}
	err = guard(func() error {
		var err error
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: lockTimeout, ReadOnly: readOnly, FreelistType: bolt.FreelistMapType,
		})
		return err
	})
	var system *fs.PathError
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("opening %s: %w: stop it first", path, ErrInUse)
	case errors.As(err, &system), errors.Is(err, ErrCorrupt):
		return nil, fmt.Errorf("opening %s: %w", path, err)
	default: // what bbolt itself says about a file that it could read
		return nil, fmt.Errorf("opening %s: %w: %w", path, ErrCorrupt, err)
	}
}

// guard turns a panic of bbolt, which is how it meets some damaged pages, into
// ErrCorrupt; also the fault of reading beyond the file, which would otherwise end
// the process. It cannot help where bbolt works in another goroutine.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a page cannot be read: %v", ErrCorrupt, r)
		}
	}()
	return f()
}

// create makes a new file beside path and then gives it its name, so that a file of
// that name is always whole. A second process that does the same at once finds the
// first one's file.
func create(path, chainID string, g ledger.Genesis) error {
	_, first, err := ledger.Found(chainID, g)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already if it was renamed
	if err := tmp.Close(); err != nil {
		return err
	}
	db, err := bolt.Open(tmp.Name(), 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := put(tx, bucketMeta, keyFormat, []byte(Format)); err != nil {
			return err
		}
		if err := put(tx, bucketMeta, keyChain, []byte(chainID)); err != nil {
			return err
		}
		if err := put(tx, bucketMeta, keyPruned, make([]byte, 4)); err != nil {
			return err
		}
		if err := put(tx, bucketMeta, keyBase, heightKey(0)); err != nil {
			return err
		}
		return write(tx, 0, first)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Link fails if there is a file of that name by now; some file systems have none.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		if err := os.Rename(tmp.Name(), path); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the caller says which file
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// State is the ledger after the last committed block, as Open found it. It belongs
// to the caller, who absorbs each delta after its Commit.
func (s *Store) State() *ledger.State { return s.state }

// Height is that of the last committed block, 0 before the first.
func (s *Store) Height() int64 { return s.height }

// Base is the height at which the file begins: 0, or that of the snapshot it was made from.
func (s *Store) Base() int64 { return s.base }

// AppHash is that of the last committed block. The caller may keep and change it.
func (s *Store) AppHash() []byte { return append([]byte(nil), s.appHash[:]...) }

// Commit makes a block durable (S1, S4). Heights must rise by one. After any error
// but that of a wrong height only the next Open knows whether the block is on disk,
// and every further Commit fails with ErrFailed (S5).
func (s *Store) Commit(height int64, d *ledger.Delta) error {
	if s.failed != nil {
		return fmt.Errorf("committing block %d: %w: %w", height, ErrFailed, s.failed)
	}
	if height != s.height+1 {
		return fmt.Errorf("committing block %d: want %d", height, s.height+1)
	}
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return write(tx, height, d) })
	})
	if err != nil {
		s.failed = err
		return fmt.Errorf("committing block %d: %w", height, err)
	}
	s.height, s.appHash = height, d.AppHash()
	return nil
}

func write(tx *bolt.Tx, height int64, d *ledger.Delta) error {
	fillToTheEnd(tx)
	for _, r := range d.Records {
		if r.Value == nil {
			if err := tx.Bucket(bucketState).Delete([]byte(r.Key)); err != nil {
				return err
			}
			continue
		}
		if err := put(tx, bucketState, []byte(r.Key), r.Value); err != nil {
			return err
		}
	}
	for _, e := range d.History {
		bucket, key, value := EncodeEvent(e, height)
		if err := put(tx, []byte(bucket), key, value); err != nil {
			return err
		}
	}
	hash := d.AppHash()
	if err := put(tx, bucketBlocks, heightKey(height), hash[:]); err != nil {
		return err
	}
	if err := put(tx, bucketMeta, keyTransaction, transactionID(tx)); err != nil {
		return err
	}
	return put(tx, bucketMeta, keyHeight, heightKey(height))
}

// Close gives the file back.
func (s *Store) Close() error { return s.db.Close() }
