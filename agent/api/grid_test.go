package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/api"
)

// grids is a Network that knows one interval and takes what begins with 01.
type grids struct{ taken [][]byte }

func (g *grids) Grid(interval int64) (api.Grid, bool, error) {
	known := *congested()
	known.Interval = 7
	if interval == 8 {
		return known, false, errors.New("the disk is gone")
	}
	return known, interval == 7, nil
}

func (g *grids) Submit(_ context.Context, tx []byte) error {
	switch tx[0] {
	case 1:
		g.taken = append(g.taken, tx)
		return nil
	case 2:
		return &api.Refused{Code: "not-operator", Detail: "operator: got 7, the community has 1 grid operators"}
	default:
		return errors.New("no block for a while")
	}
}

func TestGrid(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny()), Network: &grids{}})
	for path, want := range map[string]int64{"/api/grid": 0, "/api/grid?interval=7": 7} {
		resp, body := get(t, s.url+path)
		var g api.Grid
		if err := json.Unmarshal([]byte(body), &g); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		if path == "/api/grid" {
			want = congested().Interval
		}
		if g.Interval != want || len(g.Nodes) != 4 || *g.Nodes[2].LoadingBp != 10_000 {
			t.Errorf("%s: got %s", path, body)
		}
	}
	for path, want := range map[string]int{"/api/grid?interval=9": 404, "/api/grid?interval=8": 500, "/api/grid?interval=-1": 422, "/api/grid?interval=x": 422} {
		if resp, body := get(t, s.url+path); resp.StatusCode != want {
			t.Errorf("%s: got %s %s, expected %d", path, resp.Status, body, want)
		}
	}
	alone := serve(t, api.Config{Provider: newHome(blank())})
	for path, want := range map[string]int{"/api/grid": 404, "/api/grid?interval=7": 503} {
		if resp, body := get(t, alone.url+path); resp.StatusCode != want {
			t.Errorf("an agent that knows nothing: %s: got %s %s, expected %d", path, resp.Status, body, want)
		}
	}
}

func TestSubmit(t *testing.T) {
	g := &grids{}
	s := serve(t, api.Config{Provider: newHome(sunny()), Network: g})
	post := func(body, contentType, origin string) (*http.Response, string) {
		return requestBody(t, http.MethodPost, s.url+"/api/transactions", body, func(r *http.Request) {
			r.Header.Set("Content-Type", contentType)
			if origin != "" {
				r.Header.Set("Origin", origin)
			}
		})
	}
	for _, c := range []struct {
		name, body, origin string
		want               int
		says               string
	}{
		{"good", `{"transaction":"0102"}`, "", 202, `"id":"a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222"`},
		{"the same again", `{"transaction":"0102"}`, "", 202, `"id":"a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222"`},
		{"refused", `{"transaction":"02"}`, "", 409, "not-operator: operator: got 7"},
		{"not now", `{"transaction":"03"}`, "", 503, "does not take it now"},
		{"no hex", `{"transaction":"zz"}`, "", 422, "hexadecimal"},
		{"odd", `{"transaction":"012"}`, "", 422, "hexadecimal"},
		{"empty", `{"transaction":""}`, "", 422, ""},
		{"no field", `{}`, "", 422, ""},
		{"another field", `{"transaction":"01","force":true}`, "", 422, ""},
		{"no JSON", `01`, "", 400, ""},
		{"too long", `{"transaction":"` + strings.Repeat("01", 20_000) + `"}`, "", 422, ""},
		// Little more than the limit: of much more the server does not read the end, and who still
		// writes may see the connection go before the answer comes.
		{"much too long", `{"transaction":"` + strings.Repeat("01", 25_000) + `"}`, "", 413, ""},
		{"from another page", `{"transaction":"01"}`, "https://evil.example", 403, ""},
	} {
		resp, body := post(c.body, "application/json", c.origin)
		if resp.StatusCode != c.want || !strings.Contains(body, c.says) {
			t.Errorf("%s: got %s %s, expected %d with %q", c.name, resp.Status, body, c.want, c.says)
		}
	}
	if len(g.taken) != 2 || string(g.taken[0]) != "\x01\x02" {
		t.Errorf("taken were %x, expected the good one only", g.taken)
	}
	alone := serve(t, api.Config{Provider: newHome(blank())})
	resp, _ := requestBody(t, http.MethodPost, alone.url+"/api/transactions", `{"transaction":"01"}`, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/json")
	})
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an agent without a ledger: got %s", resp.Status)
	}
}
