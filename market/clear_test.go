package market_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// diffClearing compares two answers; nil and empty are the same.
func diffClearing(want, got market.Clearing) string {
	sameText := gocmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
	return gocmp.Diff(want, got, cmpopts.EquateEmpty(), sameText)
}

// M3 to M7 at once: nothing but the one right answer passes.
func TestR3AgainstDumbImplementation(t *testing.T) {
	for name, g := range map[string]generator{"small": smallMarkets(), "long": longMarkets()} {
		t.Run(name, func(t *testing.T) {
			reused := market.NewClearer()
			rapid.Check(t, func(t *rapid.T) {
				m := g.draw(t)
				got, err := market.Clear(m)
				if err != nil {
					t.Fatal(err)
				}
				if diff := diffClearing(newDumbMarket(m).clear(), got); diff != "" {
					t.Fatalf("clearing of %+v (-dumb +got):\n%s", m, diff)
				}
				again, err := reused.Clear(m)
				if err != nil {
					t.Fatal(err)
				}
				if diff := diffClearing(got, again); diff != "" {
					t.Fatalf("a Clearer that cleared other markets before (-fresh +reused):\n%s", diff)
				}
			})
		})
	}
}

// Fees and limits: prices, flows and welfare are judged by the certificate, the
// shares by a book of single Wh.
func TestR3TreesAgainstDumbImplementation(t *testing.T) {
	for name, g := range map[string]generator{
		"small": smallMarkets().edged(), "long": longMarkets().edged(), "chain": chainMarkets(),
	} {
		t.Run(name, func(t *testing.T) {
			reused, deep, cramped := market.NewClearer(), market.NewDeepClearer(), market.NewCrampedClearer()
			rapid.Check(t, func(t *rapid.T) {
				m := g.draw(t)
				got, err := market.Clear(m)
				if err != nil {
					t.Fatal(err)
				}
				if problem := violation(m, got); problem != "" {
					t.Fatalf("%s\nmarket %+v\nclearing %+v", problem, m, got)
				}
				if diff := gocmp.Diff(newDumbTree(m).clear(), quantities(got), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("shares of %+v (-dumb +got):\n%s", m, diff)
				}
				for name, c := range map[string]*market.Clearer{
					"that cleared others before": reused, "for deep networks": deep, "short of memory": cramped,
				} {
					again, err := c.Clear(m)
					if err != nil {
						t.Fatal(err)
					}
					if diff := diffClearing(got, again); diff != "" {
						t.Fatalf("a Clearer %s (-fresh +it):\n%s", name, diff)
					}
				}
			})
		})
	}
}

// The same conditions where there is too much to try everything.
func TestR3Conditions(t *testing.T) {
	for name, g := range map[string]generator{"bare": wideMarkets(), "edged": wideMarkets().edged()} {
		t.Run(name, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { checkConditions(t, g.draw(t)) }) })
	}
}

func checkConditions(t *rapid.T, m market.Market) {
	got, err := market.Clear(m)
	if errors.Is(err, market.ErrOverflow) {
		return // welfare of astronomic prices and quantities
	}
	if err != nil {
		t.Fatal(err)
	}
	if problem := violation(m, got); problem != "" {
		t.Fatalf("%s\nmarket %+v\nclearing %+v", problem, m, got)
	}
	deep, err := market.NewDeepClearer().Clear(m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffClearing(got, deep); diff != "" {
		t.Fatalf("a Clearer for deep networks (-usual +deep):\n%s", diff)
	}
}

// Two orders at one price cannot be told from one with two steps, as long as
// nothing is shared by rounding.
func TestR3EqualNeighboursAddUp(t *testing.T) {
	one := market.Market{
		Network: market.Network{Nodes: []market.Node{{ID: "root"}}},
		Orders: []market.Order{
			{ID: "a", Node: "root", Side: market.Offer, Steps: steps(10, 3, 10, 4)},
			{ID: "b", Node: "root", Side: market.Offer, Steps: steps(10, 7)},
			{ID: "c", Node: "root", Side: market.Bid, Steps: steps(20, 5, 20, 2)},
		},
	}
	got, err := market.Clear(one)
	if err != nil {
		t.Fatal(err)
	}
	var quantities []market.WattHours
	for _, a := range got.Allocations {
		quantities = append(quantities, a.WattHours)
	}
	// 7 Wh between two equals: the odd one goes by hash, and SHA-256 of 00 'a' is
	// 022a…, of 00 'b' 57eb….
	if want := []market.WattHours{4, 3, 7}; !slices.Equal(quantities, want) {
		t.Errorf("got %v, want %v", quantities, want)
	}
}

// A Clearer is not asked to look for two orders of one name. Should there be
// such, even their hashes tie, and the earlier one is first.
func TestClearerSameName(t *testing.T) {
	m := market.Market{Network: market.Network{Nodes: []market.Node{{ID: "root"}}}}
	for range 5 {
		m.Orders = append(m.Orders, market.Order{ID: "same", Node: "root", Side: market.Offer, Steps: steps(10, 1)})
	}
	m.Orders = append(m.Orders, market.Order{ID: "bid", Node: "root", Side: market.Bid, Steps: steps(10, 3)})
	got, err := market.NewClearer().Clear(m)
	if err != nil {
		t.Fatal(err)
	}
	var quantities []market.WattHours
	for _, a := range got.Allocations {
		quantities = append(quantities, a.WattHours)
	}
	if want := []market.WattHours{1, 1, 1, 0, 0, 3}; !slices.Equal(quantities, want) {
		t.Errorf("got %v, want %v", quantities, want)
	}
}

func TestClearingPriceAt(t *testing.T) {
	c := market.Clearing{Prices: []market.NodePrice{{Node: "root", Price: 5}, {Node: "f1", Price: 7}}}
	if got, ok := c.PriceAt("f1"); !ok || got != 7 {
		t.Errorf("at f1: got %d, %v, want 7", got, ok)
	}
	if got, ok := c.PriceAt("f2"); ok {
		t.Errorf("at f2: got %d, want none", got)
	}
}

func TestClearerDoesNotAllocate(t *testing.T) {
	c := market.NewClearer()
	for nodes, m := range map[string]market.Market{
		"1": benchmarkBook(1, 500, finePrice, householdWh), "50": benchmarkBook(50, 500, finePrice, householdWh),
		"50 with fees and limits": edged(benchmarkBook(50, 500, finePrice, householdWh)),
		"50 in a chain":           chained(benchmarkBook(50, 500, finePrice, householdWh)),
	} {
		if got := testing.AllocsPerRun(10, func() {
			if _, err := c.Clear(m); err != nil {
				t.Error(err)
			}
		}); got != 0 {
			t.Errorf("%s nodes: got %v allocations in a warm run, want 0", nodes, got)
		}
	}
}
