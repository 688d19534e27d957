package api

import (
	"strings"
	"testing"
	"time"
)

func TestSentence(t *testing.T) {
	prices := Price{Price: v(143_000), ImportPrice: v(300_000), ExportPrice: v(80_000)}
	// power makes a balance: connection and house follow from the rest.
	power := func(solar, battery, neighbours, grid int64) Power {
		return Power{
			SolarW: v(solar), BatteryW: v(battery), NeighboursW: v(neighbours), GridW: v(grid), ConnectionW: v(neighbours + grid),
			HouseW: v(neighbours + grid + solar - battery), HasSolar: true, HasBattery: true,
		}
	}
	for _, c := range []struct {
		name  string
		power Power
		want  string
	}{
		{"roof sells", power(1990, 0, -1200, 0), "Your roof runs the house and sells 1.2 kW to neighbours at 14.3 ct."},
		{"roof does all", power(4310, 1900, -1220, -400), "Your roof runs the house, charges the battery with 1.9 kW, sells 1.2 kW to neighbours at 14.3 ct and feeds 400 W into the grid at 8.0 ct."},
		{"roof alone", power(800, 0, 0, 0), "Your roof runs the house."},
		{"a trickle is left out", power(800, 0, 0, -10), "Your roof runs the house."},
		{"roof and battery", power(500, -700, -300, 0), "Your roof and battery run the house and sell 300 W to neighbours at 14.3 ct."},
		{"battery", power(0, -700, 0, 0), "Your battery runs the house."},
		{"part of it", power(400, 0, 400, 200), "Your roof covers 40 % of the house, with 400 W from neighbours at 14.3 ct and 200 W from the grid at 30.0 ct."},
		{"night", power(0, 0, 430, 210), "The house draws 430 W from neighbours at 14.3 ct and 210 W from the grid at 30.0 ct."},
		{"night, grid alone", power(0, 0, 0, 640), "The house draws 640 W from the grid at 30.0 ct."},
		{"night charging", power(0, 1000, 0, 1640), "House and battery draw 1.6 kW from the grid at 30.0 ct."},
		{"sold more than there is", power(1000, 0, -800, 300), "Your roof runs the house and sells 800 W to neighbours at 14.3 ct, with 300 W from the grid at 30.0 ct."},
		{"nothing", power(0, 0, 0, 0), "Nothing flows right now."},
		{
			"split unknown, out",
			Power{SolarW: v(2000), HouseW: v(500), ConnectionW: v(-1500), HasSolar: true},
			"Your roof runs the house and gives 1.5 kW to the street.",
		},
		{
			"split unknown, in",
			Power{HouseW: v(500), ConnectionW: v(500)},
			"The house draws 500 W from the street.",
		},
		{"roof unknown", Power{ConnectionW: v(-1500), HasSolar: true}, "The home gives 1.5 kW to the street; what happens inside is not known yet."},
		{"roof unknown, drawing", Power{ConnectionW: v(700), HasSolar: true}, "The home draws 700 W from the street; what happens inside is not known yet."},
		{"nothing known", Power{HasSolar: true}, "Waiting for the first reading of the meter."},
		{"the balance does not add up", Power{SolarW: v(900), HouseW: v(0), ConnectionW: v(0), HasSolar: true}, "Your roof gives 900 W."},
		{"neither does this", Power{HouseW: v(900), ConnectionW: v(0)}, "The house uses 900 W."},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := sentence(Snapshot{Power: c.power, PriceNow: prices, Account: Account{Currency: "EUR"}})
			if got = strings.ReplaceAll(got, nbsp, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestSentenceWithoutPrice(t *testing.T) {
	s := Snapshot{Power: Power{SolarW: v(1990), HouseW: v(790), ConnectionW: v(-1200), NeighboursW: v(-1200), GridW: v(0), HasSolar: true}}
	if got, want := strings.ReplaceAll(sentence(s), nbsp, " "), "Your roof runs the house and sells 1.2 kW to neighbours."; got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
}

func TestSentenceOfASilentMeter(t *testing.T) {
	s := Snapshot{Meters: []Meter{{Role: MeterSolar, State: MeterOK}, {Role: MeterConnection, State: MeterSilent}}}
	if got, want := sentence(s), "The meter at the connection is silent, so what flows now is unknown."; got != want {
		t.Errorf("got %s, expected %s", got, want)
	}
}

func TestStale(t *testing.T) {
	at := time.Date(2026, 6, 14, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		rate int64
		age  time.Duration
		want string
	}{
		{1, 30 * time.Second, ""},
		{1, 31 * time.Second, "stale, last reading 11:59"},
		{90, 40 * time.Minute, ""}, // less than half a minute on the wall
		{90, 60 * time.Minute, "stale, last reading 11:00"},
		{0, 31 * time.Second, "stale, last reading 11:59"}, // no rate is the wall's
		{1, -time.Hour, ""},
	} {
		last := at.Add(-c.age)
		s := Snapshot{At: at, Home: Home{Rate: c.rate}, Power: Power{At: &last}}
		if got := stale(s, time.UTC); got != c.want {
			t.Errorf("rate %d, age %s: got %q, expected %q", c.rate, c.age, got, c.want)
		}
	}
	if got := stale(Snapshot{At: at}, time.UTC); got != "no reading yet" {
		t.Errorf("without a reading: got %q", got)
	}
}
