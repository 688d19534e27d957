package market_test

import (
	"errors"
	"testing"
	"time"
	_ "time/tzdata" // the zones below, on any machine

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

var quarter = market.Calendar{Length: 15 * time.Minute, Lead: 5 * time.Minute}

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestCalendarValidate(t *testing.T) {
	for _, test := range []struct {
		calendar market.Calendar
		want     error
	}{
		{market.Calendar{Length: time.Minute}, nil},
		{market.Calendar{Length: 5 * time.Minute, Lead: time.Second}, nil},
		{market.Calendar{Length: 15 * time.Minute, Lead: 24 * time.Hour}, nil},
		{market.Calendar{Length: 30 * time.Minute}, nil},
		{market.Calendar{Length: time.Hour}, nil},
		{market.Calendar{}, market.ErrBadCalendar},
		{market.Calendar{Length: 10 * time.Minute}, market.ErrBadCalendar},
		{market.Calendar{Length: -time.Hour}, market.ErrBadCalendar},
		{market.Calendar{Length: time.Hour, Lead: -1}, market.ErrBadCalendar},
		{market.Calendar{Length: time.Hour, Lead: 24*time.Hour + 1}, market.ErrBadCalendar},
	} {
		if got := test.calendar.Validate(); !errors.Is(got, test.want) {
			t.Errorf("%+v: got %v, want %v", test.calendar, got, test.want)
		}
	}
}

func TestCalendarEdges(t *testing.T) {
	k := quarter.At(instant(t, "2026-06-21T12:00:00Z"))
	if got := quarter.At(instant(t, "2026-06-21T12:14:59.999999999Z")); got != k {
		t.Errorf("last nanosecond: got interval %d, want %d", got, k)
	}
	if got := quarter.At(instant(t, "2026-06-21T11:59:59.999999999Z")); got != k-1 {
		t.Errorf("nanosecond before: got interval %d, want %d", got, k-1)
	}
	if got, want := quarter.GateClosure(k), instant(t, "2026-06-21T11:55:00Z"); !got.Equal(want) {
		t.Errorf("gate closure: got %v, want %v", got, want)
	}
	if got := quarter.NextGate(instant(t, "2026-06-21T11:55:00Z")); got != k {
		t.Errorf("at the closure the gate is still open: got %d, want %d", got, k)
	}
	if got := quarter.NextGate(instant(t, "2026-06-21T11:55:00.000000001Z")); got != k+1 {
		t.Errorf("after the closure: got %d, want %d", got, k+1)
	}
	if got := quarter.At(time.Unix(-1, 0)); got != -1 {
		t.Errorf("a second before the epoch: got interval %d, want -1", got)
	}
}

// A number as large as a hostile message can carry must not come round to now.
func TestCalendarHugeIntervals(t *testing.T) {
	for _, k := range []market.Interval{1<<63 - 1, 1 << 62, 1<<61 + 7, market.MaxInterval + 1} {
		if got, want := quarter.Start(k), quarter.Start(market.MaxInterval); !got.Equal(want) {
			t.Errorf("start of %d: got %v, want that of MaxInterval, %v", k, got, want)
		}
		if got, want := quarter.Start(-k), quarter.Start(-market.MaxInterval); !got.Equal(want) {
			t.Errorf("start of %d: got %v, want that of -MaxInterval, %v", -k, got, want)
		}
	}
}

func TestCalendarOfDay(t *testing.T) {
	for _, test := range []struct {
		name, zone, noon string
		first            string
		want             market.Interval
	}{
		{"winter day", "Europe/Amsterdam", "2026-01-15T11:00:00Z", "2026-01-14T23:00:00Z", 96},
		{"summer begins", "Europe/Amsterdam", "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", 92},
		{"day after", "Europe/Amsterdam", "2026-03-30T10:00:00Z", "2026-03-29T22:00:00Z", 96},
		{"summer ends", "Europe/Amsterdam", "2026-10-25T10:00:00Z", "2026-10-24T22:00:00Z", 100},
		{"no midnight, west of Greenwich", "America/Sao_Paulo", "2018-11-04T15:00:00Z", "2018-11-04T03:00:00Z", 92},
		{"no midnight, east of Greenwich", "Asia/Beirut", "2021-03-28T10:00:00Z", "2021-03-27T22:00:00Z", 92},
		{"two midnights, west of Greenwich", "America/Havana", "2025-11-02T17:00:00Z", "2025-11-02T04:00:00Z", 100},
		{"two midnights, east of Greenwich", "Asia/Amman", "2021-10-29T10:00:00Z", "2021-10-28T21:00:00Z", 100},
		{"a day that never was follows", "Pacific/Apia", "2011-12-29T22:00:00Z", "2011-12-29T10:00:00Z", 96},
		{"half-hour change", "Australia/Lord_Howe", "2026-04-05T01:00:00Z", "2026-04-04T13:00:00Z", 98},
	} {
		t.Run(test.name, func(t *testing.T) {
			first, end := quarter.OfDay(instant(t, test.noon), location(t, test.zone))
			if end-first != test.want {
				t.Errorf("got %d intervals, want %d", end-first, test.want)
			}
			if got, want := quarter.Start(first), instant(t, test.first); !got.Equal(want) {
				t.Errorf("first interval: got %v, want %v", got, want)
			}
		})
	}
}

func TestCalendarDaysJoin(t *testing.T) {
	zones := []string{
		"UTC", "Europe/Amsterdam", "America/Sao_Paulo", "America/Havana", "Asia/Amman", "Asia/Beirut",
		"Asia/Kathmandu", "Pacific/Apia", "Australia/Lord_Howe", "America/St_Johns",
	}
	rapid.Check(t, func(t *rapid.T) {
		loc, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		c := market.Calendar{Length: rapid.SampledFrom([]time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour}).Draw(t, "length")}
		at := time.Unix(rapid.Int64Range(0, 2_100_000_000).Draw(t, "at"), 0)
		first, end := c.OfDay(at, loc)
		if k := c.At(at); k < first-1 || k >= end {
			t.Fatalf("interval %d of %v is outside its day, [%d, %d)", k, at.In(loc), first, end)
		}
		next, _ := c.OfDay(c.Start(end), loc)
		if next != end {
			t.Fatalf("the day of %v ends before %d, but the next begins with %d", at.In(loc), end, next)
		}
	})
}

func TestCalendarInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := market.Calendar{
			Length: rapid.SampledFrom([]time.Duration{time.Minute, 15 * time.Minute, time.Hour}).Draw(t, "length"),
			Lead:   time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "lead")),
		}
		at := time.Unix(rapid.Int64Range(-5e9, 5e9).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		k := c.At(at)
		if c.Start(k).After(at) || !c.End(k).After(at) {
			t.Fatalf("%v is not in its interval [%v, %v)", at, c.Start(k), c.End(k))
		}
		g := c.NextGate(at)
		if c.GateClosure(g).Before(at) || !c.GateClosure(g-1).Before(at) {
			t.Fatalf("next gate at %v: got %d, which closes at %v (the one before: %v)", at, g, c.GateClosure(g), c.GateClosure(g-1))
		}
	})
}
