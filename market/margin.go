package market

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
)

// A margin shares the quantity accepted at a node's marginal price among those
// that have some there (M7), its own orders and its children: pro rata to what
// each has, rounded down; what that leaves goes one Wh each by largest
// remainder, then in the order of a hash.
type margin struct {
	seats []seat      // orders with units at the margin, in the order of the book
	mass  []WattHours // by node: the Wh of its seats and the widths of its children
	width []WattHours // by node: with how much it competes at its parent
	given []WattHours // by node: how much its parent accepts of that

	firstAt  []int32 // the seats at node i are byNode[firstAt[i]:firstAt[i+1]]
	byNode   []int32
	rivals   []rival
	tied     []int32 // indices into rivals
	units    []unit
	selector selector
	message  []byte // what is hashed
}

// A seat is an order's place at the margin.
type seat struct {
	order, node int32
	wh          WattHours // what it has there
	got         WattHours // what it is given of that
}

// A rival is one of those among whom a node shares: a seat or a child.
type rival struct {
	wh    WattHours
	got   WattHours
	rest  int64 // remainder of the division
	seat  int32 // index into seats, or -1
	child int32 // node, if seat is -1
}

func (g *margin) reset(nodes int) {
	g.seats = g.seats[:0]
	g.mass = zeroed(g.mass, nodes)
	g.width = zeroed(g.width, nodes)
	g.given = zeroed(g.given, nodes)
}

func (g *margin) add(order, node int32, wh WattHours) {
	g.seats = append(g.seats, seat{order: order, node: node, wh: wh})
	g.mass[node] += wh
}

// share gives the accepted Wh at a node, more than 0 and at most its mass, to
// its seats and children. The seats must be grouped.
func (g *margin) share(t *tree, m *Market, node int32, accepted WattHours) {
	g.gather(t, node)
	g.divide(m, accepted, g.mass[node])
	for i := range g.rivals {
		r := &g.rivals[i]
		if r.seat >= 0 {
			g.seats[r.seat].got = r.got
		} else {
			g.given[r.child] = r.got
		}
	}
}

// group lists the seats by node.
func (g *margin) group(nodes int) {
	g.firstAt = zeroed(g.firstAt, nodes+1)
	for i := range g.seats {
		g.firstAt[g.seats[i].node+1]++
	}
	for i := range nodes {
		g.firstAt[i+1] += g.firstAt[i]
	}
	// firstAt[i+1] is now where node i ends. Filling from the back moves it to
	// where node i begins, one place too far up.
	g.byNode = zeroed(g.byNode, len(g.seats))
	for i, s := range slices.Backward(g.seats) {
		end := &g.firstAt[s.node+1]
		*end--
		g.byNode[*end] = int32(i) //nolint:gosec // at most MaxOrders
	}
	copy(g.firstAt, g.firstAt[1:])
	g.firstAt[nodes] = int32(len(g.seats)) //nolint:gosec // at most MaxOrders
}

// gather lists those among whom a node shares.
func (g *margin) gather(t *tree, node int32) {
	g.rivals = g.rivals[:0]
	for _, s := range g.byNode[g.firstAt[node]:g.firstAt[node+1]] {
		g.rivals = append(g.rivals, rival{wh: g.seats[s].wh, seat: s})
	}
	for _, child := range t.children(node) {
		if g.width[child] > 0 {
			g.rivals = append(g.rivals, rival{wh: g.width[child], seat: -1, child: child})
		}
	}
}

// divide shares accepted among the rivals, who have total between them.
func (g *margin) divide(m *Market, accepted, total WattHours) {
	left := accepted
	var last rival // many have the same: divide once
	for i := range g.rivals {
		r := &g.rivals[i]
		if r.wh != last.wh {
			hi, lo := bits.Mul64(uint64(accepted), uint64(r.wh))                //nolint:gosec // both > 0
			quotient, rest := bits.Div64(hi, lo, uint64(total))                 //nolint:gosec // > 0, and the quotient is at most r.wh
			last = rival{wh: r.wh, got: WattHours(quotient), rest: int64(rest)} //nolint:gosec // < total
		}
		r.got, r.rest = last.got, last.rest
		left -= r.got
	}
	if left > 0 {
		g.deal(m, left)
	}
}

// deal gives one Wh each to the left rivals with the largest remainders. There
// are more rivals with a remainder than that, so none gets beyond what it has.
func (g *margin) deal(m *Market, left WattHours) {
	g.units = g.units[:0]
	for i := range g.rivals {
		g.units = append(g.units, unit{key: -g.rivals[i].rest, wh: 1})
	}
	lo, hi := span(g.units)
	g.selector.load(g.units, lo, hi)
	last := g.selector.at(left - 1)
	g.tied = g.tied[:0]
	for i := range g.rivals {
		switch r := &g.rivals[i]; {
		case -r.rest < last.key:
			r.got++
		case -r.rest == last.key:
			g.tied = append(g.tied, int32(i))
		}
	}
	g.draw(m, last.offset+1)
}

// draw gives one Wh each to the first count of the tied rivals, in hash order.
func (g *margin) draw(m *Market, count WattHours) {
	if count < WattHours(len(g.tied)) {
		g.units = g.units[:0]
		for _, i := range g.tied {
			g.units = append(g.units, unit{key: hashKey(g.hash(m, i)), wh: 1})
		}
		g.selector.load(g.units, 0, maxKey)
		last := g.selector.at(count - 1)
		same := g.tied[:0]
		for at, i := range g.tied {
			switch key := g.units[at].key; {
			case key < last.key:
				g.rivals[i].got++
			case key == last.key:
				same = append(same, i)
			}
		}
		g.tied = same
		count = last.offset + 1
	}
	if count < WattHours(len(g.tied)) {
		// Hashes that begin alike: as good as never, unless someone searched for them.
		slices.SortStableFunc(g.tied, func(a, b int32) int {
			x, y := g.hash(m, a), g.hash(m, b)
			return cmp.Or(bytes.Compare(x[:], y[:]), cmp.Compare(a, b))
		})
	}
	for _, i := range g.tied[:count] {
		g.rivals[i].got++
	}
}

// hashKey returns the first 63 bits of a hash, which order as the hash does.
func hashKey(sum [sha256.Size]byte) int64 {
	return int64(binary.BigEndian.Uint64(sum[:8]) >> 1)
}

// hash returns a rival's place in the tie order: SHA-256 of the seed, a 0 byte
// and the order's id (or its household and side, one byte as in Side), or of
// the seed, a 1 byte and the child's node id.
func (g *margin) hash(m *Market, i int32) [sha256.Size]byte {
	g.message = append(g.message[:0], m.Seed...)
	r := &g.rivals[i]
	switch {
	case r.seat < 0:
		g.message = append(g.message, 1)
		g.message = append(g.message, m.Network.Nodes[r.child].ID...)
	default:
		o := &m.Orders[g.seats[r.seat].order]
		g.message = append(g.message, 0)
		if o.ID != "" {
			g.message = append(g.message, o.ID...)
		} else {
			g.message = append(g.message, o.Household[:]...)
			g.message = append(g.message, byte(o.Side))
		}
	}
	return sha256.Sum256(g.message)
}
