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
	price Price
	wh    WattHours
	order int32
}

// A ticket is a lot with the beginning of its hash.
type ticket struct {
	lot
	key int64
}

// lineUp sorts lots by merit, bids from the dearest down and offers from the cheapest
// up, and those of one price in the tie order of R3, which nobody can choose and which
// the order of the book does not change.
func (c *Clearer) lineUp(m *Market, lots []lot, side Side) {
	if side == Bid {
		slices.SortFunc(lots, func(a, b lot) int { return cmp.Compare(b.price, a.price) })
	} else {
		slices.SortFunc(lots, func(a, b lot) int { return cmp.Compare(a.price, b.price) })
	}
	var tickets []ticket
	for first := 0; first < len(lots); {
		end := first + 1
		for end < len(lots) && lots[end].price == lots[first].price {
			end++
		}
		if equals := lots[first:end]; len(equals) > 1 {
			tickets = c.draw(m, equals, tickets[:0])
		}
		first = end
	}
}

// draw puts lots in the tie order; tickets is scratch.
func (c *Clearer) draw(m *Market, lots []lot, tickets []ticket) []ticket {
	for _, l := range lots {
		sum := c.hash(m, l.order)
		tickets = append(tickets, ticket{lot: l, key: hashKey(sum)})
	}
	slices.SortFunc(tickets, func(a, b ticket) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		// Of one order, or of two whose hashes begin alike: as good as never.
		x, y := c.hash(m, a.order), c.hash(m, b.order)
		return cmp.Or(bytes.Compare(x[:], y[:]), cmp.Compare(a.order, b.order))
	})
	for i := range tickets {
		lots[i] = tickets[i].lot
	}
	return tickets
}

// hash returns an order's place in the tie order.
func (c *Clearer) hash(m *Market, order int32) [sha256.Size]byte {
	g := &c.margin
	g.seats, g.rivals = append(g.seats[:0], seat{order: order}), append(g.rivals[:0], rival{})
	return g.hash(m, 0)
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
