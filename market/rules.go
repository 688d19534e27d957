package market

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
)

// The rules by which a community may clear its intervals (R3, R4).
const (
	RuleUniform  = "uniform"    // uniform nodal prices: the default
	RulePayAsBid = "pay-as-bid" // the same allocation, each pair at its own price (payasbid.go)
	RuleMcAfee   = "mcafee"     // trade reduction, truthful in price (mcafee.go)
	RuleSharing  = "sharing"    // one fixed price, shares by key or consumption (sharing.go)
)

// Rules returns all rules, the default first.
func Rules() []string { return []string{RuleUniform, RulePayAsBid, RuleMcAfee, RuleSharing} }

// checkBare refuses a network with limits or fees, for the rules that know none.
func checkBare(m *Market) error {
	for i := range m.Network.Nodes {
		n := &m.Network.Nodes[i]
		for _, f := range []struct {
			field string
			set   bool
		}{
			{"import_limit_wh", n.ImportLimit != nil},
			{"export_limit_wh", n.ExportLimit != nil},
			{"import_fee", n.ImportFee != 0},
			{"export_fee", n.ExportFee != 0},
		} {
			if f.set {
				return n.fieldError(f.field, ErrBadNetwork, "got one, want none: rule %q needs a network without limits and fees", m.Rule)
			}
		}
	}
	return nil
}

// A lot is a part of an order as R4's rules line it up.
type lot struct {
	order int32
	price Price
	wh    WattHours
	hash  [sha256.Size]byte // its place among equals; only set where there are some
}

// lineUp sorts lots by compare, and those that it finds equal in the tie order of
// R3, which nobody can choose and which the order of the book does not change.
func (c *Clearer) lineUp(m *Market, lots []lot, compare func(a, b *lot) int) {
	byRule := func(a, b lot) int { return cmp.Or(compare(&a, &b), cmp.Compare(a.order, b.order)) }
	slices.SortFunc(lots, byRule)
	for first := 0; first < len(lots); {
		end := first + 1
		for end < len(lots) && compare(&lots[first], &lots[end]) == 0 {
			end++
		}
		if equals := lots[first:end]; len(equals) > 1 {
			c.hash(m, equals)
			slices.SortFunc(equals, func(a, b lot) int {
				return cmp.Or(bytes.Compare(a.hash[:], b.hash[:]), cmp.Compare(a.order, b.order))
			})
		}
		first = end
	}
}

// hash sets the hashes of lots.
func (c *Clearer) hash(m *Market, lots []lot) {
	g := &c.margin
	g.seats, g.rivals = append(g.seats[:0], seat{}), append(g.rivals[:0], rival{})
	for i := range lots {
		g.seats[0].order = lots[i].order
		lots[i].hash = g.hash(m, 0)
	}
}

// merit orders bids from the dearest down, offers from the cheapest up.
func merit(side Side) func(a, b *lot) int {
	if side == Bid {
		return func(a, b *lot) int { return cmp.Compare(b.price, a.price) }
	}
	return func(a, b *lot) int { return cmp.Compare(a.price, b.price) }
}

// total returns the energy of lots; a book's always fits.
func total(lots []lot) WattHours {
	var wh WattHours
	for i := range lots {
		wh += lots[i].wh
	}
	return wh
}

// announce fills the answer of a rule in which the grid takes no part: nothing
// allocated yet, at these prices at every node and for every bid and offer.
func (c *Clearer) announce(m *Market, node, bid, offer Price) {
	c.result.Prices = c.result.Prices[:0]
	for i := range m.Network.Nodes {
		c.result.Prices = append(c.result.Prices, NodePrice{Node: m.Network.Nodes[i].ID, Price: node})
	}
	c.result.Allocations = c.result.Allocations[:0]
	for i := range m.Orders {
		price := bid
		if m.Orders[i].Side == Offer {
			price = offer
		}
		c.result.Allocations = append(c.result.Allocations, Allocation{Order: i, Price: price})
	}
	c.result.GridImport, c.result.GridExport, c.result.Welfare = 0, 0, 0
}

// conclude computes from the allocated Wh and prices what they come to: amounts,
// flows and welfare.
func (c *Clearer) conclude(m *Market) error {
	nodes := m.Network.Nodes
	c.flows = zeroed(c.flows, len(nodes))
	value := Int128{}
	for i := range c.result.Allocations {
		a, o := &c.result.Allocations[i], &m.Orders[i]
		var err error
		if a.Amount, err = Amount(a.Price, a.WattHours); err != nil {
			return o.fieldError("steps", err, "got %d Wh allocated at %d", a.WattHours, a.Price)
		}
		c.flows[c.places[i].node] += signed(o.Side, a.WattHours)
		left := a.WattHours
		for _, s := range o.Steps {
			taken := min(left, s.WattHours)
			left -= taken
			value = value.Sub(Mul128(int64(s.Price), int64(signed(o.Side, taken))))
		}
	}
	welfare, err := RoundHalfEven(value, whPerKWh)
	if err != nil {
		return fmt.Errorf("summing welfare: %w", err)
	}
	c.result.Welfare = Money(welfare)
	for _, i := range slices.Backward(c.tree.topDown[1:]) {
		c.flows[c.tree.parent[i]] += c.flows[i]
	}
	c.result.Flows = c.result.Flows[:0]
	for i := range nodes {
		if c.tree.parent[i] >= 0 {
			c.result.Flows = append(c.result.Flows, Flow{Node: nodes[i].ID, WattHours: c.flows[i]})
		}
	}
	return nil
}

// signed returns energy as a node's net supply.
func signed(side Side, wh WattHours) WattHours {
	if side == Bid {
		return -wh
	}
	return wh
}
