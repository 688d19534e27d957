package market_test

import (
	"math/big"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

func TestR6Orders(t *testing.T) {
	preference := market.Preference{MinSell: 80, MaxBuy: 300}
	order := func(side market.Side, pairs ...int64) market.Order {
		return market.Order{Household: home, Node: "n", Side: side, Steps: steps(pairs...)}
	}
	keyed := func(o market.Order) market.Order {
		o.Key = 9
		return o
	}
	full := rising(market.MaxSteps) // at 1 to 16
	falling := make([]market.Step, 0, market.MaxSteps)
	for i := range full {
		falling = append(falling, full[len(full)-1-i])
	}
	for _, test := range []struct {
		name    string
		metered market.Metered
		want    []market.Order
	}{
		{"nothing", market.Metered{}, nil},
		{"less than nothing", market.Metered{Import: -1, Export: -1}, nil},
		{"no order", market.Metered{Import: 5, Export: 7}, []market.Order{order(market.Bid, 300, 5), order(market.Offer, 80, 7)}},
		{"within the curve", market.Metered{Import: 15, Bid: steps(250, 10, 200, 10, 100, 5)}, []market.Order{order(market.Bid, 250, 10, 200, 5)}},
		{"the whole curve", market.Metered{Import: 20, Bid: steps(250, 10, 200, 10)}, []market.Order{order(market.Bid, 250, 10, 200, 10)}},
		{"beyond, dearest", market.Metered{Import: 25, Bid: steps(250, 10, 200, 10)}, []market.Order{order(market.Bid, 300, 5, 250, 10, 200, 10)}},
		{"beyond, between", market.Metered{Import: 25, Bid: steps(350, 10, 200, 10)}, []market.Order{order(market.Bid, 350, 10, 300, 5, 200, 10)}},
		{"beyond, equal", market.Metered{Import: 25, Bid: steps(300, 10, 200, 10)}, []market.Order{order(market.Bid, 300, 15, 200, 10)}},
		{"beyond, cheapest", market.Metered{Import: 25, Bid: steps(500, 10, 400, 10)}, []market.Order{order(market.Bid, 500, 10, 400, 10, 300, 5)}},
		{"offer", market.Metered{Export: 25, Offer: steps(50, 10, 100, 10)}, []market.Order{order(market.Offer, 50, 10, 80, 5, 100, 10)}},
		{"own orders cross", market.Metered{Import: 5, Export: 5, Bid: steps(100, 5), Offer: steps(90, 5)}, []market.Order{order(market.Bid, 100, 5), order(market.Offer, 90, 5)}},
		{"16 steps and no more", market.Metered{Export: 16, Offer: full}, []market.Order{{Household: home, Node: "n", Side: market.Offer, Steps: full}}},
		{"one too many", market.Metered{Export: 20, Offer: full}, []market.Order{
			{Household: home, Node: "n", Side: market.Offer, Steps: full}, order(market.Offer, 80, 4),
		}},
		{"one too many, dearest", market.Metered{Import: 20, Bid: falling, Key: 9}, []market.Order{
			keyed(market.Order{Household: home, Node: "n", Side: market.Bid, Steps: append(steps(300, 4), falling[:15]...)}), order(market.Bid, 1, 1),
		}},
		{"key", market.Metered{Import: 5, Export: 5, Key: 9}, []market.Order{keyed(order(market.Bid, 300, 5)), order(market.Offer, 80, 5)}},
	} {
		test.metered.Household, test.metered.Node, test.metered.Preference = home, "n", preference
		before := gocmp.Diff(nil, test.metered)
		if diff := gocmp.Diff(test.want, test.metered.Orders(nil)); diff != "" {
			t.Errorf("%s: orders (-want +got):\n%s", test.name, diff)
		}
		if gocmp.Diff(nil, test.metered) != before {
			t.Errorf("%s: got its own curve changed", test.name)
		}
	}
}

// Of any meter and curve, the orders hold every Wh, are what R2 wants, and the
// curve comes first.
func TestR6OrdersHoldEveryWh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := longMarkets()
		m := market.Metered{
			Household: home, Node: "n",
			Import: market.WattHours(rapid.IntRange(0, 40).Draw(t, "import")), Export: market.WattHours(rapid.IntRange(0, 40).Draw(t, "export")),
			Preference: market.Preference{MinSell: g.price.Draw(t, "min sell"), MaxBuy: g.price.Draw(t, "max buy")},
		}
		curve := func(side market.Side) []market.Step {
			o := market.Order{Side: side}
			used := map[market.Price]bool{}
			for range rapid.IntRange(0, market.MaxSteps).Draw(t, "steps") {
				if p := g.price.Draw(t, "price"); !used[p] {
					used[p] = true
					o.Steps = append(o.Steps, market.Step{Price: p, WattHours: g.wh.Draw(t, "wh")})
				}
			}
			g.sort(&o)
			return o.Steps
		}
		m.Bid, m.Offer = curve(market.Bid), curve(market.Offer)
		total := map[market.Side]market.WattHours{}
		at := map[market.Side]map[market.Price]market.WattHours{market.Bid: {}, market.Offer: {}}
		for _, o := range m.Orders(nil) {
			if err := o.Validate(market.WidestOrderBounds()); err != nil {
				t.Fatal(err)
			}
			for _, s := range o.Steps {
				if at[o.Side][s.Price] != 0 {
					t.Fatalf("got %v %d twice", o.Side, s.Price)
				}
				total[o.Side] += s.WattHours
				at[o.Side][s.Price] = s.WattHours
			}
		}
		if total[market.Bid] != m.Import || total[market.Offer] != m.Export {
			t.Fatalf("got %v, want import %d and export %d", total, m.Import, m.Export)
		}
		left := m.Import
		for _, s := range m.Bid {
			want := min(left, s.WattHours)
			if left -= want; s.Price != m.Preference.MaxBuy && at[market.Bid][s.Price] != want {
				t.Fatalf("got %d at %d, want %d", at[market.Bid][s.Price], s.Price, want)
			}
		}
	})
}

// A second order of one household is taken by a Clearer, and all its Wh too.
func TestR6SecondOrderClears(t *testing.T) {
	m := market.Metered{Household: home, Node: "root", Export: 20, Offer: rising(market.MaxSteps), Preference: market.Preference{MinSell: 80}}
	c, err := market.NewClearer().Clear(market.Market{
		Tariff: &market.Tariff{ImportPrice: 300, ExportPrice: 80}, Network: market.Network{Nodes: []market.Node{{ID: "root"}}}, Orders: m.Orders(nil),
	})
	if err != nil || len(c.Allocations) != 2 || c.Allocations[0].WattHours != 16 || c.Allocations[1].WattHours != 4 {
		t.Errorf("got %+v, %v, want 16 and 4 Wh", c.Allocations, err)
	}
}

func TestShareOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wh := market.WattHours(rapid.Int64Range(0, 1<<63-1).Draw(t, "wh"))
		a := rapid.Int64Range(0, 1000).Draw(t, "a")
		b := rapid.Int64Range(a, 1000).Draw(t, "b")
		if sum := market.ShareOf(wh, 0, a) + market.ShareOf(wh, a, b) + market.ShareOf(wh, b, 1000); sum != wh {
			t.Fatalf("got %d of parts that join, want %d", sum, wh)
		}
		exact := func(mark int64) *big.Int {
			x := new(big.Int).Mul(big.NewInt(int64(wh)), big.NewInt(mark))
			return x.Div(x, big.NewInt(1000))
		}
		if want := new(big.Int).Sub(exact(b), exact(a)); want.Int64() != int64(market.ShareOf(wh, a, b)) {
			t.Fatalf("got %d, want %d", market.ShareOf(wh, a, b), want)
		}
	})
	for _, marks := range [][2]int64{{-5, 2000}, {-1 << 63, 1<<63 - 1}} {
		if got := market.ShareOf(1<<63-1, marks[0], marks[1]); got != 1<<63-1 {
			t.Errorf("marks %d: got %d, want all", marks, got)
		}
	}
}
