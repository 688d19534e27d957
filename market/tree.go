package market

import (
	"fmt"
	"slices"
)

// A tree is a network by index: nodes are numbered as in Network.Nodes. Its
// slices are reused from one build to the next.
type tree struct {
	names   names
	parent  []int32 // -1 at the root
	first   []int32 // children of i are child[first[i]:first[i+1]]
	child   []int32
	next    []int32 // scratch: where in child the next child of i goes
	topDown []int32 // every node after its parent, and all below it before any other
	path    []Price // the fees of all edges from the root to i, both directions
	bare    bool    // no edge has a limit or a fee
}

// build checks the nodes by R1 and fills the tree.
func (t *tree) build(nodes []Node) error {
	if len(nodes) == 0 {
		return fmt.Errorf("network: got no node, want at least a root: %w", ErrBadNetwork)
	}
	t.names.reset(len(nodes))
	for i := range nodes {
		n := &nodes[i]
		if err := n.check(); err != nil {
			return err
		}
		if !t.names.add(n.ID) {
			return n.fieldError("id", ErrDuplicateID, "got %q twice", n.ID)
		}
	}
	if err := t.link(nodes); err != nil {
		return err
	}
	return t.order(nodes)
}

// link resolves the parents and groups the children by parent.
func (t *tree) link(nodes []Node) error {
	t.parent = slices.Grow(t.parent[:0], len(nodes))
	t.first = zeroed(t.first, len(nodes)+1)
	root := -1
	for i := range nodes {
		n := &nodes[i]
		if n.Parent == "" {
			if root >= 0 {
				return n.fieldError("parent", ErrBadNetwork, "got none, want one as only %q is the root", nodes[root].ID)
			}
			root = i
			t.parent = append(t.parent, -1)
			continue
		}
		p := t.names.find(n.Parent)
		if p < 0 {
			return n.fieldError("parent", ErrUnknownNode, "got %q, want the id of a node", n.Parent)
		}
		t.parent = append(t.parent, p)
		t.first[p+1]++
	}
	if root < 0 {
		return fmt.Errorf("network: every node has a parent, want one root without: %w", ErrBadNetwork)
	}
	for i := range nodes {
		t.first[i+1] += t.first[i]
	}
	t.topDown = append(t.topDown[:0], int32(root))
	return nil
}

// order lists the nodes from the root down, or finds those that do not hang on it.
func (t *tree) order(nodes []Node) error {
	t.child = zeroed(t.child, len(nodes)-1)
	t.next = append(t.next[:0], t.first...)
	for i, p := range t.parent {
		if p >= 0 {
			t.child[t.next[p]] = int32(i)
			t.next[p]++
		}
	}
	stack := append(t.next[:0], t.topDown[0])
	t.topDown = t.topDown[:0]
	for len(stack) > 0 {
		i := stack[len(stack)-1]
		t.topDown = append(t.topDown, i)
		stack = append(stack[:len(stack)-1], t.children(i)...)
	}
	t.next = stack
	if len(t.topDown) == len(nodes) {
		return t.fees(nodes)
	}
	reached := make([]bool, len(nodes))
	for _, i := range t.topDown {
		reached[i] = true
	}
	lost := &nodes[slices.Index(reached, false)]
	return lost.fieldError("parent", ErrBadNetwork, "got %q, which leads into a cycle, want a way to the root", lost.Parent)
}

// maxPathFees bounds the fees on a way to the root, so that no sum of prices and
// fees comes near the end of its 64 bits. It takes 65,536 edges with the largest
// fees to get there.
const maxPathFees Price = 1 << 57

// fees adds up the fees from the root down, and looks whether there are any, or limits.
func (t *tree) fees(nodes []Node) error {
	t.path = zeroed(t.path, len(nodes))
	t.bare = true
	for _, i := range t.topDown[1:] {
		n := &nodes[i]
		t.bare = t.bare && n.free()
		t.path[i] = t.path[t.parent[i]] + n.ImportFee + n.ExportFee
		if t.path[i] > maxPathFees {
			return n.fieldError("import_fee", ErrOverflow, "got fees of %d from the root to here, want at most %d", t.path[i], maxPathFees)
		}
	}
	return nil
}

func (t *tree) children(i int32) []int32 { return t.child[t.first[i]:t.first[i+1]] }

func (t *tree) root() int32 { return t.topDown[0] }
