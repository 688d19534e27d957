package store

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// AppHashAt returns the AppHash after a committed block.
func (s *Store) AppHashAt(height int64) (hash []byte, ok bool) {
	err := s.view(func(tx *bolt.Tx) error {
		v, err := get(tx, bucketBlocks, heightKey(height))
		hash = v
		return err
	})
	return hash, err == nil
}

// Settlements yields a household's settlements, oldest Interval first, from the given
// one on until f returns false. It reads in batches, each in a transaction of its own:
// f may call Commit, and what is committed meanwhile may be missing or not.
func (s *Store) Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error {
	return s.history(h, from, func(key, raw []byte) (bool, error) {
		e, err := ledger.DecodeSettlement(raw)
		if err != nil {
			return false, damaged(bucketHistory, key, err.Error())
		}
		return f(e), nil
	})
}

// Results yields what settled Intervals came to as a whole, oldest first, from the
// given one on until f returns false. It reads as Settlements does.
func (s *Store) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	return s.history(market.HouseholdID{}, from, func(key, raw []byte) (bool, error) {
		r, err := ledger.DecodeMarketResult(raw)
		if err != nil {
			return false, damaged(bucketHistory, key, err.Error())
		}
		return f(r), nil
	})
}

// batch is how many entries of the history are read at once.
const batch = 256

type keyValue struct{ key, value []byte }

// history yields the entries of one household, or of the market. f is called outside
// of the transaction, because one that is open keeps the file from growing, and
// outside of guard, because its panics are not damage.
func (s *Store) history(h market.HouseholdID, from market.Interval, f func(key, value []byte) (more bool, err error)) error {
	if err := s.prove(h); err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	next := historyKey(max(from, 0), h, 0)
	for next != nil {
		var entries []keyValue
		err := s.view(func(tx *bolt.Tx) error {
			var err error
			entries, next, err = seek(tx, h, next)
			return err
		})
		if err != nil {
			return fmt.Errorf("reading history: %w", err)
		}
		for _, e := range entries {
			if more, err := f(e.key, e.value); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// seek reads a batch of the entries of h from the key next on, skipping those of all
// others by one search an Interval. It returns the key to go on from, nil at the end.
func seek(tx *bolt.Tx, h market.HouseholdID, next []byte) (entries []keyValue, rest []byte, err error) {
	c := tx.Bucket(bucketHistory).Cursor()
	for key, v := c.Seek(next); key != nil; key, v = c.Seek(next) {
		if bytes.Compare(key, next) < 0 || len(key) != historyKeyBytes {
			return nil, nil, damaged(bucketHistory, key, "is out of order")
		}
		if len(entries) == batch {
			return entries, next, nil
		}
		raw, wrong := unseal(bucketHistory, key, v)
		if wrong != "" {
			return nil, nil, damaged(bucketHistory, key, wrong)
		}
		switch k, owner, version := splitHistoryKey(key); {
		case owner == h:
			entries = append(entries, keyValue{key: append([]byte(nil), key...), value: raw})
			next = historyKey(k, h, version+1)
		case bytes.Compare(owner[:], h[:]) < 0:
			next = historyKey(k, h, 0)
		default:
			next = historyKey(k+1, h, 0)
		}
	}
	return entries, nil, nil
}

// prove counts once the entries of a household, which must be as many as its record
// says: a damaged key hides entries from a search without a trace.
func (s *Store) prove(h market.HouseholdID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proven[h] {
		return nil
	}
	err := s.view(func(tx *bolt.Tx) error {
		want, err := ledger.HistoryLength(h, func(key string) ([]byte, error) {
			if tx.Bucket(bucketState).Get([]byte(key)) == nil {
				return nil, nil
			}
			return get(tx, bucketState, []byte(key))
		})
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		n := uint64(0)
		for next := historyKey(0, h, 0); next != nil; {
			var entries []keyValue
			if entries, next, err = seek(tx, h, next); err != nil {
				return err
			}
			n += uint64(len(entries))
		}
		if n != want {
			return fmt.Errorf("%w: history of %s: %d entries, want %d", ErrCorrupt, ownerText(h), n, want)
		}
		return nil
	})
	s.proven[h] = err == nil
	return err
}
