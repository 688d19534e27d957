package market

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// MaxSeedBytes bounds a market's seed, which is hashed once for each tied order.
	MaxSeedBytes = 1024
	// MaxOrders bounds a market's book.
	MaxOrders = 1 << 26
)

// A Market is everything that the clearing of one interval depends on.
type Market struct {
	Rule    string  // one of Rules, or empty for RuleUniform
	Tariff  *Tariff // nil when islanded
	Network Network
	Orders  []Order
	Seed    []byte  // decides ties (R3); on the ledger, derived from the block that closes the gate
	Sharing Sharing // only RuleSharing looks at it
}

// A NodePrice is the price at a node.
type NodePrice struct {
	Node  string
	Price Price
}

// An Allocation is what an order got.
type Allocation struct {
	Order     int // index in Market.Orders
	WattHours WattHours
	Price     Price // at the order's node; by another rule than RuleUniform, what it pays or is paid per kWh
	Amount    Money // what a bid pays, or an offer is paid: by RuleUniform, Amount(Price, WattHours)
}

// A Flow is the energy that leaves a node towards its parent; negative, what
// the parent sends. Of every kWh of it the grid operator gets the fee and, at an
// edge at its limit, the cooperative what the prices differ beyond the fee. Both
// are 0 where nothing flows.
type Flow struct {
	Node      string
	WattHours WattHours
	Fee       Price // the edge's, of the direction in which the energy flows
	Rent      Price // at least 0
}

// A Clearing is the result of an interval's auction.
type Clearing struct {
	Prices      []NodePrice  // of every node, as in Network.Nodes
	Allocations []Allocation // of every order, as in Market.Orders, 0 Wh included
	Flows       []Flow       // of every node but the root, as in Network.Nodes
	GridImport  WattHours    // one of these two is 0; both are when islanded
	GridExport  WattHours
	Surplus     Money // what bids pay and offers are not paid by the rule itself, at least 0; by RuleUniform, 0
	Welfare     Money // accepted bid value − offer cost − fees + export revenue − import cost
	// Unpayable names the first order whose Amount does not fit its 64 bits (ErrOverflow):
	// energy, prices and welfare are right, the Amounts are not to be used. Only the
	// largest of quantities get there; by the other rules they are an error.
	Unpayable error
}

// PriceAt returns the price at a node, and whether there is such a node.
func (c *Clearing) PriceAt(node string) (Price, bool) {
	for _, p := range c.Prices {
		if p.Node == node {
			return p.Price, true
		}
	}
	return 0, false
}

// Clear clears one interval by the market's rule. Orders are checked as Order.Validate does,
// but with the widest bounds, and equal prices next to each other are added up;
// two orders of one name are refused. Bad input is an error that names the order
// or node and the field.
func Clear(m Market) (Clearing, error) {
	if err := checkUnique(m.Orders); err != nil {
		return Clearing{}, err
	}
	return NewClearer().Clear(m)
}

// checkUnique refuses two orders that the tie order of R3 could not tell apart.
func checkUnique(orders []Order) error {
	type seat struct {
		household HouseholdID
		side      Side
	}
	var ids names
	ids.reset(len(orders))
	seats := make(map[seat]struct{})
	for i := range orders {
		o := &orders[i]
		var twice bool
		if o.ID != "" {
			twice = !ids.add(o.ID)
		} else {
			s := seat{household: o.Household, side: o.Side}
			_, twice = seats[s]
			seats[s] = struct{}{}
		}
		if twice {
			return o.fieldError("id", ErrDuplicateID, "got it again at index %d, want one order of that name", i)
		}
	}
	return nil
}

// checkFrame looks at everything in a market but the nodes' tree and the orders.
func checkFrame(m *Market) error {
	if m.Rule != "" && !slices.Contains(Rules(), m.Rule) {
		return fmt.Errorf("rule: got %q, want %s: %w", m.Rule, strings.Join(Rules(), ", "), ErrUnknownRule)
	}
	if len(m.Orders) > MaxOrders {
		return fmt.Errorf("orders: got %d, want at most %d: %w", len(m.Orders), MaxOrders, ErrBadQuantity)
	}
	if len(m.Seed) > MaxSeedBytes {
		return fmt.Errorf("seed: got %d bytes, want at most %d: %w", len(m.Seed), MaxSeedBytes, ErrBadSeed)
	}
	if m.Tariff == nil {
		return nil
	}
	return m.Tariff.Validate()
}
