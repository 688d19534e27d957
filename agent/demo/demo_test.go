package demo_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/demo"
)

// TestStreet is the whole way, on real parts: six homes as processes, half of them on
// Modbus, half on MQTT through a real mosquitto. A validator is killed and started
// again, then the broker. At the end everything has to add up, the ledgers have to
// be one, a flipped byte has to be named, and a second start has to go on.
func TestStreet(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "street")
	broker := startMosquitto(t)
	r := start(t, dir, "--fresh", "--homes", "6", "--light", "1", "--for", "125s", "--broker", broker.url())

	r.until("settled a first interval", 100*time.Second, func() bool { return r.settled(3) > 0 })
	r.kill(2)
	before, height := r.settled(3), r.height(3)
	r.until("settled another interval without home-2", 60*time.Second, func() bool {
		return r.settled(3) > before && r.height(3) > height
	})
	again := exec.Command(commonwatt(t), "run", "--home", r.home(2))
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Process.Kill(); _ = again.Wait() })
	r.until("home-2 caught up", 60*time.Second, func() bool { return r.height(2) >= height && r.height(2) >= r.height(3)-1 })

	broker.kill()
	r.until("home-4's page says that its meter is silent", 40*time.Second, func() bool { return r.meterState(4) == api.MeterSilent })
	silent := r.quarter(4)
	r.until("a quarter of an hour has ended meanwhile", 40*time.Second, func() bool { return r.quarter(4).After(silent) })
	broker.start()
	r.until("home-4's meter speaks again", 40*time.Second, func() bool { return r.meterState(4) == api.MeterOK })

	first := r.report(4 * time.Minute)
	checkReport(t, first, 6, 5)
	if first.Households[1].Estimated == 0 || first.Households[3].Estimated == 0 {
		t.Errorf("home-2 was killed and home-4 lost its broker, but no interval is estimated: %+v", first.Households)
	}
	if first.IntervalsSettled < 6 {
		t.Errorf("%d intervals settled, want 6 or more", first.IntervalsSettled)
	}

	if first.IntervalsSplit == 0 || first.IntervalsSplit == first.IntervalsSettled {
		t.Errorf("in %d of %d intervals the feeders had prices of their own", first.IntervalsSplit, first.IntervalsSettled)
	}

	t.Run("ledger check", func(t *testing.T) { checkLedgers(t, dir) })
	t.Run("books", func(t *testing.T) { checkBooks(t, dir, first) })
	t.Run("second start", func(t *testing.T) {
		r := start(t, dir, "--homes", "6", "--for", "100s")
		r.limitFeeder(t)
		r.until("settled what was missed", 60*time.Second, func() bool { return r.settled(1) > 0 })
		r.pictures(t, 1)
		checkProofs(t, dir, 6)
		second := r.report(4 * time.Minute)
		checkReport(t, second, 6, 5)
		if second.Community != first.Community || second.IntervalsSettled <= first.IntervalsSettled {
			t.Errorf("%s with %d intervals goes on as %s with %d", first.Community, first.IntervalsSettled, second.Community, second.IntervalsSettled)
		}
	})
}

// limitFeeder sets an envelope as the grid operator does, and waits until it binds.
func (r *run) limitFeeder(t *testing.T) {
	t.Helper()
	r.until("heard from home-1", 60*time.Second, func() bool { return r.height(1) > 0 })
	args := []string{
		"grid", "envelope", "--home", r.home(1), "--key", filepath.Join(r.dir, "cooperative", "grid-operator.key"),
		"--node", "feeder-1", "--export-w", "300", "--until", "2026-06-21T23:00:00Z", "--reason", "voltage at the end of the line",
	}
	r.until("taken the envelope", 30*time.Second, func() bool { return exec.Command(commonwatt(t), args...).Run() == nil })
	r.until("bound by the envelope", 60*time.Second, func() bool {
		g, ok := r.grid(t, 4)
		i := slices.IndexFunc(g.Nodes, func(n api.GridNode) bool { return n.ID == "feeder-1" })
		return ok && i >= 0 && g.Nodes[i].ExportLimitBy == api.LimitByEnvelope && *g.Nodes[i].ExportLimitW == 300
	})
}

// grid is what `grid balance` says of home n's network; its accounts add up.
func (r *run) grid(t *testing.T, n int) (g api.Grid, ok bool) {
	t.Helper()
	out, err := exec.Command(commonwatt(t), "grid", "balance", "--home", r.home(n), "--output", "json").Output()
	if err != nil {
		return g, false
	}
	if err := json.Unmarshal(out, &g); err != nil {
		t.Fatal(err)
	}
	if g.AccountsSum != 0 || g.PhysicalOK != nil && !*g.PhysicalOK {
		t.Errorf("the balance of interval %d: %s", g.Interval, out)
	}
	return g, true
}

// checkReport: so many homes, of which so many hold the ledger; a light home's account is as
// the others'.
func checkReport(t *testing.T, r *demo.Report, homes, ledgers int) {
	t.Helper()
	if len(r.Errors) > 0 {
		t.Errorf("errors: %v", r.Errors)
	}
	if r.BalanceSum != 0 {
		t.Errorf("all accounts add up to %d", r.BalanceSum)
	}
	if len(r.Households) != homes || len(r.Nodes) != ledgers {
		t.Fatalf("%d households and %d ledgers, want %d and %d", len(r.Households), len(r.Nodes), homes, ledgers)
	}
	for _, h := range r.Households {
		if uint64(h.ImportWh) != h.DeviceImportWh || uint64(h.ExportWh) != h.DeviceExportWh {
			t.Errorf("%s: metered %d and %d Wh, its device counted %d and %d", h.Name, h.ImportWh, h.ExportWh, h.DeviceImportWh, h.DeviceExportWh)
		}
		if n := h.Intervals + h.Substituted; n > r.IntervalsSettled || n < r.IntervalsSettled-2 { // some join later
			t.Errorf("%s: %d intervals and %d substitutes of %d settled", h.Name, h.Intervals, h.Substituted, r.IntervalsSettled)
		}
		if h.Recounted != h.Balance {
			t.Errorf("%s: balance %d, computed anew %d", h.Name, h.Balance, h.Recounted)
		}
	}
	if !r.OneHash() {
		t.Errorf("the ledgers differ: %+v", r.Nodes)
	}
}

// checkLedgers runs `ledger check` on all homes that have a ledger, then on a copy with one flipped bit in
// a record that we can name.
func checkLedgers(t *testing.T, dir string) {
	out, err := exec.Command(commonwatt(t), "ledger", "check", dir).CombinedOutput()
	if err != nil || bytes.Count(out, []byte(": ok: ")) != 5 {
		t.Fatalf("ledger check: %v\n%s", err, out)
	}
	damaged := filepath.Join(t.TempDir(), "home-1")
	if err := os.CopyFS(damaged, os.DirFS(filepath.Join(dir, "homes", "home-1"))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(damaged, "engine", "ledger.db")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const inRecord = "sunspec-meter@"
	flipped := 0
	for i := 0; ; {
		j := bytes.Index(raw[i:], []byte(inRecord))
		if j < 0 {
			break
		}
		raw[i+j] ^= 1
		flipped++
		i += j + 1
	}
	if flipped == 0 {
		t.Fatalf("%s is in no page of the ledger", inRecord)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(commonwatt(t), "ledger", "check", damaged)
	out, err = cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 4 || !strings.Contains(string(out), "meter ") {
		t.Fatalf("a flipped bit in a meter's record: %v\n%s", err, out)
	}
}
