package household

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// H1: whenever the agent is killed, each report reaches the ledger once, and what was
// settled is what the meter counted.
func TestKilled(t *testing.T) {
	t.Parallel()
	type crash struct {
		before func(r *rig, tx *ledger.Tx) (kill bool) // before the ledger takes a report
		after  func(r *rig, tx *ledger.Tx) (kill bool) // after it took one
		at     func(now time.Time) bool                // after the step of a minute
		off    func(now time.Time) bool
	}
	always := func(*rig, *ledger.Tx) bool { return true }
	for name, c := range map[string]crash{
		"after the boundary is on disk, before the report is submitted": {before: always},
		"after the ledger took the report, before the home knows":       {after: always},
		"after the block with the report, before it is dropped": {after: func(r *rig, _ *ledger.Tx) bool {
			return r.block()
		}},
		"just after a boundary was read": {at: on(8, 30).Equal},
		"in the middle of an interval":   {at: on(8, 37).Equal},
		"before a boundary was on disk":  {off: on(8, 30).Equal, at: on(8, 30).Equal},
		"every quarter of an hour":       {at: func(now time.Time) bool { return now.Minute()%15 == 1 }},
		"every minute":                   {at: func(time.Time) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.register()
			r.until(on(6, 15))
			first, before := r.at(6, 15), r.counter
			r.off = c.off
			kill, armed := false, true
			strike := func(when func(*rig, *ledger.Tx) bool, tx *ledger.Tx) bool {
				if when == nil || !armed || tx.Kind() != ledger.KindReport || r.clock.Now().Before(on(8, 0)) {
					return false
				}
				armed = false
				kill = when(r, tx)
				return kill
			}
			r.before = func(tx *ledger.Tx) error {
				if strike(c.before, tx) {
					return errKilled
				}
				return nil
			}
			r.town.after = func(tx *ledger.Tx) { strike(c.after, tx) }
			kills := 0
			r.after = func(now time.Time, _ api.Snapshot) error {
				if kill || c.at != nil && c.at(now) {
					r.restart()
					kill = false
					kills++
				}
				return nil
			}
			r.until(on(11, 0))
			if kills == 0 {
				t.Error("it was not killed")
			}
			exact(t, r, first, r.at(10, 45), before)
			if n := len(r.home.reports); n != 0 {
				t.Errorf("%d reports still wait", n)
			}
			reports, err := r.home.disk.loadReports()
			if err != nil || len(reports) >= maxDropped {
				t.Errorf("%d reports are still on disk, %v", len(reports), err)
			}
			for _, left := range reports {
				if !slices.Contains(r.home.disk.dropped, left.From) {
					t.Errorf("the report of interval %d is on disk, and nobody deletes it", left.From)
				}
			}
		})
	}
}

// An older copy of home.db costs the one interval whose proof the ledger knows otherwise;
// that is shown, and nothing else is lost or told twice.
func TestOlderDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	path := filepath.Join(r.dirs[0], DiskFile)
	r.until(on(8, 25))
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.until(on(8, 30))
	mustClose(t, r.home)
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.until(on(8, 45))
	before := r.counter
	r.until(on(10, 0))
	r.look()
	if p, ok := problem(r.draw(), "report-refused"); !ok || !strings.Contains(p.Text, fmt.Sprintf("interval %d: bad-reading: start", r.at(8, 30))) {
		t.Errorf("problems: %+v", r.home.Snapshot().Problems)
	}
	exact(t, r, r.at(8, 45), r.at(9, 45), before)
}

// exact wants the Intervals from first to last to be settled on what the meter counted
// since its counters were before, to the Wh (H2).
func exact(t *testing.T, r *rig, first, last market.Interval, before counters) {
	t.Helper()
	r.look() // the last report may be in the last block
	imported, exported, end := r.counted(r.home.id, first)
	wantImport := market.WattHours(r.counter.imported - before.imported)
	wantExport := market.WattHours(r.counter.exported - before.exported)
	if imported != wantImport || exported != wantExport || end != last {
		t.Errorf("intervals %d to %d: settled %d and %d Wh, the meter counted %d and %d to interval %d",
			first, end, imported, exported, wantImport, wantExport, last)
	}
}

// A meter that is silent over several boundaries: the intervals are marked missing, then
// the next boundary closes the gap with an estimated span, and the sums are exact (H2, H4).
func TestSilentMeter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(6, 15))
	first, before := r.at(6, 15), r.counter
	from, to := on(7, 52), on(9, 7)
	r.off = func(now time.Time) bool { return now.After(from) && now.Before(to) }
	r.after = func(now time.Time, s api.Snapshot) error {
		_, silent := problem(s, "meter-silent")
		if want := r.off(now); silent != want || (s.Meters[0].State == api.MeterSilent) != want {
			return fmt.Errorf("silent is %v, want %v; meter %+v", silent, want, s.Meters[0])
		}
		if s.Power.ConnectionW != nil == silent {
			return fmt.Errorf("power %v", s.Power.ConnectionW)
		}
		for _, i := range s.Intervals {
			missing := i.State == api.StateMissing
			// What ended in the silence, once the tolerance is over, until the next proven boundary.
			end := i.Start.Add(15 * time.Minute)
			want := end.After(from) && now.After(end.Add(90*time.Second)) && now.Before(on(9, 15)) && i.Start.After(on(6, 0))
			if missing != want || missing && i.ImportWh != nil {
				return fmt.Errorf("interval at %v is %s, want missing %v", i.Start, i.State, want)
			}
		}
		return nil
	}
	r.until(on(10, 0))
	exact(t, r, first, r.at(9, 45), before)
	good, estimated := ledger.QualityGood, ledger.QualityEstimated
	want := []ledger.Quality{good, estimated, estimated, estimated, estimated, estimated, estimated, good}
	if diff := cmp.Diff(want, r.qualities(r.at(7, 30), r.at(9, 15))); diff != "" {
		t.Error(diff)
	}
}

// A counter that falls is never a number: while it is down nothing is metered, if it comes
// back nothing happened, and if it stays down the meter is set aside for good.
func TestFallingCounter(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]bool{"it comes back": false, "it stays": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.register()
			r.until(on(6, 15))
			first, before := r.at(6, 15), r.counter
			down := func(now time.Time) bool { return !now.Before(on(8, 0)) && (stays || now.Before(on(8, 2))) }
			r.mend = func(now time.Time, s *meter.Sample) {
				if down(now) {
					*s.ImportWh = 17
				}
			}
			r.after = func(now time.Time, s api.Snapshot) error {
				if _, shown := problem(s, "meter-suspect"); shown != down(now) {
					return fmt.Errorf("the page says %v, want %v: %+v", shown, down(now), s.Problems)
				}
				if m := s.Meters[0]; m.ImportWh != nil && *m.ImportWh < 1_000_000 {
					return fmt.Errorf("the page shows %d Wh", *m.ImportWh)
				}
				return nil
			}
			r.until(on(9, 0))
			if !stays {
				exact(t, r, first, r.at(8, 45), before)
				return
			}
			if _, _, last := r.counted(r.home.id, first); last != r.at(7, 30) {
				t.Errorf("metered to interval %d, want %d", last, r.at(7, 30))
			}
			for k := r.at(7, 45); k <= r.at(8, 30); k++ {
				if i := shown(t, r.draw(), k); i.State != api.StateMissing || i.ImportWh != nil || i.ExportWh != nil {
					t.Errorf("interval %d: %+v, want it missing", k, i)
				}
			}
		})
	}
}

// A span that begins before the home was a member cannot be told apart, and is dropped; what
// comes after is settled, and nothing waits for ever.
func TestSpanFromBeforeMembership(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.catching = true // it reads its meter, but has no ledger yet
	r.off = func(now time.Time) bool { return now.After(on(6, 20)) && now.Before(on(7, 50)) }
	r.until(on(7, 10))
	r.catching = false
	r.until(on(8, 0))
	from := r.home.registration().from
	if want := r.at(7, 30); from != want {
		t.Fatalf("registered from interval %d on, want %d", from, want)
	}
	before := r.counter
	r.until(on(9, 0))
	exact(t, r, r.at(8, 0), r.at(8, 45), before)
	if len(r.home.reports) != 0 {
		t.Errorf("%d reports wait", len(r.home.reports))
	}
	for _, k := range []market.Interval{r.at(7, 30), r.at(7, 45)} {
		if i := shown(t, r.draw(), k); i.State != api.StateMissing || i.ImportWh != nil {
			t.Errorf("interval %d: %+v, want it missing", k, i)
		}
	}
}

// A report that the ledger refuses for good is shown, kept, tried again after a restart
// only, and does not stop the next one.
func TestRefusedReport(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *townOptions) {
		o.rules = func(rules *ledger.Rules) { rules.MaxWattHours = 2000 }
	})
	r.register()
	r.until(on(7, 0))
	r.after = func(now time.Time, _ api.Snapshot) error {
		if now.Before(on(7, 5)) {
			r.counter.imported += 1000 // the meter's fuse allows it, the community's rule does not
		}
		return nil
	}
	r.until(on(8, 0))
	p, ok := problem(r.draw(), "report-refused")
	want := fmt.Sprintf("The ledger refused the meter report of interval %d: bad-quantity: import:", r.at(7, 0))
	if !ok || !strings.HasPrefix(p.Text, want) {
		t.Errorf("problems %+v, want %q", r.home.Snapshot().Problems, want)
	}
	if diff := cmp.Diff([]ledger.Quality{ledger.QualityGood, 0, ledger.QualityGood}, r.qualities(r.at(6, 45), r.at(7, 15))); diff != "" {
		t.Error(diff)
	}
	tries := 0
	r.before = func(tx *ledger.Tx) error {
		if tx.Kind() == ledger.KindReport {
			tries++
		}
		return nil
	}
	for range 20 {
		r.look()
	}
	r.restart()
	for range 20 {
		r.look()
	}
	if _, ok := problem(r.draw(), "report-refused"); !ok || tries != 1 {
		t.Errorf("shown after the restart: %v; tried %d times, want once", ok, tries)
	}
}

// A pool without room is no refusal for good.
func TestPoolFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(6, 15))
	before := r.counter
	r.before = func(tx *ledger.Tx) error {
		if tx.Kind() == ledger.KindReport && r.clock.Now().Before(on(8, 0)) {
			return &ledger.Refusal{Code: 80, Text: "the pool is full"}
		}
		return nil
	}
	r.until(on(8, 30))
	exact(t, r, r.at(6, 15), r.at(8, 15), before)
}

// A home without a ledger keeps a bounded number of reports, the newest (H7), in memory
// and on disk.
func TestPendingIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.catching = true
	r.until(on(6, 30))
	first := r.home.reports[r.at(6, 0)].report
	oldest := first.From
	for range maxPending - len(r.home.reports) {
		oldest--
		p := &pending{report: new(ledger.ReportMeter)}
		*p.report = *first
		p.report.From = oldest
		r.home.reports[oldest] = p
	}
	if err := r.home.disk.saveBoundary(meterState{}, r.home.reports[oldest].report); err != nil {
		t.Fatal(err)
	}
	r.until(on(6, 45))
	if n := len(r.home.reports); n != maxPending || r.home.reports[oldest] != nil || r.home.reports[oldest+1] == nil {
		t.Errorf("%d reports wait, want %d, the newest", n, maxPending)
	}
	reports, err := r.home.disk.loadReports()
	if err != nil || len(reports) != 3 || reports[0].From != r.at(6, 0) {
		t.Errorf("%d reports on disk, want 3, %v", len(reports), err)
	}
}

// A gap longer than the ledger takes in one report is said, and metering goes on.
func TestGapTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.catching = true
	r.until(on(6, 30))
	r.clock.set(on(6, 30).Add(maxReportSpan*15*time.Minute + 5*time.Minute))
	r.until(r.clock.Now().Add(15 * time.Minute))
	if p, ok := problem(r.draw(), "meter-unproven"); !ok || !strings.Contains(p.Text, "silent for 2977 intervals") {
		t.Errorf("problems: %+v", r.home.Snapshot().Problems)
	}
	r.until(r.clock.Now().Add(15 * time.Minute))
	if _, ok := problem(r.draw(), "meter-unproven"); ok || len(r.home.reports) != 3 {
		t.Errorf("%d reports, problems: %+v", len(r.home.reports), r.home.Snapshot().Problems)
	}
}

// A clock that is set back gives no second proof of a boundary, one that is set ahead makes a
// gap; the sums are exact.
func TestClockSteps(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(6, 15))
	first, before := r.at(6, 15), r.counter
	r.until(on(8, 3))
	r.clock.set(on(7, 55))
	r.after = func(now time.Time, s api.Snapshot) error {
		_, suspect := problem(s, "meter-suspect")
		// Two refused samples are an accident.
		if want := now.After(on(7, 57)) && !now.After(on(8, 3)); suspect != want {
			return fmt.Errorf("suspect is %v, want %v: %+v", suspect, want, s.Meters)
		}
		return nil
	}
	r.until(on(8, 35))
	r.clock.set(on(9, 35))
	r.until(on(10, 0))
	exact(t, r, first, r.at(9, 45), before)
	estimated := ledger.QualityEstimated
	if q := r.qualities(r.at(7, 45), r.at(9, 45)); !slices.Equal(q, []ledger.Quality{
		1, 1, 1, estimated, estimated, estimated, estimated, estimated, 1,
	}) {
		t.Errorf("qualities %v", q)
	}
}

// What is wrong with home.db is said, and nothing is begun anew by itself.
func TestDamagedDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.catching = true
	r.until(on(7, 0))
	path := filepath.Join(r.dirs[0], DiskFile)
	mustClose(t, r.home)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	check := func(name string, data []byte) {
		t.Helper()
		// Each in a folder of its own: where bbolt panics it keeps the file's lock.
		o := r.opt
		o.Dir = t.TempDir()
		if err := os.WriteFile(filepath.Join(o.Dir, DiskFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := New(o)
		if err == nil {
			mustClose(t, h) // what was hit is in no use, or is the older of two meta pages
			return
		}
		damaged++
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), DiskFile) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
	}
	for at := 0; at < len(whole); at += 397 {
		data := slices.Clone(whole)
		data[at] ^= 0x10
		check(fmt.Sprintf("a flipped bit in byte %d", at), data)
	}
	if damaged == 0 {
		t.Error("no flipped bit was noticed")
	}
	for _, size := range []int{1, 4096, 8192, 3 * 4096, len(whole) / 2} {
		before := damaged
		if check(fmt.Sprintf("cut to %d bytes", size), whole[:size]); damaged == before && size < 3*4096 {
			t.Errorf("cut to %d bytes: not noticed", size)
		}
	}
	check("text", []byte(strings.Repeat("this is no database\n", 1000)))
	r.open()
	if len(r.home.reports) != 4 {
		t.Errorf("%d reports, want 4", len(r.home.reports))
	}
	if _, err := New(r.opt); !errors.Is(err, ErrInUse) {
		t.Errorf("a second agent: got %v, want ErrInUse", err)
	}
}
