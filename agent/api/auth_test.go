package api_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/api"
)

func claimForm(code string) url.Values {
	return url.Values{"code": {code}, "name": {"ada"}, "password": {ownerPassword}, "again": {ownerPassword}}
}

// TestClaim goes from the code to the page, past everything that a person can get wrong.
func TestClaim(t *testing.T) {
	g := unclaimed(t, api.Config{Provider: newHome(sunny())})
	code, err := g.keeper.Code()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		field string
		value string
		want  int
		words string
	}{
		{"another code", "code", "AAAA-AAAA", 401, "that is not the code"},
		{"no code", "code", "", 401, "that is not the code"},
		{"a short password", "password", "short", 422, "the two are not the same"},
		{"a name with a blank", "name", "ada lovelace", 422, "want 1 to 32 small letters"},
		{"a name that is markup", "name", "<b>", 422, "&lt;b&gt;"},
	} {
		form := claimForm(code)
		form.Set(c.field, c.value)
		resp, body := g.post(t, "/claim", form, nil)
		if resp.StatusCode != c.want || !strings.Contains(body, c.words) || g.session(resp) != nil {
			t.Errorf("%s: got %s, want %d and %q in %s", c.name, resp.Status, c.want, c.words, body)
		}
	}
	for password, words := range map[string]string{
		"short":                          "has 5 characters, want at least 12",
		"aaaaaaaaaaaaaaaa":               "has 1 different characters, want at least 5",
		"ada-commonwatt-1":               "beside words that anybody would guess",
		strings.Repeat("ab", 60):         "has 2 different characters",
		strings.Repeat("0123456789", 26): "has 260 bytes, want at most 256",
		"with\x00a control":              "characters that cannot be typed",
	} {
		form := claimForm(code)
		form.Set("password", password)
		form.Set("again", password)
		if resp, body := g.post(t, "/claim", form, nil); resp.StatusCode != 422 || !strings.Contains(body, words) {
			t.Errorf("password %.20q: got %s, want %q in %s", password, resp.Status, words, body)
		}
	}
	form := claimForm(code)
	form.Set("password", strings.Repeat("x", 5000))
	if resp, _ := g.post(t, "/claim", form, nil); resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("an oversized form: got %s, want 413", resp.Status)
	}

	resp, body := g.post(t, "/claim", claimForm(" "+strings.ToLower(code)+" "), nil)
	cookie := g.session(resp)
	if resp.StatusCode != http.StatusSeeOther || cookie == nil {
		t.Fatalf("the claim: got %s, %v: %s", resp.Status, cookie, body)
	}
	raw := resp.Header.Get("Set-Cookie")
	for _, want := range []string{"HttpOnly", "Secure", "SameSite=Lax", "Path=/", "__Host-"} {
		if !strings.Contains(raw, want) {
			t.Errorf("the cookie %q is not %s", raw, want)
		}
	}
	resp, body = request(t, http.MethodGet, g.url+"/", func(r *http.Request) { r.AddCookie(cookie) })
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `href="/settings"`) {
		t.Errorf("the page after the claim: got %s", resp.Status)
	}
	if resp, body := g.post(t, "/claim", claimForm(code), nil); resp.StatusCode != http.StatusConflict {
		t.Errorf("a second claim: got %s: %s", resp.Status, body)
	}
	if _, err := g.keeper.Code(); err == nil {
		t.Error("a claimed gateway has a code still")
	}
	trail, err := g.keeper.Audit(10)
	if err != nil || trail.Broken != "" || trail.Entries[0].What != "claim" || trail.Entries[0].Result != "refused" ||
		trail.Entries[len(trail.Entries)-1].Detail != "ada" {
		t.Errorf("the audit log has %+v, %v", trail, err)
	}
}

// TestGuessingTheCode: few guesses are answered, and then none.
func TestGuessingTheCode(t *testing.T) {
	g := unclaimed(t, api.Config{Provider: newHome(sunny())})
	got := map[int]int{}
	for n := range 40 {
		resp, _ := g.post(t, "/claim", claimForm(fmt.Sprintf("AAAA-%04d", n)), nil)
		got[resp.StatusCode]++
	}
	if got[http.StatusUnauthorized] == 0 || got[http.StatusUnauthorized] > 10 || got[http.StatusTooManyRequests] < 30 {
		t.Errorf("40 guesses were answered %v, want at most 10 looked at", got)
	}
}

// TestManyLogins: a thousand in a row are refused, and the gateway stays usable meanwhile.
func TestManyLogins(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	cookie := g.login(t, "homeowner", ownerPassword)
	got := map[int]int{}
	for n := range 1000 {
		resp, _ := g.post(t, "/login", url.Values{"name": {"homeowner"}, "password": {"wrong, number " + strconv.Itoa(n)}}, nil)
		got[resp.StatusCode]++
		if resp.StatusCode == http.StatusTooManyRequests {
			if wait, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 60 {
				t.Fatalf("Retry-After is %q", resp.Header.Get("Retry-After"))
			}
		}
	}
	if got[http.StatusUnauthorized] > 20 || got[http.StatusTooManyRequests] < 980 {
		t.Errorf("1000 logins were answered %v", got)
	}
	if resp, _ := request(t, http.MethodGet, g.url+"/api/status", func(r *http.Request) { r.AddCookie(cookie) }); resp.StatusCode != http.StatusOK {
		t.Errorf("who is logged in meanwhile gets %s", resp.Status)
	}
	if resp, _ := request(t, http.MethodGet, g.url+"/api/status", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+g.token) }); resp.StatusCode != http.StatusOK {
		t.Errorf("the machine's own commands get %s", resp.Status)
	}
	trail, err := g.keeper.Audit(40)
	if err != nil || trail.Last > 40 {
		t.Errorf("the audit log has %d lines, %v: strangers fill it", trail.Last, err)
	}
	if !slices.ContainsFunc(trail.Entries, func(e access.Entry) bool { return e.What == "login" && e.Result == "refused" }) {
		t.Errorf("the audit log does not say that logins were refused: %+v", trail.Entries)
	}
}

// TestManyRequests: who asks for everything all the time is asked to wait.
func TestManyRequests(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	got := map[int]int{}
	for range 600 {
		resp, _ := get(t, g.url+"/api/now")
		got[resp.StatusCode]++
	}
	if got[http.StatusUnauthorized] == 0 || got[http.StatusTooManyRequests] == 0 || len(got) != 2 {
		t.Errorf("600 requests of nobody were answered %v", got)
	}
}

// TestSessionsEnd: a session is over with its logout, a new password, a reset at the machine, and its account.
func TestSessionsEnd(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	status := func(c *http.Cookie) int {
		resp, _ := request(t, http.MethodGet, g.url+"/api/ledger/hash/1234", func(r *http.Request) { r.AddCookie(c) })
		return resp.StatusCode
	}
	for _, forged := range []string{"", "0", strings.Repeat("0", 64), strings.Repeat("g", 64), strings.Repeat("a", 10_000)} {
		if got := status(&http.Cookie{Name: g.CookieName(), Value: forged}); got != http.StatusUnauthorized {
			t.Errorf("a forged cookie of %d bytes: got %d", len(forged), got)
		}
	}
	first, second := g.login(t, "operator", guestPassword), g.login(t, "operator", guestPassword)
	if first.Value == second.Value || status(first) != 200 || status(second) != 200 {
		t.Fatal("two browsers do not have a session each")
	}
	g.post(t, "/logout", nil, first)
	if status(first) != 401 || status(second) != 200 {
		t.Errorf("after a logout: got %d and %d", status(first), status(second))
	}

	third := g.login(t, "operator", guestPassword)
	change := url.Values{"old": {"wrong password here"}, "password": {"nine slow lapwings call"}, "again": {"nine slow lapwings call"}}
	if resp, _ := g.post(t, "/settings/password", change, third); resp.StatusCode != 401 || status(third) != 200 {
		t.Errorf("a change with a wrong old password: got %s", resp.Status)
	}
	change.Set("old", guestPassword)
	resp, body := g.post(t, "/settings/password", change, third)
	fresh := g.session(resp)
	if resp.StatusCode != 200 || fresh == nil || !strings.Contains(body, "(this browser)") {
		t.Fatalf("a change of the password: got %s: %s", resp.Status, body)
	}
	if status(second) != 401 || status(third) != 401 || status(fresh) != 200 {
		t.Errorf("after a new password: got %d, %d, and %d for the session that begins with it", status(second), status(third), status(fresh))
	}

	folder, err := access.OpenFolder(g.dir, time.Now) // as another process does
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := folder.Reset(access.Actor{Name: "local", Role: access.Local}, "operator", ""); err != nil {
		t.Fatal(err)
	}
	if got := status(fresh); got != 401 {
		t.Errorf("after a reset at the machine: got %d", got)
	}
	auditor := g.login(t, "auditor", guestPassword)
	if err := folder.Remove(access.Actor{Name: "local", Role: access.Local}, "auditor"); err != nil {
		t.Fatal(err)
	}
	if got := status(auditor); got != 401 {
		t.Errorf("after its account has gone: got %d", got)
	}
}

// TestStreamEndsWithItsSession: an open page of somebody who was logged out shows nothing new.
func TestStreamEndsWithItsSession(t *testing.T) {
	h := newHome(sunny())
	g := claimed(t, api.Config{Provider: h})
	cookie, other := g.login(t, "homeowner", ownerPassword), g.login(t, "homeowner", ownerPassword)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(cookie)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	eventually(t, "the stream", func() bool { return streams(t, g.running) == 1 })
	list, err := g.keeper.Sessions(access.Principal{Role: access.Homeowner})
	if err != nil || len(list) != 2 {
		t.Fatalf("got %v, %v", list, err)
	}
	g.post(t, "/logout", nil, cookie)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream did not end well: %v", err)
	}
	list, err = g.keeper.Sessions(access.Principal{Role: access.Homeowner})
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	if resp, _ := g.post(t, "/settings/sessions", url.Values{"session": {list[0].ID}}, other); resp.StatusCode != http.StatusSeeOther && resp.StatusCode != http.StatusOK {
		t.Errorf("ending a session: got %s", resp.Status)
	}
	eventually(t, "the stream's end", func() bool { return streams(t, g.running) == 0 })
}

// TestAccountsOnTheSettingsPage: the homeowner makes an account, and its password is shown once.
func TestAccountsOnTheSettingsPage(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	cookie := g.login(t, "homeowner", ownerPassword)
	resp, body := g.post(t, "/settings/accounts", url.Values{"name": {"dso"}, "role": {"operator"}}, cookie)
	_, rest, ok := strings.Cut(body, "shown this once: ")
	if resp.StatusCode != 200 || !ok {
		t.Fatalf("got %s: %s", resp.Status, body)
	}
	g.login(t, "dso", rest[:24])
	if _, again := request(t, http.MethodGet, g.url+"/settings", func(r *http.Request) { r.AddCookie(cookie) }); strings.Contains(again, rest[:24]) {
		t.Error("the password is shown again")
	}
	if resp, body := g.post(t, "/settings/accounts/remove", url.Values{"name": {"dso"}}, cookie); resp.StatusCode != 200 || strings.Contains(body, ">dso<") {
		t.Errorf("the removal: got %s", resp.Status)
	}
	if resp, _ := g.post(t, "/settings/accounts/remove", url.Values{"name": {"homeowner"}}, cookie); resp.StatusCode != 422 {
		t.Errorf("the removal of the only homeowner: got %s", resp.Status)
	}
}

// TestTokenFromElsewhere: the token of the machine's commands is good on the machine only. A pipe is not it.
func TestTokenFromElsewhere(t *testing.T) {
	k, dir := keeper(t, time.Now)
	token, err := access.ReadToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := newPipes()
	serve(t, api.Config{Provider: newHome(sunny()), Access: k, Listener: l})
	conn := l.dial(t, "GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	defer conn.Close()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %v, %v, want 401", resp, err)
	}
}

// TestBrokenAccounts: nobody gets in while the accounts cannot be read; the gateway is not unclaimed by that.
func TestBrokenAccounts(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	cookie := g.login(t, "homeowner", ownerPassword)
	if err := os.WriteFile(filepath.Join(g.dir, access.AccountsFile), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/": 503, "/claim": 503, "/api/now": 503, "/livez": 200, "/assets/forms.css": 200} {
		for _, c := range []*http.Cookie{nil, cookie} {
			resp, body := request(t, http.MethodGet, g.url+path, func(r *http.Request) {
				if c != nil {
					r.AddCookie(c)
				}
			})
			if resp.StatusCode != want && (c == nil || want != 200) {
				t.Errorf("%s: got %s, want %d: %s", path, resp.Status, want, body)
			}
		}
	}
}

// TestCrossSiteForms: what another site's page makes a browser send is refused before anything is read.
func TestCrossSiteForms(t *testing.T) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	cookie := g.login(t, "homeowner", ownerPassword)
	for name, headers := range map[string][2]string{
		"another site":        {"cross-site", "https://evil.example"},
		"another port":        {"same-site", "http://127.0.0.1:1"},
		"only an origin":      {"", "https://evil.example"},
		"an origin of a file": {"", "null"},
	} {
		for _, path := range []string{"/login", "/logout", "/claim", "/settings/password", "/settings/accounts", "/api/transactions"} {
			resp, _ := requestBody(t, http.MethodPost, g.url+path, url.Values{"name": {"homeowner"}, "password": {ownerPassword}}.Encode(), func(r *http.Request) {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set("Origin", headers[1])
				if headers[0] != "" {
					r.Header.Set("Sec-Fetch-Site", headers[0])
				}
				r.AddCookie(cookie)
			})
			if resp.StatusCode != http.StatusForbidden || g.session(resp) != nil {
				t.Errorf("%s, %s: got %s", name, path, resp.Status)
			}
		}
	}
}

// TestTLS: a page inside TLS shows the certificate whose fingerprint the console shows, and leads
// who comes without TLS to it.
func TestTLS(t *testing.T) {
	k, dir := keeper(t, time.Now)
	cert, err := access.OpenCertificate(dir, []string{"house.local"}, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, api.Config{Provider: newHome(sunny()), Access: k, Certificate: cert, Hosts: []string{"house.local"}})
	pinned, err := access.Pinned(dir)
	if err != nil {
		t.Fatal(err)
	}
	secure := &http.Client{Transport: &http.Transport{TLSClientConfig: pinned, DisableKeepAlives: true}, CheckRedirect: client.CheckRedirect}
	resp, err := secure.Get("https://" + s.Addr() + "/claim")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.Contains(strings.ReplaceAll(string(body), "<br>", ""), cert.Fingerprint()) || resp.Proto != "HTTP/1.1" {
		t.Errorf("the claim page: got %s, %s, %v", resp.Status, resp.Proto, err)
	}
	if err := resp.TLS.PeerCertificates[0].VerifyHostname("house.local"); err != nil || resp.TLS.Version < tls.VersionTLS12 {
		t.Errorf("the certificate: %v", err)
	}
	for _, c := range []struct{ head, want, location string }{
		{"GET /settings?a=b HTTP/1.1\r\nHost: " + s.Addr() + "\r\n\r\n", "307", "https://" + s.Addr() + "/settings?a=b"},
		{"HEAD / HTTP/1.1\r\nHost: house.local\r\n\r\n", "307", "https://house.local/"},
		{"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "400", ""},
		{"GET / HTTP/1.1\r\nHost: 127.0.0.1:1@evil.example\r\n\r\n", "400", ""},
		{"POST /login HTTP/1.1\r\nHost: " + s.Addr() + "\r\nContent-Length: 0\r\n\r\n", "400", ""},
	} {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, c.head); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		conn.Close()
		location := ""
		for line := range strings.Lines(string(answer)) {
			if v, ok := strings.CutPrefix(line, "Location: "); ok {
				location = strings.TrimSpace(v)
			}
		}
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+c.want) || location != c.location || !strings.Contains(string(answer), "https://") {
			t.Errorf("%.40q: got %q, %v, want %s to %q", c.head, answer, err, c.want, c.location)
		}
	}
	for _, junk := range []string{"\x16\x03\x01\x00\x05hello", "\x00\x00\x00\x00\x00\x00", strings.Repeat("A", 20_000)} {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, junk) }()
		_, _ = io.Copy(io.Discard, conn) // it ends, however
		conn.Close()
	}
}
