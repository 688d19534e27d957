package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/api"
)

// hands notes what a person wanted.
type hands []string

func (h *hands) Control(index int, action string) error {
	if index > 0 {
		return &api.Refused{Code: "no-such-control", Detail: "got control 1, this home has 1"}
	}
	*h = append(*h, fmt.Sprintf("%d %s", index, action))
	return nil
}

// led is a home with a battery that it leads.
func led() api.Snapshot {
	s := sunny()
	at, set, soc, left := s.At, int64(1200), int64(6350), int64(140)
	s.Controls = []api.Control{{
		Definition: "sunspec-battery", Address: "tcp://192.0.2.9:502 unit 3", Identity: "Sunny <Meters> BAT-5", Leads: "follow", Mode: "discharge",
		SetW: &set, SOCBp: &soc, LeftS: &left, Led: true, Reverts: true, ReadAt: &at, Writes: 12, Failures: 2,
		Why: "It follows the sale of 320 Wh until 10:15.",
	}}
	return s
}

func talk(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	res, text := requestBody(t, method, url, body, func(r *http.Request) { r.Header.Set("Content-Type", "application/json") })
	return res.StatusCode, text
}

// TestControls: what is led stands on the page and in the metrics as it was read back, and a person can leave it alone.
func TestControls(t *testing.T) {
	var h hands
	s := serve(t, api.Config{Provider: newHome(led()), Controls: &h})
	base := s.url
	for path, wants := range map[string][]string{
		"/":           {"led: sunspec-battery", "discharge", "1.2\u00a0kW", "140 s", "It follows the sale of 320 Wh until 10:15.", "Sunny &lt;Meters&gt;"},
		"/api/status": {`"mode":"discharge"`, `"set_w":1200`, `"left_s":140`, `"led":true`},
		"/metrics": {
			`control_set_watts{address="tcp://192.0.2.9:502 unit 3",definition="sunspec-battery"} -1200`, "control_led{", "control_soc_ratio{",
			"control_set_points_total{", "control_failures_total{",
		},
	} {
		from := base
		if path == "/metrics" {
			from = s.ops
		}
		status, body := talk(t, http.MethodGet, from+path, "")
		for _, want := range wants {
			if status != 200 || !strings.Contains(body, want) {
				t.Errorf("%s: got %d without %q", path, status, want)
			}
		}
	}
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"/api/controls/0", `{"action":"release"}`, 204},
		{"/api/controls/0", `{"action":"resume"}`, 204},
		{"/api/controls/1", `{"action":"release"}`, 409},
		{"/api/controls/0", `{"action":"explode"}`, 422},
		{"/api/controls/99", `{"action":"release"}`, 422},
		{"/api/controls/x", `{"action":"release"}`, 422},
	} {
		if status, body := talk(t, http.MethodPost, base+c.path, c.body); status != c.want {
			t.Errorf("%s %s: got %d, expected %d: %s", c.path, c.body, status, c.want, body)
		}
	}
	if want := (hands{"0 release", "0 resume"}); !slices.Equal(h, want) {
		t.Errorf("got %v, expected %v", h, want)
	}
}
