package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/commonwatt/commonwatt/agent/api"
)

// indent makes JSON readable line by line; it fails on anything else.
func indent(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(body), "", "  "); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return b.String()
}

func TestAPIGolden(t *testing.T) {
	for name, snap := range map[string]api.Snapshot{"sunny": sunny(), "blank": blank(), "troubled": troubled(), "extreme": extreme()} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, api.Config{Provider: newHome(snap)})
			for _, path := range []string{"/api/status", "/api/now", "/api/intervals?limit=3", "/api/account", "/api/grid", "/api/ledger/hash/1234", "/readyz"} {
				resp, body := get(t, s.url+path)
				if ct := resp.Header.Get("Content-Type"); ct != "application/json" && ct != "application/problem+json" {
					t.Errorf("%s: content type %q", path, ct)
				}
				file := strings.NewReplacer("/api/", "", "/", "-", "?", "-", "=", "-").Replace(path)
				golden(t, name+"/"+strings.Trim(file, "-")+".json", fmt.Sprintf("%d\n%s", resp.StatusCode, indent(t, body)))
			}
			resp, body := get(t, s.ops+"/metrics")
			if resp.StatusCode != http.StatusOK {
				t.Errorf("/metrics: status %d", resp.StatusCode)
			}
			golden(t, name+"/metrics.txt", body)
		})
	}
}

// The description of the API is a promise: a change must be meant.
func TestOpenAPIGolden(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(blank())})
	resp, body := get(t, s.url+"/openapi.yaml")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/yaml") {
		t.Errorf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	golden(t, "openapi.yaml", body)
}

func TestIntervalsLimit(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	for query, want := range map[string]int{"": 96, "?limit=1": 1, "?limit=96": 96, "?limit=1000": 96} {
		_, body := get(t, s.url+"/api/intervals"+query)
		var got api.Intervals
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		if len(got.Intervals) != want {
			t.Errorf("%q: got %d intervals, expected %d", query, len(got.Intervals), want)
		}
		if last := got.Intervals[len(got.Intervals)-1]; last.State != api.StateCleared {
			t.Errorf("%q: the last one is %s, expected the newest, which is cleared", query, last.State)
		}
	}
}

func TestBadRequests(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/api/intervals?limit=0", 422},
		{"GET", "/api/intervals?limit=-1", 422},
		{"GET", "/api/intervals?limit=1001", 422},
		{"GET", "/api/intervals?limit=ten", 422},
		{"GET", "/api/intervals?limit=99999999999999999999", 422},
		{"GET", "/api/intervals?limti=3", 422}, // a typo must not pass for the default
		{"GET", "/api/ledger/hash/0", 422},
		{"GET", "/api/ledger/hash/-1", 422},
		{"GET", "/api/ledger/hash/99999999999999999999", 422},
		{"GET", "/api/ledger/hash/x", 422},
		{"GET", "/api/ledger/hash/1235", 404},
		{"GET", "/events?view=everything", 422},
		{"GET", "/api", 404},
		{"GET", "/favicon.ico", 404},
		{"GET", "/assets/", 404},
		{"GET", "/assets/nothing.js", 404},
		{"GET", "/assets/..%2fpage.html", 404},
		{"GET", "/docs", 404},
		{"POST", "/api/now", 405},
		{"PUT", "/", 405},
		{"DELETE", "/api/account", 405},
		{"OPTIONS", "/api/now", 405},
		{"PATCH", "/nothing", 405},
	} {
		resp, body := request(t, c.method, s.url+c.path, nil)
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: got %s, expected %d", c.method, c.path, resp.Status, c.want)
		}
		var problem struct {
			Status int
			Detail string
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || problem.Status != c.want || problem.Detail == "" ||
			resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: got %q (%s), expected a problem document with a detail", c.method, c.path, body, resp.Header.Get("Content-Type"))
		}
		if c.want == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, resp.Header.Get("Allow"))
		}
	}
}

func TestHead(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	for _, path := range []string{"/", "/api/now", "/events", "/openapi.yaml", "/livez", "/readyz", "/assets/page.css"} {
		resp, body := request(t, http.MethodHead, s.url+path, nil)
		if resp.StatusCode != http.StatusOK || body != "" {
			t.Errorf("HEAD %s: got %s and %d bytes, expected 200 and none", path, resp.Status, len(body))
		}
	}
}

func TestReady(t *testing.T) {
	for name, want := range map[string]int{"sunny": 200, "blank": 503, "troubled": 503} {
		snap := map[string]func() api.Snapshot{"sunny": sunny, "blank": blank, "troubled": troubled}[name]()
		s := serve(t, api.Config{Provider: newHome(snap)})
		if resp, body := get(t, s.url+"/readyz"); resp.StatusCode != want {
			t.Errorf("%s: got %s %s, expected %d", name, resp.Status, body, want)
		}
		if resp, body := get(t, s.url+"/livez"); resp.StatusCode != 200 || body != "ok\n" {
			t.Errorf("%s: /livez says %s %q, expected ok: it lives", name, resp.Status, body)
		}
	}
	s := serve(t, api.Config{Provider: newHome(api.Snapshot{})})
	_, body := get(t, s.url+"/readyz")
	for _, code := range []string{"no_household", "no_meter", "no_ledger"} {
		if !strings.Contains(body, `"`+code+`"`) {
			t.Errorf("an empty snapshot: reason %s is missing in %s", code, body)
		}
	}
}

func TestMetricsOfTheAgent(t *testing.T) {
	registry := prometheus.NewRegistry()
	orders := prometheus.NewCounter(prometheus.CounterOpts{Name: "commonwatt_trader_orders_total", Help: "Orders sent."})
	registry.MustRegister(orders)
	orders.Add(3)
	snap := sunny()
	snap.Ledger.Rejected = map[string]int64{"not \xff text": 1} // one broken sample must not hide the rest
	s := serve(t, api.Config{Provider: newHome(snap), Registry: registry})
	_, body := get(t, s.ops+"/metrics")
	for _, line := range []string{"commonwatt_trader_orders_total 3", `commonwatt_home_power_watts{flow="solar"} 4310`} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("%q is missing in\n%s", line, body)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	good := api.Config{Listen: "127.0.0.1:0", Provider: newHome(blank()), Open: true, Log: log}
	for name, change := range map[string]func(*api.Config){
		"no provider":   func(c *api.Config) { c.Provider = nil },
		"no log":        func(c *api.Config) { c.Log = nil },
		"nobody may":    func(c *api.Config) { c.Open = false },
		"metrics out":   func(c *api.Config) { c.Operations = "0.0.0.0:0" },
		"metrics here?": func(c *api.Config) { c.Operations = "127.0.0.1" },
		"no address":    func(c *api.Config) { c.Listen = "" },
		"two addresses": func(c *api.Config) { c.Listener = listener },
		"negative":      func(c *api.Config) { c.MaxStreams = -1 },
		"empty host":    func(c *api.Config) { c.Hosts = []string{""} },
		"host and port": func(c *api.Config) { c.Hosts = []string{"house.local:8080"} },
		"a URL":         func(c *api.Config) { c.Hosts = []string{"http://house.local"} },
		"a wildcard":    func(c *api.Config) { c.Hosts = []string{"*.local"} },
		"a long label":  func(c *api.Config) { c.Hosts = []string{strings.Repeat("a", 64) + ".local"} },
		"a long name":   func(c *api.Config) { c.Hosts = []string{strings.Repeat("a.", 127) + "local"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := api.New(cfg); !errors.Is(err, api.ErrConfig) {
			t.Errorf("%s: got %v, expected ErrConfig", name, err)
		}
	}
	taken := good
	taken.Listen = listener.Addr().String()
	if _, err := api.New(taken); err == nil || !strings.Contains(err.Error(), taken.Listen) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a port in use: got %v, expected its address and what to do", err)
	}
	nowhere := good
	nowhere.Listen = "127.0.0.1:not-a-port"
	if _, err := api.New(nowhere); err == nil || !strings.Contains(err.Error(), nowhere.Listen) {
		t.Errorf("a bad port: got %v, expected its address", err)
	}
}

func TestRunOnce(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(blank())})
	if resp, _ := get(t, s.url+"/livez"); resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s", resp.Status)
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("a second Run: got no error, expected one")
	}
	s.stop()
	if _, err := net.Dial("tcp", s.Addr()); err == nil {
		t.Error("the port is still open after Run")
	}
}

// A server whose context has ended already releases its port and returns.
func TestRunWithAnEndedContext(t *testing.T) {
	server, err := api.New(api.Config{Listen: "127.0.0.1:0", Provider: newHome(blank()), Open: true, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := server.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if l, err := net.Listen("tcp", server.Addr()); err != nil {
		t.Errorf("the port is not free: %v", err)
	} else {
		l.Close()
	}
}
