package market

import "slices"

// A curve is the net supply of a node and all below it. Its units are in no
// order; laid end to end in rising key, the first demand Wh are filled at flow 0.
type curve struct {
	units  []unit
	demand WattHours // how much the node could take, without limits
	zero   cut       // at flow 0
	piled  bool      // whether the units are in the pile instead
}

// exported returns what is filled below a key, at which the curve is above flow 0.
func (c *Clearer) exported(v curve, key int64) WattHours {
	if v.piled {
		return c.climb.pile.within(&c.climb.pile.out[c.tree.root()], key)
	}
	return filledBelow(v.units, key) - v.demand
}

// imported returns what is not filled below a key, at which the curve is below flow 0.
func (c *Clearer) imported(v curve, key int64) WattHours {
	if v.piled {
		return c.climb.pile.within(&c.climb.pile.in[c.tree.root()], -key)
	}
	return v.demand - filledBelow(v.units, key)
}

// A climb carries curves from the leaves to the root. What a node passes on is
// its curve between the limits of its edge: the part below flow 0 as its parent
// sees it, dearer to serve by the import fee, and the part above, dearer by the
// export fee. An edge without either is no work.
type climb struct {
	firstAt []int32 // the units of the orders at node i are own[firstAt[i]:firstAt[i+1]]
	own     []unit
	stack   []unit  // the curves of nodes whose parent's turn is still to come
	waiting []below // by node: what is on the stack for it
	reaches []reach // by node; only where the edge is not free

	pile         pile
	alwaysDeep   bool
	knotsPerUnit int
	looks        int64 // how many units passing all through every node would look at, about
}

// below is a curve whose units are the topmost of the stack.
type below struct {
	units          int
	demand, supply WattHours
}

// A reach says where a node's curve is cut by flow 0 and by its edge's limits.
// Where a limit is beyond all that could flow, its cut is beyond all units.
type reach struct {
	zero, top, bottom cut
}

// curve returns the curve of the root, and leaves the reaches.
func (c *Clearer) curve(nodes []Node) curve {
	if c.tree.bare {
		c.selector.load(c.units, c.lo, c.hi)
		return curve{units: c.units, demand: c.demand, zero: c.selector.cut(c.demand, c.demand+c.supply)}
	}
	g := &c.climb
	g.group(c.places, c.units, len(nodes))
	g.reaches = slices.Grow(g.reaches[:0], len(nodes))[:len(nodes)]
	if g.deep(&c.tree, nodes) {
		if v, ok := c.pileUp(nodes); ok {
			return v
		}
	}
	g.waiting = zeroed(g.waiting, len(nodes))
	g.stack = g.stack[:0]
	// Backwards, all below a node comes right before it: its curve is on top.
	for _, i := range slices.Backward(c.tree.topDown) {
		w := &g.waiting[i]
		own := g.own[g.firstAt[i]:g.firstAt[i+1]]
		g.stack = append(g.stack, own...)
		w.add(own)
		if i == c.tree.root() {
			break
		}
		if !nodes[i].free() {
			g.reaches[i] = c.pass(w, &nodes[i])
		}
		above := &g.waiting[c.tree.parent[i]]
		above.units += w.units
		above.demand += w.demand
		above.supply += w.supply
	}
	w := g.waiting[c.tree.root()]
	lo, hi := span(g.stack)
	c.selector.load(g.stack, lo, hi)
	return curve{units: g.stack, demand: w.demand, zero: c.selector.cut(w.demand, w.demand+w.supply)}
}

// group lists the units by node.
func (g *climb) group(places []place, units []unit, nodes int) {
	g.firstAt = zeroed(g.firstAt, nodes+2)
	at := int32(0)
	for _, p := range places {
		g.firstAt[p.node+2] += p.end - at
		at = p.end
	}
	for i := range nodes {
		g.firstAt[i+2] += g.firstAt[i+1]
	}
	// firstAt[i+1] is where node i begins; filling moves it to where it ends.
	g.own = slices.Grow(g.own[:0], len(units))[:len(units)]
	at = 0
	for _, p := range places {
		next := &g.firstAt[p.node+1]
		for ; at < p.end; at++ {
			g.own[*next] = units[at]
			*next++
		}
	}
}

// pass replaces the curve on top of the stack by what passes the node's edge.
func (c *Clearer) pass(w *below, n *Node) reach {
	g := &c.climb
	bottom := len(g.stack) - w.units
	units := g.stack[bottom:]
	ordered := len(units) <= few
	if ordered {
		sortFew(units)
	} else {
		lo, hi := span(units)
		c.selector.load(units, lo, hi)
	}
	total := w.demand + w.supply
	at := func(position WattHours) cut {
		if ordered {
			return cutSorted(units, position)
		}
		return c.selector.cut(position, total)
	}
	r := reach{
		zero:   at(w.demand),
		top:    cut{lower: maxKey, upper: maxKey},
		bottom: cut{lower: minKey, upper: minKey},
	}
	// Of each key, how much is below: the parts of the cuts.
	demand := w.demand
	keep := clip{low: cut{lower: minKey}, zero: r.zero, high: cut{lower: maxKey}}
	if n.ImportLimit != nil && *n.ImportLimit <= demand {
		r.bottom = at(demand - *n.ImportLimit)
		keep.low, w.demand = r.bottom, *n.ImportLimit
	}
	if n.ExportLimit != nil && *n.ExportLimit <= w.supply {
		r.top = at(demand + *n.ExportLimit)
		keep.high, w.supply = r.top, *n.ExportLimit
	}
	g.stack = keep.apply(g.stack, bottom, int64(n.ImportFee)<<keyShift, int64(n.ExportFee)<<keyShift)
	w.units = len(g.stack) - bottom
	return r
}

// A clip is what to keep of a curve, and where flow 0 divides it.
type clip struct {
	low, zero, high cut
}

// apply replaces the units from bottom on by those between low and high, the
// ones below zero cheaper by in, the ones above dearer by out.
func (k *clip) apply(stack []unit, bottom int, in, out int64) []unit {
	to := bottom
	var second unit // of the one unit that flow 0 goes through: it makes two
	low, zero, high := near(k.low.lower), near(k.zero.lower), near(k.high.lower)
	for _, u := range stack[bottom:] {
		if u.key == low || u.key == zero || u.key == high {
			first, exported := k.split(u, in, out)
			if first.wh == 0 {
				first, exported = exported, unit{}
			}
			if first.wh > 0 {
				stack[to] = first
				to++
			}
			if exported.wh > 0 {
				second = exported
			}
			continue
		}
		// Without branches: all ones for what is below zero; 1 for what is kept.
		imported := (u.key - zero) >> 63
		kept := uint64((low-u.key)&(u.key-high)) >> 63 //nolint:gosec // its sign
		stack[to] = unit{key: u.key - in&imported + out&^imported, wh: u.wh}
		to += int(kept)
	}
	stack = stack[:to]
	if second.wh > 0 {
		stack = append(stack, second)
	}
	return stack
}

// farKey is beyond all keys, yet so near that no difference overflows.
const farKey int64 = 1 << 61

func near(key int64) int64 { return min(max(key, -farKey), farKey) }

// split returns what is kept of a unit at a cut, below zero and above. Units of
// one key are alike, so that a cut through them takes them in any order.
func (k *clip) split(u unit, in, out int64) (imported, exported unit) {
	dropped, imports, kept := k.low.take(u), k.zero.take(u), k.high.take(u)
	return unit{key: u.key - in, wh: imports - dropped}, unit{key: u.key + out, wh: kept - imports}
}

// take returns how much of a unit is below the cut, and counts it off.
func (k *cut) take(u unit) WattHours {
	switch {
	case u.key < k.lower:
		return u.wh
	case u.key > k.lower:
		return 0
	default:
		w := min(u.wh, k.part)
		k.part -= w
		return w
	}
}
