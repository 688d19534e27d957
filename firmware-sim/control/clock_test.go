package control

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// post gives the status and the answer to a request that changes something.
func post(t *testing.T, a *API, path, kind, from, body string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", kind)
	request.RemoteAddr = from
	a.Handler().ServeHTTP(recorder, request)
	return recorder.Code, strings.TrimSpace(recorder.Body.String())
}

const (
	loopback = "127.0.0.1:40000"
	isJSON   = "application/json"
)

func TestMove(t *testing.T) {
	a := testAPI(t, true)
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{`{"advance":"7m"}`, 200, `{"manual":true,"community_time":"2026-06-21T08:07:00Z","refreshed_at":"2026-06-21T08:06:00Z","refreshes":2,"sent":0,"lost":0}`},
		{`{"to":"2026-06-21T08:09:00Z"}`, 200, `{"manual":true,"community_time":"2026-06-21T08:09:00Z","refreshed_at":"2026-06-21T08:09:00Z","refreshes":1,"sent":0,"lost":0}`},
		{`{"advance":"0s"}`, 200, `{"manual":true,"community_time":"2026-06-21T08:09:00Z","refreshed_at":"2026-06-21T08:09:00Z","refreshes":0,"sent":0,"lost":0}`},
		{`{"to":"2026-06-21T08:08:00Z"}`, 400, `{"error":"2026-06-21T08:08:00Z is before 2026-06-21T08:09:00Z: time does not go back"}`},
		{`{"to":"2226-06-21T08:08:00Z"}`, 400, `{"error":"2226-06-21T08:08:00Z is too far: want at most 10000000 refreshes after the epoch"}`},
		{`{"advance":"-1m"}`, 400, `{"error":"advance: got \"-1m\", want a duration like 15m"}`},
		{`{"to":"noon"}`, 400, `{"error":"to: got \"noon\", want a time like 2026-06-21T08:15:00Z"}`},
		{`{}`, 400, `{"error":"want either {\"advance\":\"15m\"} or {\"to\":\"2026-06-21T08:15:00Z\"}"}`},
		{`{"advance":"1m","to":"2026-06-21T09:00:00Z"}`, 400, `{"error":"want either {\"advance\":\"15m\"} or {\"to\":\"2026-06-21T08:15:00Z\"}"}`},
		{`{"adv":"1m"}`, 400, `{"error":"reading the request: json: unknown field \"adv\""}`},
		{`{"advance":"1m"} {}`, 400, `{"error":"reading the request: something follows after the JSON value"}`},
	} {
		if status, text := post(t, a, "/clock", isJSON, loopback, c.body); status != c.status || text != c.want {
			t.Errorf("%s:\n got %d %s\nwant %d %s", c.body, status, text, c.status, c.want)
		}
	}
	if status, text := ask(t, a, "/clock"); status != 200 || !strings.Contains(text, `"community_time":"2026-06-21T08:09:00Z"`) {
		t.Errorf("%d %s", status, text)
	}
}

func TestWhoMayMove(t *testing.T) {
	const body = `{"advance":"1m"}`
	for name, c := range map[string]struct {
		manual     bool
		kind, from string
		want       int
	}{
		"a clock that goes by itself": {false, isJSON, loopback, http.StatusConflict},
		"a form":                      {true, "text/plain", loopback, http.StatusUnsupportedMediaType},
		"no type":                     {true, "", loopback, http.StatusUnsupportedMediaType},
		"another machine":             {true, isJSON, "192.0.2.1:4000", http.StatusForbidden},
		"IPv6":                        {true, isJSON + "; charset=utf-8", "[::1]:4000", http.StatusOK},
	} {
		if status, text := post(t, testAPI(t, c.manual), "/clock", c.kind, c.from, body); status != c.want {
			t.Errorf("%s: got %d %s, want %d", name, status, text, c.want)
		}
	}
}
