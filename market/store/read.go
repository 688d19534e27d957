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
	next := historyKey(h, max(from, 0), 0)
	for first := true; ; first = false {
		var entries []keyValue
		err := s.view(func(tx *bolt.Tx) error {
			entries = nil
			if first {
				if err := complete(tx, h); err != nil {
					return err
				}
			}
			c := tx.Bucket(bucketHistory).Cursor()
			for k, v := c.Seek(next); len(k) >= len(h) && market.HouseholdID(k[:len(h)]) == h && len(entries) < batch; k, v = c.Next() {
				raw, wrong := unseal(bucketHistory, k, v)
				if wrong != "" {
					return damaged(bucketHistory, k, wrong)
				}
				entries = append(entries, keyValue{key: append([]byte(nil), k...), value: raw})
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("reading history: %w", err)
		}
		for _, e := range entries {
			if more, err := f(e.key, e.value); err != nil || !more {
				return err
			}
		}
		if len(entries) < batch {
			return nil
		}
		next = append(entries[batch-1].key, 0) // the key right after it
	}
}

// complete proves that all entries of a household are there, as many as its record
// says. A damaged key would otherwise hide entries from a search without a trace.
func complete(tx *bolt.Tx, h market.HouseholdID) error {
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
	var last []byte
	c := tx.Bucket(bucketHistory).Cursor()
	for k, v := c.Seek(h[:]); len(k) >= len(h) && market.HouseholdID(k[:len(h)]) == h; k, v = c.Next() {
		if _, wrong := unseal(bucketHistory, k, v); wrong != "" {
			return damaged(bucketHistory, k, wrong)
		}
		if last != nil && bytes.Compare(last, k) >= 0 {
			return damaged(bucketHistory, k, "is out of order")
		}
		last = append(last[:0], k...)
		n++
	}
	if n != want {
		return damaged(bucketHistory, h[:], fmt.Sprintf("%d entries, want %d", n, want))
	}
	return nil
}
