package trader_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
)

func TestPersist(t *testing.T) {
	known := []trader.Metered{
		{Interval: 10, Import: 500},
		{Interval: 12, Import: 200, Export: 900},
		{Interval: 11, Export: 100},
	}
	for _, tc := range []struct {
		name  string
		k     market.Interval
		known []trader.Metered
		want  trader.Forecast
		ok    bool
	}{
		{"newest wins, net of both counters", 14, known, trader.Forecast{Export: 700, From: 12}, true},
		{"never from the future", 12, known, trader.Forecast{Export: 100, From: 11}, true},
		{"oldest only", 11, known, trader.Forecast{Import: 500, From: 10}, true},
		{"nothing known", 14, nil, trader.Forecast{}, false},
		{"nothing before", 10, known, trader.Forecast{}, false},
		{"too old", 21, known, trader.Forecast{}, false},
		{"just new enough", 20, known, trader.Forecast{Export: 700, From: 12}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := trader.Persist(tc.k, tc.known)
			if got != tc.want || ok != tc.ok {
				t.Errorf("Persist = %+v, %v; want %+v, %v", got, ok, tc.want, tc.ok)
			}
		})
	}
}

// A quote is honest: never more than the forecast or the fuse, never worse for the
// home than its preference, and on one side only.
func TestQuoteIsHonest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := trader.Metered{
			Interval: 7,
			Import:   market.WattHours(rapid.Int64Range(0, 1<<40).Draw(t, "import")),
			Export:   market.WattHours(rapid.Int64Range(0, 1<<40).Draw(t, "export")),
		}
		p := market.Preference{
			MinSell: market.Price(rapid.Int64Range(-1e6, 1e6).Draw(t, "min sell")),
			MaxBuy:  market.Price(rapid.Int64Range(-1e6, 1e6).Draw(t, "max buy")),
		}
		most := market.WattHours(rapid.Int64Range(1, 1<<41).Draw(t, "most"))
		f, ok := trader.Persist(9, []trader.Metered{m})
		if !ok || f.Import > 0 && f.Export > 0 {
			t.Fatalf("forecast %+v, %v", f, ok)
		}
		side, step, ok := trader.Quote(f, p, most)
		net := m.Import - m.Export
		switch {
		case !ok:
			if net != 0 {
				t.Fatalf("no order for net %d Wh", net)
			}
		case side == market.Bid:
			if net <= 0 || step.WattHours != min(net, most) || step.Price != p.MaxBuy {
				t.Fatalf("bid %+v for net %d Wh, most %d", step, net, most)
			}
		case side == market.Offer:
			if net >= 0 || step.WattHours != min(-net, most) || step.Price != p.MinSell {
				t.Fatalf("offer %+v for net %d Wh, most %d", step, net, most)
			}
		}
	})
}

func Example() {
	forecast, _ := trader.Persist(42, []trader.Metered{{Interval: 40, Import: 120, Export: 870}})
	side, step, _ := trader.Quote(forecast, market.NoRegret(market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000}), 20_000)
	fmt.Println(side, step.WattHours, "Wh at", step.Price)
	// Output: offer 750 Wh at 80000
}
