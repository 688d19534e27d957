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
		e, err := decodeSettlement(key, raw)
		if err != nil {
			return false, damaged(bucketHistory, key, err.Error())
		}
		return f(e), nil
	})
}

func decodeSettlement(key, raw []byte) (*ledger.Settlement, error) {
	height, encoded, err := splitHeight(raw)
	if err != nil {
		return nil, err
	}
	_, h, _ := splitHistoryKey(key)
	e, err := ledger.DecodeSettlement(h, encoded)
	if err == nil {
		e.Height = height
	}
	return e, err
}

func decodeResult(raw []byte) (*ledger.MarketResult, error) {
	height, encoded, err := splitHeight(raw)
	if err != nil {
		return nil, err
	}
	r, err := ledger.DecodeMarketResult(encoded)
	if err == nil {
		r.Height = height
	}
	return r, err
}

// IntervalSettlements returns the first Settlement of every household in one Interval, in
// the order of the households: the leaves of MarketResult.Root. It is empty if the
// Interval is not settled, or if its lines have been pruned.
func (s *Store) IntervalSettlements(k market.Interval) ([]*ledger.Settlement, error) {
	var all []*ledger.Settlement
	err := s.view(func(tx *bolt.Tx) error {
		gone, err := pruned(tx)
		if err != nil || k < s.prunedUntil(gone) {
			return err
		}
		c := tx.Bucket(bucketHistory).Cursor()
		for key, v := c.Seek(historyKey(max(k, 0), market.HouseholdID{}, 1)); key != nil; key, v = c.Next() {
			interval, _, version := splitHistoryKey(key)
			if interval != k {
				return nil
			}
			if version != 1 {
				continue
			}
			raw, wrong := unseal(bucketHistory, key, v)
			if wrong != "" {
				return damaged(bucketHistory, key, wrong)
			}
			e, err := decodeSettlement(key, raw)
			if err != nil {
				return damaged(bucketHistory, key, err.Error())
			}
			all = append(all, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading interval %d: %w", k, err)
	}
	return all, nil
}

// Results yields what settled Intervals came to as a whole, oldest first, from the
// given one on until f returns false. It reads as Settlements does.
func (s *Store) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	return s.history(market.HouseholdID{}, from, func(key, raw []byte) (bool, error) {
		r, err := decodeResult(raw)
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
	gone, err := s.Pruned()
	if err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	if h != (market.HouseholdID{}) {
		from = max(from, s.prunedUntil(gone))
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
		pruned, err := s.prunedLines(tx, h)
		if err != nil {
			return err
		}
		n := uint64(0)
		for next := historyKey(pruned.until, h, 0); next != nil; {
			var entries []keyValue
			if entries, next, err = seek(tx, h, next); err != nil {
				return err
			}
			n += uint64(len(entries))
		}
		if n += pruned.lines; n != want {
			return fmt.Errorf("%w: history of %s: %d entries, want %d", ErrCorrupt, ownerText(h), n, want)
		}
		return nil
	})
	s.proven[h] = err == nil
	return err
}
