package market_test

import (
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// Three homes on one feeder: the worked example of the market rules.
func Example() {
	tariff := market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000}
	street := market.Market{
		Rule:    market.RuleUniform,
		Tariff:  &tariff,
		Network: market.Network{Nodes: []market.Node{{ID: "grid"}, {ID: "feeder", Parent: "grid"}}},
		Orders: []market.Order{
			{ID: "A", Node: "feeder", Side: market.Offer, Steps: []market.Step{{Price: 100_000, WattHours: 1000}}},
			{ID: "B", Node: "feeder", Side: market.Bid, Steps: []market.Step{{Price: 250_000, WattHours: 600}}},
			{ID: "C", Node: "feeder", Side: market.Bid, Steps: []market.Step{
				{Price: 200_000, WattHours: 300},
				{Price: 90_000, WattHours: 300},
			}},
		},
	}
	clearing, err := market.Clear(street)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range clearing.Allocations {
		fmt.Printf("%s: %d Wh at %d\n", street.Orders[a.Order].ID, a.WattHours, a.Price)
	}
	fmt.Println("welfare:", clearing.Welfare)

	// A then delivers 50 Wh less than it sold, and buys them from the supplier.
	transfers, err := market.SettleHousehold(42, market.Position{
		Household: market.HouseholdID{0xa},
		Sold:      clearing.Allocations[0].WattHours, Sell: clearing.Allocations[0].Amount,
		MeteredExport: 850,
	}, market.Terms{Retail: tariff.Retail(), FeedIn: tariff.FeedIn()})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, t := range transfers {
		fmt.Println(t.Kind, t.Amount)
	}
	// Output:
	// A: 900 Wh at 100000
	// B: 600 Wh at 100000
	// C: 300 Wh at 100000
	// welfare: 120000
	// sell 90000
	// imbalance-shortfall 15000
}

// An error says which order and which field, and can be told by its sentinel.
func ExampleOrder_Validate() {
	order := market.Order{ID: "o1", Side: market.Bid, Steps: []market.Step{
		{Price: 200_000, WattHours: 300},
		{Price: 250_000, WattHours: 300},
	}}
	fmt.Println(order.Validate(market.WidestOrderBounds()))
	// Output:
	// order "o1": steps[1].price: got 250000 after 200000, want a bid's prices to fall and an offer's to rise: steps out of order
}

// Half a micro-unit goes to the even neighbour, so that rounding favours nobody.
func ExampleAmount() {
	for _, wh := range []market.WattHours{500, 1500, 2500} {
		money, err := market.Amount(1, wh)
		fmt.Println(wh, "Wh:", money, err)
	}
	// Output:
	// 500 Wh: 0 <nil>
	// 1500 Wh: 2 <nil>
	// 2500 Wh: 2 <nil>
}

// The day on which clocks go back has 100 quarters of an hour.
func ExampleCalendar_OfDay() {
	amsterdam, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		fmt.Println(err)
		return
	}
	quarters := market.Calendar{Length: 15 * time.Minute}
	first, end := quarters.OfDay(time.Date(2026, time.October, 25, 12, 0, 0, 0, amsterdam), amsterdam)
	fmt.Println(end-first, "intervals from", quarters.Start(first).Format(time.RFC3339))
	// Output:
	// 100 intervals from 2026-10-24T22:00:00Z
}

// In a demonstration a quarter of an hour passes in ten seconds.
func ExampleClock() {
	clock := market.Clock{
		Epoch: time.Date(2026, time.June, 21, 10, 0, 0, 0, time.UTC),
		Start: time.Date(2026, time.November, 23, 8, 30, 0, 0, time.UTC),
		Rate:  90,
	}
	fmt.Println(clock.Validate("demo-street"))
	fmt.Println(clock.Community(clock.Start.Add(10 * time.Second)).Format(time.TimeOnly))
	fmt.Println(clock.WallDuration(15 * time.Minute))
	// Output:
	// <nil>
	// 10:15:00
	// 10s
}

// A corrected report settles one household again, and books the difference.
func ExampleCorrect() {
	terms := market.Terms{Retail: 300_000, FeedIn: 80_000}
	position := market.Position{Bought: 600, Buy: 60_000, MeteredImport: 600}
	booked, err := market.SettleHousehold(42, position, terms)
	if err != nil {
		fmt.Println(err)
		return
	}
	position.MeteredImport = 650
	due, err := market.SettleHousehold(42, position, terms)
	if err != nil {
		fmt.Println(err)
		return
	}
	corrections, err := market.Correct(42, booked, due)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range corrections {
		fmt.Println(c.Kind, c.Amount, "to", c.Credit)
	}
	// Output:
	// correction 15000 to supplier
}

// After delivery the meter says how much, and the household's own curve at what price.
func ExampleMetered_Orders() {
	home := market.Metered{
		Node: "feeder", Import: 900,
		Bid:        []market.Step{{Price: 250_000, WattHours: 600}, {Price: 200_000, WattHours: 100}},
		Preference: market.Preference{MinSell: 80_000, MaxBuy: 300_000},
	}
	for _, o := range home.Orders(nil) {
		fmt.Println(o.Side, o.Steps)
	}
	// Output:
	// bid [{300000 200} {250000 600} {200000 100}]
}

// A month begins at midnight in the community's own time, on every machine alike.
func ExampleParseZone() {
	amsterdam, err := market.ParseZone("CET-1CEST,M3.5.0,M10.5.0/3")
	if err != nil {
		fmt.Println(err)
		return
	}
	october, err := market.ParseMonth("2026-10")
	if err != nil {
		fmt.Println(err)
		return
	}
	quarters := market.Calendar{Length: 15 * time.Minute}
	first, end := quarters.OfMonth(october, amsterdam)
	fmt.Println(end-first, "intervals from", quarters.Start(first).Format(time.RFC3339))
	fmt.Println(quarters.MonthOf(end, amsterdam), "is next")
	// Output:
	// 2980 intervals from 2026-09-30T22:00:00Z
	// 2026-11 is next
}

// With trade reduction the last bid and the last offer make the prices, and stay out.
func ExampleMarket_mcafee() {
	order := func(id string, side market.Side, price market.Price) market.Order {
		return market.Order{ID: id, Node: "root", Side: side, Steps: []market.Step{{Price: price, WattHours: 500}}}
	}
	c, err := market.Clear(market.Market{
		Rule:    market.RuleMcAfee,
		Network: market.Network{Nodes: []market.Node{{ID: "root"}}},
		Orders: []market.Order{
			order("A", market.Bid, 290_000), order("B", market.Bid, 240_000),
			order("P", market.Offer, 90_000), order("Q", market.Offer, 110_000),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range c.Allocations {
		fmt.Println(a.WattHours, "Wh for", a.Amount)
	}
	fmt.Println("surplus", c.Surplus)
	// Output:
	// 500 Wh for 120000
	// 0 Wh for 0
	// 500 Wh for 55000
	// 0 Wh for 0
	// surplus 65000
}
