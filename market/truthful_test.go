package market_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// A lieBook tries what households gain by naming other limits than their own.
type lieBook struct {
	market  market.Market
	clearer *market.Clearer
	limits  []market.Price // to try
}

// gain returns what order i gains in a clearing if its limit is worth: × 1000.
func (b *lieBook) gain(i int, worth market.Price) (int64, error) {
	c, err := b.clearer.Clear(b.market)
	if err != nil {
		return 0, err
	}
	a := c.Allocations[i]
	gain := int64(worth-a.Price) * int64(a.WattHours)
	if b.market.Orders[i].Side == market.Offer {
		gain = -gain
	}
	return gain, nil
}

// lie returns a lie that pays, or nothing.
func (b *lieBook) lie() (string, error) {
	for i := range b.market.Orders {
		step := &b.market.Orders[i].Steps[0]
		worth := step.Price
		honest, err := b.gain(i, worth)
		if err != nil {
			return "", err
		}
		for _, step.Price = range b.limits {
			lied, err := b.gain(i, worth)
			if err != nil {
				return "", err
			}
			if lied > honest {
				said := step.Price
				step.Price = worth
				return fmt.Sprintf("order %d gains %d, and %d with limit %d: %+v", i, honest, lied, said, b.market.Orders), nil
			}
		}
		step.Price = worth
	}
	return "", nil
}

// everyBook calls try with each book of so many bids and offers, of these limits
// and quantities.
func everyBook(bids, offers int, limits []market.Price, sizes []market.WattHours, try func([]market.Order) bool) {
	orders := make([]market.Order, bids+offers)
	var fill func(i int) bool
	fill = func(i int) bool {
		if i == len(orders) {
			return try(orders)
		}
		side := market.Bid
		if i >= bids {
			side = market.Offer
		}
		for _, limit := range limits {
			for _, size := range sizes {
				orders[i] = market.Order{ID: fmt.Sprint(i), Node: "root", Side: side, Steps: []market.Step{{Price: limit, WattHours: size}}}
				if !fill(i + 1) {
					return false
				}
			}
		}
		return true
	}
	fill(0)
}

// Every book of up to five orders and every lie about a limit: by mcafee and by
// sharing none pays. Pay-as-bid and uniform show that the search finds some.
func TestR4NoLiePays(t *testing.T) {
	for _, test := range []struct {
		rule     string
		truthful bool
		most     int // orders
	}{{market.RuleMcAfee, true, 5}, {market.RuleSharing, true, 4}, {market.RulePayAsBid, false, 5}, {market.RuleUniform, false, 5}} {
		t.Run(test.rule, func(t *testing.T) {
			for _, sides := range [][2]int{{1, 1}, {2, 2}, {3, 2}, {2, 3}} {
				if sides[0]+sides[1] > test.most {
					continue
				}
				found := ""
				b := lieBook{clearer: market.NewClearer(), limits: []market.Price{1, 2, 3, 4, 5, 6, 7}}
				b.market = market.Market{
					Rule: test.rule, Network: market.Network{Nodes: []market.Node{{ID: "root"}}}, Sharing: market.Sharing{Price: new(market.Price(4))},
				}
				everyBook(sides[0], sides[1], []market.Price{2, 4, 6}, []market.WattHours{1, 3}, func(orders []market.Order) bool {
					b.market.Orders = orders
					lie, err := b.lie()
					if err != nil {
						t.Fatal(err)
					}
					found = lie
					return lie == ""
				})
				if (found == "") != test.truthful {
					t.Errorf("%d bids and %d offers: got lie %q, want one: %v", sides[0], sides[1], found, !test.truthful)
				}
			}
		})
	}
}

// Larger books, with a grid and ties.
func TestR4NoLiePaysInLargeBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := rapid.SampledFrom([]string{market.RuleMcAfee, market.RuleSharing}).Draw(t, "rule")
		m := ruleMarkets(t, smallMarkets(), rule)
		b := lieBook{market: m, clearer: market.NewClearer()}
		for i := range b.market.Orders {
			b.market.Orders[i].Steps = b.market.Orders[i].Steps[:1]
		}
		for p := market.Price(-5); p <= 10; p++ {
			b.limits = append(b.limits, p)
		}
		lie, err := b.lie()
		if err != nil {
			t.Fatal(err)
		}
		if lie != "" {
			t.Fatal(lie)
		}
	})
}

// By mcafee, asking for more does not get a rationed order more, while the same
// trade: with no two limits of a side alike, they do if the prices and the other side do.
func TestR4AskingForMoreGetsNoMore(t *testing.T) {
	rationed := 0
	rapid.Check(t, func(t *rapid.T) {
		m := market.Market{Rule: market.RuleMcAfee, Network: market.Network{Nodes: []market.Node{{ID: "root"}}}}
		limits := rapid.SliceOfNDistinct(rapid.IntRange(1, 30), 6, 12, rapid.ID).Draw(t, "limits")
		for i, limit := range limits {
			side := []market.Side{market.Bid, market.Offer}[i%2]
			if side == market.Bid {
				limit += 15
			}
			wh := market.WattHours(rapid.IntRange(1, 6).Draw(t, "wh"))
			m.Orders = append(m.Orders, market.Order{ID: fmt.Sprint(i), Node: "root", Side: side, Steps: []market.Step{{Price: market.Price(limit), WattHours: wh}}})
		}
		before, err := market.Clear(m)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(before.Allocations, func(a market.Allocation) bool {
			return a.WattHours > 0 && a.WattHours < m.Orders[a.Order].Steps[0].WattHours
		})
		if i < 0 {
			return
		}
		step := &m.Orders[i].Steps[0]
		step.WattHours += market.WattHours(rapid.IntRange(1, 9).Draw(t, "more"))
		after, err := market.Clear(m)
		if err != nil {
			t.Fatal(err)
		}
		for k := range m.Orders {
			a, b := before.Allocations[k], after.Allocations[k]
			if a.Price != b.Price || m.Orders[k].Side != m.Orders[i].Side && a.WattHours != b.WattHours {
				return
			}
		}
		rationed++ // about every eighth
		if after.Allocations[i].WattHours > before.Allocations[i].WattHours {
			t.Fatalf("got %d Wh after %d for asking for more: %+v", after.Allocations[i].WattHours, before.Allocations[i].WattHours, m.Orders)
		}
	})
	if rationed == 0 {
		t.Error("no order was rationed, want some")
	}
}
