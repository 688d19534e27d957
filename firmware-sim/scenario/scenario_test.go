package scenario

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var kinds = config.Kinds{"eastron-sdm630": {Modbus: true}, "tasmota": {MQTT: true, HTTP: true}}

// start reads a file, builds its street and loads its rules.
func start(t *testing.T, name string) (*fault.Book, error) {
	t.Helper()
	s, err := Read(name, kinds)
	if err != nil {
		return nil, err
	}
	cfg, err := s.Config(kinds)
	if err != nil {
		return nil, err
	}
	homes, err := street.New(cfg, time.Now)
	if err != nil {
		return nil, err
	}
	book := fault.NewBook(homes.Struck(), fault.Options{Refresh: cfg.Refresh, Seed: s.Seed, OwnBroker: cfg.MQTT != nil})
	return book, s.Load(book, cfg)
}

// TestErrors compares what a user sees with testdata/NAME.txt.
func TestErrors(t *testing.T) {
	list, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(list) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, name := range list {
		t.Run(filepath.Base(name), func(t *testing.T) {
			_, err := start(t, name)
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("got %v, want Problems", err)
			}
			golden := strings.TrimSuffix(name, ".yaml") + ".txt"
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

func TestRules(t *testing.T) {
	s, err := Parse("dir/x.yaml", []byte(`
street: ../street.yaml
seed: 9
faults:
  - fault: jump
    home: home-1
    role: grid
    at: 2026-06-22T10:00:00+02:00
    for: 6m
    parameters: {by_wh: -5000, counter: import}
  - {fault: drop, after: 2h, every: 6h, for: 10m, probability: 0.5, share: 0.25, transport: modbus-rtu, seed: 3}
`), kinds)
	if err != nil {
		t.Fatal(err)
	}
	want := &Scenario{Seed: 9, street: "street.yaml", Rules: []fault.Rule{
		{
			Fault: "jump", Home: "home-1", Role: "grid", At: time.Date(2026, 6, 22, 8, 0, 0, 0, time.UTC), For: 6 * time.Minute,
			Parameters: map[string]string{"by_wh": "-5000", "counter": "import"},
		},
		{
			Fault: "drop", After: 2 * time.Hour, Every: 6 * time.Hour, For: 10 * time.Minute, Probability: 0.5, Share: 0.25,
			Transport: "modbus-rtu", Seed: 3,
		},
	}}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(Scenario{}), cmpopts.IgnoreFields(Scenario{}, "document")); diff != "" {
		t.Error(diff)
	}
}

func TestWhichStreet(t *testing.T) {
	s, err := Parse("x.yaml", []byte("faults: [{fault: drop}]"), kinds)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Config(kinds); !errors.Is(err, ErrNoStreet) {
		t.Errorf("got %v, want ErrNoStreet", err)
	}
	if _, err := Parse("x.yaml", []byte("street: a\nconfig: {seed: 1}"), kinds); err == nil || err.Error() != "x.yaml:2: config: want either street or config" {
		t.Errorf("got %v", err)
	}
	if _, err := Parse("x.yaml", []byte("faults:\n"+strings.Repeat("  - {fault: drop}\n", maxFaults+1)), kinds); err == nil || !strings.Contains(err.Error(), "got 1001, want at most 1000") {
		t.Errorf("got %v", err)
	}
	if _, err := Read("testdata/none", kinds); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

// FuzzParse: whatever the file, there are problems with lines, or rules that a
// book takes or refuses.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../../configs/scenarios/*.yaml"} {
		list, err := filepath.Glob(pattern)
		if err != nil || len(list) == 0 {
			f.Fatal("no seeds", err)
		}
		for _, name := range list {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	epoch := time.Date(2026, 6, 21, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("fuzz.yaml", data, kinds)
		if err != nil {
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		book := fault.NewBook([]fault.Device{{Home: "home-1", Role: "grid", Clock: true, WrapWh: 1000}}, fault.Options{Refresh: time.Minute})
		if err := s.Load(book, &config.Config{Clock: config.Clock{Epoch: epoch}}); err != nil {
			if _, ok := errors.AsType[config.Problems](err); !ok {
				t.Fatalf("error of another kind: %v", err)
			}
		}
		for _, rule := range book.Rules(epoch.Add(1000 * time.Hour)) {
			if rule.At.Before(epoch) || rule.For < 0 || rule.Every < 0 || rule.Every > 0 && rule.For > rule.Every || !(rule.Probability > 0 && rule.Probability <= 1) {
				t.Fatalf("accepted %+v", rule)
			}
		}
	})
}
