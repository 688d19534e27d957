package market_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

func TestClockValidate(t *testing.T) {
	for _, test := range []struct {
		name string
		rate int64
		want error
	}{
		{"oak-street", 1, nil},
		{"demo-street", 1, nil},
		{"demo-street", 90, nil},
		{"sim-city", 10_000, nil},
		{"oak-street", 2, market.ErrBadClock},
		{"my-demo-", 90, market.ErrBadClock},
		{"demo", 90, market.ErrBadClock},
		{"demo-street", 0, market.ErrBadClock},
		{"demo-street", -1, market.ErrBadClock},
		{"demo-street", 10_001, market.ErrBadClock},
	} {
		if got := (market.Clock{Rate: test.rate}).Validate(test.name); !errors.Is(got, test.want) {
			t.Errorf("rate %d in %q: got %v, want %v", test.rate, test.name, got, test.want)
		}
	}
}

// The demonstration: a quarter of an hour in ten seconds.
func TestClockDemo(t *testing.T) {
	c := market.Clock{Epoch: instant(t, "2026-06-21T10:00:00Z"), Start: instant(t, "2026-11-23T08:30:00.5Z"), Rate: 90}
	if got, want := c.Community(instant(t, "2026-11-23T08:30:10.5Z")), instant(t, "2026-06-21T10:15:00Z"); !got.Equal(want) {
		t.Errorf("after ten seconds: got %v, want %v", got, want)
	}
	if got, want := c.Wall(instant(t, "2026-06-21T10:15:00Z")), instant(t, "2026-11-23T08:30:10.5Z"); !got.Equal(want) {
		t.Errorf("the quarter's end: got %v, want %v", got, want)
	}
	if got, want := c.WallDuration(15*time.Minute), 10*time.Second; got != want {
		t.Errorf("a quarter takes %v, want %v", got, want)
	}
	if got, want := c.WallDuration(1), time.Nanosecond; got != want {
		t.Errorf("a nanosecond takes %v, want %v, rounded up", got, want)
	}
}

// A time.Duration of community time would have overflowed after eleven days.
func TestClockFarFuture(t *testing.T) {
	c := market.Clock{Epoch: instant(t, "2026-01-01T00:00:00Z"), Start: instant(t, "2026-01-01T00:00:00Z"), Rate: 10_000}
	wall := c.Start.AddDate(1, 0, 0)
	year := c.Community(wall)
	if got, want := year.Unix()-c.Epoch.Unix(), int64(365*24*3600*10_000); got != want {
		t.Errorf("after a year: got %d s, want %d", got, want)
	}
	if got := c.Wall(year); !got.Equal(wall) {
		t.Errorf("back: got %v, want %v", got, wall)
	}
}

func TestClockInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := func(name string) time.Time {
			return time.Unix(rapid.Int64Range(-1e10, 1e10).Draw(t, name+" s"), rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns"))
		}
		c := market.Clock{Epoch: at("epoch"), Start: at("start"), Rate: rapid.Int64Range(1, 10_000).Draw(t, "rate")}
		community := at("community")
		wall := c.Wall(community)
		if c.Community(wall).Before(community) {
			t.Fatalf("at wall %v it is only %v, want %v", wall, c.Community(wall), community)
		}
		if !c.Community(wall.Add(-1)).Before(community) {
			t.Fatalf("a nanosecond before wall %v it is %v already, want %v no sooner", wall, c.Community(wall.Add(-1)), community)
		}
		d := time.Duration(rapid.Int64().Draw(t, "d"))
		up := c.WallDuration(d)
		if hi := int64(up) * c.Rate; d > -1<<62 && d < 1<<62 && (hi < int64(d) || hi-c.Rate >= int64(d)) {
			t.Fatalf("%v at rate %d: got %v, want it rounded up", d, c.Rate, up)
		}
	})
}
