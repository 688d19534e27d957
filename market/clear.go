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
// and all units of one key are of one side.
type Clearer struct {
	tree   tree
	units  []unit  // all steps, in the order of the book
	places []place // by order
	demand WattHours
	supply WattHours

	selector selector
	margin   margin
	net      []WattHours // by node: accepted offers − accepted bids there, then also below
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
	accepted   WattHours // what the orders with units at key get of their Wh
	gridImport WattHours
	gridExport WattHours
}

// NewClearer returns a Clearer.
func NewClearer() *Clearer { return &Clearer{} }

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
	if err := checkBare(m.Network.Nodes); err != nil {
		return Clearing{}, err
	}
	if err := c.load(m.Orders); err != nil {
		return Clearing{}, err
	}
	x := c.cross(m.Tariff)
	c.fill(x)
	c.share(x, &m)
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

// cross finds where the curve crosses: at the feed-in price if so much is
// filled below it that some must leave, at the retail price if so little is
// filled below that some must come, else at 0 flow.
func (c *Clearer) cross(t *Tariff) crossing {
	if t == nil {
		return c.crossAtZero(nil)
	}
	feedIn, retail := keyOf(t.FeedIn(), keyGrid), keyOf(t.Retail(), keyGrid)
	var belowFeedIn, belowRetail WattHours
	for _, u := range c.units {
		// All ones if the key is below, else 0: prices are random to a branch
		// predictor. Keys are far too small for the difference to overflow.
		belowFeedIn += u.wh & WattHours((u.key-feedIn)>>63)
		belowRetail += u.wh & WattHours((u.key-retail)>>63)
	}
	switch {
	case belowFeedIn > c.demand:
		return crossing{key: feedIn, price: t.FeedIn(), gridExport: belowFeedIn - c.demand}
	case belowRetail < c.demand:
		return crossing{key: retail, price: t.Retail(), gridImport: c.demand - belowRetail}
	default:
		return c.crossAtZero(t)
	}
}

// crossAtZero finds the crossing when nothing comes from or goes to the grid.
// The price is the midpoint between the last filled unit and the first unfilled
// one, grid prices included; if one is missing, the other; if both, 0.
func (c *Clearer) crossAtZero(t *Tariff) crossing {
	var x crossing
	var lower, upper bound
	if c.demand > 0 {
		last := c.selector.at(c.units, c.demand-1)
		x.key = last.key
		lower = bound{price: priceOf(last.key), known: true}
		filled := last.offset + 1
		if last.key&keySide == keyOffer {
			x.accepted = filled
		} else {
			x.accepted = last.total - filled
		}
		if filled < last.total {
			upper = lower
		}
	} else if c.supply > 0 {
		x.key = c.lowestFrom(minKey)
	}
	if c.supply > 0 && !upper.known {
		above := minKey
		if c.demand > 0 {
			above = x.key + 1
		}
		upper = bound{price: priceOf(c.lowestFrom(above)), known: true}
	}
	if t != nil {
		lower.raise(t.FeedIn())
		upper.lower(t.Retail())
	}
	x.price = middle(lower, upper)
	return x
}

const minKey int64 = -1 << 63

// lowestFrom returns the lowest key of a unit at or above from; there must be one.
func (c *Clearer) lowestFrom(from int64) int64 {
	lowest := int64(1<<63 - 1)
	for _, u := range c.units {
		if u.key >= from {
			lowest = min(lowest, u.key)
		}
	}
	return lowest
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

func middle(lower, upper bound) Price {
	switch {
	case lower.known && upper.known:
		return Midpoint(lower.price, upper.price)
	case lower.known:
		return lower.price
	default:
		return upper.price // 0 if that is missing too
	}
}

// fill accepts every step that is strictly on the right side of the crossing,
// and hands those at it to the margin.
func (c *Clearer) fill(x crossing) {
	c.margin.reset(len(c.tree.parent))
	c.net = zeroed(c.net, len(c.tree.parent))
	allocations := slices.Grow(c.result.Allocations[:0], len(c.places))[:len(c.places)]
	value := Int128{}
	at := int32(0)
	for i, place := range c.places {
		var accepted, net, tied WattHours
		for ; at < place.end; at++ {
			u := c.units[at]
			// A bid (1) is accepted above the crossing, an offer (0) below it.
			// Without branches, because prices are random: distance is negative
			// exactly if the unit is accepted, and (x ^ -1) + 1 is -x.
			bid := (u.key & keyBid) >> 1
			distance := ((u.key - x.key) ^ -bid) + bid
			wh := u.wh & WattHours(distance>>63)
			accepted += wh
			net += (wh ^ WattHours(-bid)) + WattHours(bid)
			price := (int64(priceOf(u.key)) ^ (bid - 1)) - (bid - 1) // an offer's is a cost
			value = value.Add(Mul128(price, int64(wh)))
			if distance == 0 {
				tied += u.wh
			}
		}
		c.net[place.node] += net
		if tied > 0 {
			c.margin.add(int32(i), place.node, tied)
		}
		allocations[i] = Allocation{Order: i, WattHours: accepted, Price: x.price}
	}
	c.result.Allocations = allocations
	c.value = value
}

// share gives the accepted quantity at the crossing to the orders tied there.
func (c *Clearer) share(x crossing, m *Market) {
	if x.accepted == 0 {
		return
	}
	sign := int64(-1) // an offer's cost
	if x.key&keySide == keyBid {
		sign = 1
	}
	c.value = c.value.Add(Mul128(sign*int64(priceOf(x.key)), int64(x.accepted)))
	c.margin.share(&c.tree, m, x.accepted)
	for _, s := range c.margin.seats {
		c.result.Allocations[s.order].WattHours += s.got
		c.net[s.node] -= WattHours(sign) * s.got
	}
}

// report writes the rest of the answer.
func (c *Clearer) report(x crossing, m *Market) error {
	nodes := m.Network.Nodes
	for _, i := range slices.Backward(c.tree.topDown[1:]) {
		c.net[c.tree.parent[i]] += c.net[i]
	}
	c.result.Prices = slices.Grow(c.result.Prices[:0], len(nodes))
	c.result.Flows = slices.Grow(c.result.Flows[:0], len(nodes)-1)
	for i := range nodes {
		c.result.Prices = append(c.result.Prices, NodePrice{Node: nodes[i].ID, Price: x.price})
		if nodes[i].Parent != "" {
			c.result.Flows = append(c.result.Flows, Flow{Node: nodes[i].ID, WattHours: c.net[i]})
		}
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

// zeroed returns a slice of n zeros, in the memory of s if that suffices.
func zeroed[T any](s []T, n int) []T {
	s = slices.Grow(s[:0], n)[:n]
	clear(s)
	return s
}
