package market

import (
	"math/bits"
	"slices"
)

// A pile holds the curves of all nodes at once, for networks so deep that
// looking at every unit at every node would take too long. Each half of a curve,
// below flow 0 and above, is two heaps of the same units, by the end nearest to
// flow 0 and by the far end, so that a node touches only units that change sides
// or that its limits cut off. Where no limit could, there are no heaps by far end.
type pile struct {
	near, far heap
	wh        []WattHours // by unit; 0 once it is gone
	in        []half      // by node
	out       []half
	todo      []int32
	listed    []unit
	selector  selector
	last      int64 // a key at flow 0 of the node before, to guess by
	most      int   // units there may be
	full      bool  // there would have to be more
}

// A half is a half of a curve. Distances count away from flow 0: the key of a
// unit above it, the key × -1 of a unit below. Keys in heaps by near end are
// distances, in those by far end distances × -1. The roots are -1 if it is empty.
type half struct {
	near, far int32
	mass      WattHours
}

// rebuildShare is the part of a half from which on it is faster to rebuild it
// than to take what is to go one by one; measured.
const rebuildShare = 6

// deepFactor is how often a unit may be looked at, on average, before piles are
// faster than passing all units through every node; measured.
const deepFactor = 8

// A pile grows by units that change sides, widely where quantities swing at every
// level; books of households need about two knots a unit. Beyond a bound, curve
// goes the other way: where there will have been a knot for looksPerKnot of the looks
// that would take, so that the attempt is not most of the work, or knotsPerUnit.
const (
	looksPerKnot = 4
	knotsPerUnit = 32
	maxKnots     = 1 << 30
)

// deep says whether the network is so deep for this book: how many units every
// edge would have to look at, if limits cut off units in proportion to their Wh.
func (g *climb) deep(t *tree, nodes []Node) bool {
	g.waiting = zeroed(g.waiting, len(nodes))
	looks := int64(0)
	for _, i := range slices.Backward(t.topDown[1:]) {
		w := &g.waiting[i]
		w.add(g.own[g.firstAt[i]:g.firstAt[i+1]])
		if !nodes[i].free() {
			looks += int64(w.units)
			w.clip(&nodes[i])
		}
		above := &g.waiting[t.parent[i]]
		above.units += w.units
		above.demand += w.demand
		above.supply += w.supply
	}
	if g.alwaysDeep {
		looks = maxKey
	}
	g.looks = looks
	return looks > deepFactor*int64(len(g.own))
}

// add counts units in.
func (w *below) add(units []unit) {
	for _, u := range units {
		bid := u.wh & WattHours(-(u.key & keyBid >> 1))
		w.demand += bid
		w.supply += u.wh - bid
	}
	w.units += len(units)
}

// clip is what passes a node's edge, about.
func (w *below) clip(n *Node) {
	total := w.demand + w.supply
	w.demand = min(w.demand, limitOf(n.ImportLimit))
	w.supply = min(w.supply, limitOf(n.ExportLimit))
	if kept := w.demand + w.supply; kept < total {
		hi, lo := bits.Mul64(uint64(w.units), uint64(kept)) //nolint:gosec // neither is negative
		part, _ := bits.Div64(hi, lo, uint64(total))        //nolint:gosec // less than units
		w.units = int(part) + 1                             //nolint:gosec // and so it fits
	}
}

// pileUp is curve by piles. It fails if they grow too large.
func (c *Clearer) pileUp(nodes []Node) (curve, bool) {
	g, p := &c.climb, &c.climb.pile
	most := min(max(g.looks/looksPerKnot, 2*int64(len(g.own))), int64(g.knotsPerUnit)*int64(len(g.own)), maxKnots)
	p.reset(nodes, int(most))
	for _, i := range slices.Backward(c.tree.topDown) {
		in, out := &p.in[i], &p.out[i]
		p.trade(in, out)
		p.settle(in, out, g.own[g.firstAt[i]:g.firstAt[i+1]])
		if p.full {
			return curve{}, false
		}
		if i == c.tree.root() {
			break
		}
		if !nodes[i].free() {
			g.reaches[i] = p.pass(&nodes[i], in, out)
		}
		parent := c.tree.parent[i]
		p.join(&p.in[parent], in)
		p.join(&p.out[parent], out)
	}
	root := c.tree.root()
	return curve{zero: p.zero(&p.in[root], &p.out[root]), piled: true}, true
}

// reset makes the pile empty.
func (p *pile) reset(nodes []Node, most int) {
	p.full, p.most, p.last = false, most, 0
	p.near.knots, p.far.knots, p.wh = p.near.knots[:0], p.far.knots[:0], p.wh[:0]
	p.near.used, p.far.used = true, false
	p.in = slices.Grow(p.in[:0], len(nodes))[:len(nodes)]
	p.out = slices.Grow(p.out[:0], len(nodes))[:len(nodes)]
	for i := range nodes {
		p.in[i], p.out[i] = half{near: -1, far: -1}, half{near: -1, far: -1}
		p.far.used = p.far.used || nodes[i].ImportLimit != nil || nodes[i].ExportLimit != nil
	}
}

// trade swaps equal mass between the halves until all below flow 0 is cheaper
// than all above: orders of children that trade with each other.
func (p *pile) trade(in, out *half) {
	for p.alive(in) && p.alive(out) && p.near.knots[in.near].key+p.near.knots[out.near].key < 0 {
		wh := min(p.wh[in.near], p.wh[out.near])
		x, y := p.take(in, wh), p.take(out, wh)
		p.push(in, -y, wh)
		p.push(out, -x, wh)
	}
}

// settle adds a node's own units, on the side of flow 0 where they seem to belong,
// and moves that until bids have added to what is below as much as they ask for.
func (p *pile) settle(in, out *half, own []unit) {
	if p.alive(in) {
		p.last = -p.near.knots[in.near].key
	} else if p.alive(out) {
		p.last = p.near.knots[out.near].key
	}
	below := in.mass
	for _, u := range own {
		if u.key < p.last {
			p.push(in, -u.key, u.wh)
		} else {
			p.push(out, u.key, u.wh)
		}
		below += u.wh & WattHours(-(u.key & keyBid >> 1))
	}
	for in.mass > below && p.alive(in) {
		wh := min(p.wh[in.near], in.mass-below)
		p.push(out, -p.take(in, wh), wh)
	}
	for in.mass < below && p.alive(out) {
		wh := min(p.wh[out.near], below-in.mass)
		p.push(in, -p.take(out, wh), wh)
	}
}

// zero returns the cut at flow 0.
func (p *pile) zero(in, out *half) cut {
	k := cut{lower: minKey, upper: maxKey}
	if p.alive(in) {
		k.lower = -p.near.knots[in.near].key
	}
	if p.alive(out) {
		k.upper = p.near.knots[out.near].key
	}
	return k
}

// pass turns the two halves of a node's curve into what passes its edge.
func (p *pile) pass(n *Node, in, out *half) reach {
	zero := p.zero(in, out)
	r := reach{zero: zero, top: cut{lower: maxKey, upper: maxKey}, bottom: cut{lower: minKey, upper: minKey}}
	if n.ImportLimit != nil && *n.ImportLimit <= in.mass {
		gone, kept := p.trim(in, *n.ImportLimit)
		r.bottom = cut{lower: -gone, upper: -kept}
		if gone == maxKey {
			r.bottom.lower = minKey
		}
		if kept == maxKey {
			r.bottom.upper = zero.upper
		}
	}
	if n.ExportLimit != nil && *n.ExportLimit <= out.mass {
		gone, kept := p.trim(out, *n.ExportLimit)
		r.top = cut{lower: kept, upper: gone}
		if kept == maxKey {
			r.top.lower = zero.lower
		}
	}
	p.shift(in, int64(n.ImportFee)<<keyShift)
	p.shift(out, int64(n.ExportFee)<<keyShift)
	return r
}

// trim takes from the far end what is beyond limit. It returns the distance of
// the nearest unit that it took from, and of the farthest that is left; maxKey if
// there is none.
func (p *pile) trim(h *half, limit WattHours) (gone, kept int64) {
	if h.mass-limit > h.mass/rebuildShare {
		return p.rebuild(h, limit)
	}
	gone, kept = maxKey, maxKey
	for {
		for h.far >= 0 && p.wh[h.far] == 0 {
			h.far = p.far.pop(h.far)
		}
		if h.far < 0 {
			return gone, kept
		}
		distance := -p.far.knots[h.far].key
		if h.mass <= limit {
			return gone, distance
		}
		gone = distance
		wh := min(p.wh[h.far], h.mass-limit)
		p.wh[h.far] -= wh
		h.mass -= wh
	}
}

// rebuild is trim where much is to go: by selection, with new heaps of what is left.
func (p *pile) rebuild(h *half, limit WattHours) (gone, kept int64) {
	p.list(h)
	lo, hi := span(p.listed)
	p.selector.load(p.listed, lo, hi)
	high := p.selector.cut(limit, h.mass)
	*h = half{near: -1, far: -1, mass: limit}
	gone, kept = high.upper, maxKey
	if high.lower != minKey {
		kept = high.lower
	}
	for i, u := range p.listed {
		k := p.todo[i]
		if p.wh[k] = high.take(u); p.wh[k] > 0 {
			p.root(h, k, u.key)
		}
	}
	return gone, kept
}

// list lists the distances of what is left of a half, and its knots in todo. It
// leaves the half unfit for anything but to be built anew.
func (p *pile) list(h *half) {
	p.listed = p.listed[:0]
	knots := p.near.knots
	p.todo = append(p.todo[:0], h.near)
	left := 0 // of todo, whose units are listed
	for at := 0; at < len(p.todo); at++ {
		i := p.todo[at]
		if i < 0 {
			continue
		}
		for k := knots[i].child; k >= 0; k = knots[k].sibling {
			knots[k].key += knots[i].key
			p.todo = append(p.todo, k)
		}
		if p.wh[i] > 0 {
			p.listed = append(p.listed, unit{key: knots[i].key, wh: p.wh[i]})
			p.todo[left] = i
			left++
		}
	}
	p.todo = p.todo[:left]
}

// root puts a knot that is in no heap into those of a half.
func (p *pile) root(h *half, k int32, distance int64) {
	p.near.knots[k] = knot{distance, -1, -1}
	h.near = p.near.meld(h.near, k)
	if p.far.used {
		p.far.knots[k] = knot{-distance, -1, -1}
		h.far = p.far.meld(h.far, k)
	}
}

func (p *pile) shift(h *half, fee int64) {
	if h.near >= 0 {
		p.near.knots[h.near].key += fee
	}
	if h.far >= 0 {
		p.far.knots[h.far].key -= fee
	}
}

func (p *pile) push(h *half, distance int64, wh WattHours) {
	if len(p.wh) >= p.most {
		p.full = true
		return
	}
	u := int32(len(p.wh)) //nolint:gosec // at most maxKnots
	p.wh = append(p.wh, wh)
	p.near.knots = append(p.near.knots, knot{})
	if p.far.used {
		p.far.knots = append(p.far.knots, knot{})
	}
	p.root(h, u, distance)
	h.mass += wh
}

// take takes some of the nearest unit of a half that is not empty, and returns its distance.
func (p *pile) take(h *half, wh WattHours) int64 {
	p.wh[h.near] -= wh
	h.mass -= wh
	return p.near.knots[h.near].key
}

func (p *pile) join(to, from *half) {
	to.near, to.far = p.near.meld(to.near, from.near), p.far.meld(to.far, from.far)
	to.mass += from.mass
}

// alive drops units that are gone from the near end, and says whether any is left.
func (p *pile) alive(h *half) bool {
	for h.near >= 0 && p.wh[h.near] == 0 {
		h.near = p.near.pop(h.near)
	}
	return h.near >= 0
}

// within adds up what of a half is nearer than distance, and leaves it unfit for more.
func (p *pile) within(h *half, distance int64) WattHours {
	var sum WattHours
	p.todo = p.todo[:0]
	knots := p.near.knots
	if h.near >= 0 && knots[h.near].key < distance {
		p.todo = append(p.todo, h.near)
	}
	for len(p.todo) > 0 {
		i := p.todo[len(p.todo)-1]
		p.todo = p.todo[:len(p.todo)-1]
		sum += p.wh[i]
		for k := knots[i].child; k >= 0; k = knots[k].sibling {
			if knots[k].key += knots[i].key; knots[k].key < distance {
				p.todo = append(p.todo, k)
			}
		}
	}
	return sum
}
