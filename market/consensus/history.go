package consensus

import (
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

// Results yields what settled Intervals came to as a whole, from one on, oldest first,
// until f returns false. The rest is as with Settlements.
func (n *Node) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	if !n.book.open() {
		return ErrClosed
	}
	return n.book.store.Results(from, f)
}
