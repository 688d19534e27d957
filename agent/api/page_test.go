package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
)

// lines breaks HTML before every tag that opens, so that goldens can be read and compared.
func lines(s string) string { return strings.ReplaceAll(s, "><", ">\n<") }

func TestPageGolden(t *testing.T) {
	for name, snap := range map[string]api.Snapshot{"sunny": sunny(), "evening": evening(), "blank": blank(), "troubled": troubled(), "extreme": extreme()} {
		t.Run(name, func(t *testing.T) {
			shown := 8
			if name == "sunny" {
				shown = 32 // enough to see every state
			}
			snap.Intervals = snap.Intervals[max(0, len(snap.Intervals)-shown):]
			s := serve(t, api.Config{Provider: newHome(snap)})
			resp, body := get(t, s.url+"/")
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
				t.Errorf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
			}
			body = regexp.MustCompile(`\?v=[0-9a-f]+`).ReplaceAllString(body, "?v=HASH")
			golden(t, name+"/page.html", lines(body))
		})
	}
}

// Times are shown where the home is, over the change to winter time as well.
func TestPageTimeZone(t *testing.T) {
	vienna, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	snap := sunny()
	snap.Intervals = nil
	begin := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC) // 02:00 in Vienna, for the first time
	for n := range 8 {
		snap.Intervals = append(snap.Intervals, api.Interval{Start: begin.Add(time.Duration(n) * 15 * time.Minute), State: api.StateSettled})
	}
	s := serve(t, api.Config{Provider: newHome(snap), Location: vienna})
	_, body := get(t, s.url+"/")
	if got := regexp.MustCompile(`<time>[^<]*`).FindString(body); got != "<time>14:37:20" {
		t.Errorf("the clock is %q, expected 14:37:20, as it is in Vienna in summer", got)
	}
	var got []string
	for _, m := range regexp.MustCompile(`<th scope="row">(\d\d:\d\d)`).FindAllStringSubmatch(body, -1) {
		got = append(got, m[1])
	}
	if want := "02:45 02:30 02:15 02:00 02:45 02:30 02:15 02:00"; strings.Join(got, " ") != want {
		t.Errorf("the intervals of the hour that comes twice are at %v, expected %s", got, want)
	}
}

// What members and devices call themselves is text, wherever it ends up.
func TestPageEscapes(t *testing.T) {
	const evil = `<img src=x onerror=alert(1)>"'&</script>`
	snap := sunny()
	snap.Home.Name, snap.Home.Community, snap.Home.ID = evil, evil, evil
	snap.Account.Currency = evil
	snap.Ledger.AppHash, snap.Ledger.ChainID, snap.Ledger.WaitingFor = evil, evil, evil
	snap.Ledger.Peers = []api.Peer{{Name: evil, ID: evil}}
	snap.Ledger.Rejected = map[string]int64{evil: 1}
	snap.Meters = []api.Meter{{Role: evil, Definition: evil, Address: evil, Identity: evil, State: evil, Quality: evil, Note: evil}}
	snap.Problems = []api.Problem{{Code: evil, Severity: evil, Text: evil, Hint: evil}}
	snap.Grid.Nodes[2].ID, snap.Grid.Nodes[2].Reason, snap.Grid.Envelopes[0].Node, snap.Grid.Envelopes[0].Reason = evil, evil, evil, evil
	snap.Intervals[0].State, snap.Intervals[0].Quality = evil, evil
	s := serve(t, api.Config{Provider: newHome(snap), Version: evil})
	_, body := get(t, s.url+"/")
	if strings.Contains(body, "<img") || strings.Contains(body, "</script>\"") {
		t.Error("a name became markup")
	}
	if n := strings.Count(body, html.EscapeString("<img src=x")); n < 15 {
		t.Errorf("the name appears %d times as text, expected every place it was put", n)
	}
}

func unpack(t *testing.T, url string) (packed int, body string) {
	t.Helper()
	resp, raw := request(t, http.MethodGet, url, func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") })
	if got := resp.Header.Get("Content-Encoding"); got != "gzip" {
		t.Fatalf("%s: content encoding %q, expected gzip", url, got)
	}
	z, err := gzip.NewReader(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return len(raw), string(plain)
}

// The first view is small enough for a bad connection: 60 KB, and 8 KB of script.
func TestPageBudget(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	sum, page := unpack(t, s.url+"/")
	t.Logf("page: %d bytes, %d packed", len(page), sum)
	for _, m := range regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		url := s.url + html.UnescapeString(m[1])
		packed, plain := unpack(t, url)
		t.Logf("%s: %d bytes, %d packed", m[1], len(plain), packed)
		sum += packed
		if strings.Contains(url, ".js") && len(plain) > 8<<10 {
			t.Errorf("the script has %d bytes, expected 8 KB at most", len(plain))
		}
		if resp, _ := get(t, url); !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: Cache-Control is %q, expected it to be kept", url, resp.Header.Get("Cache-Control"))
		}
	}
	t.Logf("first view: %d bytes packed", sum)
	if sum > 60_000 {
		t.Errorf("the first view has %d bytes packed, expected 60 KB at most", sum)
	}
	for _, other := range regexp.MustCompile(`(?:href|src)="(?:https?:)?//[^"]*"`).FindAllString(page, -1) {
		t.Errorf("the page needs another host: %s", other)
	}
}

func TestAssets(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	for name, contentType := range map[string]string{
		"page.css": "text/css; charset=utf-8", "forms.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml", "manifest.webmanifest": "application/manifest+json",
	} {
		want, err := os.ReadFile("assets/" + name)
		if err != nil {
			t.Fatal(err)
		}
		resp, body := get(t, s.url+"/assets/"+name+"?v=0")
		if !bytes.Equal([]byte(body), want) || resp.Header.Get("Content-Type") != contentType || resp.Header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: got %d bytes, %v", name, len(body), resp.Header)
		}
	}
	for accept, want := range map[string]string{
		"": "", "br": "", "gzip": "gzip", "GZIP": "gzip", "br, gzip;q=0.5": "gzip", "gzip;q=0": "", "gzip;q=0.000": "", "gzip; q=1": "gzip", "gzipped": "",
	} {
		resp, _ := request(t, http.MethodGet, s.url+"/assets/page.css", func(r *http.Request) { r.Header.Set("Accept-Encoding", accept) })
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: got %q, expected %q", accept, got, want)
		}
	}
}

// TestContrast computes WCAG 2.2's contrast of the page's colours, light and
// dark: 4.5 for text, 3 for shapes that carry meaning.
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("assets/page.css")
	if err != nil {
		t.Fatal(err)
	}
	bright, dark, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("no dark colours")
	}
	dark, _, _ = strings.Cut(dark, "\n*,")
	for theme, rules := range map[string]string{"light": bright, "dark": dark} {
		colours := make(map[string][3]float64)
		for _, m := range regexp.MustCompile(`--([\w-]+): #([0-9a-f]{6})`).FindAllStringSubmatch(rules, -1) {
			var c [3]float64
			for i := range c {
				n, err := strconv.ParseUint(m[2][2*i:2*i+2], 16, 8)
				if err != nil {
					t.Fatal(err)
				}
				c[i] = float64(n) / 255
			}
			colours[m[1]] = c
		}
		check := func(front, back string, want float64) {
			f, okF := colours[front]
			b, okB := colours[back]
			if !okF || !okB {
				t.Fatalf("%s: no colour %s or %s", theme, front, back)
			}
			if got := contrast(f, b); got < want {
				t.Errorf("%s: %s on %s has a contrast of %.2f, expected %.1f", theme, front, back, got, want)
			}
		}
		for _, text := range []string{"ink", "soft", "good", "warn", "bad", "roof-ink", "battery-ink", "neighbours-ink", "grid-ink", "street-ink", "house-ink"} {
			check(text, "card", 4.5)
		}
		check("ink", "ground", 4.5)
		check("soft", "ground", 4.5)
		check("soft", "track", 4.5)
		for _, chip := range []string{"good", "warn", "bad"} {
			check(chip, chip+"-ground", 4.5)
			check("ink", chip+"-ground", 4.5)
			check("soft", chip+"-ground", 4.5)
		}
		for _, segment := range []string{"neighbours", "grid", "house", "street"} {
			check("on-dark", segment, 4.5)
			check(segment, "card", 3)
		}
		check("on-light", "roof", 4.5)
		check("on-light", "battery", 4.5)
	}
}

func contrast(a, b [3]float64) float64 {
	light := func(c [3]float64) float64 {
		for i, v := range c {
			if v <= 0.04045 {
				c[i] = v / 12.92
			} else {
				c[i] = math.Pow((v+0.055)/1.055, 2.4)
			}
		}
		return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
	}
	x, y := light(a), light(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// Every element the stream renews is on the page, and the other way round.
func TestFragmentsMatchThePage(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	_, page := get(t, s.url+"/")
	st := openStream(t, s.url+"/events?view=page")
	sections := st.next(t, "update").sections(t)
	onPage := make(map[string]bool)
	for _, m := range regexp.MustCompile(`id="(\w+)"[^>]* data-live`).FindAllStringSubmatch(page, -1) {
		onPage[m[1]] = true
		if _, ok := sections[m[1]]; !ok {
			t.Errorf("%s is on the page, but not in the stream", m[1])
		}
	}
	for id, raw := range sections {
		if !onPage[id] {
			t.Errorf("%s is in the stream, but not on the page", id)
		}
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(page, text) {
			t.Errorf("%s differs between the stream and the page", id)
		}
	}
}

func BenchmarkPage(b *testing.B) {
	h := newHome(sunny())
	s := serve(b, api.Config{Provider: h})
	for b.Loop() {
		if resp, _ := get(b, s.url+"/"); resp.StatusCode != http.StatusOK {
			b.Fatal(fmt.Errorf("got %s", resp.Status))
		}
	}
}

// Who comes to an address that is not there gets a page with a way out in a browser, and
// JSON elsewhere.
func TestNothingHere(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	for accept, want := range map[string]string{"text/html,application/xhtml+xml": `<a href="/">`, "*/*": `{"title":"Not Found"`} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/nothing", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(string(body), want) {
			t.Errorf("Accept %s: %s, %s, want it with %s", accept, resp.Status, body, want)
		}
	}
}
