package demo_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// pictures opens home n's live page as people do, in light, in dark and on a phone: it
// must become live, must not be wider than its window, and must move by itself. The
// PNGs go to the folder that $COMMONWATT_PICTURES names.
func (r *run) pictures(t *testing.T, n int) {
	t.Helper()
	page, ok := r.page(n)
	if !ok {
		t.Fatalf("home-%d has no page", n)
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed: apt-get install chromium")
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, chromedp.Headless, chromedp.DisableGPU, chromedp.NoFirstRun,
	}
	for _, flag := range []string{"hide-scrollbars", "disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	browser, cancel := chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("starting %s: %v", path, err)
	}
	for _, look := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"now-light", 1280, 900, "light"}, {"now-dark", 1280, 900, "dark"}, {"now-phone-dark", 390, 844, "dark"}} {
		takePicture(t, browser, page, look.name, look.width, look.height, look.scheme)
	}
}

func takePicture(t *testing.T, browser context.Context, page, name string, width, height int64, scheme string) {
	t.Helper()
	tab, cancel := chromedp.NewContext(browser)
	defer cancel()
	tab, cancel = context.WithTimeout(tab, time.Minute)
	defer cancel()
	media := chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	})
	if err := chromedp.Do(tab, chromedp.EmulateViewport(width, height), media, chromedp.Navigate(page+"/")); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	before, err := chromedp.Run(tab, chromedp.Evaluate[string](`document.body.innerText`))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	moved := chromedp.Poll[bool](`document.body.innerText !== `+quoted(before), chromedp.WithPollingTimeout(40*time.Second))
	if _, err := chromedp.Run(tab, moved); err != nil {
		t.Fatalf("%s: the page does not move by itself: %v", name, err)
	}
	over, err := chromedp.Run(tab, chromedp.Evaluate[bool](`document.documentElement.scrollWidth > document.documentElement.clientWidth`))
	if err != nil || over {
		t.Errorf("%s: the page is wider than its window (%v)", name, err)
	}
	png, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	if err != nil || len(png) < 20_000 {
		t.Fatalf("%s: a picture of %d bytes (%v)", name, len(png), err)
	}
	dir := os.Getenv("COMMONWATT_PICTURES")
	if dir == "" {
		dir = t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		t.Fatal(err)
	}
}
