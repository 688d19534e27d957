package market

import "fmt"

// A Node is a place in the network: the grid connection (the root), a feeder, a
// transformer, a home. Its limits and fees are those of the edge to its parent.
type Node struct {
	ID     string
	Parent string // empty at the root
	// Limits are energy per interval, nil for none.
	ImportLimit *WattHours // towards the node
	ExportLimit *WattHours // away from it
	// Fees are per kWh that crosses the edge in that direction, at least 0.
	ImportFee Price
	ExportFee Price
}

// A Network is a tree of nodes (R1). Their order is free.
type Network struct {
	Nodes []Node
}

// Validate checks the network by R1: one root, every parent known, no cycle, no
// id twice, no limit or fee on the root, none negative, no fee above MaxPrice.
// An error is a *FieldError, or says that there is no node.
func (n Network) Validate() error {
	var t tree
	return t.build(n.Nodes)
}

// TariffAt returns the tariff as it is at a node: the retail price is the
// import price and the import fees from the root down to it, the feed-in price
// the export price less the export fees from it up to the root. It fails with
// ErrUnknownNode, or with ErrBadNetwork where the way to the root does not end.
func (n Network) TariffAt(t Tariff, node string) (Tariff, error) {
	index := make(map[string]int, len(n.Nodes))
	for i := range n.Nodes {
		index[n.Nodes[i].ID] = i
	}
	for range n.Nodes {
		i, ok := index[node]
		if !ok {
			return Tariff{}, fmt.Errorf("tariff at node %q: %w", node, ErrUnknownNode)
		}
		e := &n.Nodes[i]
		if e.Parent == "" {
			return t, nil
		}
		retail, err := addInt64(int64(t.ImportPrice), int64(e.ImportFee))
		if err != nil {
			return Tariff{}, fmt.Errorf("tariff at node %q: import fee: %w", node, err)
		}
		feedIn, err := subInt64(int64(t.ExportPrice), int64(e.ExportFee))
		if err != nil {
			return Tariff{}, fmt.Errorf("tariff at node %q: export fee: %w", node, err)
		}
		t = Tariff{ImportPrice: Price(retail), ExportPrice: Price(feedIn)}
		node = e.Parent
	}
	return Tariff{}, fmt.Errorf("tariff at node %q: its way to the root is a cycle: %w", node, ErrBadNetwork)
}

// check looks at the fields of one node alone.
func (n *Node) check() error {
	if n.ID != "" && n.Parent != "" && n.ImportFee|n.ExportFee >= 0 && max(n.ImportFee, n.ExportFee) <= MaxPrice &&
		limitOf(n.ImportLimit)|limitOf(n.ExportLimit) >= 0 {
		return nil // most are, so that what follows need not be quick
	}
	if n.ID == "" {
		return n.fieldError("id", ErrBadNetwork, "got an empty one, want a name")
	}
	for _, l := range []struct {
		field string
		limit *WattHours
	}{{"import_limit_wh", n.ImportLimit}, {"export_limit_wh", n.ExportLimit}} {
		if l.limit == nil {
			continue
		}
		if n.Parent == "" {
			return n.fieldError(l.field, ErrBadNetwork, "got %d at the root, want none there", *l.limit)
		}
		if *l.limit < 0 {
			return n.fieldError(l.field, ErrBadNetwork, "got %d, want 0 or more", *l.limit)
		}
	}
	for _, f := range []struct {
		field string
		fee   Price
	}{{"import_fee", n.ImportFee}, {"export_fee", n.ExportFee}} {
		if f.fee != 0 && n.Parent == "" {
			return n.fieldError(f.field, ErrBadNetwork, "got %d at the root, want none there", f.fee)
		}
		if f.fee < 0 || f.fee > MaxPrice {
			return n.fieldError(f.field, ErrBadNetwork, "got %d, want 0 to %d", f.fee, MaxPrice)
		}
	}
	return nil
}

// free says whether energy crosses the node's edge without limit and fee.
func (n *Node) free() bool {
	return n.ImportLimit == nil && n.ExportLimit == nil && n.ImportFee == 0 && n.ExportFee == 0
}

func (n *Node) fieldError(field string, cause error, format string, args ...any) error {
	return &FieldError{Of: "node", ID: n.ID, Field: field, Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), cause)}
}
