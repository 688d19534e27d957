package api

// fewest is how many homes an energy has to be the sum of before a grid operator sees it: of two,
// either could take its own off.
const fewest = 3

// aggregated is the network as a grid operator sees it: prices, limits, fees per kWh and envelopes
// everywhere, energy and money only where at least three homes are behind them, also after what
// hangs below is taken off.
func (g *Grid) aggregated() Grid {
	out := g.whole()
	out.Nodes = append([]GridNode(nil), out.Nodes...)
	place := map[string]int{}
	for i := range out.Nodes {
		place[out.Nodes[i].ID] = i
	}
	// From the leaves up, for a parent comes before its children: how many homes below each node
	// are covered by shown nodes.
	covered := make([]int64, len(out.Nodes))
	for i := len(out.Nodes) - 1; i >= 0; i-- {
		n := &out.Nodes[i]
		n.Home = false
		rest := n.Homes - covered[i]
		shown := n.Homes == 0 || n.Homes >= fewest && (rest == 0 || rest >= fewest)
		below := covered[i]
		if shown {
			below = n.Homes
		} else {
			n.hide()
		}
		if parent, ok := place[n.Parent]; ok && n.Parent != "" && parent < i {
			covered[parent] += below
		}
		if i == 0 && !shown {
			out.hideTotals()
		}
	}
	if len(out.Nodes) == 0 {
		out.hideTotals()
	}
	return out
}

// hide takes off what tells how much energy crossed an edge.
func (n *GridNode) hide() {
	n.ImportWh, n.ExportWh, n.ImportW, n.ExportW, n.LoadingBp, n.FeesMicro, n.RentMicro = nil, nil, nil, nil, nil, nil, nil
}

func (g *Grid) hideTotals() {
	g.BoughtWh, g.SoldWh, g.GridImportWh, g.GridExportWh, g.ImportWh, g.ExportWh = nil, nil, nil, nil, nil, nil
	g.SupplierWh, g.PhysicalOK, g.FeesMicro, g.RentMicro = nil, nil, nil, nil
	g.Accounts = []GridAccount{}
}
