package market_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
)

// bidAt returns a valid bid.
func bidAt(id, node string) market.Order {
	return market.Order{ID: id, Node: node, Side: market.Bid, Steps: steps(100, 10)}
}

func TestClearNamesOrderAndField(t *testing.T) {
	for _, test := range []struct {
		name   string
		orders []market.Order
		id     string
		field  string
		want   error
	}{
		{"unknown node", []market.Order{bidAt("a", "root"), bidAt("b", "nowhere")}, "b", "node", market.ErrUnknownNode},
		{"no node", []market.Order{bidAt("a", "")}, "a", "node", market.ErrUnknownNode},
		{"same id", []market.Order{bidAt("a", "root"), bidAt("b", "root"), bidAt("a", "root")}, "a", "id", market.ErrDuplicateID},
		{"no side", []market.Order{{ID: "a", Node: "root", Steps: steps(1, 1)}}, "a", "side", market.ErrBadSide},
		{"third side", []market.Order{{ID: "a", Node: "root", Side: 3, Steps: steps(1, 1)}}, "a", "side", market.ErrBadSide},
		{"no step", []market.Order{{ID: "a", Node: "root", Side: market.Bid}}, "a", "steps", market.ErrTooManySteps},
		{"17 steps", []market.Order{{ID: "a", Node: "root", Side: market.Offer, Steps: rising(17)}}, "a", "steps", market.ErrTooManySteps},
		{"rising bid", []market.Order{{ID: "a", Node: "root", Side: market.Bid, Steps: steps(1, 1, 2, 1)}}, "a", "steps[1].price", market.ErrStepsUnordered},
		{"falling offer", []market.Order{{ID: "a", Node: "root", Side: market.Offer, Steps: steps(2, 1, 1, 1)}}, "a", "steps[1].price", market.ErrStepsUnordered},
		{"too dear", []market.Order{{ID: "a", Node: "root", Side: market.Offer, Steps: steps(1<<40+1, 1)}}, "a", "steps[0].price", market.ErrPriceOutOfBounds},
		{"too cheap", []market.Order{{ID: "a", Node: "root", Side: market.Bid, Steps: steps(-1<<40-1, 1)}}, "a", "steps[0].price", market.ErrPriceOutOfBounds},
		{"least price", []market.Order{{ID: "a", Node: "root", Side: market.Bid, Steps: steps(-1<<63, 1)}}, "a", "steps[0].price", market.ErrPriceOutOfBounds},
		{"no energy", []market.Order{{ID: "a", Node: "root", Side: market.Bid, Steps: steps(1, 0)}}, "a", "steps[0].wh", market.ErrBadQuantity},
		{"negative energy", []market.Order{{ID: "a", Node: "root", Side: market.Bid, Steps: steps(1, -5)}}, "a", "steps[0].wh", market.ErrBadQuantity},
		{"too much energy", []market.Order{{ID: "a", Node: "root", Side: market.Bid, Steps: steps(1, 1<<62+1)}}, "a", "steps[0].wh", market.ErrBadQuantity},
		{
			"too much energy in all",
			[]market.Order{
				{ID: "a", Node: "root", Side: market.Bid, Steps: steps(1, 1<<62)},
				{ID: "b", Node: "root", Side: market.Offer, Steps: steps(2, 1)},
			},
			"b", "steps", market.ErrBadQuantity,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := market.Clear(market.Market{Network: market.Network{Nodes: []market.Node{{ID: "root"}}}, Orders: test.orders})
			checkFieldError(t, err, "order", test.id, test.field, test.want)
		})
	}
}

// A household has one bid and one offer for an interval.
func TestClearRefusesSecondBidOfHousehold(t *testing.T) {
	bid := market.Order{Household: market.HouseholdID{1}, Node: "root", Side: market.Bid, Steps: steps(1, 1)}
	offer := bid
	offer.Side = market.Offer
	m := market.Market{Network: market.Network{Nodes: []market.Node{{ID: "root"}}}, Orders: []market.Order{bid, offer}}
	if _, err := market.Clear(m); err != nil {
		t.Errorf("a bid and an offer: %v", err)
	}
	m.Orders = append(m.Orders, bid)
	if _, err := market.Clear(m); !errors.Is(err, market.ErrDuplicateID) {
		t.Errorf("a second bid: got %v, want %v", err, market.ErrDuplicateID)
	}
}

func TestClearRefusesFrame(t *testing.T) {
	root := market.Network{Nodes: []market.Node{{ID: "root"}}}
	for _, test := range []struct {
		name   string
		market market.Market
		want   error
		says   string
	}{
		{"other rule", market.Market{Rule: "lottery", Network: root}, market.ErrUnknownRule, `rule: got "lottery", want uniform, pay-as-bid, mcafee, sharing`},
		{"no node", market.Market{}, market.ErrBadNetwork, "network"},
		{"tariff upside down", market.Market{Network: root, Tariff: &market.Tariff{ImportPrice: 1, ExportPrice: 2}}, market.ErrBadTariff, "export_price"},
		{"long seed", market.Market{Network: root, Seed: make([]byte, market.MaxSeedBytes+1)}, market.ErrBadSeed, "seed: got 1025 bytes"},
	} {
		_, err := market.Clear(test.market)
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %v that says %q", test.name, err, test.want, test.says)
		}
	}
	for _, rule := range append(market.Rules(), "") {
		m := market.Market{Rule: rule, Network: root, Sharing: market.Sharing{Price: new(market.Price)}}
		if _, err := market.Clear(m); err != nil {
			t.Errorf("rule %q: %v", rule, err)
		}
	}
}

// M2: the welfare of 2^62 Wh at 2^40 does not fit, and is not made up.
func TestM2WelfareOverflows(t *testing.T) {
	_, err := market.Clear(market.Market{
		Network: market.Network{Nodes: []market.Node{{ID: "root"}}},
		Orders: []market.Order{
			{ID: "a", Node: "root", Side: market.Bid, Steps: steps(1<<40, 1<<61)},
			{ID: "b", Node: "root", Side: market.Offer, Steps: steps(-1<<40, 1<<61)},
		},
	})
	if !errors.Is(err, market.ErrOverflow) {
		t.Errorf("got %v, want %v", err, market.ErrOverflow)
	}
}

// The same quantities at modest prices are no problem: shares of 2^61 Wh need
// 128 bits on the way.
func TestR3LargestQuantities(t *testing.T) {
	m := market.Market{
		Network: market.Network{Nodes: []market.Node{{ID: "root"}}},
		Orders: []market.Order{
			{ID: "a", Node: "root", Side: market.Bid, Steps: steps(4, 1<<61)},
			{ID: "b", Node: "root", Side: market.Offer, Steps: steps(3, 1<<60)},
			{ID: "c", Node: "root", Side: market.Bid, Steps: steps(4, 1<<60-1)},
		},
	}
	got, err := market.Clear(m)
	if err != nil {
		t.Fatal(err)
	}
	if problem := violation(m, got); problem != "" {
		t.Errorf("%s: %+v", problem, got)
	}
	// 2^60 shared as 2^61 : 2^60 - 1.
	if want := market.WattHours(768614336404564651); got.Allocations[0].WattHours != want {
		t.Errorf("got %d, want %d", got.Allocations[0].WattHours, want)
	}
}
