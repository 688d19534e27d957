package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/api"
)

func TestHostAllowList(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny()), Hosts: []string{"House.Local.", "192.0.2.7"}})
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		s.Addr():                      200,
		"127.0.0.1":                   200,
		"127.0.0.1:1":                 200, // a forwarded port
		"localhost:" + port:           200,
		"LOCALHOST":                   200,
		"localhost.:" + port:          200,
		"[::1]:" + port:               200,
		"[::ffff:127.0.0.1]":          200,
		"house.local":                 200,
		"house.local.:" + port:        200,
		"192.0.2.7:80":                200,
		"evil.example":                421,
		"evil.example:" + port:        421,
		"127.0.0.1.evil.example":      421,
		"localhost.evil.example":      421,
		"house.local.evil.example":    421,
		"192.0.2.8":                   421,
		"[2001:db8::1]":               421,
		"0.0.0.0:" + port:             421,
		"2130706433":                  421, // 127.0.0.1 as one number
		"xn--lcalhost-n1a":            421,
		strings.Repeat("a", 300):      421,
		strings.Repeat("a", 60) + ":": 421,
	} {
		for _, path := range []string{"/", "/api/now", "/events", "/livez", "/assets/page.js"} {
			if want == 200 && path == "/events" {
				continue // it would not end
			}
			resp, body := request(t, http.MethodGet, s.url+path, func(r *http.Request) { r.Host = host })
			if resp.StatusCode != want {
				t.Errorf("Host %q, %s: got %s, expected %d", host, path, resp.Status, want)
			}
			if want == 421 && (!strings.Contains(body, "allowed hosts") || len(body) > 600) {
				t.Errorf("Host %q: got %q, expected a short hint at the configuration", host, body)
			}
		}
	}
}

// Requests that a page of another origin makes a browser send are refused
// before they reach a route.
func TestCrossOrigin(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	resp, _ := request(t, http.MethodPost, s.url+"/api/now", func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		r.Header.Set("Origin", "https://evil.example")
	})
	if resp.StatusCode < 400 {
		t.Errorf("a cross-site POST: got %s", resp.Status)
	}
	resp, _ = request(t, http.MethodGet, s.url+"/api/now", func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") })
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin may read the answer: Access-Control-Allow-Origin is %q", got)
	}
	if got := resp.Header.Get("Cross-Origin-Resource-Policy"); got != "same-origin" {
		t.Errorf("Cross-Origin-Resource-Policy is %q, expected same-origin", got)
	}
}

func TestSecurityHeaders(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	for _, path := range []string{"/", "/api/now", "/nothing", "/assets/page.css", "/openapi.yaml", "/api/intervals?limit=0"} {
		resp, body := get(t, s.url+path)
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, expected %q", path, name, got, want)
			}
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: the content security policy is %q", path, csp)
		}
		if resp.Header.Get("Content-Type") == "" {
			t.Errorf("%s: no content type", path)
		}
		for _, leak := range []string{"Server", "X-Powered-By"} {
			if got := resp.Header.Get(leak); got != "" {
				t.Errorf("%s: header %s says %q", path, leak, got)
			}
		}
		if path == "/" && (strings.Contains(body, "style=") || strings.Contains(body, " onclick") || strings.Contains(body, "<style")) {
			t.Error("the page has inline styles or handlers, which its policy forbids")
		}
	}
}

func TestLargeHeaderIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *home, l *pipes, _ func()) {
		conn := l.dial(t, "GET /api/now HTTP/1.1\r\nHost: localhost\r\n")
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = io.WriteString(conn, "X-Large: "+strings.Repeat("x", 1<<20)) // the server stops reading it
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %v, %v, expected 431", resp, err)
		}
		conn.Close()
		<-written
	})
}
