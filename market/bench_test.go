package market_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// benchmarkSeed makes every run clear the same books.
const benchmarkSeed = 2026

// benchmarkBook returns n single-step orders, bids and offers at random, spread
// over nodes homes below a root (or at the root itself, if nodes is 1).
func benchmarkBook(nodes, n int, price func(*rand.Rand) market.Price, wh func(*rand.Rand) market.WattHours) market.Market {
	random := rand.New(rand.NewPCG(benchmarkSeed, 0))
	m := market.Market{
		Rule:    market.RuleUniform,
		Tariff:  &market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000},
		Network: market.Network{Nodes: []market.Node{{ID: "n0"}}},
		Seed:    []byte("benchmark"),
	}
	for i := 1; i < nodes; i++ {
		// A tree of about ten children each.
		m.Network.Nodes = append(m.Network.Nodes, market.Node{ID: fmt.Sprintf("n%d", i), Parent: fmt.Sprintf("n%d", (i-1)/10)})
	}
	for i := range n {
		side := market.Bid
		if random.IntN(2) == 0 {
			side = market.Offer
		}
		m.Orders = append(m.Orders, market.Order{
			ID: fmt.Sprintf("o%d", i), Node: m.Network.Nodes[random.IntN(nodes)].ID, Side: side,
			Steps: []market.Step{{Price: price(random), WattHours: wh(random)}},
		})
	}
	return m
}

func finePrice(r *rand.Rand) market.Price { return market.Price(50_000 + r.IntN(310_000)) }

func householdWh(r *rand.Rand) market.WattHours { return market.WattHours(1 + r.IntN(3000)) }

// benchmarkClear reports, besides the time, x-sort: the time of a clearing over
// that of slices.SortFunc on the steps of the book reference. Both are the
// fastest of runs that take turns, so that a busy machine slows neither alone.
func benchmarkClear(b *testing.B, m, reference market.Market) {
	b.Helper()
	c := market.NewClearer()
	var unsorted, steps []market.Step
	for _, o := range reference.Orders {
		unsorted = append(unsorted, o.Steps...)
	}
	fastestClear, fastestSort := time.Hour, time.Hour
	for range 50 {
		start := time.Now()
		if _, err := c.Clear(m); err != nil {
			b.Fatal(err)
		}
		fastestClear = min(fastestClear, time.Since(start))
		steps = append(steps[:0], unsorted...)
		start = time.Now()
		slices.SortFunc(steps, func(a, b market.Step) int { return cmp.Compare(a.Price, b.Price) })
		fastestSort = min(fastestSort, time.Since(start))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Clear(m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(fastestClear)/float64(fastestSort), "x-sort")
}

func BenchmarkClear(b *testing.B) {
	for _, nodes := range []int{1, 100, 10_000} {
		for _, orders := range []int{1000, 100_000} {
			b.Run(fmt.Sprintf("nodes=%d/orders=%d", nodes, orders), func(b *testing.B) {
				m := benchmarkBook(nodes, orders, finePrice, householdWh)
				benchmarkClear(b, m, m)
			})
		}
	}
}

// BenchmarkClearAwkward clears books that a selection finds hard: many orders
// at the margin. Sorting such books is easy, so that x-sort here is over sorting
// a book of as many orders at fine prices.
func BenchmarkClearAwkward(b *testing.B) {
	const orders = 100_000
	fine := benchmarkBook(1, orders, finePrice, householdWh)
	onePrice := func(*rand.Rand) market.Price { return 200_000 }
	for _, book := range []struct {
		name  string
		price func(*rand.Rand) market.Price
		wh    func(*rand.Rand) market.WattHours
	}{
		{"30-prices", func(r *rand.Rand) market.Price { return market.Price(60_000 + 10_000*r.IntN(30)) }, householdWh},
		{"one-price", onePrice, householdWh},
		{"one-price-equal-wh", onePrice, func(*rand.Rand) market.WattHours { return 250 }},
	} {
		b.Run("book="+book.name, func(b *testing.B) {
			benchmarkClear(b, benchmarkBook(1, orders, book.price, book.wh), fine)
		})
	}
}
