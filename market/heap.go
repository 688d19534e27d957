package market

// A heap is many pairing heaps, of which no two share a knot. The least key is at
// the root; any other is relative to the knot above, so that adding a fee to all
// keys is adding it to the root's.
type heap struct {
	knots []knot // by unit
	used  bool
}

type knot struct {
	key            int64
	child, sibling int32 // -1 if there is none
}

// meld makes one heap of two.
func (h *heap) meld(a, b int32) int32 {
	if a < 0 {
		return b
	}
	if b < 0 {
		return a
	}
	x, y := &h.knots[a], &h.knots[b]
	if y.key < x.key {
		a, b, x, y = b, a, y, x
	}
	y.key -= x.key
	y.sibling = x.child
	x.child = b
	return a
}

// pop returns the heap without its root: its children melded two by two, then
// all from the last pair to the first.
func (h *heap) pop(root int32) int32 {
	above := h.knots[root].key
	pairs := int32(-1)
	for a := h.knots[root].child; a >= 0; {
		b := h.knots[a].sibling
		next := int32(-1)
		h.knots[a].key += above
		if b >= 0 {
			next = h.knots[b].sibling
			h.knots[b].key += above
		}
		pair := h.meld(a, b)
		h.knots[pair].sibling = pairs
		pairs, a = pair, next
	}
	all := int32(-1)
	for pairs >= 0 {
		next := h.knots[pairs].sibling
		h.knots[pairs].sibling = -1
		all = h.meld(all, pairs)
		pairs = next
	}
	return all
}
