package market_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/commonwatt/commonwatt/market"
)

func TestR1NetworkValidate(t *testing.T) {
	root := market.Node{ID: "root"}
	for _, test := range []struct {
		name  string
		nodes []market.Node
		of    string // id of the node at fault
		field string
		want  error
	}{
		{"root alone", []market.Node{root}, "", "", nil},
		{"child before parent", []market.Node{{ID: "a", Parent: "b"}, {ID: "b", Parent: "root"}, root}, "", "", nil},
		{
			"limits and fees",
			[]market.Node{root, {ID: "a", Parent: "root", ImportLimit: new(market.WattHours(0)), ExportLimit: new(market.WattHours(5)), ImportFee: 3, ExportFee: market.MaxPrice}},
			"", "", nil,
		},
		{"two roots", []market.Node{root, {ID: "other"}}, "other", "parent", market.ErrBadNetwork},
		{"orphan", []market.Node{root, {ID: "a", Parent: "gone"}}, "a", "parent", market.ErrUnknownNode},
		{"own parent", []market.Node{root, {ID: "a", Parent: "a"}}, "a", "parent", market.ErrBadNetwork},
		{"cycle", []market.Node{root, {ID: "a", Parent: "b"}, {ID: "b", Parent: "a"}}, "a", "parent", market.ErrBadNetwork},
		{"hangs on a cycle", []market.Node{root, {ID: "x", Parent: "a"}, {ID: "a", Parent: "b"}, {ID: "b", Parent: "a"}}, "x", "parent", market.ErrBadNetwork},
		{"same id", []market.Node{root, {ID: "a", Parent: "root"}, {ID: "a", Parent: "root"}}, "a", "id", market.ErrDuplicateID},
		{"empty id", []market.Node{root, {Parent: "root"}}, "", "id", market.ErrBadNetwork},
		{"import limit at the root", []market.Node{{ID: "root", ImportLimit: new(market.WattHours(1))}}, "root", "import_limit_wh", market.ErrBadNetwork},
		{"export limit at the root", []market.Node{{ID: "root", ExportLimit: new(market.WattHours(0))}}, "root", "export_limit_wh", market.ErrBadNetwork},
		{"import fee at the root", []market.Node{{ID: "root", ImportFee: 1}}, "root", "import_fee", market.ErrBadNetwork},
		{"export fee at the root", []market.Node{{ID: "root", ExportFee: 1}}, "root", "export_fee", market.ErrBadNetwork},
		{"negative limit", []market.Node{root, {ID: "a", Parent: "root", ExportLimit: new(market.WattHours(-1))}}, "a", "export_limit_wh", market.ErrBadNetwork},
		{"negative fee", []market.Node{root, {ID: "a", Parent: "root", ImportFee: -1}}, "a", "import_fee", market.ErrBadNetwork},
		{"huge fee", []market.Node{root, {ID: "a", Parent: "root", ExportFee: market.MaxPrice + 1}}, "a", "export_fee", market.ErrBadNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := market.Network{Nodes: test.nodes}.Validate()
			checkFieldError(t, err, "node", test.of, test.field, test.want)
		})
	}
	for name, nodes := range map[string][]market.Node{
		"no node": nil,
		"no root": {{ID: "a", Parent: "b"}, {ID: "b", Parent: "a"}},
	} {
		if err := (market.Network{Nodes: nodes}).Validate(); !errors.Is(err, market.ErrBadNetwork) {
			t.Errorf("%s: got %v, want %v", name, err, market.ErrBadNetwork)
		}
	}
}

// A path of many nodes must need neither a deep stack nor quadratic time.
func TestR1NetworkDeepPath(t *testing.T) {
	nodes := []market.Node{{ID: "0"}}
	for i := 1; i < 200_000; i++ {
		nodes = append(nodes, market.Node{ID: fmt.Sprint(i), Parent: fmt.Sprint(i - 1)})
	}
	if err := (market.Network{Nodes: nodes}).Validate(); err != nil {
		t.Error(err)
	}
}

// Fees that no 64 bits could hold on the way to the root, with prices on top.
func TestR1NetworkFeesOverflow(t *testing.T) {
	nodes := []market.Node{{ID: "0"}}
	for i := 1; i <= 65_537; i++ {
		nodes = append(nodes, market.Node{ID: fmt.Sprint(i), Parent: fmt.Sprint(i - 1), ImportFee: market.MaxPrice, ExportFee: market.MaxPrice})
	}
	if err := (market.Network{Nodes: nodes[:65_537]}).Validate(); err != nil {
		t.Error(err)
	}
	checkFieldError(t, market.Network{Nodes: nodes}.Validate(), "node", "65537", "import_fee", market.ErrOverflow)
}

func TestR1TariffValidate(t *testing.T) {
	for _, test := range []struct {
		tariff market.Tariff
		want   error
	}{
		{market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000}, nil},
		{market.Tariff{ImportPrice: 5, ExportPrice: 5}, nil},
		{market.Tariff{ImportPrice: -5, ExportPrice: -6}, nil},
		{market.Tariff{ImportPrice: market.MaxPrice, ExportPrice: -market.MaxPrice}, nil},
		{market.Tariff{ImportPrice: 5, ExportPrice: 6}, market.ErrBadTariff},
		{market.Tariff{ImportPrice: market.MaxPrice + 1}, market.ErrPriceOutOfBounds},
		{market.Tariff{ExportPrice: -market.MaxPrice - 1}, market.ErrPriceOutOfBounds},
	} {
		if err := test.tariff.Validate(); !errors.Is(err, test.want) {
			t.Errorf("%+v: got %v, want %v", test.tariff, err, test.want)
		}
	}
}

func TestR1TariffAtNode(t *testing.T) {
	n := market.Network{Nodes: []market.Node{
		{ID: "root"},
		{ID: "feeder", Parent: "root", ImportFee: 12_000, ExportFee: 1_000},
		{ID: "home", Parent: "feeder", ImportFee: 3_000},
		{ID: "loop", Parent: "loop"},
		{ID: "orphan", Parent: "gone"},
	}}
	grid := market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000}
	for node, want := range map[string]market.Tariff{
		"root":   grid,
		"feeder": {ImportPrice: 312_000, ExportPrice: 79_000},
		"home":   {ImportPrice: 315_000, ExportPrice: 79_000},
	} {
		if got, err := n.TariffAt(grid, node); err != nil || got != want {
			t.Errorf("at %s: got %+v, %v, want %+v", node, got, err, want)
		}
	}
	for node, want := range map[string]error{"nowhere": market.ErrUnknownNode, "orphan": market.ErrUnknownNode, "loop": market.ErrBadNetwork} {
		if got, err := n.TariffAt(grid, node); !errors.Is(err, want) {
			t.Errorf("at %s: got %+v, %v, want %v", node, got, err, want)
		}
	}
	if got, err := n.TariffAt(market.Tariff{ImportPrice: 1<<63 - 1}, "home"); !errors.Is(err, market.ErrOverflow) {
		t.Errorf("a price that does not fit: got %+v, %v, want %v", got, err, market.ErrOverflow)
	}
	want := market.Preference{MinSell: 79_000, MaxBuy: 315_000}
	if got := market.NoRegret(market.Tariff{ImportPrice: 315_000, ExportPrice: 79_000}); got != want {
		t.Errorf("no regret: got %+v, want %+v", got, want)
	}
}
