package street

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// ledConfig is a street whose first home has a hybrid inverter at unit 9, a heat
// pump and a car. Time stands at noon until it is moved.
func ledConfig(t *testing.T, journal string) *config.Config {
	t.Helper()
	cfg := testConfig(t)
	cfg.Clock = config.Clock{Epoch: time.Date(2026, 6, 21, 10, 0, 0, 0, time.UTC), Manual: true}
	cfg.Weather.MeanCelsius, cfg.Weather.SwingCelsius = home.Temperate.Mean, home.Temperate.Swing
	cfg.Journal = journal
	h := &cfg.Homes[0]
	h.Devices = []config.Device{
		{Role: "grid", Definition: "eastron-sdm630", Unit: 1},
		{Role: "inverter", Definition: "solaredge-storedge", Unit: 9},
	}
	h.Occupancy = "workers"
	h.HeatPump = &config.HeatPump{KW: 8, LossWK: 160, Celsius: 20.5, WaterKWh: 6}
	h.Car = &config.Car{KW: 11, Phases: 3, KMPerYear: 12_000, KWhPer100KM: 18, BatteryKWh: 60}
	return cfg
}

func newStreet(t *testing.T, cfg *config.Config) *Street {
	t.Helper()
	s, err := New(cfg, func() time.Time { return start })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(t *testing.T, s *Street, address uint16, words ...uint16) {
	t.Helper()
	writer, ok := s.Bus()[9].(modbus.Writer)
	if !ok {
		t.Fatal("unit 9 takes no writes")
	}
	if err := writer.Write(context.Background(), address, words); err != nil {
		t.Fatalf("writing %v at %d: %v", words, address, err)
	}
}

func move(t *testing.T, s *Street, d time.Duration) {
	t.Helper()
	if _, err := s.Move(context.Background(), s.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
}

func orders(t *testing.T, s *Street) *Orders {
	t.Helper()
	h, _ := s.House("home-1")
	o, err := s.Orders(context.Background(), h)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestExportLimitCurtails: a house that may export nothing fills its battery, and
// then its panels give only what it needs.
func TestExportLimitCurtails(t *testing.T) {
	s := newStreet(t, ledConfig(t, ""))
	write(t, s, 0xE002, 0, 0) // 0 W
	write(t, s, 0xE000, 1)
	house, _ := s.House("home-1")
	curtailed := false
	for range 60 {
		move(t, s, 3*time.Minute)
		flows, err := house.Flows(context.Background(), s.Latest())
		if err != nil {
			t.Fatal(err)
		}
		if flows.Grid < 0 {
			t.Fatalf("it exports %d mW", -flows.Grid)
		}
		o := orders(t, s)
		curtailed = curtailed || o.Curtailed > 0
		if o.Curtailed > 0 && o.Stored < o.Rating.Capacity*95/100 && o.Battery < 4_999_000 {
			t.Fatalf("it curtails %d mW though its battery takes only %d and holds %d", o.Curtailed, o.Battery, o.Stored)
		}
	}
	if !curtailed {
		t.Error("nothing was curtailed in three hours around noon in June")
	}
}

// TestLivingPartsAreInTheLoad: heat pump and car are parts of what the house
// takes.
func TestLivingPartsAreInTheLoad(t *testing.T) {
	cfg := ledConfig(t, "")
	cfg.Clock.Epoch = time.Date(2026, 1, 14, 12, 0, 0, 0, time.UTC)
	s := newStreet(t, cfg)
	house, _ := s.House("home-1")
	other, _ := s.House("home-2")
	var pump, car home.MilliWatts
	for range 3 * 480 {
		move(t, s, 3*time.Minute)
		flows, err := house.Flows(context.Background(), s.Latest())
		if err != nil {
			t.Fatal(err)
		}
		if flows.HeatPump == nil || flows.Car == nil || flows.Load+1 < *flows.HeatPump+*flows.Car {
			t.Fatalf("flows %+v", flows)
		}
		pump, car = max(pump, *flows.HeatPump), max(car, *flows.Car)
	}
	if pump < 1_000_000 || car < 10_000_000 {
		t.Errorf("in three days in January the heat pump took %d mW at most, the car %d", pump, car)
	}
	if flows, err := other.Flows(context.Background(), s.Latest()); err != nil || flows.HeatPump != nil || flows.Car != nil {
		t.Errorf("a home without them: %+v, %v", flows, err)
	}
	if c := house.Celsius(s.Latest()); c < -20 || c > 15 {
		t.Errorf("%.1f °C in January", c)
	}
}

// TestOnePhaseCar: a wall box on one phase is seen there by the meter at the door,
// and nowhere else.
func TestOnePhaseCar(t *testing.T) {
	cfg := ledConfig(t, "")
	cfg.Homes[0].Car.KW, cfg.Homes[0].Car.Phases = 7.4, 1
	s := newStreet(t, cfg)
	house, _ := s.House("home-1")
	bus := s.Bus()
	watts := func(phase uint16) float64 {
		words, err := bus[1].Registers(context.Background(), modbus.Input, 0x0C+2*phase, 2)
		if err != nil {
			t.Fatal(err)
		}
		return float64(math.Float32frombits(uint32(words[0])<<16 | uint32(words[1])))
	}
	for range 5 * 480 {
		move(t, s, 3*time.Minute)
		flows, err := house.Flows(context.Background(), s.Latest())
		if err != nil {
			t.Fatal(err)
		}
		if *flows.Car < 7_000_000 {
			continue
		}
		one, two, three := watts(0), watts(1), watts(2)
		rest := float64(flows.Grid-*flows.Car) / 1000
		for phase, got := range []float64{one - float64(*flows.Car)/1000, two, three} {
			if want := rest * []float64{0.5, 0.3, 0.2}[phase]; math.Abs(got-want) > 1 {
				t.Fatalf("phases %.0f, %.0f, %.0f W, the car takes %d mW, the house imports %d", one, two, three, *flows.Car, flows.Grid)
			}
		}
		return
	}
	t.Error("the car was not charged in five days")
}

// TestJournal: a street made anew of its journal is the same, to the register.
func TestJournal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "street.journal")
	cfg := ledConfig(t, file)
	s := newStreet(t, cfg)
	timeout := []uint16{900, 0}
	for i := range uint16(20) {
		write(t, s, 0xE00B, timeout...)
		write(t, s, 0xE00D, []uint16{3, 4, 7, 5}[i%4])
		move(t, s, time.Duration(i)*100*time.Second)
	}
	ask := func(s *Street) (all []any) {
		for index := s.first; index <= s.Latest(); index++ {
			for _, role := range []string{"grid", "inverter"} {
				r, err := meterOf(t, s, "home-1", role).Reading(context.Background(), index)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, r)
			}
		}
		words, err := s.Bus()[9].Registers(context.Background(), modbus.Holding, 0xE100, 120)
		if err != nil {
			t.Fatal(err)
		}
		return append(all, words, *orders(t, s))
	}
	before := ask(s)
	now := s.Now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Bus()[9].(modbus.Writer).Write(context.Background(), 0xE00D, []uint16{7}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a write after the end: %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	again := newStreet(t, cfg)
	if _, err := again.Move(context.Background(), now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, ask(again)); diff != "" {
		t.Errorf("made anew: %s", diff)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, c := range map[string]struct{ text, want string }{
		"another seed":      {strings.Replace(string(text), `"seed":42`, `"seed":43`, 1), "line 1: not this street's journal: it is of format 1, epoch 2026-06-21T10:00:00Z and seed 43, want 1, 2026-06-21T10:00:00Z and 42"},
		"no journal":        {"hello\n", "line 1: not this street's journal: invalid character 'h'"},
		"another key":       {lines[0] + `{"att":1}` + "\n", `line 2: not this street's journal: json: unknown field "att"`},
		"another home":      {strings.ReplaceAll(string(text), "home-1", "home-7"), `line 2: not this street's journal: home "home-7" has no inverter with role "inverter"`},
		"backwards":         {lines[0] + lines[10] + lines[2], "line 3: not this street's journal: a command at"},
		"an impossible one": {lines[0] + strings.Replace(lines[1], "57355", "57356", 1), "line 2: register 57356 of home-1: modbus exception 2, illegal data address: was the configuration changed?"},
		"a long line":       {lines[0] + strings.Repeat("x", 5000) + "\n", "line 2: not this street's journal: bufio: buffer full"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := New(cfg, func() time.Time { return start })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestJournalOfAnything: whatever inverters were told, and whenever the street was
// killed in between, it comes back the same.
func TestJournalOfAnything(t *testing.T) {
	writes := map[string][][]uint16{ // an address, then words
		"sunspec-battery":    {{40303, 3}, {40303, 2}, {40303, 0}, {40310, 5000, 0xFFFF - 2499}, {40313, 300}, {40314, 60}, {40187, 4000}, {40191, 1}, {40315, 0}},
		"sunspec-der":        {{40299, 1}, {40301, 0, 1500}, {40301, 0xFFFF, 0xF000}, {40308, 0, 600}, {40292, 2000}, {40291, 1}, {40307, 1}},
		"huawei-luna2000":    {{47083, 15}, {47247, 0, 2000}, {47249, 0, 3000}, {47100, 1}, {47100, 2}, {47100, 0}, {47415, 5}, {47077, 0, 0}},
		"solaredge-storedge": {{0xE00B, 300, 0}, {0xE00D, 3}, {0xE00D, 4}, {0xE00D, 0}, {0xE000, 1}, {0xE002, 0, 0x447A}, {0xE00A, 7}},
	}
	rapid.Check(t, func(rt *rapid.T) {
		id := rapid.SampledFrom([]string{"huawei-luna2000", "solaredge-storedge", "sunspec-battery", "sunspec-der"}).Draw(rt, "inverter")
		cfg := &config.Config{
			Clock: config.Clock{Epoch: epoch, Manual: true}, Refresh: 3 * time.Minute, Seed: 42,
			Location: config.Location{Latitude: 52}, Journal: filepath.Join(t.TempDir(), "street.journal"),
			Homes: []config.Home{{
				ID: "home-1", Load: config.Load{Model: "household", YearlyKWh: 3500}, Solar: &config.Solar{KWP: 6, Azimuth: 180, Tilt: 35},
				Battery: &config.Battery{KWh: 4, KW: 5, Efficiency: 0.95, MinSoC: 5, StandingW: 10},
				Devices: []config.Device{{Role: "inverter", Definition: id, Unit: 9}},
			}},
		}
		fresh := func() *Street {
			s, err := New(cfg, func() time.Time { return start })
			if err != nil {
				rt.Fatal(err)
			}
			return s
		}
		state := func(s *Street) [2]home.State {
			now, before, err := s.houses[0].history.At(context.Background(), s.Latest())
			if err != nil {
				rt.Fatal(err)
			}
			return [2]home.State{now, before}
		}
		s := fresh()
		told := 0
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			w := rapid.SampledFrom(writes[id]).Draw(rt, "write")
			err := s.Bus()[9].(modbus.Writer).Write(context.Background(), w[0], w[1:])
			if err == nil {
				told++
			} else if !errors.Is(err, modbus.IllegalDataValue) || w[0] != 47100 { // an order for no time is refused
				rt.Fatalf("writing %v at %d: %v", w[1:], w[0], err)
			}
			to := s.Now().Add(time.Duration(rapid.Int64Range(0, 20*60_000).Draw(rt, "wait")) * time.Millisecond)
			if _, err := s.Move(context.Background(), to); err != nil {
				rt.Fatal(err)
			}
			if !rapid.Bool().Draw(rt, "killed") {
				continue
			}
			want := state(s)
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
			s = fresh()
			if _, err := s.Move(context.Background(), to); err != nil {
				rt.Fatal(err)
			}
			if got := state(s); got != want {
				rt.Fatalf("after %d commands it comes back with %+v, was %+v", told, got, want)
			}
		}
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	})
}

// TestRefusedWriteLeavesNoTrace: neither in the inverter nor in the journal.
func TestRefusedWriteLeavesNoTrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "street.journal")
	s := newStreet(t, ledConfig(t, file))
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Bus()[9].(modbus.Writer).Write(context.Background(), 0xE00D, []uint16{6})
	if !errors.Is(err, modbus.IllegalDataValue) {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before), string(after)); diff != "" {
		t.Error(diff)
	}
	if o := orders(t, s); o.Control.Battery.On {
		t.Errorf("orders %+v", o)
	}
}

func FuzzJournal(f *testing.F) {
	head := journalHead{Format: journalFormat, Epoch: epoch, Seed: 42}
	f.Add([]byte(`{"firmware_sim_journal":1,"epoch":"2026-06-21T08:01:00Z","seed":42}` + "\n" +
		`{"at":1782036000000,"home":"home-1","role":"battery","address":57357,"words":[3]}` + "\n"))
	f.Add([]byte("{}\n"))
	cfg := &config.Config{
		Clock: config.Clock{Epoch: epoch, Manual: true}, Refresh: 3 * time.Minute, Seed: 42,
		Homes: []config.Home{{
			ID: "home-1", Load: config.Load{Model: "household", YearlyKWh: 3500}, Battery: &config.Battery{KWh: 10, KW: 5, Efficiency: 0.95},
			Devices: []config.Device{{Role: "battery", Definition: "solaredge-storedge", Unit: 9}},
		}},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := New(cfg, func() time.Time { return start })
		if err != nil {
			t.Fatal(err)
		}
		end, _, err := s.replay(bytes.NewReader(data), head)
		if err == nil && (end > int64(len(data)) || end > 0 && data[end-1] != '\n') {
			t.Fatalf("of %d bytes %d are whole lines", len(data), end)
		}
	})
}
