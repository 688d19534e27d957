package demo

import (
	"testing"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// TestImbalanceOfALine: energy that was not ordered costs the difference to the price at which it would have been.
func TestImbalanceOfALine(t *testing.T) {
	p := gridPrices{retail: 300_000, feedIn: 80_000}
	for _, c := range []struct {
		name        string
		x           ledger.Settlement
		wh, perHand int64
	}{
		{"as ordered", ledger.Settlement{Price: 200_000, Bought: 100, Import: 100}, 0, 0},
		{"more than bought", ledger.Settlement{Price: 200_000, Bought: 100, Import: 150}, 50, 50 * 100},
		{"less than bought", ledger.Settlement{Price: 200_000, Bought: 100, Import: 60}, 40, 40 * 120},
		{"more than sold", ledger.Settlement{Price: 200_000, Sold: 100, Export: 150}, 50, 50 * 120},
		{"less than sold", ledger.Settlement{Price: 200_000, Sold: 100, Export: 60}, 40, 40 * 100},
		{"both ways", ledger.Settlement{Price: 200_000, Sold: 10, Import: 20, Export: 10}, 20, 20 * 100},
		{"substituted", ledger.Settlement{Price: 200_000, Sold: 10, Quality: ledger.QualitySubstitute}, 0, 0},
	} {
		var l HouseholdLine
		l.imbalance(&c.x, p)
		if int64(l.OffWh) != c.wh || l.OffCost != c.perHand {
			t.Errorf("%s: got %d Wh that cost %d, expected %d and %d", c.name, l.OffWh, l.OffCost, c.wh, c.perHand)
		}
	}
}
