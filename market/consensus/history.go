package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Settlements yields a household's settlements from an Interval on, oldest first, until
// f returns false. It reads what is committed; f must not call methods of the node. After
// Run it fails with ErrClosed.
func (n *Node) Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error {
	if !n.book.open() {
		return ErrClosed
	}
	return n.book.store.Settlements(h, from, f)
}

// Months returns a household's closed months, oldest first. Their lines may have been
// pruned. The rest is as with Settlements.
func (n *Node) Months(h market.HouseholdID) ([]ledger.Month, error) {
	if !n.book.open() {
		return nil, ErrClosed
	}
	return n.book.store.Months(h)
}

// IntervalSettlements returns the first Settlement of every household in one Interval. The
// rest is as with Settlements.
func (n *Node) IntervalSettlements(k market.Interval) ([]*ledger.Settlement, error) {
	if !n.book.open() {
		return nil, ErrClosed
	}
	return n.book.store.IntervalSettlements(k)
}

// prune removes what is older than the retention, each time that months have been closed.
func (n *Node) prune(ctx context.Context) error {
	for {
		if err := n.pruneOnce(); err != nil {
			return fmt.Errorf("pruning the ledger: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.closedMonths:
		}
	}
}

func (n *Node) pruneOnce() error {
	var last market.Month
	n.book.read(func(s *ledger.State) {
		last = prunedAt(s, n.cfg.Now(), n.cfg.Retention)
	})
	if gone, err := n.book.store.Pruned(); err != nil || last <= gone {
		return err
	}
	removed, err := n.book.store.Prune(last)
	if err == nil && removed > 0 {
		n.log.Info("ledger pruned", "month", last.String(), "lines", removed)
	}
	return err
}

// prunedAt is the newest month whose lines need not be kept at a time: 0 if there is none.
func prunedAt(s *ledger.State, now time.Time, retention time.Duration) market.Month {
	if retention <= 0 {
		return 0
	}
	kept := s.Clock().Community(now).Add(-retention)
	last := s.Calendar().MonthOf(s.Calendar().At(kept), s.Zone()) - 1 // the month that it lies in is kept
	return max(min(last, s.OpenMonth()-1), 0)
}

// Results yields what settled Intervals came to as a whole, from one on, oldest first,
// until f returns false. The rest is as with Settlements.
func (n *Node) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	if !n.book.open() {
		return ErrClosed
	}
	return n.book.store.Results(from, f)
}
