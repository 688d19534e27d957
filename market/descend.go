package market

import "slices"

// A room is where a flow must lie, ends included.
type room struct {
	least, most WattHours
}

func (r room) clamp(w WattHours) WattHours { return min(max(w, r.least), r.most) }

// descend finds every node's key, and the room for its flow, from its parent's.
func (c *Clearer) descend(nodes []Node, root int64) {
	c.keys = slices.Grow(c.keys[:0], len(nodes))[:len(nodes)]
	c.rooms = slices.Grow(c.rooms[:0], len(nodes))[:len(nodes)]
	c.keys[c.tree.root()] = root
	for _, i := range c.tree.topDown[1:] {
		key := c.keys[c.tree.parent[i]]
		if nodes[i].free() {
			c.keys[i], c.rooms[i] = key, room{-MaxTotalWh, MaxTotalWh}
		} else {
			c.keys[i], c.rooms[i] = c.climb.reaches[i].meet(&nodes[i], key)
		}
	}
}

// meet says how a node answers its parent's key. It exports if its first unit
// beyond flow 0 is worth the fee there, imports if its last before is, and else
// keeps to itself. At the limit, or without flow, its key is its own and its flow
// certain; else its key is its parent's but for the fee, and how much of what it
// has there is filled is shared with others.
func (r *reach) meet(n *Node, parent int64) (int64, room) {
	out, in := parent-int64(n.ExportFee)<<keyShift, parent+int64(n.ImportFee)<<keyShift
	exports, imports := r.zero.upper <= out, r.zero.lower >= in
	switch {
	case exports && r.top.lower < out && r.top.upper != maxKey:
		return r.top.key(parent), room{*n.ExportLimit, *n.ExportLimit}
	case imports && r.bottom.upper > in && r.bottom.lower != minKey:
		return r.bottom.key(parent), room{-*n.ImportLimit, -*n.ImportLimit}
	case !exports && !imports:
		return r.zero.key(parent), room{}
	}
	key, free := in, room{}
	if exports {
		key = out
		free.most = limitOf(n.ExportLimit)
	}
	if imports {
		free.least = -limitOf(n.ImportLimit)
	}
	return key, free
}

func limitOf(limit *WattHours) WattHours {
	if limit == nil {
		return MaxTotalWh
	}
	return *limit
}

// share fixes every flow, and gives what is accepted at the margin to the orders.
// Upwards it finds how much each node could add there to what is certain,
// downwards how much of it each gets.
func (c *Clearer) share(grid WattHours, m *Market) {
	g := &c.margin
	g.group(len(c.net))
	for _, i := range slices.Backward(c.tree.topDown[1:]) {
		low, high := c.rooms[i].clamp(c.net[i]), c.rooms[i].clamp(c.net[i]+g.mass[i])
		c.flows[i] = low
		g.width[i] = high - low
		p := c.tree.parent[i]
		c.net[p] += low
		g.mass[p] += high - low
	}
	c.flows[c.tree.root()] = grid
	for _, i := range c.tree.topDown {
		if p := c.tree.parent[i]; p >= 0 {
			c.flows[i] += g.filled(c.keys[p], g.width[i], g.given[i])
		}
		// filled is its own inverse.
		if accepted := g.filled(c.keys[i], g.mass[i], c.flows[i]-c.net[i]); accepted > 0 {
			g.share(&c.tree, m, i, accepted)
		}
	}
	for _, s := range g.seats {
		c.result.Allocations[s.order].WattHours += s.got
		price := int64(priceOf(c.keys[s.node]))
		if c.keys[s.node]&keySide == keyOffer {
			price = -price // a cost
		}
		c.value = c.value.Add(Mul128(price, int64(s.got)))
	}
}

// filled says how much of mass at a key is filled if so much is accepted: what is
// accepted of an offer, what is not of a bid.
func (*margin) filled(key int64, mass, accepted WattHours) WattHours {
	if key&keySide == keyBid {
		return mass - accepted
	}
	return accepted
}

// price finds the price at every node from its parent's (R3).
func (c *Clearer) price(nodes []Node, root Price) {
	c.prices = slices.Grow(c.prices[:0], len(nodes))[:len(nodes)]
	c.prices[c.tree.root()] = root
	for _, i := range c.tree.topDown[1:] {
		p := c.prices[c.tree.parent[i]]
		if !nodes[i].free() {
			p = c.climb.reaches[i].price(&nodes[i], c.flows[i], p)
		}
		c.prices[i] = p
	}
}

// price returns the price at a node whose parent's is p. An edge with room left
// fixes it, a full one bounds it on one side, one without flow on two.
func (r *reach) price(n *Node, flow WattHours, p Price) Price {
	out, in := p-n.ExportFee, p+n.ImportFee
	var lower, upper bound
	switch {
	case flow > 0 && flow < limitOf(n.ExportLimit) || flow > 0 && n.ExportLimit == nil:
		return out
	case flow < 0 && -flow < limitOf(n.ImportLimit) || flow < 0 && n.ImportLimit == nil:
		return in
	case flow > 0:
		lower, upper = r.top.bounds()
		upper.lower(out)
	case flow < 0:
		lower, upper = r.bottom.bounds()
		lower.raise(in)
	default:
		lower, upper = r.zero.bounds()
		if limitOf(n.ExportLimit) > 0 {
			lower.raise(out)
		}
		if limitOf(n.ImportLimit) > 0 {
			upper.lower(in)
		}
	}
	return middle(lower, upper, p)
}

// flowOf returns the flow over a node's edge, with the fee and the rent it pays.
func flowOf(n *Node, wh WattHours, parent, own Price) Flow {
	f := Flow{Node: n.ID, WattHours: wh}
	switch {
	case wh > 0:
		f.Fee = n.ExportFee
		f.Rent = parent - own - f.Fee
	case wh < 0:
		f.Fee = n.ImportFee
		f.Rent = own - parent - f.Fee
	}
	return f
}
