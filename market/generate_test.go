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
	nodes, orders, steps int // at most
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

// network draws a bare tree of any shape, its nodes in any order.
func (g generator) network(t *rapid.T) market.Network {
	nodes := []market.Node{{ID: "n0"}}
	n := rapid.IntRange(1, g.nodes).Draw(t, "nodes")
	for i := 1; i < n; i++ {
		parent := nodes[rapid.IntRange(0, i-1).Draw(t, "parent")].ID
		nodes = append(nodes, market.Node{ID: fmt.Sprintf("n%d", i), Parent: parent})
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
