package api_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/commonwatt/commonwatt/agent/api"
)

// browser starts a headless Chromium with a profile of its own; its context is
// the parent of the tabs.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: the page is tested in a real browser; install the package chromium (apt-get install chromium)", err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.Headless,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("hide-scrollbars", true),
	}
	for _, flag := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync",
		"disable-default-apps", "disable-dev-shm-usage", "no-default-browser-check",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancelBrowser := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		cancelBrowser()
		cancelAllocator()
	})
	if err := chromedp.Do(ctx); err != nil { // starts it; without a deadline, which would be the browser's
		t.Fatalf("starting %s: %v", path, err)
	}
	return ctx
}

// tab is one open page.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	console []string
}

// look is how a tab shows the page.
type look struct {
	width, height int64
	scheme        string // light or dark
	motion        string // empty, or reduce
}

var desk = look{width: 1280, height: 900, scheme: "light"}

// open opens a tab on the page and waits until its script runs.
func open(t *testing.T, parent context.Context, url string, l look) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	tb := &tab{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			tb.mu.Lock()
			tb.console = append(tb.console, m.String())
			tb.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	tb.do(chromedp.EmulateViewport(l.width, l.height), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: l.scheme}, {Name: "prefers-reduced-motion", Value: l.motion},
		}})
		return err
	}), chromedp.Navigate(url))
	return tb
}

func (tb *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, 60*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		tb.t.Fatal(err)
	}
}

// until waits for a JavaScript expression to be true.
func (tb *tab) until(expression string) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, 60*time.Second)
	defer cancel()
	poll := chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(50*time.Second))
	if _, err := chromedp.Run(ctx, poll); err != nil {
		tb.t.Fatalf("waiting for %s: %v; the page says %q", expression, err, tb.text("document.body.innerText"))
	}
}

func eval[T any](tb *tab, expression string) T {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, 60*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		tb.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

func (tb *tab) text(expression string) string { return eval[string](tb, expression) }

// quiet fails if the browser had anything to complain about.
func (tb *tab) quiet() {
	tb.t.Helper()
	tb.mu.Lock()
	defer tb.mu.Unlock()
	for _, m := range tb.console {
		tb.t.Errorf("browser console: %s", m)
	}
}

// fits fails if the page can be scrolled sideways, and names what sticks out.
func (tb *tab) fits() {
	tb.t.Helper()
	if over := tb.text(`(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return "";
		return [...document.querySelectorAll("body *")].filter((e) => !e.closest(".scroll") && !e.closest(".skip") && e.getBoundingClientRect().right > width + 0.5)
			.map((e) => e.tagName + "." + e.getAttribute("class") + " " + Math.round(e.getBoundingClientRect().right)).join(", ") || "something";
	})()`); over != "" {
		tb.t.Errorf("the page is wider than its window: %s", over)
	}
}

// same fails if the page, after its updates, differs from one loaded afresh.
func (tb *tab) same() {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, 60*time.Second)
	defer cancel()
	differs, err := chromedp.Run(ctx, chromedp.Evaluate[string](`(async () => {
		const fresh = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
		return [...document.querySelectorAll("[data-live]")].filter((e) => e.innerHTML !== fresh.getElementById(e.id).innerHTML)
			.map((e) => e.id + ": " + e.innerHTML.slice(0, 300) + " instead of " + fresh.getElementById(e.id).innerHTML.slice(0, 300)).join("\n");
	})()`, chromedp.EvalAwaitPromise))
	if err != nil {
		tb.t.Fatal(err)
	}
	if differs != "" {
		tb.t.Errorf("after an update the page is not what it would be if loaded now:\n%s", differs)
	}
}

// picture writes the whole page as a PNG, for people to look at.
func (tb *tab) picture(name string) {
	tb.t.Helper()
	dir := os.Getenv("COMMONWATT_PICTURES")
	if dir == "" {
		dir = tb.t.TempDir()
	}
	png, err := chromedp.Run(tb.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		tb.t.Fatalf("taking a picture: %v", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tb.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		tb.t.Fatal(err)
	}
	if len(png) < 20_000 {
		tb.t.Errorf("picture %s has %d bytes, expected a page full of things", name, len(png))
	}
}

const sentenceIs = `document.querySelector("h1").textContent.startsWith(%q)`

// TestPageInABrowser looks at the page as people do. One browser serves all of
// it; every server has a port, and with it an origin, of its own.
func TestPageInABrowser(t *testing.T) {
	ctx := browser(t)
	t.Run("looks", func(t *testing.T) { testLooks(t, ctx) })
	t.Run("keeps open details", func(t *testing.T) { testKeepsOpenDetails(t, ctx) })
	t.Run("offline and back", func(t *testing.T) { testOfflineAndBack(t, ctx) })
	t.Run("seven tabs share one stream", func(t *testing.T) { testSevenTabs(t, ctx) })
	t.Run("polls without a stream", func(t *testing.T) { testPolls(t, ctx) })
}

func testLooks(t *testing.T, ctx context.Context) {
	for _, c := range []struct {
		name string
		look look
		snap api.Snapshot
	}{
		{"light", desk, sunny()},
		{"dark", look{width: 1280, height: 900, scheme: "dark"}, sunny()},
		{"phone-light", look{width: 390, height: 844, scheme: "light"}, sunny()},
		{"phone-dark", look{width: 390, height: 844, scheme: "dark"}, sunny()},
		{"evening", desk, evening()},
		{"phone-small", look{width: 320, height: 640, scheme: "light"}, evening()},
		{"tablet", look{width: 820, height: 1100, scheme: "light"}, mixed()},
		{"troubled", desk, troubled()},
		{"phone-troubled", look{width: 390, height: 844, scheme: "dark"}, troubled()},
		{"blank", desk, blank()},
		{"phone-extreme", look{width: 390, height: 844, scheme: "light"}, extreme()},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(blank())
			s := serve(t, api.Config{Provider: h, StreamGap: 10 * time.Millisecond})
			c.look.motion = "reduce"
			tb := open(t, ctx, s.url, c.look)
			tb.until(fmt.Sprintf(sentenceIs, "Waiting for the first"))
			eventually(t, "the page's stream", func() bool { return h.subscribed() == 1 && streams(t, s) == 1 })
			h.set(c.snap)
			tb.until(fmt.Sprintf(`document.querySelector("time").textContent === %q && !document.body.classList.contains("offline")`, c.snap.At.Format("15:04:05")))
			tb.fits()
			tb.same()
			tb.picture(c.name)
			tb.do(chromedp.Evaluate[chromedp.Void](`document.querySelectorAll("details").forEach((d) => d.open = true)`))
			tb.fits()
			if c.name == "light" || c.name == "phone-dark" {
				tb.picture(c.name + "-open")
			}
			if eval[bool](tb, `document.body.classList.contains("offline")`) {
				t.Error("the page says that it is offline")
			}
			tb.quiet()
		})
	}
}

// streams reads the number of open streams from the metrics.
func streams(t *testing.T, s *running) int {
	t.Helper()
	_, body := get(t, s.ops+"/metrics")
	for line := range strings.Lines(body) {
		var n int
		if _, err := fmt.Sscanf(line, "commonwatt_api_streams %d", &n); err == nil {
			return n
		}
	}
	t.Fatal("no metric commonwatt_api_streams")
	return 0
}

func testKeepsOpenDetails(t *testing.T, ctx context.Context) {
	h := newHome(sunny())
	s := serve(t, api.Config{Provider: h, StreamGap: 10 * time.Millisecond})
	tb := open(t, ctx, s.url, desk)
	eventually(t, "the page's stream", func() bool { return streams(t, s) == 1 })
	tb.do(chromedp.Click(chromedp.CSS("section.intervals summary")))
	h.set(evening())
	tb.until(`document.querySelector("time").textContent === "21:52:05"`)
	if !eval[bool](tb, `document.querySelector("section.intervals details").open`) {
		t.Error("an update closed the table that the reader had opened")
	}
	if n := eval[int](tb, `document.querySelectorAll("#intervals > tr").length`); n != 96 {
		t.Errorf("got %d rows of intervals, expected 96", n)
	}
	tb.quiet()
}

func testOfflineAndBack(t *testing.T, ctx context.Context) {
	h := newHome(sunny())
	s := serve(t, api.Config{Provider: h})
	tb := open(t, ctx, s.url, desk)
	eventually(t, "the page's stream", func() bool { return streams(t, s) == 1 })
	s.stop()
	tb.until(`document.body.classList.contains("offline")`)
	if got, want := tb.text(`document.getElementById("stream").innerText`), "offline, last data 12:37"; got != want {
		t.Errorf("the page says %q, expected %q", got, want)
	}
	tb.picture("offline")

	h.set(evening())
	serve(t, api.Config{Provider: h, Listen: s.Addr()})
	tb.until(`!document.body.classList.contains("offline") && document.querySelector("time").textContent === "21:52:05"`)
	if !eval[bool](tb, `document.getElementById("stream").hidden`) {
		t.Error("the page still shows that it is offline")
	}
}

// A browser opens six connections to a host: with a stream each, the seventh
// tab would never load.
func testSevenTabs(t *testing.T, ctx context.Context) {
	h := newHome(sunny())
	s := serve(t, api.Config{Provider: h, StreamGap: 10 * time.Millisecond})
	tabs := make([]*tab, 0, 7)
	for range cap(tabs) {
		tabs = append(tabs, open(t, ctx, s.url, desk))
	}
	eventually(t, "one stream for all tabs", func() bool { return streams(t, s) == 1 })
	h.set(evening())
	for _, tb := range tabs {
		tb.until(`document.querySelector("time").textContent === "21:52:05"`)
	}

	// Whichever tab leads, closing tabs one after the other hands the lead on.
	for len(tabs) > 1 {
		tabs[0].do(chromedp.Navigate("about:blank"))
		tabs = tabs[1:]
	}
	h.set(sunny())
	tabs[0].until(`document.querySelector("time").textContent === "12:37:20"`)
	eventually(t, "one stream for the last tab", func() bool { return streams(t, s) == 1 })
	tabs[0].quiet()
}

// With every stream taken the page still follows, by asking.
func testPolls(t *testing.T, ctx context.Context) {
	h := newHome(sunny())
	s := serve(t, api.Config{Provider: h, MaxStreams: 1, StreamGap: 10 * time.Millisecond})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: %s\r\n\r\n", s.Addr()); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("taking the only stream: %v, %v", resp, err)
	}
	tb := open(t, ctx, s.url, desk)
	h.set(evening())
	tb.until(`document.querySelector("time").textContent === "21:52:05" && !document.body.classList.contains("offline")`)
	conn.Close()
	eventually(t, "the page to get a stream", func() bool { return streams(t, s) == 1 })
}
