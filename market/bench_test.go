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
// over a tree of nodes, of depth 3 or 4 from 100 nodes on.
func benchmarkBook(nodes, n int, price func(*rand.Rand) market.Price, wh func(*rand.Rand) market.WattHours) market.Market {
	random := rand.New(rand.NewPCG(benchmarkSeed, 0))
	m := market.Market{
		Rule:    market.RuleUniform,
		Tariff:  &market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000},
		Network: market.Network{Nodes: []market.Node{{ID: "node0"}}},
		Seed:    []byte("benchmark"),
	}
	children := 10
	if nodes <= 100 {
		children = 5
	}
	for i := 1; i < nodes; i++ {
		m.Network.Nodes = append(m.Network.Nodes, market.Node{ID: fmt.Sprintf("node%d", i), Parent: fmt.Sprintf("node%d", (i-1)/children)})
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
	random := rand.New(rand.NewPCG(benchmarkSeed, 2))
	orders := m.Orders
	m.Orders = make([]market.Order, len(orders))
	fastestClear, fastestSort := time.Hour, time.Hour
	for range max(5, 5_000_000/len(orders)) {
		// No book comes twice. If one did, a processor would learn the branches of
		// a small sort by heart.
		first := random.IntN(len(orders))
		copy(m.Orders[copy(m.Orders, orders[first:]):], orders)
		start := time.Now()
		if _, err := c.Clear(m); err != nil {
			b.Fatal(err)
		}
		fastestClear = min(fastestClear, time.Since(start))
		steps = append(append(steps[:0], unsorted[first:]...), unsorted[:first]...)
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

// edged gives the edges of a benchmark's network fees, and two of three a limit
// of up to half of what its orders below could send.
func edged(m market.Market) market.Market {
	random := rand.New(rand.NewPCG(benchmarkSeed, 1))
	nodes := m.Network.Nodes
	index := map[string]int{}
	for i := range nodes {
		index[nodes[i].ID] = i
	}
	mass := make([]int64, len(nodes))
	for _, o := range m.Orders {
		mass[index[o.Node]] += int64(o.Steps[0].WattHours)
	}
	for i := len(nodes) - 1; i > 0; i-- {
		n := &nodes[i]
		mass[index[n.Parent]] += mass[i]
		n.ImportFee, n.ExportFee = market.Price(random.IntN(3000)), market.Price(random.IntN(3000))
		for _, l := range []**market.WattHours{&n.ImportLimit, &n.ExportLimit} {
			if random.IntN(3) > 0 {
				*l = new(market.WattHours(random.Int64N(mass[i]/2 + 1)))
			}
		}
	}
	return m
}

// chained hangs every node of a benchmark's network on the one before, with a fee.
func chained(m market.Market) market.Market {
	nodes := m.Network.Nodes
	for i := 1; i < len(nodes); i++ {
		nodes[i].Parent = nodes[i-1].ID
		nodes[i].ImportFee, nodes[i].ExportFee = 1, 1
	}
	return m
}

// BenchmarkClear clears books of fine prices, where sorting has the most to do,
// and such as are hard on a selection: many orders at the margin. Sorting those
// is easy, so that x-sort is always over a book of as many orders at fine prices.
func BenchmarkClear(b *testing.B) {
	b.Run("nodes=1/orders=100000", func(b *testing.B) { // the figure that is compared over all versions
		m := benchmarkBook(1, 100_000, finePrice, householdWh)
		benchmarkClear(b, m, m)
	})
	for _, orders := range []int{1000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("book=fine/nodes=1/orders=%d", orders), func(b *testing.B) {
			m := benchmarkBook(1, orders, finePrice, householdWh)
			benchmarkClear(b, m, m)
		})
	}
	for _, nodes := range []int{100, 1000, 10_000} {
		for _, orders := range []int{100_000, 1_000_000} {
			b.Run(fmt.Sprintf("book=fine/nodes=%d/orders=%d", nodes, orders), func(b *testing.B) {
				m := edged(benchmarkBook(nodes, orders, finePrice, householdWh))
				benchmarkClear(b, m, m)
			})
		}
	}
	const orders = 100_000
	b.Run(fmt.Sprintf("book=fine/shape=bare/nodes=10000/orders=%d", orders), func(b *testing.B) {
		m := benchmarkBook(10_000, orders, finePrice, householdWh)
		benchmarkClear(b, m, m)
	})
	for _, nodes := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("book=fine/shape=chain/nodes=%d/orders=%d", nodes, orders), func(b *testing.B) {
			m := chained(benchmarkBook(nodes, orders, finePrice, householdWh))
			benchmarkClear(b, m, m)
		})
		b.Run(fmt.Sprintf("book=fine/shape=limited-chain/nodes=%d/orders=%d", nodes, orders), func(b *testing.B) {
			m := edged(chained(benchmarkBook(nodes, orders, finePrice, householdWh)))
			benchmarkClear(b, m, m)
		})
	}
	onePrice := func(*rand.Rand) market.Price { return 200_000 }
	for _, book := range []struct {
		name  string
		price func(*rand.Rand) market.Price
		wh    func(*rand.Rand) market.WattHours
	}{
		{"tied", func(r *rand.Rand) market.Price { return market.Price(60_000 + 10_000*r.IntN(30)) }, householdWh},
		{"two-price", func(r *rand.Rand) market.Price { return market.Price(80_000 + 220_000*r.IntN(2)) }, householdWh},
		{"one-price", onePrice, householdWh},
		{"one-price-equal-wh", onePrice, func(*rand.Rand) market.WattHours { return 250 }},
	} {
		b.Run(fmt.Sprintf("book=%s/nodes=1/orders=%d", book.name, orders), func(b *testing.B) {
			benchmarkClear(b, benchmarkBook(1, orders, book.price, book.wh), benchmarkBook(1, orders, finePrice, householdWh))
		})
	}
}
