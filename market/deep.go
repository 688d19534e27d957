package market

import "slices"

// A pile holds the curves of all nodes at once, for networks so deep that
// looking at every unit at every node would take too long. Each half of a curve,
// below flow 0 and above, is two heaps of the same units, by the end nearest to
// flow 0 and by the far end, so that a node touches only units that change sides
// or that its limits cut off.
//
// Heaps are pairing heaps in which a knot's key is relative to the knot above:
// adding a fee to a whole curve is adding it to its root.
type pile struct {
	knots []knot      // unit u is knot 2u in its near heap, 2u+1 in its far heap
	wh    []WattHours // by unit; 0 once it is gone
	in    []half      // by node
	out   []half
	todo  []int32
	most  int  // knots there may be
	full  bool // there would have to be more
}

type knot struct {
	key            int64
	child, sibling int32 // -1 if there is none
}

// A half is a half of a curve. Distances count away from flow 0: the key of a
// unit above it, the key × -1 of a unit below. The roots are -1 if it is empty.
type half struct {
	near, far int32
	mass      WattHours
}

// deepFactor is how often a unit may be looked at, on average, before piles are
// faster than passing all units through every node; measured.
const deepFactor = 24

// knotsPerUnit bounds how much a pile may grow by trading, which nothing else
// does where quantities swing widely at every level. Books of
// households need about 4. Beyond it, curve goes the other way.
const (
	knotsPerUnit = 64
	maxKnots     = 1 << 30
)

// deep says whether the network is so deep for this book.
func (g *climb) deep(t *tree, nodes []Node) bool {
	sizes := zeroed(g.sizes, len(nodes))
	g.sizes = sizes
	looks := int64(0)
	for _, i := range slices.Backward(t.topDown[1:]) {
		sizes[i] += int64(g.firstAt[i+1] - g.firstAt[i])
		if !nodes[i].free() {
			looks += sizes[i]
		}
		sizes[t.parent[i]] += sizes[i]
	}
	return looks > deepFactor*int64(len(g.own)) || g.alwaysDeep
}

// pileUp is curve by piles. It fails if they grow too large.
func (c *Clearer) pileUp(nodes []Node) (curve, bool) {
	g, p := &c.climb, &c.climb.pile
	p.full = false
	p.most = min(g.knotsPerUnit*len(g.own), maxKnots)
	p.knots, p.wh = p.knots[:0], p.wh[:0]
	p.in = slices.Grow(p.in[:0], len(nodes))[:len(nodes)]
	p.out = slices.Grow(p.out[:0], len(nodes))[:len(nodes)]
	for i := range nodes {
		p.in[i], p.out[i] = half{near: -1, far: -1}, half{near: -1, far: -1}
	}
	for _, i := range slices.Backward(c.tree.topDown) {
		in, out := &p.in[i], &p.out[i]
		for _, u := range g.own[g.firstAt[i]:g.firstAt[i+1]] {
			if u.key&keySide == keyBid {
				p.push(in, -u.key, u.wh)
			} else {
				p.push(out, u.key, u.wh)
			}
		}
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
	in, out := p.in[c.tree.root()], p.out[c.tree.root()]
	g.stack = p.list(g.stack[:0], in.near, -1)
	g.stack = p.list(g.stack, out.near, 1)
	lo, hi := span(g.stack)
	return curve{units: g.stack, demand: in.mass, supply: out.mass, lo: lo, hi: hi}, true
}

// pass turns the two halves of a node's curve into what passes its edge.
func (p *pile) pass(n *Node, in, out *half) reach {
	p.trade(in, out)
	r := reach{
		zero:   cut{lower: minKey, upper: maxKey},
		top:    cut{lower: maxKey, upper: maxKey},
		bottom: cut{lower: minKey, upper: minKey},
	}
	if p.alive(&in.near) {
		r.zero.lower = -p.knots[in.near].key
	}
	if p.alive(&out.near) {
		r.zero.upper = p.knots[out.near].key
	}
	if n.ImportLimit != nil && *n.ImportLimit <= in.mass {
		r.bottom = cut{lower: minKey, upper: r.zero.upper}
		if key, gone := p.trim(in, *n.ImportLimit); gone {
			r.bottom.lower = -key
		}
		if p.alive(&in.far) {
			r.bottom.upper = p.knots[in.far].key
		}
	}
	if n.ExportLimit != nil && *n.ExportLimit <= out.mass {
		r.top = cut{lower: r.zero.lower, upper: maxKey}
		if key, gone := p.trim(out, *n.ExportLimit); gone {
			r.top.upper = key
		}
		if p.alive(&out.far) {
			r.top.lower = -p.knots[out.far].key
		}
	}
	p.shift(in, int64(n.ImportFee)<<keyShift)
	p.shift(out, int64(n.ExportFee)<<keyShift)
	return r
}

// trade swaps equal mass between the halves until all below flow 0 is cheaper
// than all above: orders that trade with each other at the node or below.
func (p *pile) trade(in, out *half) {
	for p.alive(&in.near) && p.alive(&out.near) {
		a, b := in.near, out.near
		x, y := p.knots[a].key, p.knots[b].key
		if x+y >= 0 {
			return
		}
		wh := min(p.wh[a/2], p.wh[b/2])
		p.wh[a/2] -= wh
		p.wh[b/2] -= wh
		in.mass -= wh
		out.mass -= wh
		p.push(in, -y, wh)
		p.push(out, -x, wh)
	}
}

// trim takes from the far end what is beyond limit. It returns the distance of
// the nearest unit that it took from, if any.
func (p *pile) trim(h *half, limit WattHours) (distance int64, gone bool) {
	for h.mass > limit && p.alive(&h.far) {
		distance, gone = -p.knots[h.far].key, true
		wh := min(p.wh[h.far/2], h.mass-limit)
		p.wh[h.far/2] -= wh
		h.mass -= wh
	}
	return distance, gone
}

func (p *pile) shift(h *half, fee int64) {
	if h.near >= 0 {
		p.knots[h.near].key += fee
	}
	if h.far >= 0 {
		p.knots[h.far].key -= fee
	}
}

func (p *pile) push(h *half, distance int64, wh WattHours) {
	if len(p.knots) >= p.most {
		p.full = true
		return
	}
	k := int32(len(p.knots)) //nolint:gosec // at most maxKnots
	p.knots = append(p.knots, knot{distance, -1, -1}, knot{-distance, -1, -1})
	p.wh = append(p.wh, wh)
	h.near, h.far = p.meld(h.near, k), p.meld(h.far, k+1)
	h.mass += wh
}

func (p *pile) join(to, from *half) {
	to.near, to.far = p.meld(to.near, from.near), p.meld(to.far, from.far)
	to.mass += from.mass
}

// alive drops units that are gone from the top of a heap, and says whether any is left.
func (p *pile) alive(root *int32) bool {
	for *root >= 0 && p.wh[*root/2] == 0 {
		*root = p.pop(*root)
	}
	return *root >= 0
}

// meld makes one heap of two.
func (p *pile) meld(a, b int32) int32 {
	if a < 0 {
		return b
	}
	if b < 0 {
		return a
	}
	if p.knots[b].key < p.knots[a].key {
		a, b = b, a
	}
	p.knots[b].key -= p.knots[a].key
	p.knots[b].sibling = p.knots[a].child
	p.knots[a].child = b
	return a
}

// pop returns the heap without its root: its children melded two by two, then
// all from the last pair to the first.
func (p *pile) pop(root int32) int32 {
	above := p.knots[root].key
	pairs := int32(-1)
	for a := p.knots[root].child; a >= 0; {
		b := p.knots[a].sibling
		next := int32(-1)
		p.knots[a].key += above
		if b >= 0 {
			next = p.knots[b].sibling
			p.knots[b].key += above
		}
		pair := p.meld(a, b)
		p.knots[pair].sibling = pairs
		pairs, a = pair, next
	}
	heap := int32(-1)
	for pairs >= 0 {
		next := p.knots[pairs].sibling
		p.knots[pairs].sibling = -1
		heap = p.meld(heap, pairs)
		pairs = next
	}
	return heap
}

// list appends the units of a heap, with their distance × sign as key. It leaves
// the heap's keys absolute.
func (p *pile) list(units []unit, root int32, sign int64) []unit {
	p.todo = p.todo[:0]
	if root >= 0 {
		p.todo = append(p.todo, root)
	}
	for len(p.todo) > 0 {
		i := p.todo[len(p.todo)-1]
		p.todo = p.todo[:len(p.todo)-1]
		if wh := p.wh[i/2]; wh > 0 {
			units = append(units, unit{key: p.knots[i].key * sign, wh: wh})
		}
		for k := p.knots[i].child; k >= 0; k = p.knots[k].sibling {
			p.knots[k].key += p.knots[i].key
			p.todo = append(p.todo, k)
		}
	}
	return units
}
