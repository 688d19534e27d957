package household

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// While the gateway's clock is not known to be right no boundary is proven; the page says so,
// and the next proven boundary closes the gap to the Wh.
func TestUnsureClock(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	mustClose(t, r.home)
	unset := func() bool {
		now := r.clock.Now()
		return now.Before(on(6, 10)) || now.After(on(8, 5)) && now.Before(on(8, 50))
	}
	r.opt.Clock = func() meter.ClockState {
		if unset() {
			return meter.ClockState{}
		}
		return meter.ClockState{Trust: meter.ClockSynchronised, ErrorMs: new(int64(7))}
	}
	r.open()
	r.register()
	r.after = func(now time.Time, s api.Snapshot) error {
		_, shown := problem(s, "clock-unsure")
		if shown != unset() || s.Clock.Sure == unset() || s.Meters[0].State != api.MeterOK {
			return fmt.Errorf("shown is %v: %+v %+v", shown, s.Clock, s.Meters)
		}
		return nil
	}
	r.until(on(6, 30))
	first, before := r.at(6, 30), r.counter
	r.until(on(10, 0))
	exact(t, r, first, r.at(9, 45), before)
	estimated := ledger.QualityEstimated
	want := []ledger.Quality{1, estimated, estimated, estimated, estimated, 1}
	if diff := cmp.Diff(want, r.qualities(r.at(7, 45), r.at(9, 0))); diff != "" {
		t.Error(diff)
	}
}

// A device whose own clock is wrong by years is flagged and read on by ours; one whose
// messages may be late proves nothing.
func TestWrongDeviceClock(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(6, 15))
	first, before := r.at(6, 15), r.counter
	late := func(now time.Time) bool { return now.After(on(8, 10)) && now.Before(on(8, 20)) }
	r.mend = func(now time.Time, s *meter.Sample) {
		switch {
		case late(now):
			s.DeviceAt = new(now.Add(-time.Duration(30-now.Minute()) * 5 * time.Minute))
		case now.Before(on(7, 30)):
			s.DeviceAt = new(time.Unix(0, 0))
		default:
			s.DeviceAt = new(now)
		}
	}
	r.after = func(now time.Time, s api.Snapshot) error {
		if _, shown := problem(s, "meter-clock"); shown != (late(now) || now.Before(on(7, 30))) {
			return fmt.Errorf("shown is %v: %+v", shown, s.Problems)
		}
		return nil
	}
	r.until(on(9, 0))
	exact(t, r, first, r.at(8, 45), before)
	want := []ledger.Quality{1, 1, 1, 1, ledger.QualityEstimated, ledger.QualityEstimated, 1}
	if diff := cmp.Diff(want, r.qualities(r.at(7, 0), r.at(8, 30))); diff != "" {
		t.Error(diff)
	}
	if n := r.draw().Meters[0].Others["flagged/device-clock"]; n < 70 {
		t.Errorf("%d flagged", n)
	}
}

// H3: a counter that was replaced is not believed because the home was restarted after the
// new one had caught up with the old.
func TestReplacedSurvivesRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.counter = counters{imported: 2000, exported: 1000}
	r.until(on(7, 30))
	fell := r.counter
	r.mend = func(_ time.Time, s *meter.Sample) {
		s.ImportWh = new((r.counter.imported - fell.imported) * 20)
	}
	r.until(on(7, 34))
	if m := r.draw().Meters[0]; !m.SetAside || m.Others["replaced/counter"] == 0 || m.Others["held/counter"] != 2 {
		t.Fatalf("meter %+v", m)
	}
	r.until(on(9, 30))
	r.restart()
	r.until(on(9, 45))
	if m := r.draw().Meters[0]; !m.SetAside || m.Readings != 0 {
		t.Errorf("after a restart: %+v", m)
	}
	if p, ok := problem(r.draw(), "meter-suspect"); !ok || !strings.Contains(p.Hint, "two of its officers approve it") {
		t.Errorf("problem %+v", p)
	}
	r.mend = nil // it was the old one all along
	r.counter.imported += 100_000
	r.until(on(9, 47))
	if m := r.draw().Meters[0]; m.SetAside || m.State != api.MeterOK {
		t.Errorf("the old one again: %+v", m)
	}
}

// One line a minute at most for a meter, however ill it is, and the page counts the rest.
func TestQuietLog(t *testing.T) {
	t.Parallel()
	now := on(12, 0)
	var out bytes.Buffer
	log := newQuiet(slog.NewTextHandler(&out, nil), func() time.Time { return now }).With("meter", "solar")
	for range 600 {
		log.Warn("readings set aside", "reason", "x")
		log.WithGroup("g").Info("meter answers again")
		now = now.Add(time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 10 || !strings.Contains(lines[9], "kept_back=119") || !strings.Contains(lines[0], "meter=solar") {
		t.Errorf("%d lines:\n%s", len(lines), out.String())
	}
	now = now.Add(-time.Hour) // a clock that is set back silences nothing
	if log.Warn("late"); !strings.Contains(out.String(), "late") {
		t.Error("silenced")
	}
}

func TestCauses(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"no-message": errNothingFresh, "timeout": fmt.Errorf("x: %w", os.ErrDeadlineExceeded), "bad-reply": modbus.ErrBadReply, "unreachable": errors.New("x"),
	} {
		if got := causeOf(err); got != want {
			t.Errorf("%v: got %s, want %s", err, got, want)
		}
	}
	unknown := meter.Decision{Verdict: meter.Refused}
	late := meter.Decision{Verdict: meter.Refused, Sample: meter.Sample{ImportWh: new(uint64), ExportWh: new(uint64)}}
	if reasonOf(unknown) != "unknown" || reasonOf(late) != "time" {
		t.Error(reasonOf(unknown), reasonOf(late))
	}
	v := new(deviceView)
	for i := range 1000 {
		v.count(fmt.Sprint("failed/", i))
	}
	if len(v.counts) != maxCounts {
		t.Errorf("%d kinds", len(v.counts))
	}
}

// The wall clock against the monotonic one.
func TestClockWatch(t *testing.T) {
	t.Parallel()
	var w clockWatch
	now := time.Now()
	if got := w.setBack(now); got != 0 {
		t.Errorf("the first time: %v", got)
	}
	if got := w.setBack(now.Add(time.Minute)); got != 0 {
		t.Errorf("time goes on: %v", got)
	}
	if got := w.setBack(now.Round(0)); got != 0 {
		t.Errorf("a clock without a monotonic part: %v", got)
	}
}

// A device that shows the same for an hour while it says that power flows: stale, shown, no
// boundary proven by it; when it goes on by itself nothing is lost and nothing invented.
func TestFrozenMeter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(6, 15))
	first, before := r.at(6, 15), r.counter
	var stuck *meter.Sample
	frozen := func(now time.Time) bool { return !now.Before(on(8, 1)) && now.Before(on(9, 0)) }
	r.mend = func(now time.Time, s *meter.Sample) {
		if !frozen(now) {
			return
		}
		if stuck == nil {
			s.PowerW = new(int64(400))
			stuck = new(*s)
		}
		s.ImportWh, s.ExportWh, s.PowerW = stuck.ImportWh, stuck.ExportWh, stuck.PowerW
	}
	r.after = func(now time.Time, s api.Snapshot) error {
		p, shown := problem(s, "meter-suspect")
		if want := now.After(on(8, 18)) && now.Before(on(9, 2)); shown != want {
			return fmt.Errorf("shown is %v, want %v: %+v", shown, want, s.Meters[0])
		}
		if shown && frozen(now) && !strings.Contains(p.Text, "the counters stand still since 2026-06-21 08:01:00") {
			return fmt.Errorf("problem %+v", p)
		}
		return nil
	}
	r.until(on(11, 0))
	exact(t, r, first, r.at(10, 45), before)
	if n := r.draw().Meters[0].Others["refused/stale"]; n < 40 {
		t.Errorf("%d stale", n)
	}
}

// The connection is asked just after each boundary; all others about a period apart, at
// moments of their own.
func TestPollTimes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	period := r.home.period()
	for i := range 900 {
		now := on(12, 0).Add(time.Duration(i) * time.Second)
		r.clock.set(now)
		wait := r.home.nextPoll(RoleConnection)
		left := on(12, 15).Add(10 * time.Millisecond).Sub(now)
		if wait > left || wait != left && wait != period {
			t.Fatalf("%v before the boundary: %v", left, wait)
		}
		if wait := r.home.nextPoll(RoleSolar); wait < period*9/10 || wait > period*11/10 {
			t.Fatalf("solar: %v", wait)
		}
	}
}
