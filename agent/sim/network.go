package sim

import "math/rand/v2"

// network carries messages between nodes: late, twice, out of order, or not at all.
type network struct {
	w     *world
	rnd   *rand.Rand
	loss  int64 // in permille
	twice int64 // in permille
	slow  int64 // the longest delay, ms
	side  []int // by node: nodes of different sides do not hear each other
	cut   int   // partitions at present
}

func (n *network) joined(a, b int) bool { return n.side[a] == n.side[b] }

// send delivers a message, unless it is lost or the two are apart when it is sent or arrives.
func (n *network) send(from, to int, do func()) {
	if from == to {
		n.w.after(0, do)
		return
	}
	n.w.report.Messages++
	if !n.joined(from, to) || n.rnd.Int64N(1000) < n.loss {
		n.w.report.Lost++
		return
	}
	arrive := func() {
		if n.joined(from, to) {
			do()
		}
	}
	n.w.after(n.delay(), arrive)
	if n.rnd.Int64N(1000) < n.twice {
		n.w.after(n.delay(), arrive)
	}
}

// carry is send over a connection: what is lost on the way is sent again and arrives later,
// unless the two are apart.
func (n *network) carry(from, to int, do func()) {
	if from == to {
		n.w.after(0, do)
		return
	}
	late := int64(0)
	for n.rnd.Int64N(1000) < n.loss {
		late += 300
	}
	n.w.report.Messages++
	if !n.joined(from, to) {
		n.w.report.Lost++
		return
	}
	n.w.after(late+n.delay(), func() {
		if n.joined(from, to) {
			do()
		}
	})
}

// delay is short mostly, and long now and then, so that messages overtake each other.
func (n *network) delay() int64 {
	if n.rnd.IntN(20) == 0 {
		return 1 + n.rnd.Int64N(n.slow)
	}
	return 1 + n.rnd.Int64N(min(n.slow, 40))
}

// split puts every node on a side; heal puts them together.
func (n *network) split(sides []int) { copy(n.side, sides) }

func (n *network) heal() { clear(n.side) }
