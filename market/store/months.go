package store

import (
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Months returns a household's closed months, oldest first. They are proven by the hash
// chain in its record.
func (s *Store) Months(h market.HouseholdID) ([]ledger.Month, error) {
	var months []ledger.Month
	err := s.view(func(tx *bolt.Tx) error {
		var err error
		months, err = readMonths(tx, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading months: %w", err)
	}
	return months, nil
}

func readMonths(tx *bolt.Tx, h market.HouseholdID) ([]ledger.Month, error) {
	raw, err := get(tx, bucketState, []byte(ledger.HouseholdKey(h)))
	if err != nil {
		return nil, err
	}
	record, err := ledger.DecodeHousehold(raw)
	if err != nil {
		return nil, damaged(bucketState, []byte(ledger.HouseholdKey(h)), err.Error())
	}
	var months []ledger.Month
	var chain [32]byte
	c := tx.Bucket(bucketMonths).Cursor()
	for key, v := c.Seek(monthKey(h, 0)); key != nil; key, v = c.Next() {
		if owner, _ := splitMonthKey(key); owner != h {
			break
		}
		value, wrong := unseal(bucketMonths, key, v)
		if wrong != "" {
			return nil, damaged(bucketMonths, key, wrong)
		}
		_, encoded, err := splitHeight(value)
		if err != nil {
			return nil, damaged(bucketMonths, key, err.Error())
		}
		m, err := ledger.DecodeMonth(encoded)
		if err != nil {
			return nil, damaged(bucketMonths, key, err.Error())
		}
		chain = ledger.NextChain(chain, encoded)
		months = append(months, *m)
	}
	if uint64(len(months)) != record.Closed || chain != record.ClosedChain {
		return nil, fmt.Errorf("%w: months of %s: %d that hash to %x, want %d and %x", ErrCorrupt, ownerText(h), len(months), chain, record.Closed, record.ClosedChain)
	}
	return months, nil
}

// Pruned returns the newest month whose Settlements are no longer kept, 0 if there is none.
func (s *Store) Pruned() (m market.Month, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		m, err = pruned(tx)
		return err
	})
	return m, err
}

func pruned(tx *bolt.Tx) (market.Month, error) {
	v, err := get(tx, bucketMeta, keyPruned)
	if err != nil {
		return 0, err
	}
	m, ok := parsePruned(v)
	if !ok {
		return 0, damaged(bucketMeta, keyPruned, fmt.Sprintf("is %x, want 4 bytes of a month", v))
	}
	return m, nil
}

func parsePruned(b []byte) (market.Month, bool) {
	if len(b) != 4 {
		return 0, false
	}
	m := market.Month(binary.BigEndian.Uint32(b)) //nolint:gosec // a negative one is refused
	return m, m >= 0
}

// prunedPart is what a household's history had before pruning took it.
type prunedPart struct {
	until market.Interval // what is left begins here
	lines uint64
}

func (s *Store) prunedLines(tx *bolt.Tx, h market.HouseholdID) (prunedPart, error) {
	last, err := pruned(tx)
	if err != nil || last == 0 || h == (market.HouseholdID{}) {
		return prunedPart{}, err
	}
	p := prunedPart{until: s.prunedUntil(last)}
	months, err := readMonths(tx, h)
	for _, m := range months {
		if m.Month <= last {
			p.lines += m.Lines
		}
	}
	return p, err
}

// prunedUntil is the first Interval after a month.
func (s *Store) prunedUntil(m market.Month) market.Interval {
	if m == 0 {
		return 0
	}
	// The calendar and the zone are the genesis's, and no commit changes them.
	_, end := s.state.Calendar().OfMonth(m, s.state.Zone())
	return end
}

// pruneBatch bounds the lines that one transaction removes.
const pruneBatch = 10_000

// Prune removes the Settlements of all months up to one. They must be closed: what they
// came to is kept, so that statements stay provable, and so are the results of the
// Intervals. A crash in between leaves lines that do not count; the next Prune removes
// them. It may be called while a Commit is, and returns how many lines it removed.
func (s *Store) Prune(m market.Month) (removed int, err error) {
	end := s.prunedUntil(m)
	mark := func(tx *bolt.Tx) error {
		open, err := ledger.OpenMonthOf(func(key string) ([]byte, error) { return get(tx, bucketState, []byte(key)) })
		if err != nil {
			return err
		}
		if m >= open {
			return fmt.Errorf("want a month before %s, which is not closed yet", open)
		}
		last, err := pruned(tx)
		if err != nil {
			return err
		}
		if err := put(tx, bucketMeta, keyPruned, binary.BigEndian.AppendUint32(nil, uint32(max(m, last)))); err != nil { //nolint:gosec // never negative
			return err
		}
		return put(tx, bucketMeta, keyTransaction, transactionID(tx))
	}
	if err := guard(func() error { return s.db.Update(mark) }); err != nil {
		return 0, fmt.Errorf("pruning to %s: %w", m, err)
	}
	for from := market.Interval(0); from < end; {
		n := 0
		err := guard(func() error {
			return s.db.Update(func(tx *bolt.Tx) error {
				var err error
				n, from, err = pruneSome(tx, from, end)
				return err
			})
		})
		if err != nil {
			return removed, fmt.Errorf("pruning to %s: %w", m, err)
		}
		removed += n
	}
	return removed, nil
}

// pruneSome removes the Settlements of Intervals from one on and before end, some of them,
// and returns where to go on.
func pruneSome(tx *bolt.Tx, from, end market.Interval) (removed int, next market.Interval, err error) {
	c := tx.Bucket(bucketHistory).Cursor()
	var keys [][]byte
	next = end
	for key, _ := c.Seek(historyKey(from, market.HouseholdID{}, 0)); key != nil; key, _ = c.Next() {
		k, h, _ := splitHistoryKey(key)
		if k >= end {
			break
		}
		if len(keys) >= pruneBatch {
			next = k
			break
		}
		if h != (market.HouseholdID{}) {
			keys = append(keys, append([]byte(nil), key...))
		}
	}
	for _, key := range keys {
		if err := tx.Bucket(bucketHistory).Delete(key); err != nil {
			return 0, next, err
		}
	}
	return len(keys), next, put(tx, bucketMeta, keyTransaction, transactionID(tx))
}
