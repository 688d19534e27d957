package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// remove is DELETE.
func remove(t *testing.T, a *API, path, from string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, path, http.NoBody)
	request.RemoteAddr = from
	a.Handler().ServeHTTP(recorder, request)
	return recorder.Code, strings.TrimSpace(recorder.Body.String())
}

// TestFaultsOfTheAPI: a rule's life, and what the counters say meanwhile.
func TestFaultsOfTheAPI(t *testing.T) {
	a := testAPI(t, true)
	expect := func(status int, text string, wantStatus int, want string) {
		t.Helper()
		if status != wantStatus || text != want {
			t.Errorf("got %d %s\nwant %d %s", status, text, wantStatus, want)
		}
	}
	status, text := ask(t, a, "/faults")
	expect(status, text, 200, `[]`)
	rule := `{"id":1,"fault":"zero-bounce","home":"home-1","role":"grid","at":"2026-06-21T08:00:00Z","for":"6m0s",` +
		`"probability":1,"share":1,"parameters":{"counter":"import"},"targets":["home-1/grid"],"active":true,"hits":0}`
	status, text = post(t, a, "/faults", isJSON, loopback, `{"fault":"zero-bounce","home":"home-1","role":"grid","for":"6m","parameters":{"counter":"import"}}`)
	expect(status, text, 201, rule)
	status, text = ask(t, a, "/faults")
	expect(status, text, 200, "["+rule+"]")

	var c Counters
	_, text = ask(t, a, "/homes/home-1/counters?role=grid")
	if err := json.Unmarshal([]byte(text), &c); err != nil || c.Shown == nil || c.Shown.ImportWh != 0 || c.ImportWh == 0 || c.True.ImportWh != c.ImportWh || c.Shown.ExportWh != c.ExportWh {
		t.Errorf("%s, %v", text, err)
	}
	if status, text = post(t, a, "/faults", isJSON, loopback, `{"fault":"nan","home":"home-1","role":"grid"}`); status != 201 {
		t.Errorf("%d %s", status, text)
	}
	if _, text = ask(t, a, "/homes/home-1/counters?role=grid"); !strings.Contains(text, `"shown":null`) {
		t.Errorf("not known is %s", text)
	}
	for _, id := range []string{"1", "2"} {
		if status, text = remove(t, a, "/faults/"+id, loopback); status != 200 || !strings.Contains(text, `"active":false`) || !strings.Contains(text, `"ended_at":"2026-06-21T08:00:00Z"`) {
			t.Errorf("%d %s", status, text)
		}
	}
	c = Counters{}
	_, text = ask(t, a, "/homes/home-1/counters?role=grid")
	if err := json.Unmarshal([]byte(text), &c); err != nil || c.Shown == nil || c.Shown.ImportWh != c.ImportWh {
		t.Errorf("%s, %v", text, err)
	}
}

func TestFaultsRefused(t *testing.T) {
	a := testAPI(t, true)
	for body, want := range map[string]string{
		`{"fault":"zero-bunce"}`:                                    `400 {"error":"fault: got \"zero-bunce\", want one of `,
		`{"fault":"drop","for":"5"}`:                                `400 {"error":"for: got \"5\", want a duration like 15m"}`,
		`{"fault":"drop","at":"noon"}`:                              `400 {"error":"at: got \"noon\", want a time like 2026-06-21T08:15:00Z"}`,
		`{"fault":"drop","at":"2026-06-21T07:59:59Z"}`:              `400 {"error":"at: 2026-06-21T07:59:59Z is over, it is 2026-06-21T08:00:00Z"}`,
		`{"fault":"drop","home":"home-9"}`:                          `400 {"error":"home: there is no \"home-9\", want one of home-1, home-2"}`,
		`{"fault":"drop","rol":"grid"}`:                             `400 {"error":"reading the request: json: unknown field \"rol\""}`,
		`{"fault":"jump","parameters":{"by_wh":5}}`:                 `400 {"error":"reading the request: json: cannot unmarshal number`,
		`{"fault":"jump","parameters":{"by_wh":"much"}}`:            `400 {"error":"parameters.by_wh: got \"much\", want a whole number from -1000000000000 to 1000000000000"}`,
		`{"fault":"scale-change","home":"home-1"}`:                  `400 {"error":"fault: scale-change strikes no device here: it wants devices whose scale factor is a register"}`,
		`{"fault":"drop","every":"1h","for":"2h"}`:                  `400 {"error":"for: got 2h0m0s, want more than 0s and at most every, 1h0m0s"}`,
		`{"fault":"drop","probability":-1}`:                         `400 {"error":"probability: got -1, want more than 0, at most 1"}`,
		`{"fault":"drop","after":"1h","at":"2026-06-22T08:00:00Z"}`: `400 {"error":"after: give either at or after"}`,
	} {
		status, text := post(t, a, "/faults", isJSON, loopback, body)
		if got := fmt.Sprintf("%d %s", status, text); !strings.HasPrefix(got, want) {
			t.Errorf("%s:\n got %d %s\nwant %s", body, status, text, want)
		}
	}
	for path, want := range map[string]int{"/faults/1": 404, "/faults/one": 400, "/faults/1?force=1": 400} {
		if status, text := remove(t, a, path, loopback); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, text, want)
		}
	}
	if status, _ := remove(t, a, "/faults/1", "192.0.2.1:4000"); status != http.StatusForbidden {
		t.Errorf("another machine: %d", status)
	}
	if status, _ := post(t, a, "/faults", "text/plain", loopback, `{"fault":"drop"}`); status != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", status)
	}
}
