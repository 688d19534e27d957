package market

import (
	"fmt"
	"math/bits"
	"slices"
)

// A Clearer clears markets one after the other and keeps its memory, so that a
// run no larger than an earlier one allocates nothing. It belongs to one
// goroutine at a time.
//
// It works on keys instead of prices: 4 × price + 0 for an offer, 1 for the
// grid, 2 for a bid. In rising key, the units of all orders are the community's
// net supply curve: it begins with every bid consuming; an offer's unit adds
// energy by delivering, a bid's by not consuming. What a clearing takes from
// the bottom of the curve is filled. At one price offers then come before the
// grid and the grid before bids, which is the largest trade that R3 asks for,
// and all units of one key are of one side. A fee moves keys by 4 × fee, which
// leaves their side alone.
//
// Curves go up the tree (climb.go), keys come down (descend.go), then quantities
// (margin.go and share), then prices.
type Clearer struct {
	tree   tree
	units  []unit  // all steps, in the order of the book
	places []place // by order
	demand WattHours
	supply WattHours
	narrow bool  // whether price × Wh of all orders together fits 63 bits
	lo, hi int64 // no unit's key is beyond

	selector selector
	climb    climb   // the way up: the curves
	keys     []int64 // by node: units below are filled, units above are not; the way down
	rooms    []room  // by node: where the flow towards the parent must lie
	margin   margin
	net      []WattHours // by node: the flow with nothing of the margin filled
	flows    []WattHours // by node, towards the parent; at the root, to the grid
	prices   []Price     // by node
	value    Int128      // welfare in micro-units × 1000
	result   Clearing
}

// A crossing is where the net supply curve meets what the grid takes or gives.
type crossing struct {
	key        int64 // units below it are filled, units above are not
	price      Price
	gridImport WattHours
	gridExport WattHours
}

// NewClearer returns a Clearer.
func NewClearer() *Clearer { return &Clearer{climb: climb{knotsPerUnit: knotsPerUnit}} }

// Clear is the function Clear, but for two things: the answer's slices are the
// Clearer's own, valid until its next Clear, and nothing is said of two orders
// of one name. The ledger cannot have such; should they tie, the earlier is first.
func (c *Clearer) Clear(m Market) (Clearing, error) {
	if err := checkFrame(&m); err != nil {
		return Clearing{}, err
	}
	if err := c.tree.build(m.Network.Nodes); err != nil {
		return Clearing{}, err
	}
	if err := c.load(m.Orders); err != nil {
		return Clearing{}, err
	}
	c.result.Surplus, c.result.Unpayable = 0, nil
	var err error
	switch m.Rule {
	case RulePayAsBid:
		err = c.payAsBid(&m)
	case RuleMcAfee:
		err = c.mcAfee(&m)
	case RuleSharing:
		err = c.sharing(&m)
	default:
		err = c.uniform(&m)
	}
	if err != nil {
		return Clearing{}, err
	}
	if m.Rule != RuleUniform && m.Rule != "" {
		c.result.Unpayable = nil // of the clearing by R3 that the rule began with
	}
	return c.result, nil
}

// uniform clears what is loaded by R3.
func (c *Clearer) uniform(m *Market) error {
	x := c.cross(c.curve(m.Network.Nodes), m.Tariff)
	c.descend(m.Network.Nodes, x.key)
	c.fill()
	c.share(x.gridExport-x.gridImport, m)
	c.price(m.Network.Nodes, x.price)
	return c.report(x, m)
}

// cross finds where the root's curve crosses: at 0 flow, unless so much is filled
// below the feed-in price that some must leave, or so little below the retail
// price that some must come.
//
// At 0 flow, the price is the midpoint between the last filled unit and the first
// unfilled one, grid prices included; if one is missing, the other; if both, 0.
func (c *Clearer) cross(v curve, t *Tariff) crossing {
	lower, upper := v.zero.bounds()
	if t != nil {
		feedIn, retail := keyOf(t.FeedIn(), keyGrid), keyOf(t.Retail(), keyGrid)
		switch {
		case v.zero.upper < feedIn:
			return crossing{key: feedIn, price: t.FeedIn(), gridExport: c.exported(v, feedIn)}
		case v.zero.lower > retail:
			return crossing{key: retail, price: t.Retail(), gridImport: c.imported(v, retail)}
		}
		lower.raise(t.FeedIn())
		upper.lower(t.Retail())
	}
	return crossing{key: v.zero.key(keyOffer), price: middle(lower, upper, 0)}
}

// filledBelow adds up the units below a key.
func filledBelow(units []unit, key int64) WattHours {
	var sum WattHours
	for _, u := range units {
		// All ones if it is below, else 0. Keys are too small to overflow.
		sum += u.wh & WattHours((u.key-key)>>63)
	}
	return sum
}

// A bound is an end of an interval of prices, if it has one.
type bound struct {
	price Price
	known bool
}

func (b *bound) raise(p Price) {
	if !b.known || b.price < p {
		*b = bound{price: p, known: true}
	}
}

func (b *bound) lower(p Price) {
	if !b.known || b.price > p {
		*b = bound{price: p, known: true}
	}
}

// middle returns the midpoint, or the end that is not missing, or neither.
func middle(lower, upper bound, neither Price) Price {
	switch {
	case lower.known && upper.known:
		return Midpoint(lower.price, upper.price)
	case lower.known:
		return lower.price
	case upper.known:
		return upper.price
	default:
		return neither
	}
}

// report writes the rest of the answer.
func (c *Clearer) report(x crossing, m *Market) error {
	nodes := m.Network.Nodes
	c.result.Prices = slices.Grow(c.result.Prices[:0], len(nodes))
	c.result.Flows = slices.Grow(c.result.Flows[:0], len(nodes)-1)
	for i := range nodes {
		c.result.Prices = append(c.result.Prices, NodePrice{Node: nodes[i].ID, Price: c.prices[i]})
		if p := c.tree.parent[i]; p >= 0 {
			f := flowOf(&nodes[i], c.flows[i], c.prices[p], c.prices[i])
			c.result.Flows = append(c.result.Flows, f)
			c.value = c.value.Sub(Mul128(int64(f.Fee), int64(max(f.WattHours, -f.WattHours))))
		}
	}
	c.result.Unpayable = c.amounts(m)
	c.result.GridImport, c.result.GridExport = x.gridImport, x.gridExport
	if m.Tariff != nil {
		c.value = c.value.Add(Mul128(int64(m.Tariff.ExportPrice), int64(x.gridExport)))
		c.value = c.value.Sub(Mul128(int64(m.Tariff.ImportPrice), int64(x.gridImport)))
	}
	welfare, err := RoundHalfEven(c.value, whPerKWh)
	if err != nil {
		return fmt.Errorf("summing welfare: %w", err)
	}
	c.result.Welfare = Money(welfare)
	return nil
}

// amounts sets every allocation's price and what it comes to: Amount, inlined. The error
// is the first that does not fit.
func (c *Clearer) amounts(m *Market) error {
	allocations, places := c.result.Allocations, c.places[:len(c.result.Allocations)]
	if narrow(sizeOf(c.prices), c.demand+c.supply) {
		for i := range allocations {
			a := &allocations[i]
			a.Price = c.prices[places[i].node]
			a.Amount = Money(thousandth(int64(a.Price) * int64(a.WattHours)))
		}
		return nil
	}
	var first error
	for i := range allocations {
		a := &allocations[i]
		a.Price = c.prices[places[i].node]
		var err error
		if a.Amount, err = Amount(a.Price, a.WattHours); err != nil && first == nil {
			first = m.Orders[i].fieldError("steps", err, "got %d Wh allocated at %d", a.WattHours, a.Price)
		}
	}
	return first
}

// narrow says whether no sum of prices up to size times Wh, of these Wh together,
// needs more than 64 bits.
func narrow(size Price, total WattHours) bool {
	return bits.Len64(uint64(size))+bits.Len64(uint64(total)) < 63 //nolint:gosec // neither is negative
}

// sizeOf returns a size that no price is beyond by more than 1, and less than twice the largest.
func sizeOf(prices []Price) Price {
	var size Price
	for _, p := range prices {
		size |= p ^ p>>63
	}
	return size
}

// zeroed returns a slice of n zeros, in the memory of s if that suffices.
func zeroed[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}
