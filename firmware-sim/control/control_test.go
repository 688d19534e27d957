package control

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 6, 21, 8, 0, 0, 0, time.UTC)

// testAPI stands at 10:01 community time, or with a manual clock at the epoch.
func testAPI(t *testing.T, manual bool) *API {
	t.Helper()
	cfg := &config.Config{
		Clock:    config.Clock{Epoch: epoch, Start: epoch, Rate: 1, Manual: manual},
		Interval: 15 * time.Minute, Refresh: 3 * time.Minute, Seed: 1,
		Modbus: &config.Listen{Listen: "127.0.0.1:0"}, MQTT: &config.MQTT{Listen: "127.0.0.1:0"},
		Location: config.Location{Latitude: 52, Longitude: 4.4},
		Homes: []config.Home{
			{
				ID: "home-1", Load: config.Load{Model: "household", YearlyKWh: 3500},
				Solar: &config.Solar{KWP: 6, Azimuth: 180, Tilt: 35}, Battery: &config.Battery{KWh: 10, KW: 5, Efficiency: 0.95},
				Devices: []config.Device{
					{Role: "grid", Definition: "eastron-sdm630", Unit: 4},
					{Role: "solar", Definition: "tasmota", Topic: "sun"},
				},
			},
			{
				ID: "home-2", Load: config.Load{Model: "household", YearlyKWh: 2000},
				Devices: []config.Device{{Role: "grid", Definition: "shelly-gen2", Topic: "a/b"}},
			},
		},
	}
	s, err := street.New(cfg, func() time.Time { return epoch.Add(2*time.Hour + time.Minute) })
	if err != nil {
		t.Fatal(err)
	}
	book := fault.NewBook(s.Struck(), fault.Options{Refresh: cfg.Refresh, Seed: cfg.Seed, OwnBroker: true})
	s.Faults = book
	return &API{
		Street: s, Faults: book, Log: slog.New(slog.DiscardHandler), Nudge: func(context.Context) {},
		Addresses: func(m *street.Meter) []string {
			if m.Config.Unit != 0 {
				return []string{"tcp://127.0.0.1:1502", "rtu:///dev/pts/7"}
			}
			return []string{"mqtt://127.0.0.1:1883/" + m.Config.Topic}
		},
	}
}

// ask gives the status and the answer to a question.
func ask(t *testing.T, a *API, path string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	a.Handler().ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return recorder.Code, strings.TrimSpace(recorder.Body.String())
}

func TestHomes(t *testing.T) {
	_, got := ask(t, testAPI(t, false), "/homes")
	want := `[{"id":"home-1","devices":[` +
		`{"role":"grid","definition":"eastron-sdm630","protocol":"modbus","address":"tcp://127.0.0.1:1502","addresses":["tcp://127.0.0.1:1502","rtu:///dev/pts/7"],"unit":4},` +
		`{"role":"solar","definition":"tasmota","protocol":"mqtt","address":"mqtt://127.0.0.1:1883/sun","addresses":["mqtt://127.0.0.1:1883/sun"],"unit":null}],` +
		`"community_time":"2026-06-21T10:01:00Z"},` +
		`{"id":"home-2","devices":[` +
		`{"role":"grid","definition":"shelly-gen2","protocol":"mqtt","address":"mqtt://127.0.0.1:1883/a/b","addresses":["mqtt://127.0.0.1:1883/a/b"],"unit":null}],` +
		`"community_time":"2026-06-21T10:01:00Z"}]`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCounters(t *testing.T) {
	a := testAPI(t, false)
	counters := func(path string) (c Counters) {
		t.Helper()
		status, text := ask(t, a, path)
		if status != http.StatusOK || json.Unmarshal([]byte(text), &c) != nil {
			t.Fatalf("%s: %d %s", path, status, text)
		}
		return c
	}
	begin := counters("/homes/home-1/counters?role=grid&at=2026-06-21T08:00:00Z")
	between := counters("/homes/home-1/counters?role=grid&at=2026-06-21T11:02:59.9%2B02:00")
	refresh := counters("/homes/home-1/counters?role=grid&at=2026-06-21T09:00:00Z")
	now := counters("/homes/home-1/counters")
	if between.ImportWh != refresh.ImportWh || between.ExportWh != refresh.ExportWh || !between.RefreshedAt.Equal(refresh.At) {
		t.Errorf("between refreshes %+v, at the refresh %+v", between, refresh)
	}
	if !now.At.Equal(epoch.Add(121*time.Minute)) || !now.RefreshedAt.Equal(epoch.Add(120*time.Minute)) || now.Role != "grid" {
		t.Errorf("now %+v", now)
	}
	if now.ImportWh == begin.ImportWh && now.ExportWh == begin.ExportWh || now.ImportWh < begin.ImportWh || now.ExportWh < begin.ExportWh {
		t.Errorf("from %+v to %+v", begin, now)
	}
	if sun := counters("/homes/home-1/counters?role=solar"); sun.Role != "solar" || sun.ExportWh == now.ExportWh {
		t.Errorf("solar %+v", sun)
	}
}

func TestNow(t *testing.T) {
	a := testAPI(t, false)
	var p Powers
	_, text := ask(t, a, "/homes/home-1/now")
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	if p.LoadW <= 0 || p.SolarW == nil || *p.SolarW <= 0 || p.BatteryW == nil || p.StoredWh == nil {
		t.Fatalf("got %s", text)
	}
	if off := p.GridW - (p.LoadW - *p.SolarW + *p.BatteryW); off < -2 || off > 2 {
		t.Errorf("powers do not add up: %s", text)
	}
	if _, text := ask(t, a, "/homes/home-2/now"); !strings.Contains(text, `"solar_w":null,"battery_w":null`) || !strings.Contains(text, `"stored_wh":null`) {
		t.Errorf("what is not there is not null: %s", text)
	}
	if status, text := ask(t, a, "/healthz"); status != http.StatusOK || text != `{"status":"ok"}` {
		t.Errorf("%d %s", status, text)
	}
}

func TestRefusals(t *testing.T) {
	a := testAPI(t, false)
	for path, want := range map[string]string{
		"/homes/home-3/now":                                     `404 {"error":"there is no home \"home-3\", see /homes"}`,
		"/homes/home-2/counters?role=solar":                     `404 {"error":"home home-2 has no \"solar\" meter"}`,
		"/homes/home-2/counters?at=noon":                        `400 {"error":"at: got \"noon\", want a time like 2026-06-21T08:00:00Z"}`,
		"/homes/home-2/counters?at=2026-06-21T07:59:59Z":        `400 {"error":"2026-06-21T07:59:59Z is before the epoch, 2026-06-21T08:00:00Z"}`,
		"/homes/home-2/counters?at=2026-06-21T10:03:00Z":        `400 {"error":"2026-06-21T10:03:00Z is in the future, it is 2026-06-21T10:01:00Z now"}`,
		"/homes/home-2/counters?rol=grid":                       `400 {"error":"parameter \"rol\": allowed here: once each: role, at"}`,
		"/homes/home-2/counters?role=grid&role=solar":           `400 {"error":"parameter \"role\": allowed here: once each: role, at"}`,
		"/homes/home-2/now?at=" + url.QueryEscape("2026-06-21"): `400 {"error":"parameter \"at\": allowed here: none"}`,
		"/homes/home-2/counters?role=%zz":                       `400 {"error":"parsing the query: invalid URL escape \"%zz\""}`,
	} {
		status, text := ask(t, a, path)
		if got := fmt.Sprintf("%d %s", status, text); got != want {
			t.Errorf("%s:\n got %s\nwant %s", path, got, want)
		}
	}
}

// TestServe: it ends with its context though a client holds a connection.
func TestServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- testAPI(t, false).Serve(ctx, listener) }()
	client := &http.Client{}
	response, err := client.Get("http://" + listener.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(response.Body); err != nil || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v, %v", response.Header, err)
	}
	response.Body.Close()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("serving: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("does not end")
	}
	client.CloseIdleConnections()
}
