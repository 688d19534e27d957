package api

import (
	"html/template"
	"strings"
)

// Geometry of the network's picture, in pixels from the top.
const (
	gridRow    = 54
	gridRows   = 7   // most nodes drawn; the table has them all
	gridIndent = 450 // of a level of the tree, in hundredths of a per cent
	gridLevels = 6   // deeper ones are not indented further
	gridBar    = 10
)

// drawGrid draws the tree from the root down: each node with its price and, on the edge
// to its parent, the flow against the limit in its direction. It is empty without nodes.
func drawGrid(g *Grid, currency string) template.HTML {
	if g == nil || len(g.Nodes) == 0 {
		return ""
	}
	rows := shownNodes(g.Nodes)
	var c canvas
	c.picture("grid", gridRow*int64(len(rows)), "The network", gridDescription(g, currency))
	whole := largestFlow(g.Nodes)
	at := map[string]int64{} // the row that a node is in, from 1 on
	for i, r := range rows {
		y := int64(i) * gridRow
		x := gridIndent * min(r.depth, gridLevels)
		if from := at[r.Parent]; from > 0 {
			drawBranch(&c, x, (from-1)*gridRow+gridRow-2, y+12)
		}
		at[r.ID] = int64(i) + 1
		drawNode(&c, &r, x, y, whole, currency)
	}
	return c.done()
}

// row is a node with how far it is from the root.
type row struct {
	GridNode
	depth int64
}

// shownNodes puts the nodes in the order of a walk down the tree. If there are too many
// of them for a picture, this home's way to the root comes first.
func shownNodes(nodes []GridNode) []row {
	below := map[string][]int{}
	byID := map[string]int{}
	for i := range nodes {
		byID[nodes[i].ID] = i
		if nodes[i].Parent != "" {
			below[nodes[i].Parent] = append(below[nodes[i].Parent], i)
		}
	}
	first := map[string]bool{}
	if len(nodes) > gridRows {
		for _, n := range nodes {
			for id, steps := n.ID, 0; n.Home && id != "" && steps < len(nodes); steps++ {
				first[id] = true
				id = nodes[byID[id]].Parent
			}
		}
	}
	var rows []row
	seen := map[string]bool{}
	var walk func(i int, depth int64)
	walk = func(i int, depth int64) {
		n := nodes[i]
		if seen[n.ID] || len(rows) == gridRows {
			return
		}
		seen[n.ID] = true
		rows = append(rows, row{n, depth})
		for _, mine := range []bool{true, false} {
			for _, j := range below[n.ID] {
				if first[nodes[j].ID] == mine {
					walk(j, depth+1)
				}
			}
		}
	}
	for i := range nodes {
		if nodes[i].Parent == "" {
			walk(i, 0)
		}
	}
	return rows
}

// largestFlow is what a bar without a limit is drawn against.
func largestFlow(nodes []GridNode) int64 {
	most := int64(1)
	for i := range nodes {
		for _, wh := range []*int64{nodes[i].ImportWh, nodes[i].ExportWh} {
			if wh != nil {
				most = max(most, *wh)
			}
		}
	}
	return most
}

func drawBranch(c *canvas, x, from, to int64) {
	trunk := max(x-gridIndent*2/3, 0)
	c.leaf("line", "class", "branch", "x1", percent(trunk), "x2", percent(trunk), "y1", num(from), "y2", num(to), "stroke", "#8b95a1")
	c.leaf("line", "class", "branch", "x1", percent(trunk), "x2", percent(max(x-60, 0)), "y1", num(to), "y2", num(to), "stroke", "#8b95a1")
}

func drawNode(c *canvas, r *row, x, y, whole int64, currency string) {
	name, weight := short(r.ID), "600"
	if r.Home {
		name, weight = name+" (you)", "700"
	}
	class := "name"
	if r.full() {
		class += " full"
	}
	c.text("text", name, "class", class, "x", percent(x), "y", num(y+16), "fill", "#17212b", "font-size", "14", "font-weight", weight)
	c.text("text", formatPrice(r.Price, currency), "class", class, "x", "100%", "y", num(y+16), "text-anchor", "end",
		"fill", "#17212b", "font-size", "14", "font-weight", "650")
	width := fullWidth - x
	c.leaf("rect", "class", "track", "x", percent(x), "y", num(y+22), "width", percent(width), "height", num(gridBar), "rx", "5", "fill", "#dfe4ea")
	wh, place := r.flow()
	if wh > 0 {
		share := ratio(uint64(min(wh, whole)), uint64(whole), fullWidth)
		if r.LoadingBp != nil {
			share = uint64(min(max(*r.LoadingBp, 0), fullWidth))
		}
		fill := "flow-" + string(place)
		if r.full() {
			fill = "flow-full"
		}
		c.leaf("rect", "class", fill, "x", percent(x), "y", num(y+22), "width", percent(max(int64(share)*width/fullWidth, 1)),
			"height", num(gridBar), "rx", "5", "fill", flowFill[fill])
	}
	c.text("text", r.caption(), "class", "caption", "x", percent(x), "y", num(y+46), "fill", "#59636f", "font-size", "12")
}

// short keeps a name beside its price on a phone.
func short(name string) string {
	const most = 20
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return name
}

// flowFill are the colours outside the page.
var flowFill = map[string]string{
	"flow-" + string(placeGrid): "#7a64b4", "flow-" + string(placeNeighbours): "#08805f", "flow-full": "#b3202f",
}

// flow is the energy on the node's edge, and the colour of its direction.
func (n *GridNode) flow() (wh int64, p place) {
	if n.ExportWh != nil && *n.ExportWh > 0 {
		return *n.ExportWh, placeNeighbours
	}
	if n.ImportWh != nil {
		return max(*n.ImportWh, 0), placeGrid
	}
	return 0, placeGrid
}

// full says whether the edge carries all that its limit allows.
func (n *GridNode) full() bool { return n.LoadingBp != nil && *n.LoadingBp >= fullWidth }

// caption says the flow against its limit in words.
func (n *GridNode) caption() string {
	if n.ImportWh == nil || n.ExportWh == nil {
		return "not decided yet"
	}
	verb, w, limit, by := "rests", (*int64)(nil), (*int64)(nil), ""
	switch {
	case *n.ExportWh > 0:
		verb, w, limit, by = "gives", n.ExportW, n.ExportLimitW, n.ExportLimitBy
	case *n.ImportWh > 0:
		verb, w, limit, by = "draws", n.ImportW, n.ImportLimitW, n.ImportLimitBy
	}
	text := verb
	if w != nil {
		text += " " + formatPower(w)
	}
	switch {
	case limit == nil:
		return text
	case by == LimitByEnvelope:
		text += " of " + formatPower(limit) + " (operator)"
	default:
		text += " of " + formatPower(limit)
	}
	if n.full() {
		text += ", full"
	}
	return text
}

// gridDescription says the picture in words.
func gridDescription(g *Grid, currency string) string {
	var parts []string
	for i := range g.Nodes {
		if i == 2*gridRows {
			parts = append(parts, "and more")
			break
		}
		n := &g.Nodes[i]
		parts = append(parts, n.ID+" "+formatPrice(n.Price, currency)+", "+n.caption())
	}
	return strings.Join(parts, "; ")
}
