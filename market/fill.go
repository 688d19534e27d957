package market

import "slices"

// fill accepts every step that is strictly on the right side of its node's key,
// and hands those at it to the margin.
func (c *Clearer) fill() {
	c.margin.reset(len(c.tree.parent))
	c.net = zeroed(c.net, len(c.tree.parent))
	c.flows = zeroed(c.flows, len(c.tree.parent))
	c.result.Allocations = slices.Grow(c.result.Allocations[:0], len(c.places))[:len(c.places)]
	if c.narrow && len(c.units) == len(c.places) {
		c.fillSingles(c.result.Allocations)
	} else {
		c.fillSteps(c.result.Allocations)
	}
}

// take says what a unit adds to the flow at its node if all below key is filled,
// and how much of its order that is. Prices are random, so there is no branch.
func (u unit) take(key int64) (net, accepted WattHours) {
	bid := WattHours(-(u.key & keyBid >> 1)) // all ones, else 0
	// A bid consumes but for what it goes without.
	net = u.wh&WattHours((u.key-key)>>63) - u.wh&bid
	return net, net ^ bid - bid
}

// fillSingles is fill for narrow books of orders of one step, as most are.
func (c *Clearer) fillSingles(allocations []Allocation) {
	places, units := c.places[:len(allocations)], c.units[:len(allocations)]
	var node int32
	var net WattHours // of the node
	key, cost := c.keys[node], int64(0)
	for i := range allocations {
		if at := places[i].node; at != node {
			c.net[node] += net
			node, key, net = at, c.keys[at], 0
		}
		u := units[i]
		more, accepted := u.take(key)
		net += more
		if u.key == key {
			more, accepted = 0, 0
			c.margin.add(int32(i), node, u.wh)
		}
		cost += int64(priceOf(u.key)) * int64(more)
		allocations[i] = Allocation{Order: i, WattHours: accepted}
	}
	c.net[node] += net
	c.value = Mul128(-cost, 1)
}

// fillSteps is fill for any book.
func (c *Clearer) fillSteps(allocations []Allocation) {
	c.value = Int128{}
	at := int32(0)
	for i, place := range c.places {
		key := c.keys[place.node]
		var net, accepted, tied WattHours
		for _, u := range c.units[at:place.end] {
			more, wh := u.take(key)
			net += more
			if u.key == key {
				tied += u.wh
				continue
			}
			accepted += wh
			c.value = c.value.Sub(Mul128(int64(priceOf(u.key)), int64(more)))
		}
		at = place.end
		if tied > 0 {
			c.margin.add(int32(i), place.node, tied)
		}
		c.net[place.node] += net
		allocations[i] = Allocation{Order: i, WattHours: accepted}
	}
}
