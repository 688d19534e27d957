package market_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

func TestMonthText(t *testing.T) {
	for text, want := range map[string]market.Month{"1970-01": 1970 * 12, "2026-06": 2026*12 + 5, "9999-12": 9999*12 + 11} {
		got, err := market.ParseMonth(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %d, %v, %s, want %d", text, got, err, got, want)
		}
		if back, err := got.MarshalText(); err != nil || string(back) != text {
			t.Errorf("%s: got %s, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "2026", "2026-6", "2026-00", "2026-13", "1969-12", "2026-06-01", "2026/06", "+026-06", "2026-+6", " 2026-06", "20260-6", "２０２６-06"} {
		m := market.Month(7)
		if err := m.UnmarshalText([]byte(text)); !errors.Is(err, market.ErrBadMonth) || m != 7 {
			t.Errorf("%q: got %d, %v, want %v", text, m, err, market.ErrBadMonth)
		}
	}
	for _, m := range []market.Month{-1, 0, 1970*12 - 1, 10_000 * 12, 1<<31 - 1, -1 << 31} {
		if got, err := m.MarshalText(); !errors.Is(err, market.ErrBadMonth) {
			t.Errorf("%d: got %s, %v, want %v", int32(m), got, err, market.ErrBadMonth)
		}
	}
	if got := market.Month(-1).String(); got != "-001-12" {
		t.Errorf("got %s, want the month before the year 0", got)
	}
}

// Months have all their days: those on which clocks change are an hour shorter or longer.
func TestOfMonthInOwnTime(t *testing.T) {
	quarters := market.Calendar{Length: 15 * time.Minute}
	amsterdam, err := market.ParseZone("CET-1CEST,M3.5.0,M10.5.0/3")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]market.Interval{
		"2026-02": 28 * 96, "2024-02": 29 * 96, "2026-03": 31*96 - 4, "2026-06": 30 * 96, "2026-10": 31*96 + 4, "2026-12": 31 * 96,
	} {
		m, err := market.ParseMonth(text)
		if err != nil {
			t.Fatal(err)
		}
		if first, end := quarters.OfMonth(m, amsterdam); end-first != want {
			t.Errorf("%s: got %d intervals, want %d", text, end-first, want)
		}
	}
	m, _ := market.ParseMonth("2026-06")
	if first, _ := quarters.OfMonth(m, amsterdam); quarters.Start(first) != time.Date(2026, 5, 31, 22, 0, 0, 0, time.UTC) {
		t.Errorf("got %v, want midnight in Amsterdam", quarters.Start(first))
	}
}

// Every interval is in the month that MonthOf says, and in no other, wherever
// and whenever clocks change.
func TestMonthOfIsOfMonth(t *testing.T) {
	var zones []*time.Location
	rules := []string{"BAC0FRD,J305/0,J365/0", "BAC0FRD,J60/0:30,J121/0:30", "BAC12FRD,M1.1.0/0,M12.5.6/24"}
	for _, rule := range zoneRules {
		rules = append(rules, rule)
	}
	for _, rule := range rules {
		loc, err := market.ParseZone(rule)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, loc)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := market.Calendar{Length: rapid.SampledFrom([]time.Duration{time.Minute, 15 * time.Minute, time.Hour}).Draw(t, "length")}
		loc := rapid.SampledFrom(zones).Draw(t, "zone")
		m := market.Month(rapid.IntRange(1970*12, 2100*12).Draw(t, "month"))
		first, end := c.OfMonth(m, loc)
		if next, _ := c.OfMonth(m+1, loc); next != end || end <= first {
			t.Fatalf("%v in %v: got %d to %d, the next from %d, want them to join", m, loc, first, end, next)
		}
		hours := market.Interval(time.Hour/c.Length) * 3
		for _, k := range []market.Interval{first, end - 1, first + rapid.Custom(func(t *rapid.T) market.Interval {
			return market.Interval(rapid.Int64Range(0, int64(end-first)-1).Draw(t, "offset"))
		}).Draw(t, "k"), first + hours/2, end - hours/2} {
			if got := c.MonthOf(k, loc); got != m {
				t.Fatalf("%v in %v: got %v for interval %d of %d to %d", m, loc, got, k, first, end)
			}
		}
		if got := c.MonthOf(first-1, loc); got != m-1 {
			t.Fatalf("%v in %v: got %v for the interval before", m, loc, got)
		}
	})
	for _, k := range []market.Interval{-market.MaxInterval, market.MaxInterval} {
		market.Calendar{Length: time.Hour}.MonthOf(k, zones[0]) // and does not panic
	}
}
