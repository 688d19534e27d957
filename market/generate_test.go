package market_test

import (
	"cmp"
	"fmt"
	"slices"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// A generator draws markets. Small numbers make ties, equal prices and prices
// at the grid's likely, and let the dumb implementation try everything.
type generator struct {
	nodes, orders, steps int  // at most
	edges                bool // whether they have fees and limits
	chain                bool // whether the network is one
	price                *rapid.Generator[market.Price]
	wh                   *rapid.Generator[market.WattHours]
}

func smallMarkets() generator {
	return generator{
		nodes: 7, orders: 8, steps: 3,
		price: rapid.Map(rapid.IntRange(-4, 9), func(p int) market.Price { return market.Price(p) }),
		wh:    rapid.Map(rapid.IntRange(1, 5), func(w int) market.WattHours { return market.WattHours(w) }),
	}
}

// longMarkets have few orders of up to 16 steps of 1 or 2 Wh.
func longMarkets() generator {
	return generator{
		nodes: 3, orders: 4, steps: market.MaxSteps,
		price: rapid.Map(rapid.IntRange(-12, 20), func(p int) market.Price { return market.Price(p) }),
		wh:    rapid.Map(rapid.IntRange(1, 2), func(w int) market.WattHours { return market.WattHours(w) }),
	}
}

// chainMarkets have every node below the one before.
func chainMarkets() generator {
	g := smallMarkets()
	g.nodes, g.chain = 12, true
	return g.edged()
}

// wideMarkets use the whole range of numbers.
func wideMarkets() generator {
	prices := rapid.OneOf(
		rapid.Map(rapid.Int64Range(-1<<40, 1<<40), func(p int64) market.Price { return market.Price(p) }),
		rapid.SampledFrom([]market.Price{-market.MaxPrice, -1, 0, 1, 80_000, 300_000, market.MaxPrice}),
	)
	return generator{
		nodes: 12, orders: 40, steps: 4, price: prices,
		wh: rapid.Map(rapid.Int64Range(1, 1<<54), func(w int64) market.WattHours { return market.WattHours(w) }),
	}
}

func (g generator) draw(t *rapid.T) market.Market {
	m := market.Market{Rule: market.RuleUniform, Network: g.network(t), Seed: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "seed")}
	if rapid.Bool().Draw(t, "grid") {
		a, b := g.price.Draw(t, "grid price"), g.price.Draw(t, "grid price")
		m.Tariff = &market.Tariff{ImportPrice: max(a, b), ExportPrice: min(a, b)}
	}
	onLedger := rapid.Bool().Draw(t, "on the ledger")
	n := rapid.IntRange(0, g.orders).Draw(t, "orders")
	for i := range n {
		o := g.order(t, m.Network)
		if onLedger {
			o.Household = market.HouseholdID{byte(i / 2)}
			o.Side = []market.Side{market.Bid, market.Offer}[i%2]
			g.sort(&o)
		} else {
			o.ID = fmt.Sprintf("o%d", i)
		}
		m.Orders = append(m.Orders, o)
	}
	return m
}

// edged returns the generator with fees and limits on the edges.
func (g generator) edged() generator {
	g.edges = true
	return g
}

// edge draws a node's limits and fees: each of them missing, zero or small, so
// that it binds.
func (g generator) edge(t *rapid.T, n *market.Node) {
	limit := rapid.OneOf(rapid.Just[market.WattHours](0), g.wh, rapid.Map(g.wh, func(w market.WattHours) market.WattHours { return 2 * w }))
	fee := rapid.OneOf(rapid.Just[market.Price](0), rapid.Map(g.price, func(p market.Price) market.Price { return max(p, -p) }))
	for _, l := range []**market.WattHours{&n.ImportLimit, &n.ExportLimit} {
		if rapid.Bool().Draw(t, "limited") {
			*l = new(limit.Draw(t, "limit"))
		}
	}
	if rapid.Bool().Draw(t, "fees") {
		n.ImportFee, n.ExportFee = fee.Draw(t, "import fee"), fee.Draw(t, "export fee")
	}
}

// network draws a tree of any shape, its nodes in any order.
func (g generator) network(t *rapid.T) market.Network {
	nodes := []market.Node{{ID: "n0"}}
	n := rapid.IntRange(1, g.nodes).Draw(t, "nodes")
	for i := 1; i < n; i++ {
		least := 0
		if g.chain {
			least = i - 1
		}
		node := market.Node{ID: fmt.Sprintf("n%d", i), Parent: nodes[rapid.IntRange(least, i-1).Draw(t, "parent")].ID}
		if g.edges {
			g.edge(t, &node)
		}
		nodes = append(nodes, node)
	}
	return market.Network{Nodes: rapid.Permutation(nodes).Draw(t, "node order")}
}

func (g generator) order(t *rapid.T, n market.Network) market.Order {
	o := market.Order{
		Node: rapid.SampledFrom(n.Nodes).Draw(t, "node").ID,
		Side: rapid.SampledFrom([]market.Side{market.Bid, market.Offer}).Draw(t, "side"),
	}
	for range rapid.IntRange(1, g.steps).Draw(t, "steps") {
		o.Steps = append(o.Steps, market.Step{Price: g.price.Draw(t, "price"), WattHours: g.wh.Draw(t, "wh")})
	}
	g.sort(&o)
	return o
}

// sort puts the steps in the order that the side wants. Equal prices may stay
// next to each other, as in a market file.
func (g generator) sort(o *market.Order) {
	slices.SortStableFunc(o.Steps, func(a, b market.Step) int {
		if o.Side == market.Bid {
			return cmp.Compare(b.Price, a.Price)
		}
		return cmp.Compare(a.Price, b.Price)
	})
}
