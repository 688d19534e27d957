package ledger

import (
	"fmt"

	"github.com/commonwatt/commonwatt/market"
)

// RootNode is the node of the outside grid in a network of one node.
const RootNode = "root"

const (
	maxNodes     = 1 << 15
	maxNodeBytes = 32
	// maxLimitW bounds a limit in W: 10 GW are more than any street's.
	maxLimitW = 10_000_000_000
)

// Node is market.Node as the ledger has it: its limits are power in W, those of the
// connection as it is built, which hold where no Envelope says otherwise.
type Node struct {
	_            struct{}     `cbor:",toarray"`
	ID           string       `json:"id"`
	Parent       string       `json:"parent,omitempty"`         // empty at the root
	ImportLimitW *int64       `json:"import_limit_w,omitempty"` // towards the node; null: none
	ExportLimitW *int64       `json:"export_limit_w,omitempty"`
	ImportFee    market.Price `json:"import_fee,omitempty"` // micro-units per kWh, to the grid operator
	ExportFee    market.Price `json:"export_fee,omitempty"`
}

// Network is the community's tree of nodes from some Interval on. It is never changed:
// a decision makes a new one.
type Network struct {
	Nodes []Node

	index  map[string]uint32
	parent []uint32 // of the root, itself
	root   uint32
	bare   bool // neither limits nor fees

	importFees, exportFees       []market.Price // from the root to the node, in sum
	maxImportFees, maxExportFees market.Price   // the highest of them
}

// newNetwork checks the nodes by R1. None means the root alone.
func newNetwork(nodes []Node) (*Network, error) {
	if len(nodes) == 0 {
		nodes = []Node{{ID: RootNode}}
	}
	if len(nodes) > maxNodes {
		return nil, fmt.Errorf("got %d nodes, want at most %d", len(nodes), maxNodes)
	}
	n := &Network{Nodes: nodes, index: make(map[string]uint32, len(nodes)), parent: make([]uint32, len(nodes)), bare: true}
	for i := range nodes {
		x := &nodes[i]
		if len(x.ID) > maxNodeBytes {
			return nil, fmt.Errorf("node %q: id: got %d bytes, want at most %d", x.ID, len(x.ID), maxNodeBytes)
		}
		if err := validateName(x.ID); err != nil {
			return nil, fmt.Errorf("node %q: id: %w", x.ID, err)
		}
		for _, l := range []struct {
			field string
			limit *int64
		}{{"import_limit_w", x.ImportLimitW}, {"export_limit_w", x.ExportLimitW}} {
			if l.limit != nil && (*l.limit < 0 || *l.limit > maxLimitW) {
				return nil, fmt.Errorf("node %q: %s: got %d, want 0 to %d", x.ID, l.field, *l.limit, int64(maxLimitW))
			}
		}
		n.index[x.ID] = uint32(i)
		n.bare = n.bare && x.ImportLimitW == nil && x.ExportLimitW == nil && x.ImportFee == 0 && x.ExportFee == 0
	}
	// The market's own rules for a tree: one root, no cycle, no orphan, no id twice.
	if err := (market.Network{Nodes: n.market(1, nil)}).Validate(); err != nil {
		return nil, err
	}
	for i := range nodes {
		n.parent[i] = n.index[nodes[i].Parent]
		if nodes[i].Parent == "" {
			n.root, n.parent[i] = uint32(i), uint32(i)
		}
	}
	n.sumFees()
	return n, nil
}

// sumFees adds up the fees on every node's way from the root, each edge once.
func (n *Network) sumFees() {
	n.importFees, n.exportFees = make([]market.Price, len(n.Nodes)), make([]market.Price, len(n.Nodes))
	done := make([]bool, len(n.Nodes))
	done[n.root] = true
	var way []uint32
	for i := range n.Nodes {
		for at := uint32(i); !done[at]; at = n.parent[at] {
			way = append(way, at)
			done[at] = true
		}
		for len(way) > 0 {
			at := way[len(way)-1]
			way = way[:len(way)-1]
			n.importFees[at] = n.importFees[n.parent[at]] + n.Nodes[at].ImportFee
			n.exportFees[at] = n.exportFees[n.parent[at]] + n.Nodes[at].ExportFee
			n.maxImportFees, n.maxExportFees = max(n.maxImportFees, n.importFees[at]), max(n.maxExportFees, n.exportFees[at])
		}
	}
}

// Index returns a node's place in Nodes, by which IntervalRecord lists prices and flows.
func (n *Network) Index(node string) (uint32, bool) {
	i, ok := n.index[node]
	return i, ok
}

// Root returns the id of the node that is the connection to the outside grid.
func (n *Network) Root() string { return n.Nodes[n.root].ID }

// Path returns the nodes from one to the root, both included.
func (n *Network) Path(node string) []string {
	at, ok := n.index[node]
	if !ok {
		return nil
	}
	path := []string{node}
	for at != n.root {
		at = n.parent[at]
		path = append(path, n.Nodes[at].ID)
	}
	return path
}

// limits says what an Interval's limits are in W; nil functions leave the nodes' own.
type limits func(n *Node) (imports, exports *int64)

// market gives the network for the clearing of Intervals of so many seconds. A limit in W
// becomes Wh by the length of the Interval, rounded down: never more than allowed.
func (n *Network) market(seconds int64, in limits) []market.Node {
	wh := func(w *int64) *market.WattHours {
		if w == nil {
			return nil
		}
		v := market.WattHours(*w * seconds / 3600)
		return &v
	}
	out := make([]market.Node, len(n.Nodes))
	for i := range n.Nodes {
		x := &n.Nodes[i]
		imports, exports := x.ImportLimitW, x.ExportLimitW
		if in != nil {
			imports, exports = in(x)
		}
		out[i] = market.Node{
			ID: x.ID, Parent: x.Parent, ImportLimit: wh(imports), ExportLimit: wh(exports),
			ImportFee: x.ImportFee, ExportFee: x.ExportFee,
		}
	}
	return out
}

// tariffAt adds the fees between the root and a node to a tariff (R1).
func (n *Network) tariffAt(t market.Tariff, node uint32) market.Tariff {
	return market.Tariff{ImportPrice: t.ImportPrice + n.importFees[node], ExportPrice: t.ExportPrice - n.exportFees[node]}
}
