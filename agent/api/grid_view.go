package api

import (
	"slices"
	"strings"
	"time"
)

// gridView is the network in words.
type gridView struct {
	When, Note, More string
	Rows             []gridRowView
	Envelopes        []string
}

type gridRowView struct {
	Node, Price, Retail, FeedIn, Import, Export, Limit, Loading, Fees, Rent, Homes string
}

func newGridView(s Snapshot, zone *time.Location) gridView {
	g := s.Grid
	if g == nil || len(g.Nodes) == 0 {
		return gridView{Note: "No interval is decided yet."}
	}
	currency := s.Account.Currency
	v := gridView{When: g.Start.In(zone).Format("15:04"), Note: gridNote(g, currency)}
	if g.Clearing == clearingMetered {
		v.When += ", decided by the meters"
	}
	if extra := int64(len(g.Nodes) - gridRows); extra > 0 {
		v.More = "and " + formatCount(&extra) + " more " + plural(extra != 1, "node", "nodes")
	}
	for i := range g.Nodes {
		v.Rows = append(v.Rows, newGridRow(&g.Nodes[i], currency))
	}
	for _, e := range g.Envelopes {
		v.Envelopes = append(v.Envelopes, e.words(zone))
	}
	return v
}

const clearingMetered = "metered"

func newGridRow(n *GridNode, currency string) gridRowView {
	limit := n.ImportLimitW
	if wh, p := n.flow(); wh > 0 && p == placeNeighbours {
		limit = n.ExportLimitW
	}
	return gridRowView{
		Node: n.ID, Price: formatPrice(n.Price, currency), Retail: formatPrice(n.ImportPrice, currency), FeedIn: formatPrice(n.ExportPrice, currency),
		Import: formatEnergy(n.ImportWh), Export: formatEnergy(n.ExportWh), Limit: formatPower(limit), Loading: formatShare(n.LoadingBp),
		Fees: formatSmallMoney(n.FeesMicro, currency), Rent: formatSmallMoney(n.RentMicro, currency), Homes: formatCount(&n.Homes),
	}
}

// gridNote says what the network does to the price: nothing, a fee, or that an edge on
// this home's way is full.
func gridNote(g *Grid, currency string) string {
	var home *GridNode
	byID := map[string]*GridNode{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		byID[n.ID] = n
		if n.Home {
			home = n
		}
	}
	if home == nil || home.Price == nil {
		return ""
	}
	for n, steps := home, 0; n != nil && steps < len(g.Nodes); n, steps = byID[n.Parent], steps+1 {
		if parent := byID[n.Parent]; parent != nil && parent.Price != nil && n.full() {
			why := n.ID + " is full"
			if n.Reason != "" {
				why += " (" + n.Reason + ")"
			}
			return why + ": a kWh is worth " + formatPrice(home.Price, currency) + " here and " + formatPrice(parent.Price, currency) + " at " + parent.ID + "."
		}
	}
	if i := slices.IndexFunc(g.Nodes, func(n GridNode) bool { return n.full() && n.Price != nil }); i >= 0 {
		n := &g.Nodes[i]
		return n.ID + " is full: a kWh is worth " + formatPrice(n.Price, currency) + " there and " + formatPrice(home.Price, currency) + " here."
	}
	return "Every line has room: prices differ by the network's fees at most."
}

// words tells of an envelope.
func (e *GridEnvelope) words(zone *time.Location) string {
	var limits []string
	if e.Lift {
		limits = append(limits, "no limit of its own any more")
	}
	if e.ImportW != nil {
		limits = append(limits, "draws at most "+formatPower(e.ImportW))
	}
	if e.ExportW != nil {
		limits = append(limits, "gives at most "+formatPower(e.ExportW))
	}
	return e.Node + ": " + strings.Join(limits, ", ") + ", from " + e.From.In(zone).Format("2 Jan 15:04") +
		" to " + e.Until.In(zone).Format("2 Jan 15:04") + ": " + e.Reason
}
