package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var testKinds = Kinds{
	"eastron-sdm630":    {Modbus: true},
	"sunspec-battery":   {Modbus: true, Obeys: true},
	"sunspec-meter":     {Modbus: true},
	"tasmota":           {MQTT: true, HTTP: true},
	"commonwatt-signed": {MQTT: true, Signs: true},
	"dsmr-p1":           {P1: true, Versions: []string{"5.0", "4.2"}},
	"homewizard-p1":     {HTTP: true},
}

const valid = `
clock: {epoch: 2026-06-21T08:00:00Z, start: 2026-11-23T09:00:00.123456789Z, rate: 90}
interval: 15m
seed: 42
modbus: {listen: 127.0.0.1:0}
mqtt: {broker: mqtt://127.0.0.1:1883}
homes:
  - id: home-1
    load: {model: household, yearly_kwh: 3500}
    solar: {kwp: 6}
    battery: {kwh: 10, kw: 5, min_soc: 5, standing_w: 15}
    occupancy: family
    heat_pump: {kw: 8}
    car: {kw: 7.4, km_per_year: 9000}
    devices:
      - {role: grid, definition: eastron-sdm630, unit: 1}
      - role: solar
        definition: commonwatt-signed
        topic: home-1/sun
        key: keys/sun.seed
  - id: home-2
    load: {csv: hh.csv}
    solar: {kwp: 6, csv: pv.csv}
    devices: [{role: grid, definition: tasmota, topic: home-2}]
`

func TestValid(t *testing.T) {
	got, err := Parse("conf/sim.yaml", []byte(valid), testKinds)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Clock: Clock{
			Epoch: time.Date(2026, 6, 21, 8, 0, 0, 0, time.UTC),
			Start: time.Date(2026, 11, 23, 9, 0, 0, 123456789, time.UTC),
			Rate:  90,
		},
		Interval: 15 * time.Minute, Refresh: 3 * time.Minute, Seed: 42,
		Location: Location{Latitude: 52, Longitude: 4.4}, Weather: Weather{Cloudiness: 0.7, MeanCelsius: 10.5, SwingCelsius: 7.3},
		Modbus: &Listen{"127.0.0.1:0"}, MQTT: &MQTT{Broker: "mqtt://127.0.0.1:1883"}, Control: &Listen{"127.0.0.1:0"},
		Homes: []Home{
			{
				ID: "home-1", Load: Load{Model: "household", YearlyKWh: 3500}, Solar: &Solar{KWP: 6, Azimuth: 180, Tilt: 35},
				Battery:   &Battery{KWh: 10, KW: 5, Efficiency: 0.95, MinSoC: 5, StandingW: 15},
				Occupancy: "family",
				HeatPump:  &HeatPump{KW: 8, LossWK: 207, Celsius: 20.5, WaterKWh: 6},
				Car:       &Car{KW: 7.4, Phases: 1, KMPerYear: 9000, KWhPer100KM: 18, BatteryKWh: 60},
				Devices: []Device{
					{Role: "grid", Definition: "eastron-sdm630", Unit: 1},
					{Role: "solar", Definition: "commonwatt-signed", Topic: "home-1/sun", Key: "conf/keys/sun.seed"},
				},
			},
			{
				ID: "home-2", Load: Load{CSV: "conf/hh.csv"}, Solar: &Solar{KWP: 6, CSV: "conf/pv.csv"},
				Devices: []Device{{Role: "grid", Definition: "tasmota", Topic: "home-2"}},
			},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestErrors compares what a user sees with testdata/NAME.txt, for each
// testdata/NAME.yaml.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := ReadFile(file, testKinds)
			if _, ok := errors.AsType[Problems](err); !ok {
				t.Fatalf("got %v, want Problems", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFilesThatAreNone(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"too large":     {strings.Repeat("#", maxFile+1), "x.yaml: more than 1048576 bytes"},
		"deep brackets": {strings.Repeat("[", 100_000), "x.yaml: nested more than 64 deep"},
		"deep indent":   {strings.Repeat(" ", 1000) + "a: 1", "x.yaml: nested more than 64 deep"},
		"deep dashes":   {strings.Repeat("- ", 1000) + "1", "x.yaml: nested more than 64 deep"},
		"empty":         {"", "x.yaml: is empty, want keys: clock, control, homes, interval, journal, location, modbus, modbus_tls, mqtt, refresh, rtu, rtu_tcp, seed, weather"},
		"two documents": {"seed: 1\n---\nseed: 2\n", "x.yaml: got 2 YAML documents, want one"},
		"a list":        {"- 1\n", "x.yaml: got a list, want keys: clock, control, homes, interval, journal, location, modbus, modbus_tls, mqtt, refresh, rtu, rtu_tcp, seed, weather"},
	} {
		_, err := Parse("x.yaml", []byte(c.data), testKinds)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	if _, err := ReadFile("testdata/none", testKinds); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("fuzz.yaml", data, testKinds)
		var problems Problems
		if err != nil && (!errors.As(err, &problems) || len(problems) == 0 || len(problems) > maxProblems) {
			t.Fatalf("error of another kind: %v", err)
		}
		if err == nil && (len(c.Homes) == 0 || c.Refresh < minRefresh || c.Control == nil) {
			t.Fatalf("accepted %+v", c)
		}
	})
}
