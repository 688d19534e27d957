package api_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/api"
)

const (
	ownerPassword = "four quiet herons wade"
	guestPassword = "seven loud magpies talk"
)

// gateway is a claimed server with an account of each role.
type gateway struct {
	*running

	keeper *access.Keeper
	dir    string
	token  string
}

func keeper(t testing.TB, now func() time.Time) (*access.Keeper, string) {
	t.Helper()
	dir := t.TempDir()
	k, err := access.Open(access.Options{Dir: dir, Now: now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k, dir
}

// unclaimed is a gateway as it comes.
func unclaimed(t testing.TB, cfg api.Config) *gateway {
	t.Helper()
	k, dir := keeper(t, time.Now)
	cfg.Access = k
	g := &gateway{running: serve(t, cfg), keeper: k, dir: dir}
	var err error
	if g.token, err = access.ReadToken(dir); err != nil {
		t.Fatal(err)
	}
	return g
}

// claimed is a gateway with four accounts, each called as its role.
func claimed(t testing.TB, cfg api.Config) *gateway {
	t.Helper()
	g := unclaimed(t, cfg)
	by := access.Actor{Name: "test"}
	for _, role := range access.Roles {
		password := guestPassword
		if role == access.Homeowner {
			password = ownerPassword
		}
		if _, err := g.keeper.Add(by, string(role), role, password); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// post sends a form without following where it leads.
func (g *gateway) post(t testing.TB, path string, fields url.Values, cookie *http.Cookie) (*http.Response, string) {
	t.Helper()
	return requestBody(t, http.MethodPost, g.url+path, fields.Encode(), func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if cookie != nil {
			r.AddCookie(cookie)
		}
	})
}

// session is the cookie of an answer; nil if it sets none.
func (g *gateway) session(resp *http.Response) *http.Cookie {
	for _, c := range resp.Cookies() {
		if c.Name == g.CookieName() && c.MaxAge >= 0 {
			return c
		}
	}
	return nil
}

func (g *gateway) login(t testing.TB, name, password string) *http.Cookie {
	t.Helper()
	resp, body := g.post(t, "/login", url.Values{"name": {name}, "password": {password}}, nil)
	c := g.session(resp)
	if resp.StatusCode != http.StatusSeeOther || c == nil {
		t.Fatalf("login as %s: got %s, %v: %s", name, resp.Status, c, body)
	}
	return c
}

// The columns of the table of roles: nobody, homeowner, operator, cooperative, auditor, and the
// machine's own commands.
var columns = []access.Role{access.Nobody, access.Homeowner, access.Operator, access.Cooperative, access.Auditor, access.Local}

// roleTable is each route times each role, with the status of the answer. 404, 405, 409, 422 and 503
// are answers of the route itself to a request without sense: it was let through.
var roleTable = map[string]struct {
	path string
	want [6]int // in the order of columns
}{
	"GET /assets/{name}": {"/assets/page.css", [6]int{200, 200, 200, 200, 200, 200}},
	"GET /livez":         {"/livez", [6]int{200, 200, 200, 200, 200, 200}},
	"GET /claim":         {"/claim", [6]int{303, 303, 303, 303, 303, 303}}, // to the login
	"POST /claim":        {"/claim", [6]int{409, 409, 409, 409, 409, 409}},
	"GET /api/claim":     {"/api/claim", [6]int{401, 403, 403, 403, 403, 200}},
	"GET /login":         {"/login", [6]int{200, 303, 303, 303, 303, 200}},
	"POST /login":        {"/login", [6]int{401, 401, 401, 401, 401, 401}},
	"POST /logout":       {"/logout", [6]int{401, 303, 303, 303, 303, 403}},

	"GET /settings":                  {"/settings", [6]int{303, 200, 200, 200, 200, 403}},
	"POST /settings/password":        {"/settings/password", [6]int{401, 422, 422, 422, 422, 403}},
	"POST /settings/sessions":        {"/settings/sessions", [6]int{401, 422, 422, 422, 422, 403}},
	"POST /settings/accounts":        {"/settings/accounts", [6]int{401, 422, 403, 403, 403, 403}},
	"POST /settings/accounts/remove": {"/settings/accounts/remove", [6]int{401, 422, 403, 403, 403, 403}},

	"GET /{$}":                         {"/", [6]int{303, 200, 303, 303, 303, 200}},
	"GET /events":                      {"/events", [6]int{401, 200, 403, 403, 403, 200}},
	"GET /readyz":                      {"/readyz", [6]int{401, 200, 403, 403, 403, 200}},
	"GET /api/status":                  {"/api/status", [6]int{401, 200, 403, 403, 403, 200}},
	"GET /api/now":                     {"/api/now", [6]int{401, 200, 403, 403, 403, 200}},
	"GET /api/intervals":               {"/api/intervals", [6]int{401, 200, 403, 403, 403, 200}},
	"GET /api/account":                 {"/api/account", [6]int{401, 200, 403, 403, 403, 200}},
	"GET /api/readings":                {"/api/readings", [6]int{401, 503, 403, 403, 403, 503}},
	"GET /api/meters/connection":       {"/api/meters/connection", [6]int{401, 503, 403, 403, 403, 503}},
	"POST /api/meters/{role}/approval": {"/api/meters/solar/approval", [6]int{401, 503, 403, 403, 403, 503}},
	"POST /api/controls/{index}":       {"/api/controls/0", [6]int{401, 503, 403, 403, 403, 503}},
	"GET /api/bill":                    {"/api/bill", [6]int{401, 503, 403, 403, 403, 503}},
	"GET /api/bill/proof":              {"/api/bill/proof", [6]int{401, 503, 403, 403, 403, 503}},
	"GET /api/bill?household=":         {"/api/bill?household=00", [6]int{401, 404, 404, 503, 503, 503}},
	"GET /api/bill/proof?household=":   {"/api/bill/proof?household=00", [6]int{401, 404, 404, 503, 503, 503}},

	"GET /api/community":              {"/api/community", [6]int{401, 503, 403, 503, 503, 503}},
	"GET /api/correctable/{interval}": {"/api/correctable/1", [6]int{401, 503, 403, 403, 403, 503}},

	"GET /community":                {"/community", [6]int{303, 200, 200, 200, 403, 200}},
	"GET /api/grid":                 {"/api/grid", [6]int{401, 200, 200, 200, 403, 200}},
	"POST /api/transactions":        {"/api/transactions", [6]int{401, 503, 503, 503, 403, 503}},
	"GET /api/ledger/hash/{height}": {"/api/ledger/hash/1234", [6]int{401, 200, 200, 200, 200, 200}},
	"GET /api/ledger/audit":         {"/api/ledger/audit", [6]int{401, 503, 403, 503, 503, 503}},
	"GET /audit":                    {"/audit", [6]int{303, 200, 403, 403, 200, 200}},
	"GET /api/audit":                {"/api/audit", [6]int{401, 200, 403, 403, 200, 200}},

	"GET /openapi.yaml": {"/openapi.yaml", [6]int{401, 200, 200, 200, 200, 200}},
	"/":                 {"/nothing", [6]int{401, 404, 404, 404, 404, 404}},
}

// bodies are what a route needs to be asked with before it says that it has nothing to ask.
var bodies = map[string]string{
	"POST /api/controls/{index}":       `{"action":"resume"}`,
	"POST /api/meters/{role}/approval": `{"serial":"1"}`,
	"POST /api/transactions":           `{"transaction":"00"}`,
}

// TestRoleTable walks all routes that the server registered, times all roles.
func TestRoleTable(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	cookies := map[access.Role]*http.Cookie{}
	for _, role := range access.Roles {
		password := guestPassword
		if role == access.Homeowner {
			password = ownerPassword
		}
		cookies[role] = g.login(t, string(role), password)
	}
	for _, pattern := range append(g.Patterns(), api.RulePatterns()...) {
		if _, ok := roleTable[pattern]; !ok {
			t.Errorf("route %q has no row in this table", pattern)
		}
	}
	for pattern, row := range roleTable {
		if plain, _, _ := strings.Cut(pattern, "?"); !slices.Contains(g.Patterns(), plain) {
			t.Errorf("row %q is of no route", pattern)
		}
		if pattern == "POST /logout" {
			continue // last
		}
		for i, role := range columns {
			g.roleRow(t, pattern, row.path, role, cookies[role], row.want[i])
		}
	}
	row := roleTable["POST /logout"]
	for i, role := range columns {
		g.roleRow(t, "POST /logout", row.path, role, cookies[role], row.want[i])
	}
	for _, role := range access.Roles { // they are logged out
		g.roleRow(t, "GET /api/grid", "/api/grid", role, cookies[role], http.StatusUnauthorized)
	}
}

func (g *gateway) roleRow(t *testing.T, pattern, path string, role access.Role, cookie *http.Cookie, want int) {
	t.Helper()
	method, _, ok := strings.Cut(pattern, " ")
	if !ok {
		method = http.MethodGet
	}
	if pattern == "GET /events" {
		method = http.MethodHead // it would not end
	}
	resp, body := requestBody(t, method, g.url+path, bodies[pattern], func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if bodies[pattern] != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if cookie != nil {
			r.AddCookie(cookie)
		}
		if role == access.Local {
			r.Header.Set("Authorization", "Bearer "+g.token)
		}
	})
	if resp.StatusCode != want {
		t.Errorf("%s as %q: got %s, want %d: %.200s", pattern, role, resp.Status, want, body)
	}
	if method != http.MethodHead && resp.StatusCode == http.StatusForbidden && !strings.Contains(body, "not for the role") {
		t.Errorf("%s as %q: got %.200s, want it to name the role", pattern, role, body)
	}
}

// TestUnclaimedRefuses: before the claim there is the claim page, what it needs, a sign of life,
// and the machine's own commands.
func TestUnclaimedRefuses(t *testing.T) {
	g := unclaimed(t, api.Config{Provider: newHome(sunny())})
	for pattern, row := range roleTable {
		if strings.HasPrefix(pattern, "POST") && pattern != "POST /claim" {
			resp, _ := g.post(t, row.path, nil, nil)
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s: got %s, want 403", pattern, resp.Status)
			}
			continue
		}
		method := http.MethodGet
		if pattern == "POST /claim" {
			continue
		}
		want := http.StatusForbidden
		switch pattern {
		case "GET /livez", "GET /assets/{name}", "GET /claim":
			want = http.StatusOK
		case "GET /api/claim":
			want = http.StatusUnauthorized
		case "GET /{$}", "GET /login", "GET /settings", "GET /audit", "GET /community":
			want = http.StatusSeeOther
		}
		for _, cookie := range []string{"", "x", strings.Repeat("0", 64)} {
			resp, body := request(t, method, g.url+row.path, func(r *http.Request) {
				if cookie != "" {
					r.AddCookie(&http.Cookie{Name: g.CookieName(), Value: cookie})
				}
			})
			if resp.StatusCode != want {
				t.Errorf("%s: got %s, want %d: %.200s", pattern, resp.Status, want, body)
			}
			if want == http.StatusSeeOther && resp.Header.Get("Location") != "/claim" {
				t.Errorf("%s leads to %s, want the claim page", pattern, resp.Header.Get("Location"))
			}
		}
	}
	resp, _ := request(t, http.MethodGet, g.url+"/api/status", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+g.token) })
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the machine's own commands: got %s", resp.Status)
	}
}
