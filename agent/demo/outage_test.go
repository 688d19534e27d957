package demo_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
)

// days makes TestOutage a run of whole simulated days (make days).
var days = flag.Int("days", 0, "community days that TestOutage lasts, with three hours without a quorum; 0: twenty intervals")

// TestOutage lets two of four validators lose power, so that nothing can be decided for
// hours. Afterwards every interval is settled, none twice, and each household's account
// is what can be computed anew from its device's own counters, to the micro-unit.
func TestOutage(t *testing.T) {
	t.Parallel()
	const pace = 3 * time.Second
	after, outage, span := 75*time.Minute, 105*time.Minute, 5*time.Hour
	if *days > 0 {
		span = time.Duration(*days) * 24 * time.Hour
		after, outage = span/2, 3*time.Hour
	}
	intervals := int(span / (15 * time.Minute))
	dir := filepath.Join(t.TempDir(), "street")
	r := start(t, dir, "--fresh", "--homes", "6", "--pace", pace.String(), "--span", span.String(),
		"--outage", fmt.Sprintf("%v+%v", after, outage))
	report := r.report(time.Duration(intervals)*pace + 4*time.Minute)
	checkReport(t, report, 6, 6)
	if report.IntervalsSettled < intervals-1 {
		t.Errorf("%d intervals are settled, want %d", report.IntervalsSettled, intervals)
	}
	if away := int(outage / (15 * time.Minute)); report.IntervalsMetered < away-2 || report.IntervalsMetered > away+3 {
		t.Errorf("%d intervals are decided by the meters, want about the %d of the outage", report.IntervalsMetered, away)
	}
	if report.IntervalsSplit == 0 || report.IntervalsSplit == report.IntervalsSettled {
		t.Errorf("in %d of %d intervals the feeders had prices of their own, want some at noon and none in the morning",
			report.IntervalsSplit, report.IntervalsSettled)
	}
	for i, h := range report.Households {
		if h.Substituted > 0 {
			t.Errorf("%s: %d intervals have no report", h.Name, h.Substituted)
		}
		if away := int(outage / (15 * time.Minute)); (i == 2 || i == 3) && h.Estimated < away {
			t.Errorf("%s lost power for %d intervals, but %d are estimated", h.Name, away, h.Estimated)
		}
	}
	out, err := exec.Command(commonwatt(t), "ledger", "check", dir).CombinedOutput()
	if err != nil || strings.Count(string(out), ": ok: ") != 6 {
		t.Errorf("ledger check: %v\n%s", err, out)
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	if g, ok := r.grid(t, 1); !ok || g.State != api.StateSettled || len(g.Nodes) != 4 || g.PhysicalOK == nil {
		t.Errorf("the stopped home's balance: %+v", g)
	}
	checkBooks(t, dir, report)
	if *days > 0 {
		// A proof needs the block after the newest, which a street that has ended may not have.
		again := start(t, dir, "--for", "60s")
		again.until("gone on", 60*time.Second, func() bool { return again.height(1) > report.Nodes[0].Height })
		checkProofs(t, dir, 6)
		checkReport(t, again.report(3*time.Minute), 6, 6)
	}
}
