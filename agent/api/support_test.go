package api_test

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/agent/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// home is a Provider whose snapshot a test replaces.
type home struct {
	mu          sync.Mutex
	snap        api.Snapshot
	subscribers map[chan struct{}]struct{}
}

func newHome(s api.Snapshot) *home {
	return &home{snap: s, subscribers: make(map[chan struct{}]struct{})}
}

func (h *home) Snapshot() api.Snapshot {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.snap
}

func (h *home) Subscribe() (<-chan struct{}, func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := make(chan struct{}, 1)
	h.subscribers[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subscribers, c)
	}
}

func (h *home) AppHash(height int64) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snap.Ledger.Height == nil || height > *h.snap.Ledger.Height {
		return "", false
	}
	return strings.Repeat("ab", 32), true
}

func (h *home) set(s api.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.snap = s
	for c := range h.subscribers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (h *home) subscribed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subscribers)
}

// running is a server on a port of its own.
type running struct {
	*api.Server
	url  string
	ops  string // of metrics and profiles
	stop func() // ends Run and waits for it; may be called twice
}

// serve runs a server until the test ends.
func serve(t testing.TB, cfg api.Config) *running {
	t.Helper()
	if cfg.Listen == "" && cfg.Listener == nil {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = "0.1.0-test"
	}
	if cfg.Location == nil {
		cfg.Location = time.UTC
	}
	if cfg.Operations == "" && cfg.Listener == nil {
		cfg.Operations = "127.0.0.1:0"
	}
	cfg.Open = cfg.Access == nil
	server, err := api.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("Run did not return within 30 s")
			}
		})
	}
	t.Cleanup(stop)
	return &running{Server: server, url: "http://" + server.Addr(), ops: "http://" + server.OperationsAddr(), stop: stop}
}

// client keeps no connections, so that none outlive a test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
	return http.ErrUseLastResponse // where it leads is part of the answer
}}

// request sends one request and returns the answer with its whole body.
func request(t testing.TB, method, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	return requestBody(t, method, url, "", change)
}

func requestBody(t testing.TB, method, url, body string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body of %s: %v", url, err)
	}
	return resp, string(answer)
}

func get(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	return request(t, http.MethodGet, url, nil)
}

// golden compares with a file under testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got); look at it, then go test -update:\n%s", path, diff)
	}
}

// eventuallyWithin is longer than a tab takes to notice, by silence alone, that the one which
// leads has gone (SILENCE in page.js, 40 s).
const eventuallyWithin = time.Minute

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(eventuallyWithin)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for %s", eventuallyWithin, what)
		}
	}
}
