package store

import (
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Results yields what settled Intervals came to as a whole, oldest first, from the
// given one on until f returns false. It reads a snapshot; f must not call Commit.
func (s *Store) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	return guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketHistory).Cursor()
			var nobody market.HouseholdID
			for k, v := c.Seek(historyKey(nobody, from, 0)); k != nil && len(k) > len(nobody) && market.HouseholdID(k[:len(nobody)]) == nobody; k, v = c.Next() {
				raw, err := unseal(bucketHistory, k, v)
				if err != nil {
					return err
				}
				r, err := ledger.DecodeMarketResult(raw)
				if err != nil {
					return fmt.Errorf("%w: %s: %w", ErrCorrupt, keyText(bucketHistory, k), err)
				}
				if !f(r) {
					return nil
				}
			}
			return nil
		})
	})
}
