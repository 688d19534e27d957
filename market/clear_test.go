package market_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market"
)

func TestR3WorkedExample(t *testing.T) {
	got, err := market.Clear(market.Market{
		Rule:    market.RuleUniform,
		Tariff:  &market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000},
		Network: market.Network{Nodes: []market.Node{{ID: "root"}, {ID: "f1", Parent: "root"}}},
		Orders: []market.Order{
			{ID: "A", Node: "f1", Side: market.Offer, Steps: []market.Step{{Price: 100_000, WattHours: 1000}}},
			{ID: "B", Node: "f1", Side: market.Bid, Steps: []market.Step{{Price: 250_000, WattHours: 600}}},
			{ID: "C", Node: "f1", Side: market.Bid, Steps: []market.Step{{Price: 200_000, WattHours: 300}, {Price: 90_000, WattHours: 300}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := market.Clearing{
		Prices:      []market.NodePrice{{Node: "root", Price: 100_000}, {Node: "f1", Price: 100_000}},
		Allocations: []market.Allocation{{Order: 0, WattHours: 900, Price: 100_000}, {Order: 1, WattHours: 600, Price: 100_000}, {Order: 2, WattHours: 300, Price: 100_000}},
		Flows:       []market.Flow{{Node: "f1", WattHours: 0}},
		Welfare:     120_000,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("clearing (-want +got):\n%s", diff)
	}
}
