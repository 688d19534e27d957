package household

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/httpjson"
	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/p1"
)

// How the time of readings is vouched for, in agent.yaml.
const (
	ClockSystem  = "system"  // by what keeps this machine's clock
	ClockTrusted = "trusted" // by a person
)

// deviceAgrees is how far a device's own clock may be from ours, if the community's
// tolerance does not say more; late messages of a fast community are given the wall time
// latest.
const (
	deviceAgrees = time.Minute
	latest       = 5 * time.Second
)

// clockOf returns what says how far this gateway's clock can be relied on. In a community
// whose clock runs at a rate it is not the wall clock that counts.
func clockOf(c Config, rate int64) func() meter.ClockState {
	if c.Clock == ClockTrusted || rate != 1 {
		return meter.Trusted
	}
	return meter.NewSystemClock().State
}

// clockWatch notices that the wall clock was set back. Its poll goroutine owns it.
type clockWatch struct{ last time.Time }

// setBack returns by how much the wall clock was set back since the last call. It
// compares the wall clock with the monotonic one, which a time of the operating system
// carries along.
func (w *clockWatch) setBack(now time.Time) time.Duration {
	last := w.last
	w.last = now
	if last.IsZero() {
		return 0
	}
	if back := now.Sub(last) - now.Round(0).Sub(last.Round(0)); back > time.Second {
		return back
	}
	return 0
}

// stamp gives a sample the state of the clocks.
func (h *Home) stamp(d *device, s *meter.Sample) {
	if back := d.watch.setBack(h.opt.Now()); back > 0 {
		d.log.Warn("clock of this gateway was set back", "by", back.String())
		d.tracker.ClockSetBack(back * time.Duration(h.clock.Rate))
	}
	s.Clock = h.gatewayClock()
	if !s.Clock.Sure() {
		s.Quality |= meter.ClockUnsure
	}
	late := d.clock.Judge(s, max(deviceAgrees, h.tolerance(), latest*time.Duration(h.clock.Rate)))
	h.mu.Lock()
	d.view.clockNote = late
	h.mu.Unlock()
	if late != "" {
		h.count(d, "flagged/device-clock")
	}
}

// showClock says what vouches for the times of this home's readings.
func (h *Home) showClock() api.Clock {
	state := h.gatewayClock()
	c := api.Clock{State: state.Trust.String(), ErrorMs: state.ErrorMs, Sure: state.Sure()}
	if h.trusted {
		c.State = ClockTrusted
	}
	return c
}

// count counts what became of a sample, or of a look that gave none, under
// "verdict/reason". The reasons are those of reasonOf and causeOf.
func (h *Home) count(d *device, key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.view.count(key)
}

// maxCounts bounds the kinds that are counted; there are fewer.
const maxCounts = 64

func (v *deviceView) count(key string) {
	if v.counts == nil {
		v.counts = map[string]int64{}
	}
	if _, known := v.counts[key]; known || len(v.counts) < maxCounts {
		v.counts[key]++
	}
}

// snapshot is a copy that the caller may keep.
func (v *deviceView) snapshot() deviceView {
	c := *v
	c.counts = maps.Clone(v.counts)
	return c
}

// reasonOf names, in a word of a bounded list, why a sample is no reading.
func reasonOf(decision meter.Decision) string {
	q := decision.Sample.Quality
	for _, r := range []struct {
		bit  meter.Quality
		name string
	}{
		{meter.IdentityChanged, "identity"},
		{meter.Retained, "retained"},
		{meter.Stale, "stale"},
		{meter.DeviceError, "device-error"},
		{meter.OutOfRange, "out-of-range"},
		{meter.Substitute, "substitute"},
		{meter.Suspect, "counter"},
	} {
		if q&r.bit != 0 {
			return r.name
		}
	}
	switch {
	case decision.Verdict == meter.Held:
		return "foreign" // of a meter that the ledger does not know as this home's
	case decision.Verdict == meter.Replaced:
		return "epoch"
	case decision.Sample.ImportWh == nil || decision.Sample.ExportWh == nil:
		return "unknown"
	default:
		return "time"
	}
}

// causeOf names, in a word of a bounded list, why a look at a device gave no sample.
func causeOf(err error) string {
	for _, c := range []struct {
		is   error
		name string
	}{
		{meter.ErrNoMessage, "no-message"},
		{p1.ErrChecksum, "checksum"},
		{meter.ErrPayload, "unreadable"},
		{modbus.ErrBadReply, "bad-reply"},
		{modbus.ErrBackoff, "back-off"},
		{httpjson.ErrBackoff, "back-off"},
		{def.ErrWrongDevice, "wrong-device"},
		{def.ErrRefused, "refused-by-device"},
		{meter.ErrClosed, "closed"},
		{context.DeadlineExceeded, "timeout"},
	} {
		if errors.Is(err, c.is) {
			return c.name
		}
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	return "unreachable"
}

// quietGap is the shortest time between two warnings of one meter.
const quietGap = time.Minute

// quiet lets one record a minute through that is not for debugging, and says how many it
// kept back. A device that is ill is ill at every poll.
type quiet struct {
	next slog.Handler
	now  func() time.Time
	said *lastSaid
}

// lastSaid is shared by all loggers of one meter, which several goroutines may have.
type lastSaid struct {
	mu   sync.Mutex
	at   time.Time
	kept int
}

func newQuiet(next slog.Handler, now func() time.Time) *slog.Logger {
	return slog.New(&quiet{next: next, now: now, said: new(lastSaid)})
}

// Enabled implements slog.Handler.
func (q *quiet) Enabled(ctx context.Context, l slog.Level) bool { return q.next.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (q *quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &quiet{next: q.next.WithAttrs(attrs), now: q.now, said: q.said}
}

// WithGroup implements slog.Handler.
func (q *quiet) WithGroup(name string) slog.Handler {
	return &quiet{next: q.next.WithGroup(name), now: q.now, said: q.said}
}

// Handle implements slog.Handler.
func (q *quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return q.next.Handle(ctx, r)
	}
	now := q.now()
	q.said.mu.Lock()
	if gone := now.Sub(q.said.at); !q.said.at.IsZero() && gone >= 0 && gone < quietGap {
		q.said.kept++
		q.said.mu.Unlock()
		return nil
	}
	kept := q.said.kept
	q.said.at, q.said.kept = now, 0
	q.said.mu.Unlock()
	if kept > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("kept_back", kept))
	}
	return q.next.Handle(ctx, r)
}
