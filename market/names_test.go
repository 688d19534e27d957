package market_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market"
)

// namedMarket returns a star of nodes with a bid and an offer at each.
func namedMarket(nodes int, name func(int) string) market.Market {
	m := market.Market{Network: market.Network{Nodes: []market.Node{{ID: name(0)}}}, Seed: []byte{1}}
	for i := range nodes {
		if i > 0 {
			m.Network.Nodes = append(m.Network.Nodes, market.Node{ID: name(i), Parent: name(0), ExportFee: market.Price(i % 3)})
		}
		m.Orders = append(m.Orders,
			market.Order{ID: fmt.Sprintf("b%d", i), Node: name(i * 7 % nodes), Side: market.Bid, Steps: []market.Step{{Price: market.Price(50 + i), WattHours: 3}}},
			market.Order{ID: fmt.Sprintf("s%d", i), Node: name(i * 5 % nodes), Side: market.Offer, Steps: []market.Step{{Price: market.Price(90 - i), WattHours: 4}}})
	}
	return m
}

// TestNamesThatCollide: names that the quick table cannot tell apart clear like
// others, are unknown and found twice like others.
func TestNamesThatCollide(t *testing.T) {
	alike := func(i int) string { return fmt.Sprintf("feeder--%06d--a-home", i) }
	short := func(i int) string { return fmt.Sprintf("n%d", i) }
	for _, nodes := range []int{3, 30, 1009} {
		clear := func(name func(int) string) market.Clearing {
			c, err := market.NewClearer().Clear(namedMarket(nodes, name))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if d := cmp.Diff(clear(short).Allocations, clear(alike).Allocations); d != "" {
			t.Errorf("%d nodes: %s", nodes, d)
		}
		m := namedMarket(nodes, alike)
		m.Orders[nodes].Node = alike(nodes)
		var field *market.FieldError
		if _, err := market.Clear(m); !errors.Is(err, market.ErrUnknownNode) || !errors.As(err, &field) || field.ID != m.Orders[nodes].ID {
			t.Errorf("%d nodes: got %v, want %v of %s", nodes, err, market.ErrUnknownNode, m.Orders[nodes].ID)
		}
		m = namedMarket(nodes, alike)
		m.Network.Nodes[1].ID = alike(nodes - 1)
		if _, err := market.Clear(m); !errors.Is(err, market.ErrDuplicateID) {
			t.Errorf("%d nodes: got %v, want %v", nodes, err, market.ErrDuplicateID)
		}
	}
}
