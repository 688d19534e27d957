package market

import (
	"fmt"
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

// A unit is a step as part of the net supply curve.
type unit struct {
	key int64
	wh  WattHours
}

// A place says where an order is: its node, and before which its units end.
type place struct {
	node int32
	end  int32
}

const (
	keyOffer int64 = 0
	keyGrid  int64 = 1
	keyBid   int64 = 2
	keySide  int64 = 3 // mask
	keyShift       = 2
)

func keyOf(p Price, side int64) int64 { return int64(p)<<keyShift | side }

func priceOf(key int64) Price { return Price(key >> keyShift) }

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
	x := c.cross(c.curve(m.Network.Nodes), m.Tariff)
	c.descend(m.Network.Nodes, x.key)
	c.fill()
	c.share(x.gridExport-x.gridImport, &m)
	c.price(m.Network.Nodes, x.price)
	if err := c.report(x, &m); err != nil {
		return Clearing{}, err
	}
	return c.result, nil
}

// load checks the orders and lays out their steps as units.
func (c *Clearer) load(orders []Order) error {
	units := c.units[:0]
	c.places = slices.Grow(c.places[:0], len(orders))[:len(orders)]
	var total, supply WattHours
	for i := range orders {
		o := &orders[i]
		node := c.tree.node(o.Node)
		if node < 0 {
			return o.fieldError("node", ErrUnknownNode, "got %q, want the id of a node", o.Node)
		}
		var quantity WattHours
		if units, quantity = lay(units, o); quantity == 0 {
			return o.check(WidestOrderBounds())
		}
		if quantity > MaxTotalWh-total {
			return o.fieldError("steps", ErrBadQuantity, "got %d Wh after %d Wh of other orders, want at most %d in all",
				quantity, total, MaxTotalWh)
		}
		total += quantity
		supply += quantity * WattHours(o.Side-Bid)
		c.places[i] = place{node: node, end: int32(len(units))} //nolint:gosec // MaxOrders × MaxSteps is 2^30
	}
	c.units = units
	c.supply, c.demand = supply, total-supply
	return nil
}

// lay appends an order's steps and returns their Wh, or 0 if Order.check would
// find fault with it: the same tests, in the one pass there is time for.
func lay(units []unit, o *Order) ([]unit, WattHours) {
	// Sides are as good as random: a branch on one would often be predicted wrong.
	// So both are ruled out in one comparison (below Bid it wraps around), and
	// what follows from the side is computed: 2 and -1 for a bid, 0 and 1 for an offer.
	if o.Side-Bid > Offer-Bid || len(o.Steps) < 1 || len(o.Steps) > MaxSteps {
		return units, 0
	}
	side := keyBid * int64(Offer-o.Side)
	rising := 2*Price(o.Side-Bid) - 1
	last := -MaxPrice // of prices × rising, which must not fall
	var quantity WattHours
	for _, s := range o.Steps {
		price := s.Price * rising
		if price < last || price > MaxPrice || s.WattHours <= 0 || s.WattHours > MaxTotalWh-quantity {
			return units, 0
		}
		last = price
		quantity += s.WattHours
		units = append(units, unit{key: keyOf(s.Price, side), wh: s.WattHours})
	}
	return units, quantity
}

// cross finds where the root's curve crosses: at the feed-in price if so much is
// filled below it that some must leave, at the retail price if so little is
// filled below that some must come, else at 0 flow.
func (c *Clearer) cross(v curve, t *Tariff) crossing {
	if t == nil {
		return c.crossAtZero(v, nil)
	}
	feedIn, retail := keyOf(t.FeedIn(), keyGrid), keyOf(t.Retail(), keyGrid)
	var belowFeedIn, belowRetail WattHours
	for _, u := range v.units {
		// All ones if the key is below, else 0: prices are random to a branch
		// predictor. Keys are far too small for the difference to overflow.
		belowFeedIn += u.wh & WattHours((u.key-feedIn)>>63)
		belowRetail += u.wh & WattHours((u.key-retail)>>63)
	}
	switch {
	case belowFeedIn > v.demand:
		return crossing{key: feedIn, price: t.FeedIn(), gridExport: belowFeedIn - v.demand}
	case belowRetail < v.demand:
		return crossing{key: retail, price: t.Retail(), gridImport: v.demand - belowRetail}
	default:
		return c.crossAtZero(v, t)
	}
}

// crossAtZero finds the crossing when nothing comes from or goes to the grid.
// The price is the midpoint between the last filled unit and the first unfilled
// one, grid prices included; if one is missing, the other; if both, 0.
func (c *Clearer) crossAtZero(v curve, t *Tariff) crossing {
	zero := c.selector.cut(v.units, v.demand, v.demand+v.supply)
	lower, upper := zero.bounds()
	if t != nil {
		lower.raise(t.FeedIn())
		upper.lower(t.Retail())
	}
	return crossing{key: zero.key(keyOffer), price: middle(lower, upper, 0)}
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

// fill accepts every step that is strictly on the right side of its node's key,
// and hands those at it to the margin.
func (c *Clearer) fill() {
	c.margin.reset(len(c.tree.parent))
	c.net = zeroed(c.net, len(c.tree.parent))
	c.flows = zeroed(c.flows, len(c.tree.parent))
	allocations := slices.Grow(c.result.Allocations[:0], len(c.places))[:len(c.places)]
	value := Int128{}
	at := int32(0)
	for i, place := range c.places {
		var accepted, net, tied WattHours
		key := c.keys[place.node]
		for ; at < place.end; at++ {
			u := c.units[at]
			// A bid (1) is accepted above the key, an offer (0) below it.
			// Without branches, because prices are random: distance is negative
			// exactly if the unit is accepted, and (x ^ -1) + 1 is -x.
			bid := (u.key & keyBid) >> 1
			distance := ((u.key - key) ^ -bid) + bid
			wh := u.wh & WattHours(distance>>63)
			accepted += wh
			net += (wh ^ WattHours(-bid)) + WattHours(bid)
			price := (int64(priceOf(u.key)) ^ (bid - 1)) - (bid - 1) // an offer's is a cost
			value = value.Add(Mul128(price, int64(wh)))
			if distance == 0 {
				tied += u.wh
			}
		}
		if tied > 0 {
			c.margin.add(int32(i), place.node, tied)
			net -= c.margin.filled(key, tied, 0) // a bid consumes until it is filled
		}
		c.net[place.node] += net
		allocations[i] = Allocation{Order: i, WattHours: accepted}
	}
	c.result.Allocations = allocations
	c.value = value
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
	if err := c.amounts(m); err != nil {
		return err
	}
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

// amounts sets every allocation's price and what it comes to: Amount, inlined.
func (c *Clearer) amounts(m *Market) error {
	for i := range c.result.Allocations {
		a := &c.result.Allocations[i]
		a.Price = c.prices[c.places[i].node]
		if n, ok := Mul128(int64(a.Price), int64(a.WattHours)).narrow(); ok {
			a.Amount = Money(thousandth(n))
			continue
		}
		var err error
		if a.Amount, err = Amount(a.Price, a.WattHours); err != nil {
			return m.Orders[i].fieldError("steps", err, "got %d Wh allocated at %d", a.WattHours, a.Price)
		}
	}
	return nil
}

// zeroed returns a slice of n zeros, in the memory of s if that suffices.
func zeroed[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}
