package market

import "math/bits"

// maxProbes is how many places a name may be looked for in: far more than names
// that were not made up to collide ever need.
const maxProbes = 24

// names finds the number of a node by its name. It is a hash table that does
// without what a map has for names that nobody knows beforehand: all are put in
// first, none is taken out, and there is no seed, as names that collide too often
// go into a map after all.
type names struct {
	slots []int32 // number + 1, or 0; a power of two, more than twice as many as names
	shift int
	known []string
	many  map[string]int32 // if not nil, all names
}

// reset forgets all names and makes room for count others.
func (n *names) reset(count int) {
	size := bits.Len(uint(count)) + 2
	n.slots = zeroed(n.slots, 1<<size)
	n.shift = 64 - size
	n.known = n.known[:0]
	n.many = nil
}

// add gives a name the next number, or fails if it has one.
func (n *names) add(name string) bool {
	if n.find(name) >= 0 {
		return false
	}
	number := int32(len(n.known)) //nolint:gosec // memory for more does not exist
	n.known = append(n.known, name)
	if n.many != nil {
		n.many[name] = number
		return true
	}
	at := hashOf(name) >> n.shift
	for range maxProbes {
		if slot := &n.slots[at]; *slot == 0 {
			*slot = number + 1
			return true
		}
		if at++; at == uint64(len(n.slots)) {
			at = 0
		}
	}
	n.many = make(map[string]int32, cap(n.known))
	for i, name := range n.known {
		n.many[name] = int32(i)
	}
	return true
}

// find returns the number of a name, or -1.
func (n *names) find(name string) int32 {
	if n.many != nil {
		if i, ok := n.many[name]; ok {
			return i
		}
		return -1
	}
	at := hashOf(name) >> n.shift
	for range maxProbes {
		i := n.slots[at] - 1
		if i < 0 {
			break
		}
		if n.known[i] == name {
			return i
		}
		if at++; at == uint64(len(n.slots)) {
			at = 0
		}
	}
	return -1
}

// fewNames is how many names stay in the fastest cache.
const fewNames = 256

// findAll finds the nodes of up to blockSize orders, or fails at a name it does
// not know. It asks for everything before it waits for anything: with many names,
// each of the three steps is out of cache.
func (n *names) findAll(orders []Order, places []place) bool {
	if n.many == nil {
		var at [blockSize]uint64
		for i := range orders {
			at[i%blockSize] = hashOf(orders[i].Node) >> n.shift
		}
		for i := range orders {
			places[i].node = n.slots[at[i%blockSize]] - 1
		}
	}
	for i := range orders {
		p, name := &places[i], orders[i].Node
		if n.many != nil || p.node < 0 || n.known[p.node] != name {
			if p.node = n.find(name); p.node < 0 {
				return false
			}
		}
	}
	return true
}

// hashOf mixes the length with the first and the last eight bytes of a name; the
// high bits are the best.
func hashOf(name string) uint64 {
	var first, last uint64
	switch n := len(name); {
	case n >= 8:
		first, last = eight(name), eight(name[n-8:])
	case n >= 4:
		first, last = uint64(four(name)), uint64(four(name[n-4:]))
	case n > 0:
		first, last = uint64(name[0]), uint64(name[n/2])<<8|uint64(name[n-1])
	}
	h := (first ^ uint64(len(name))<<56) * 0x9e3779b97f4a7c15
	return (h ^ h>>32 ^ last) * 0xd6e8feb86659fd93
}

func four(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func eight(s string) uint64 {
	return uint64(four(s)) | uint64(four(s[4:]))<<32
}
