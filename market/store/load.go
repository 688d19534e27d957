package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// inspect walks the pages that Open relies on: all but the leaves of the history,
// whose entries are proven when they are read. It holds the file's lock shared, so
// that nobody is writing.
func inspect(path string) (err error) {
	db, err := openFile(path, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	file, err := os.Open(path) //nolint:gosec // the caller says which file
	if err != nil {
		return fmt.Errorf("opening ledger: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	var damage error
	w := walker{file: file, pageSize: db.Info().PageSize, shallow: true, bad: func(record, format string, args ...any) {
		if damage == nil {
			damage = fmt.Errorf("%s: %s", record, fmt.Sprintf(format, args...))
		}
	}}
	if !w.readMetas() {
		return fmt.Errorf("opening %s: %w: %w", path, ErrCorrupt, damage)
	}
	// One meta page may be torn: a crash while it was written. The other counts.
	damage = nil
	w.walkFrom()
	if damage != nil {
		return fmt.Errorf("opening %s: %w: %w", path, ErrCorrupt, damage)
	}
	return nil
}

// load fills the store from its file and proves it (S3).
func (s *Store) load(chainID string, g ledger.Genesis) error {
	var records []ledger.Record
	var committed []byte
	err := s.view(func(tx *bolt.Tx) error {
		err := checkMeta(tx, chainID)
		if err != nil {
			return err
		}
		if s.height, err = loadHeight(tx); err != nil {
			return err
		}
		if s.base, err = loadHeightOf(tx, keyBase); err != nil {
			return err
		}
		if committed, err = get(tx, bucketBlocks, heightKey(s.height)); err != nil {
			return err
		}
		records, err = loadRecords(tx)
		return err
	})
	if err != nil {
		return err
	}
	if s.state, err = buildState(chainID, g, records); err != nil {
		return err
	}
	s.appHash = s.state.AppHash()
	if string(committed) != string(s.appHash[:]) {
		return fmt.Errorf("%w: the records hash to %x, block %d committed %x", ErrCorrupt, s.appHash, s.height, committed)
	}
	return nil
}

func (s *Store) view(f func(tx *bolt.Tx) error) error {
	return guard(func() error { return s.db.View(f) })
}

func checkMeta(tx *bolt.Tx, chainID string) error {
	for _, name := range allBuckets {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: bucket %s is missing", ErrCorrupt, name)
		}
	}
	v, err := get(tx, bucketMeta, keyFormat)
	if err != nil {
		return err
	}
	if string(v) != Format {
		return fmt.Errorf("%w: got format %q, want %q: put the home's folder aside and join anew, the other members have the ledger", ErrFormat, v, Format)
	}
	if v, err = get(tx, bucketMeta, keyTransaction); err != nil {
		return err
	}
	if want := transactionID(tx); !bytes.Equal(v, want) {
		return damaged(bucketMeta, keyTransaction, fmt.Sprintf("is %x, the meta page says %x", v, want))
	}
	if v, err = get(tx, bucketMeta, keyChain); err != nil {
		return err
	}
	if string(v) != chainID {
		return fmt.Errorf("%w: it is of %q, want %q", ErrForeign, v, chainID)
	}
	return nil
}

func loadHeight(tx *bolt.Tx) (int64, error) { return loadHeightOf(tx, keyHeight) }

// loadHeightOf reads a height of the file's own.
func loadHeightOf(tx *bolt.Tx, key []byte) (int64, error) {
	v, err := get(tx, bucketMeta, key)
	if err != nil {
		return 0, err
	}
	height, ok := parseHeight(v)
	if !ok {
		return 0, damaged(bucketMeta, key, fmt.Sprintf("is %x, want 8 bytes of a height", v))
	}
	return height, nil
}

func parseHeight(b []byte) (int64, bool) {
	if len(b) != 8 {
		return 0, false
	}
	h := int64(binary.BigEndian.Uint64(b)) //nolint:gosec // a negative one is refused
	return h, h >= 0
}

func loadRecords(tx *bolt.Tx) ([]ledger.Record, error) {
	var records []ledger.Record
	err := tx.Bucket(bucketState).ForEach(func(k, v []byte) error {
		raw, wrong := unseal(bucketState, k, v)
		if wrong != "" {
			return damaged(bucketState, k, wrong)
		}
		records = append(records, ledger.Record{Key: string(k), Value: raw})
		return nil
	})
	return records, err
}

// buildState runs outside guard: a panic in there is a bug of ours, not damage.
func buildState(chainID string, g ledger.Genesis, records []ledger.Record) (*ledger.State, error) {
	state, err := ledger.LoadState(chainID, g, func(yield func(string, []byte) bool) {
		for _, r := range records {
			if !yield(r.Key, r.Value) {
				return
			}
		}
	})
	switch {
	case errors.Is(err, ledger.ErrOtherGenesis):
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return state, nil
}
