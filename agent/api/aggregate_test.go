package api

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// A grid operator cannot find the energy of fewer than three homes: not at a node, and not by
// taking shown nodes from a shown one above them. The second implementation looks at all of it by
// following each home's way up to the first node that is shown.
func TestOperatorSeesAggregates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "nodes")
		g := Grid{}
		own := make([]int64, n) // homes that hang directly at the node
		parent := make([]int, n)
		for i := range n {
			parent[i] = -1
			if i > 0 {
				parent[i] = rapid.IntRange(0, i-1).Draw(t, "parent")
			}
			own[i] = int64(rapid.IntRange(0, 5).Draw(t, "homes"))
			node := GridNode{ID: fmt.Sprint("n", i), Home: i == n-1, ImportWh: new(int64), ExportWh: new(int64), ImportW: new(int64), FeesMicro: new(int64), LoadingBp: new(int64)}
			if i > 0 {
				node.Parent = fmt.Sprint("n", parent[i])
			}
			g.Nodes = append(g.Nodes, node)
		}
		for i := range n {
			for j := i; j >= 0; j = parent[j] {
				g.Nodes[j].Homes += own[i]
			}
		}
		g.ImportWh = new(int64)
		out := g.aggregated()
		groups := make([]int64, n) // homes whose first shown node this is
		for i := range n {
			if out.Nodes[i].Home {
				t.Fatalf("%s: the operator sees whose gateway it is", out.Nodes[i].ID)
			}
			for j := i; j >= 0; j = parent[j] {
				if out.Nodes[j].ImportWh != nil {
					groups[j] += own[i]
					break
				}
			}
			if x := out.Nodes[i]; (x.ImportWh == nil) != (x.FeesMicro == nil) || (x.ImportWh == nil) != (x.LoadingBp == nil) {
				t.Fatalf("%s is half hidden", x.ID)
			}
			if g.Nodes[i].ImportWh == nil {
				t.Fatal("the original was changed")
			}
		}
		for i, homes := range groups {
			if out.Nodes[i].ImportWh != nil && homes > 0 && homes < fewest {
				t.Fatalf("at %s the energy of %d homes can be found: %v", out.Nodes[i].ID, homes, groups)
			}
		}
		if (out.ImportWh == nil) != (out.Nodes[0].ImportWh == nil) {
			t.Fatal("the totals are shown while the root is not, or the other way round")
		}
	})
}
