package api_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/security"
	"github.com/chromedp/chromedp"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/api"
)

var phone = look{width: 390, height: 844, scheme: "dark"}

// fill types into the fields of the form that has a button with these words, and presses it.
func (tb *tab) fill(button string, fields map[string]string) {
	tb.t.Helper()
	for name, value := range fields {
		tb.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => {
			const form = [...document.querySelectorAll("button")].find((b) => b.innerText.startsWith(%q)).form;
			form.elements[%q].value = %q;
		})()`, button, name, value)))
	}
	tb.press(button)
}

// press presses the first button with these words, and waits for the page that follows.
func (tb *tab) press(button string) {
	tb.t.Helper()
	tb.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`(() => {
		window.before = true;
		[...document.querySelectorAll("button")].find((b) => b.innerText.startsWith(%q)).click();
	})()`, button)))
	tb.lands(`!window.before`)
}

// lands waits for a page on which an expression is true. Pages that come and go meanwhile are no error.
func (tb *tab) lands(expression string) {
	tb.t.Helper()
	eventually(tb.t, expression, func() bool {
		ctx, cancel := context.WithTimeout(tb.ctx, 20*time.Second)
		defer cancel()
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && (`+expression+`)`))
		return err == nil && ok
	})
}

func (tb *tab) heading() string { return tb.text(`document.querySelector("h1").innerText`) }

// TestAccessInABrowser walks the claim, the roles and an attack as people would.
func TestAccessInABrowser(t *testing.T) {
	ctx := browser(t)
	t.Run("claim", func(t *testing.T) { testClaimInABrowser(t, ctx) })
	t.Run("roles", func(t *testing.T) { testRolesInABrowser(t, ctx) })
	t.Run("cross site", func(t *testing.T) { testCrossSite(t, ctx) })
	t.Run("tls", func(t *testing.T) { testTLSInABrowser(t, ctx) })
}

func testClaimInABrowser(t *testing.T, ctx context.Context) {
	g := unclaimed(t, api.Config{Provider: newHome(sunny())})
	code, err := g.keeper.Code()
	if err != nil {
		t.Fatal(err)
	}
	tb := open(t, ctx, g.url, phone)
	if got := tb.heading(); got != "Claim this gateway" {
		t.Fatalf("a gateway that nobody owns shows %q", got)
	}
	tb.fits()
	tb.picture("claim")
	form := map[string]string{"code": "AAAA-AAAA", "name": "ada", "password": ownerPassword, "again": ownerPassword}
	tb.fill("Claim", form)
	if got := tb.text(`document.querySelector("[role=alert]").innerText`); got != "that is not the code" {
		t.Errorf("a wrong code: the page says %q", got)
	}
	form["code"] = strings.ToLower(code)
	tb.fill("Claim", form)
	tb.until(fmt.Sprintf(sentenceIs, "Your roof"))
	tb.until(`document.querySelector(".chip-live") !== null && !document.body.classList.contains("offline")`)
	eventually(t, "the page's stream", func() bool { return streams(t, g.running) == 1 })

	tb.do(chromedp.Navigate(g.url + "/settings"))
	tb.fits()
	tb.picture("settings-phone")
	if got := tb.text(`document.querySelector("nav").innerText`); !strings.Contains(got, "Log out ada") {
		t.Errorf("the pages say %q", got)
	}
	tb.press("Log out")
	if got := tb.heading(); got != "Log in" {
		t.Errorf("after the logout there is %q", got)
	}
	tb.do(chromedp.Navigate(g.url))
	if got := tb.heading(); got != "Log in" {
		t.Errorf("who is not logged in sees %q", got)
	}
	tb.fits()
	tb.picture("login-phone")
	tb.fill("Log in", map[string]string{"name": "ada", "password": ownerPassword})
	tb.until(fmt.Sprintf(sentenceIs, "Your roof"))

	// A page that is open when its session ends leads to the login by itself.
	eventually(t, "the page's stream", func() bool { return streams(t, g.running) == 1 })
	if _, _, err := g.keeper.Reset(access.Actor{Name: "local"}, "ada", guestPassword); err != nil {
		t.Fatal(err)
	}
	list, err := g.keeper.Sessions(access.Principal{Role: access.Homeowner})
	if err != nil || len(list) != 0 {
		t.Fatalf("got %v, %v, want no session after the reset", list, err)
	}
	tb.lands(`document.querySelector("h1")?.innerText === "Log in"`)
}

// seen is what a role finds: the heading at its start, the words it can see there, and what it cannot reach.
var seen = map[access.Role]struct {
	heading, words string
	refused        []string
}{
	access.Homeowner:   {"Your roof", "Power now", nil},
	access.Operator:    {"Community", "at least three homes", []string{"/api/now", "/api/account", "/api/readings", "/api/bill", "/audit", "/events"}},
	access.Cooperative: {"Community", "Every node in numbers", []string{"/api/now", "/api/bill", "/audit", "/events"}},
	access.Auditor:     {"Audit log", "login", []string{"/api/now", "/api/grid", "/community", "/events"}},
}

func testRolesInABrowser(t *testing.T, ctx context.Context) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	for role, want := range seen {
		password := guestPassword
		if role == access.Homeowner {
			password = ownerPassword
		}
		tb := open(t, ctx, g.url+"/login", desk)
		tb.fill("Log in", map[string]string{"name": string(role), "password": password})
		if got := tb.heading(); !strings.HasPrefix(got, want.heading) {
			t.Errorf("%s begins at %q, want %q", role, got, want.heading)
		}
		tb.do(chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach((d) => d.open = true)`))
		if got := tb.text("document.body.innerText"); !strings.Contains(strings.ToLower(got), strings.ToLower(want.words)) {
			t.Errorf("%s does not see %q in %q", role, want.words, got)
		}
		tb.fits()
		tb.picture("role-" + string(role))
		for _, path := range want.refused {
			if got := eval[int](tb, fmt.Sprintf(`(() => { const r = new XMLHttpRequest(); r.open("GET", %q, false); r.send(); return r.status; })()`, path)); got != http.StatusForbidden {
				t.Errorf("%s gets %d from %s", role, got, path)
			}
		}
		tb.do(chromedp.Navigate(g.url + "/settings"))
		if got := eval[bool](tb, `document.querySelector("#h-accounts") !== null`); got != (role == access.Homeowner) {
			t.Errorf("%s sees the accounts: %v", role, got)
		}
		tb.fits()
		tb.press("Log out")
	}
}

// testCrossSite opens a page of another origin in the browser of a homeowner who is logged in.
func testCrossSite(t *testing.T, ctx context.Context) {
	g := claimed(t, api.Config{Provider: newHome(sunny())})
	tb := open(t, ctx, g.url+"/login", desk)
	tb.fill("Log in", map[string]string{"name": "homeowner", "password": ownerPassword})

	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/fetch" {
			fmt.Fprintf(w, `<script>
				const say = (path, body) => fetch(%q + path, {method: "POST", body, mode: "no-cors", credentials: "include", headers: {"Content-Type": "application/x-www-form-urlencoded"}});
				Promise.allSettled([say("/settings/accounts", "name=evil&role=homeowner"), say("/logout", ""), say("/api/transactions", "{}"), say("/api/controls/0", "{}"),
					fetch(%q + "/api/now", {credentials: "include"}).then((r) => r.text()).then((text) => window.stolen = text)]).then(() => window.tried = true);
			</script>`, g.url, g.url)
			return
		}
		fmt.Fprintf(w, `<form method="post" action="%s/settings/accounts"><input name="name" value="evil"><input name="role" value="homeowner"></form>
			<script>document.querySelector("form").submit()</script>`, g.url)
	}))
	defer evil.Close()
	_, port, err := net.SplitHostPort(evil.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	// 127.0.0.1 with another port is the same site, so the browser sends the cookie along;
	// localhost is another site.
	for _, host := range []string{"127.0.0.1", "localhost"} {
		base := "http://" + net.JoinHostPort(host, port)
		attack := open(t, ctx, base+"/form", desk)
		attack.lands(fmt.Sprintf("location.href.startsWith(%q)", g.url))
		if got := attack.text("document.body.innerText"); !strings.Contains(got, "cross-origin") {
			t.Errorf("a form of %s: got %q, want it refused as cross-origin", host, got)
		}
		attack = open(t, ctx, base+"/fetch", desk)
		attack.until("window.tried === true")
		if eval[bool](attack, "window.stolen !== undefined") {
			t.Errorf("a page of %s read %q", host, attack.text("window.stolen"))
		}
	}
	all, err := g.keeper.Accounts()
	if err != nil || len(all) != len(access.Roles) {
		t.Errorf("there are accounts %v, %v: another site made one", all, err)
	}
	tb.do(chromedp.Navigate(g.url + "/settings"))
	if got := tb.heading(); got != "Settings" {
		t.Errorf("another site logged the homeowner out: there is %q", got)
	}
}

// testTLSInABrowser: the browser keeps the session inside TLS, and shows the same fingerprint.
func testTLSInABrowser(t *testing.T, ctx context.Context) {
	k, dir := keeper(t, time.Now)
	cert, err := access.OpenCertificate(dir, nil, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, api.Config{Provider: newHome(sunny()), Access: k, Certificate: cert})
	code, err := k.Code()
	if err != nil {
		t.Fatal(err)
	}
	tb := open(t, ctx, "about:blank", desk)
	tb.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error { // what a person clicks through once
		_, err := cdp.Call(ctx, target, security.SetIgnoreCertificateErrors, security.SetIgnoreCertificateErrorsParams{Ignore: true})
		return err
	}), chromedp.Navigate("http://"+s.Addr()))
	if got := tb.text("location.href"); got != "https://"+s.Addr()+"/claim" {
		t.Errorf("the page without TLS leads to %s", got)
	}
	if got := tb.text("document.body.innerText"); !strings.Contains(strings.ReplaceAll(got, "\n", ""), cert.Fingerprint()) {
		t.Errorf("the claim page does not show the fingerprint %s: %s", cert.Fingerprint(), got)
	}
	tb.fits()
	tb.picture("claim-tls")
	tb.fill("Claim", map[string]string{"code": code, "name": "ada", "password": ownerPassword, "again": ownerPassword})
	tb.until(fmt.Sprintf(sentenceIs, "Your roof"))
	eventually(t, "the page's stream", func() bool { return streams(t, s) == 1 })
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}}).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("a client that prefers HTTP/2 speaks %q", got)
	}
}
