package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/api"
)

// FuzzRequests: whatever a browser or a program sends to whichever route, the server answers that it is wrong. It does
// not fail, it does not end, and nothing that is not a transaction reaches the ledger.
func FuzzRequests(f *testing.F) {
	g := &grids{}
	s := serve(f, api.Config{
		Provider: newHome(led()), Network: g, Bills: bills{}, Controls: new(hands),
		Readings: readingsFunc(func(api.ReadingsQuery) ([]api.ReadingRow, error) { return nil, nil }),
	})
	gate := unclaimed(f, api.Config{Provider: newHome(sunny())})
	posts := []string{"/api/transactions", "/api/controls/0", "/api/meters/connection/approval", "/claim"}
	gets := []string{"/api/intervals", "/api/readings", "/api/bill", "/api/bill/proof", "/api/grid", "/api/now", "/api/ledger/hash/", "/events", "/api/correctable/", "/assets/"}
	for i, bodies := range [][]string{
		{`{"transaction":"0102"}`, `{"transaction":1e400}`, `{"transaction":["01"]}`, strings.Repeat(`[`, 5000), `{"a":`, "\xff", ""},
		{`{"action":"release"}`, `{"action":{}}`},
		{`{"serial":"x","epoch":-1,"from":99999999999999999999}`, `null`},
	} {
		for _, body := range bodies {
			f.Add(uint8(i), body, "application/json")
		}
	}
	f.Add(uint8(3), "code=AAAA-AAAA&name=a&password=x&again=x", "application/x-www-form-urlencoded")
	f.Add(uint8(3), "name=%zz&name=&=", "multipart/form-data; boundary=x")
	for i, query := range []string{"?limit=1", "?meter=connection&from=2026-06-14T10:00:00Z", "?month=2026-06", "?household=%00", "?interval=-1", "?x=%", "9999999999999999999", "?view=a", "1?", "..%2f"} {
		f.Add(uint8(100+i), query, "text/plain")
	}
	f.Fuzz(func(t *testing.T, route uint8, text, contentType string) {
		method, base, target, body := http.MethodPost, s.url, "", ""
		if route < 100 {
			target, body = posts[int(route)%len(posts)], text
			if target == "/claim" {
				base = gate.url
			}
		} else {
			method, target = http.MethodGet, gets[int(route-100)%len(gets)]+text
		}
		if _, err := url.Parse(base + target); err != nil || strings.HasPrefix(target, "/events") && !strings.Contains(target, "view=") {
			return // no client sends it; a stream has no end
		}
		r, err := http.NewRequestWithContext(t.Context(), method, base+target, strings.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", contentType)
		resp, err := client.Do(r)
		if err != nil {
			if strings.Contains(err.Error(), "invalid header") || strings.Contains(err.Error(), "malformed") {
				return // the client itself refuses to send it
			}
			t.Fatalf("%s %s: %v", method, target, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusInternalServerError && !strings.Contains(target, "1999-12") && !strings.Contains(target, "interval=8") {
			t.Errorf("%s %s with %q: %s", method, target, body, resp.Status)
		}
		if len(g.taken) > 0 {
			if !strings.Contains(text, "transaction") || g.taken[0][0] != 1 {
				t.Errorf("%q put % x before the ledger", text, g.taken[0])
			}
			g.taken = nil
		}
	})
}
