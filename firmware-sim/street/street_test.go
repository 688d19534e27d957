package street

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

var (
	epoch = time.Date(2026, 6, 21, 8, 1, 0, 0, time.UTC) // not a multiple of the refresh
	start = time.Date(2026, 11, 23, 9, 0, 0, 123_456_789, time.UTC)
)

func testConfig(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "home.seed")
	csv := filepath.Join(dir, "load.csv")
	if err := os.WriteFile(key, []byte(strings.Repeat("0a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := "timestamp,electricity\n"
	for hour := range 24 {
		rows += fmt.Sprintf("%d,%d\n", 1_613_343_600+hour*3600, 100+10*hour)
	}
	if err := os.WriteFile(csv, []byte(rows), 0o600); err != nil {
		t.Fatal(err)
	}
	return &config.Config{
		Clock:    config.Clock{Epoch: epoch, Start: start, Rate: 90},
		Interval: 15 * time.Minute, Refresh: 3 * time.Minute, Seed: 42,
		Location: config.Location{Latitude: 52, Longitude: 4.4}, Weather: config.Weather{Cloudiness: 0.3},
		Homes: []config.Home{
			{
				ID: "home-1", Load: config.Load{Model: "household", YearlyKWh: 3500},
				Solar:   &config.Solar{KWP: 6, Azimuth: 180, Tilt: 35},
				Battery: &config.Battery{KWh: 10, KW: 5, Efficiency: 0.95},
				Devices: []config.Device{
					{Role: "grid", Definition: "eastron-sdm630", Unit: 1},
					{Role: "solar", Definition: "sunspec-meter", Unit: 2},
					{Role: "battery", Definition: "commonwatt-signed", Topic: "home-1-battery", Key: key},
				},
			},
			{
				ID: "home-2", Load: config.Load{CSV: csv},
				Devices: []config.Device{{Role: "grid", Definition: "tasmota", Topic: "home-2"}},
			},
		},
	}
}

// wall is a clock that stands until it is set.
type wall struct{ at time.Time }

func (w *wall) now() time.Time { return w.at }

func testStreet(t *testing.T, at time.Time) (*Street, *wall) {
	t.Helper()
	w := &wall{at}
	s, err := New(testConfig(t), w.now)
	if err != nil {
		t.Fatal(err)
	}
	return s, w
}

func meterOf(t *testing.T, s *Street, id, role string) *Meter {
	t.Helper()
	h, ok := s.House(id)
	if !ok {
		t.Fatalf("no %s", id)
	}
	for _, m := range h.Meters {
		if m.Role == role {
			return m
		}
	}
	t.Fatalf("%s has no %s", id, role)
	return nil
}

func TestClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Clock{
			Epoch: time.Unix(rapid.Int64Range(1e9, 2e9).Draw(t, "epoch"), rapid.Int64Range(0, 1e9-1).Draw(t, "epoch ns")),
			Start: time.Unix(rapid.Int64Range(1e9, 2e9).Draw(t, "start"), rapid.Int64Range(0, 1e9-1).Draw(t, "start ns")),
			Rate:  rapid.Int64Range(1, 100_000).Draw(t, "rate"),
		}
		community := c.Epoch.Add(time.Duration(rapid.Int64Range(-1e15, 1e18).Draw(t, "since")))
		w := c.Wall(community)
		if c.Community(w).Before(community) {
			t.Fatalf("at %v it is %v, want %v or later", w, c.Community(w), community)
		}
		if early := w.Add(-1); !c.Community(early).Before(community) {
			t.Fatalf("%v is not the earliest wall time: 1 ns before it is %v", w, c.Community(early))
		}
	})
	c := Clock{Epoch: epoch, Start: start, Rate: 90}
	if got := c.Community(start.Add(10 * time.Second)); !got.Equal(epoch.Add(15 * time.Minute)) {
		t.Errorf("after 10 s it is %v", got)
	}
}

func TestRefreshIsAlignedAndNeverFalls(t *testing.T) {
	s, w := testStreet(t, start.Add(10*time.Second))
	index := s.Latest()
	if at, want := s.At(index), time.Date(2026, 6, 21, 8, 15, 0, 0, time.UTC); !at.Equal(want) {
		t.Errorf("at 08:16 the newest refresh is that of %v, want %v", at, want)
	}
	if until, want := s.Until(index+1), 2*time.Minute/90; until < want || until > want+1 {
		t.Errorf("the next one is %v away, want %v", until, want)
	}
	w.at = start.Add(-time.Hour)
	if got := s.Latest(); got != index {
		t.Errorf("a wall clock that was set back took the refresh from %d to %d", index, got)
	}
	w.at = start.Add(2 * time.Hour)
	if got := s.Latest(); got <= index {
		t.Errorf("the refresh does not go on")
	}
}

func TestIndexAt(t *testing.T) {
	s, _ := testStreet(t, start.Add(time.Minute))
	if _, err := s.IndexAt(epoch.Add(-1)); !errors.Is(err, ErrBeforeEpoch) {
		t.Errorf("got %v, want ErrBeforeEpoch", err)
	}
	if _, err := s.IndexAt(s.Now().Add(time.Hour)); !errors.Is(err, ErrFuture) {
		t.Errorf("got %v, want ErrFuture", err)
	}
	for at, want := range map[time.Time]string{epoch: "08:00:00", epoch.Add(2 * time.Minute): "08:03:00", s.Now(): "09:30:00"} {
		index, err := s.IndexAt(at)
		if got := s.At(index).Format(time.TimeOnly); err != nil || got != want {
			t.Errorf("at %v: %s, %v, want %s", at, got, err, want)
		}
	}
}

// TestRestart: a street made anew, at another moment, tells the same of the
// past, whatever it was asked before.
func TestRestart(t *testing.T) {
	ctx := context.Background()
	a, _ := testStreet(t, start.Add(20*time.Minute))
	if err := a.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	b, later := testStreet(t, start)
	for index := a.first; index <= a.Latest(); index += 7 {
		later.at = b.clock.Wall(b.At(index))
		for _, m := range [][2]string{{"home-1", "grid"}, {"home-1", "solar"}, {"home-1", "battery"}, {"home-2", "grid"}} {
			one, err := meterOf(t, a, m[0], m[1]).Reading(ctx, index)
			if err != nil {
				t.Fatal(err)
			}
			two, err := meterOf(t, b, m[0], m[1]).Reading(ctx, index)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(one, two); diff != "" {
				t.Fatalf("%s %s at %v: %s", m[0], m[1], a.At(index), diff)
			}
		}
	}
}

// TestMetersOfAHouseAgree: the three meters, each counting whole Wh, tell of
// one house: what the grid, the sun and the battery give is its load.
func TestMetersOfAHouseAgree(t *testing.T) {
	ctx := context.Background()
	s, _ := testStreet(t, start.Add(10*time.Minute))
	house, _ := s.House("home-1")
	grid, solar, battery := meterOf(t, s, "home-1", "grid"), meterOf(t, s, "home-1", "solar"), meterOf(t, s, "home-1", "battery")
	var before [3]device.Reading
	for index := s.first; index <= s.Latest(); index++ {
		var now [3]device.Reading
		var net int64
		for i, m := range []*Meter{grid, solar, battery} {
			r, err := m.Reading(ctx, index)
			if err != nil {
				t.Fatal(err)
			}
			now[i] = r
			d := int64(r.Import - before[i].Import - r.Export + before[i].Export)
			if i > 0 { // load = grid − solar meter − battery meter, each import − export
				d = -d
			}
			if i == 1 && r.Import != before[i].Import && index > s.first {
				t.Fatal("a solar meter imports")
			}
			net += d
			if index > s.first && (r.Import < before[i].Import || r.Export < before[i].Export) {
				t.Fatalf("a counter fell at %v", r.At)
			}
		}
		flows, err := house.Flows(ctx, index)
		if err != nil {
			t.Fatal(err)
		}
		if index > s.first {
			if load := int64(flows.Load) * s.refresh / 3_600_000; net < load || net > load+1 {
				t.Fatalf("at %v: the meters say %d mWh, the load is %d", s.At(index), net, load)
			}
			if now[0].Power != flows.Grid || now[1].Power != -*flows.Solar || now[2].Power != *flows.Battery {
				t.Fatalf("powers %v, %v, %v of flows %+v", now[0].Power, now[1].Power, now[2].Power, flows)
			}
		}
		before = now
	}
}

func TestCountersStartUsedAndExact(t *testing.T) {
	s, _ := testStreet(t, start)
	seen := map[uint64]bool{}
	for _, h := range s.Houses() {
		for _, m := range h.Meters {
			r, err := m.Reading(context.Background(), s.first)
			if err != nil {
				t.Fatal(err)
			}
			for _, wh := range []uint64{r.ImportWh(), r.ExportWh()} {
				if wh < 100_000 || wh > 1_950_000 || seen[wh] {
					t.Errorf("%s %s begins at %d Wh", h.ID, m.Role, wh)
				}
				seen[wh] = true
			}
		}
	}
}

func TestBus(t *testing.T) {
	s, w := testStreet(t, start.Add(time.Minute))
	bus := s.Bus()
	if len(bus) != 2 {
		t.Fatalf("%d units, want 2", len(bus))
	}
	read := func() []uint16 {
		registers, err := bus[1].Registers(context.Background(), modbus.Input, 0x48, 4)
		if err != nil {
			t.Fatal(err)
		}
		return registers
	}
	first := read()
	w.at = w.at.Add(time.Second) // 90 s later: between two refreshes
	if diff := cmp.Diff(first, read()); diff != "" {
		t.Errorf("counters moved between refreshes: %s", diff)
	}
	w.at = w.at.Add(time.Minute)
	if cmp.Equal(first, read()) {
		t.Error("counters do not move")
	}
}

func TestNewErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"too long ago": {func(c *config.Config) { c.Refresh, c.Clock.Rate = time.Second, 100_000 }, "at most 10000000: choose a later clock.epoch"},
		"no csv":       {func(c *config.Config) { c.Homes[1].Load.CSV = "none.csv" }, "home home-2: opening a profile: open none.csv"},
		"bad csv":      {func(c *config.Config) { c.Homes[1].Load.CSV = c.Homes[0].Devices[2].Key }, "not a profile: line 1"},
		"bad key":      {func(c *config.Config) { c.Homes[0].Devices[2].Key = c.Homes[1].Load.CSV }, "home home-1: battery meter: reading "},
		"no key":       {func(c *config.Config) { c.Homes[0].Devices[2].Key = "none.seed" }, "opening a key: open none.seed"},
	} {
		cfg := testConfig(t)
		c.change(cfg)
		_, err := New(cfg, func() time.Time { return start.Add(time.Hour) })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if name == "bad key" && (!errors.Is(err, ErrKey) || strings.Contains(err.Error(), "timestamp")) {
			t.Errorf("%s: got %v, want ErrKey and nothing of the file", name, err)
		}
	}
}

func TestPrepareEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s, _ := testStreet(t, start.Add(24*time.Hour))
	if err := s.Prepare(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
