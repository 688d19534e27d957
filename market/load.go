package market

import (
	"slices"
)

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

// blockSize is how many orders load looks at twice, so that they are still in
// the fastest cache the second time.
const blockSize = 128

// load checks the orders and lays out their steps as units.
func (c *Clearer) load(orders []Order) error {
	c.places = slices.Grow(c.places[:0], len(orders))[:len(orders)]
	c.units = c.units[:0]
	l := laid{left: MaxTotalWh}
	sound := true
	for at := 0; at < len(orders) && sound; at += blockSize {
		end := min(at+blockSize, len(orders))
		if cap(c.units)-len(c.units) < blockSize*MaxSteps {
			c.units = slices.Grow(c.units, max(len(c.units), len(orders)-at)+blockSize*MaxSteps)
		}
		sound = c.locate(orders[at:end], c.places[at:end]) && c.lay(orders[at:end], c.places[at:end], &l)
	}
	if !sound || l.bad < 0 || l.size >= MaxPrice { // the largest price is none too many
		if err := c.fault(orders); err != nil {
			return err
		}
	}
	total := MaxTotalWh - l.left
	c.demand, c.supply = l.demand, total-l.demand
	c.lo, c.hi = keyOf(l.signs>>63&^l.size, keyOffer), keyOf(l.size, keySide)
	c.narrow = narrow(l.size, total)
	return nil
}

// locate finds the nodes of at least one order, at most blockSize. It fails if
// there is one that it does not know.
func (c *Clearer) locate(orders []Order, places []place) bool {
	if len(c.tree.names.known) > fewNames {
		return c.tree.names.findAll(orders, places)
	}
	name := orders[0].Node
	node := c.tree.names.find(name)
	first, last := ends(name)
	for i := range orders {
		o := &orders[i]
		// Names as short as most are compared without a call.
		if n := len(o.Node); n != len(name) || n < 4 || n > 8 || four(o.Node) != first || four(o.Node[n-4:]) != last {
			if o.Node != name {
				name, node = o.Node, c.tree.names.find(o.Node)
				first, last = ends(name)
			}
		}
		if node < 0 {
			return false
		}
		places[i].node = node
	}
	return true
}

// ends returns the first and the last four bytes of a name, if it has so many.
func ends(name string) (first, last uint32) {
	if len(name) < 4 {
		return 0, 0
	}
	return four(name), four(name[len(name)-4:])
}

// laid is what is known of the orders laid out.
type laid struct {
	left        WattHours // of what all orders may have together
	demand      WattHours
	size, signs Price // all sizes of prices, or something less than twice as large; all signs
	bad         int64 // below 0 if there is anything wrong but a price beyond MaxPrice
}

// lay lays out the steps of orders. It fails if they have no side or no number of
// steps that it knows.
//
// Prices, sides and quantities are as good as random, so that a branch on one
// would often be predicted wrong: what depends on them is computed, and what
// could be wrong with them leaves its mark.
func (c *Clearer) lay(orders []Order, places []place, l *laid) bool {
	units, n := c.units[:cap(c.units)], len(c.units)
	left, demand, size, signs, bad := l.left, l.demand, l.size, l.signs, l.bad
	places = places[:len(orders)]
	for i := range orders {
		o := &orders[i]
		if o.Side-Bid > Offer-Bid || uint(len(o.Steps)-1) >= MaxSteps { // below, both wrap around
			return false
		}
		isBid := int64(Offer - o.Side)
		if len(o.Steps) > 1 {
			m := laid{left: left, demand: demand}
			m.lay(units[n:], o.Steps, isBid)
			left, demand, size, signs, bad = m.left, m.demand, size|m.size, signs|m.signs, bad|m.bad
		} else {
			s := &o.Steps[0] // the same without what several need
			left -= s.WattHours
			demand += s.WattHours & WattHours(-isBid)
			size |= s.Price ^ s.Price>>63
			signs |= s.Price
			bad |= int64(s.WattHours-1) | int64(left)
			units[n] = unit{key: keyOf(s.Price, isBid*keyBid), wh: s.WattHours}
		}
		n += len(o.Steps)
		places[i].end = int32(n) //nolint:gosec // MaxOrders × MaxSteps is 2^30
	}
	c.units = units[:n]
	*l = laid{left: left, demand: demand, size: size, signs: signs, bad: bad}
	return true
}

// lay lays out the steps of one order.
func (l *laid) lay(units []unit, steps []Step, isBid int64) {
	last := steps[0].Price
	for k, s := range steps {
		l.left -= s.WattHours
		l.demand += s.WattHours & WattHours(-isBid)
		l.size |= s.Price ^ s.Price>>63
		l.signs |= s.Price
		l.bad |= int64(s.WattHours-1) | int64(l.left) | int64(s.Price-last)*(1-2*isBid)
		last = s.Price
		units[k] = unit{key: keyOf(s.Price, isBid*keyBid), wh: s.WattHours}
	}
}

// fault returns what is wrong with the first order that load cannot accept.
func (c *Clearer) fault(orders []Order) error {
	var total WattHours
	for i := range orders {
		o := &orders[i]
		if c.tree.names.find(o.Node) < 0 {
			return o.fieldError("node", ErrUnknownNode, "got %q, want the id of a node", o.Node)
		}
		if err := o.check(WidestOrderBounds()); err != nil {
			return err
		}
		var quantity WattHours
		for _, s := range o.Steps {
			quantity += s.WattHours
		}
		if quantity > MaxTotalWh-total {
			return o.fieldError("steps", ErrBadQuantity, "got %d Wh after %d Wh of other orders, want at most %d in all",
				quantity, total, MaxTotalWh)
		}
		total += quantity
	}
	return nil
}
