package httpjson

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick are options for tests that do not wait.
var quick = Options{DialEvery: time.Nanosecond, BackoffStep: time.Nanosecond}

func server(t *testing.T, handle http.HandlerFunc) (*httptest.Server, string) {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return s, strings.TrimPrefix(s.URL, "http://")
}

func client(t *testing.T, host string, o Options) *Client {
	t.Helper()
	c := New("http", host, o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestOneConnection (H1): ten callers at once share one connection and never meet.
func TestOneConnection(t *testing.T) {
	var inside, met, connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) > 1 {
			met.Add(1)
		}
		defer inside.Add(-1)
		_, _ = fmt.Fprint(w, r.URL.RequestURI())
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	c := client(t, strings.TrimPrefix(s.URL, "http://"), Options{})
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			path := fmt.Sprintf("/a?n=%d", i)
			body, err := c.Get(t.Context(), path)
			if err != nil || string(body) != path {
				t.Errorf("got %q, %v", body, err)
			}
		})
	}
	all.Wait()
	if met.Load() != 0 || connections.Load() != 1 {
		t.Errorf("%d met, on %d connections", met.Load(), connections.Load())
	}
}

// TestDials (H1): a device that hangs up after each answer is dialled at most once in the time.
func TestDials(t *testing.T) {
	const every = 50 * time.Millisecond
	var mu sync.Mutex
	var dials []time.Time
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	s.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		mu.Lock()
		defer mu.Unlock()
		dials = append(dials, time.Now())
		return ctx
	}
	s.Start()
	defer s.Close()
	c := client(t, strings.TrimPrefix(s.URL, "http://"), Options{DialEvery: every})
	begin := time.Now()
	for range 4 {
		if _, err := c.Get(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 3*every || len(dials) != 4 {
		t.Errorf("%d dials in %v", len(dials), took)
	}
}

// TestBounds (H2, H4): what is too long, too late, elsewhere or refused is an error that says so.
func TestBounds(t *testing.T) {
	other, otherHost := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "elsewhere") })
	release := make(chan struct{})
	defer close(release)
	_, host := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			_, _ = w.Write(make([]byte, 1001))
		case "/fits":
			_, _ = w.Write(make([]byte, 1000))
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		case "/late":
			<-release
		case "/drip":
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("1"))
			w.(http.Flusher).Flush()
			<-release
		case "/header":
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		case "/moved":
			http.Redirect(w, r, "/fits", http.StatusFound)
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/busy":
			http.Error(w, "", http.StatusServiceUnavailable)
		case "/forbidden":
			http.Error(w, "", http.StatusForbidden)
		case "/secret":
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			http.Error(w, "", http.StatusUnauthorized)
		default:
			http.NotFound(w, r)
		}
	})
	o := quick
	o.MaxBody, o.Timeout = 1000, time.Second
	c := client(t, host, o)
	for _, path := range []string{"/fits", "/moved"} {
		if body, err := c.Get(t.Context(), path); err != nil || len(body) != 1000 {
			t.Errorf("%s: got %d bytes, %v", path, len(body), err)
		}
	}
	for path, want := range map[string]string{
		"/long": "got more than 1000 bytes", "/endless": "got more than 1000 bytes", "/late": "deadline exceeded", "/drip": "deadline exceeded",
		"/header": "header", "/away": "got one to http://" + otherHost + ", expected none to another host", "/round": "in a row, expected at most 3",
		"/busy": "got status 503 Service Unavailable, expected 200; the device is busy", "/forbidden": "its local API may be switched off",
		"/none": "got status 404 Not Found", "/secret": "the device wants a user name and a password",
	} {
		body, err := c.Get(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), want) || body != nil {
			t.Errorf("%s: got %d bytes, %v, expected %q", path, len(body), err, want)
		}
		if err != nil && !strings.Contains(err.Error(), "asking "+host+" for "+path) {
			t.Errorf("%s: %v names neither host nor path", path, err)
		}
	}
}

// TestBackoff (H3): a host that fails is left alone, longer each time, and is as good as new once it answers.
func TestBackoff(t *testing.T) {
	var broken atomic.Bool
	var asked atomic.Int64
	_, host := server(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if broken.Load() {
			http.Error(w, "", http.StatusInternalServerError)
		}
	})
	c := client(t, host, Options{BackoffStep: time.Hour, BackoffMax: 90 * time.Minute, DialEvery: time.Nanosecond})
	get := func() error { _, err := c.Get(t.Context(), "/"); return err }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	status := (*StatusError)(nil)
	if err := get(); !errors.As(err, &status) || status.Code != 500 {
		t.Errorf("got %v", err)
	}
	for range 3 {
		if err := get(); !errors.Is(err, ErrBackoff) || !strings.Contains(err.Error(), "failed 1 times, for another") {
			t.Errorf("got %v, expected %v", err, ErrBackoff)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times, expected 2", asked.Load())
	}
	for i, want := range []time.Duration{90 * time.Minute, 90 * time.Minute} {
		c.until = time.Time{}
		_ = get()
		if wait := time.Until(c.until); wait > want || wait < want-time.Minute {
			t.Errorf("failure %d: left alone for %v, expected %v", i+2, wait, want)
		}
	}
	c.until = time.Time{}
	broken.Store(false)
	if err := get(); err != nil || c.failures != 0 {
		t.Errorf("got %v after %d failures", err, c.failures)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(gone, "/"); err == nil || c.failures != 0 {
		t.Errorf("a caller that went away: got %v, %d failures", err, c.failures)
	}
}

// TestClose interrupts what is under way, and ends the client.
func TestClose(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	_, host := server(t, func(http.ResponseWriter, *http.Request) { close(asked); <-release })
	defer close(release)
	c := client(t, host, quick)
	got := make(chan error, 1)
	go func() { _, err := c.Get(t.Context(), "/"); got <- err }()
	<-asked
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; err == nil {
		t.Error("the request did not end")
	}
	if _, err := c.Get(t.Context(), "/"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, expected %v", err, ErrClosed)
	}
}

// TestTLS: a certificate of an authority that is known, and one that is not.
func TestTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "safe") }))
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "https://")
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	o := quick
	o.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	known := New("https", host, o)
	defer known.Close()
	if body, err := known.Get(t.Context(), "/"); err != nil || string(body) != "safe" {
		t.Errorf("got %q, %v", body, err)
	}
	unknown := New("https", host, quick)
	defer unknown.Close()
	if _, err := unknown.Get(t.Context(), "/"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

// TestPool: meters behind one host share its client, which closes with the last.
func TestPool(t *testing.T) {
	_, host := server(t, func(http.ResponseWriter, *http.Request) {})
	p := NewPool(quick)
	a, releaseA := p.Get("http", host, quick)
	b, releaseB := p.Get("http", host, quick)
	other, releaseOther := p.Get("http", host, Options{Username: "somebody"})
	if a != b || a == other {
		t.Error("not one client for one host and name")
	}
	for range 2 {
		if err := releaseA(); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Get(t.Context(), "/"); err != nil {
		t.Errorf("after one of two went: %v", err)
	}
	if err := errors.Join(releaseB(), releaseOther()); err != nil {
		t.Error(err)
	}
	if _, err := b.Get(t.Context(), "/"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, expected %v", err, ErrClosed)
	}
	if len(p.shared) != 0 {
		t.Errorf("%d clients are left", len(p.shared))
	}
}
