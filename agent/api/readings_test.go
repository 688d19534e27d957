package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/agent/api"
)

// readingsFunc answers what it is asked.
type readingsFunc func(q api.ReadingsQuery) ([]api.ReadingRow, error)

func (f readingsFunc) Readings(q api.ReadingsQuery) ([]api.ReadingRow, error) { return f(q) }

func TestReadings(t *testing.T) {
	row := api.ReadingRow{
		At: noon, Meter: "connection", Verdict: "accepted", ImportWh: p[uint64](1<<64 - 1), PowerW: p[int64](-5), Quality: "good", Clock: "synchronised",
		Proof: &api.ReadingProof{Seq: 7, SignedBy: "device"}, Raw: []byte("4 52: 0000"),
	}
	var asked api.ReadingsQuery
	answer, fail := []api.ReadingRow{row}, error(nil)
	s := serve(t, api.Config{Provider: newHome(sunny()), Readings: readingsFunc(func(q api.ReadingsQuery) ([]api.ReadingRow, error) {
		asked = q
		return answer, fail
	})})
	get := func(query string, status int) string {
		t.Helper()
		resp, body := get(t, s.url+"/api/readings"+query)
		if resp.StatusCode != status {
			t.Fatalf("%s: %d %s", query, resp.StatusCode, body)
		}
		return body
	}
	body := get("?meter=connection&from=2026-06-14T10:00:00Z&to=2026-06-14T12:00:00.5Z&limit=7&newest=true&raw=true", http.StatusOK)
	var list api.ReadingList
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]api.ReadingRow{row}, list.Readings); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(api.ReadingsQuery{
		Meter: "connection", From: time.Date(2026, 6, 14, 10, 0, 0, 0, time.UTC), To: time.Date(2026, 6, 14, 12, 0, 0, 5e8, time.UTC), Limit: 7, Newest: true, Raw: true,
	}, asked); diff != "" {
		t.Error(diff)
	}
	answer = nil
	if body := get("", http.StatusOK); !strings.Contains(body, `"readings":[]`) || asked.Limit != 100 {
		t.Errorf("%s, asked for %+v", body, asked)
	}
	for _, q := range []string{"?limit=0", "?limit=2001", "?from=soon", "?meter=" + strings.Repeat("x", 17), "?when=now"} {
		get(q, http.StatusUnprocessableEntity)
	}
	fail = &api.Refused{Code: "unknown-meter", Detail: "meter: got \"x\""}
	if body := get("?meter=x", http.StatusUnprocessableEntity); !strings.Contains(body, "meter: got") {
		t.Error(body)
	}
	fail = errors.New("the disk is gone")
	get("", http.StatusInternalServerError)
}
