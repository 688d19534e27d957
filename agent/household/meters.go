package household

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// device is one meter as the home sees it. The poll goroutine owns source and
// tracker; view is under Home.mu.
type device struct {
	cfg     MeterConfig
	name    string // in the history
	source  meter.Source
	tracker *meter.Tracker
	watch   clockWatch
	clock   meter.DeviceClock
	log     *slog.Logger // a line a minute
	view    deviceView
	// approved is set by ApproveMeter and taken by the poll goroutine.
	approved atomic.Bool
}

// deviceView is what is known of a device now.
type deviceView struct {
	state    api.MeterState
	note     string // why it is not ok, or what is wrong with its proofs
	identity string
	lastAt   time.Time // community time of the last accepted sample
	sample   meter.Sample
	failures int    // reads in a row that gave nothing
	unproven string // connection only: why its last boundary is not proven
	waiting  bool   // another device or counter answers, and nobody has approved it
	serial   string // of the device that answered last

	clockNote string           // what is wrong with the device's clock
	signedBy  string           // who signs its readings
	accepted  int64            // since the start
	counts    map[string]int64 // what became of all others
}

// readTimeout is Options.ReadTimeout by default. The transports bound what one request
// may take; a meter may also wait for its turn behind many others on a slow line.
const readTimeout = 30 * time.Second

// rubbishPause follows a message that cannot be read; the source keeps what comes
// meanwhile.
const rubbishPause = 100 * time.Millisecond

// silentAfter is how many failed reads in a row make a meter silent.
const silentAfter = 3

// maxPowerW bounds what any connection can carry; a device that tells more tells
// nothing. It also keeps sums from overflowing.
const maxPowerW = 1e9

// openDevice opens the i-th meter of the configuration.
func (h *Home) openDevice(i int) (*device, error) {
	c := h.opt.Config.Meters[i]
	access, err := h.access(i)
	if err != nil {
		return nil, err
	}
	log := newQuiet(h.opt.Log.Handler(), h.opt.Now).With("meter", c.Role)
	access.Now, access.Log = h.community, log
	access.Pool, access.HTTPPool = h.pool, h.web
	// Two clients of one broker with one id throw each other off for ever.
	access.ClientID = fmt.Sprintf("commonwatt-%s-%d", h.id.String()[:12], i)
	src, err := meter.Open(context.Background(), access)
	if err != nil {
		return nil, h.meterError(i, err)
	}
	state := meter.TrackerState{}
	if c.Role == RoleConnection {
		s, err := h.disk.loadMeter()
		if err != nil {
			return nil, errors.Join(err, src.Close())
		}
		state = s.Tracker
	}
	t, err := meter.NewTracker(src.Definition().MaxPowerW, state)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return &device{cfg: c, source: src, tracker: t, log: log, view: deviceView{state: api.MeterStarting, signedBy: meter.SignedByAgent}}, nil
}

// period is how often a pull source is read on the wall clock.
func (h *Home) period() time.Duration {
	return min(max(h.wallInterval()/10, 300*time.Millisecond), 10*time.Second)
}

// poll reads one device for as long as the home runs. No error of a device ends it.
func (h *Home) poll(ctx context.Context, d *device) error {
	for ctx.Err() == nil {
		limit := h.opt.ReadTimeout
		if d.source.Push() {
			limit = max(h.wallInterval()/2, 2*time.Second)
		}
		sample, err := h.read(ctx, d, limit)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the home ends
		}
		if err != nil {
			h.failed(d, err)
		} else if err := h.observe(d, sample); err != nil {
			return err
		}
		switch {
		case !d.source.Push():
			if !pause(ctx, h.nextPoll(d.cfg.Role)) {
				return nil
			}
		case err != nil && !errors.Is(err, meter.ErrNoMessage):
			// Lest a broker that sends rubbish, or a source that fails at once, makes us spin.
			if !pause(ctx, rubbishPause) {
				return nil
			}
		}
	}
	return nil
}

func (h *Home) read(ctx context.Context, d *device, limit time.Duration) (meter.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return d.source.Read(ctx)
}

// nextPoll is a period away for the connection, or just after the next boundary if that
// is sooner, so that each boundary is proven as early as can be. The others leave the line
// to it then: they are due at moments of their own, about a period apart.
func (h *Home) nextPoll(role string) time.Duration {
	const settle = 10 * time.Millisecond
	period := h.period()
	if role != RoleConnection {
		return meter.Wait(period)
	}
	boundary := h.until(h.calendar.End(h.calendar.At(h.community()))) + settle
	return max(min(period, boundary), settle)
}

// failed notes a read that gave nothing. A push source has by then waited for longer
// than a device keeps quiet; a pull source may be asked again.
func (h *Home) failed(d *device, err error) {
	h.mu.Lock()
	v := &d.view
	was := v.state
	v.failures++
	switch {
	case errors.Is(err, meter.ErrNoMessage):
		v.state = api.MeterSilent
	case v.failures < silentAfter, errors.Is(err, modbus.ErrBackoff) && was == api.MeterSuspect:
	case errors.Is(err, meter.ErrPayload), errors.Is(err, modbus.ErrBadReply), errors.Is(err, def.ErrWrongDevice):
		v.state = api.MeterSuspect // it does answer, but nothing that can be read
	default:
		v.state = api.MeterSilent
	}
	v.note = clip(err.Error())
	v.count("failed/" + causeOf(err))
	state := v.state
	h.mu.Unlock()
	if state != was {
		d.log.Warn("meter gives nothing", "address", d.cfg.Address, "state", string(state), "err", err)
	} else {
		d.log.Debug("reading meter failed", "address", d.cfg.Address, "err", err)
	}
	h.changed()
}

// errNothingFresh says that all there is was told before we asked.
var errNothingFresh = fmt.Errorf("nothing but what the broker had kept from before: %w", meter.ErrNoMessage)

// observe takes one sample: the view always, the proof of a boundary if it is good.
func (h *Home) observe(d *device, s meter.Sample) error {
	if s.Quality&meter.Retained != 0 {
		h.failed(d, errNothingFresh)
		return nil
	}
	h.stamp(d, &s)
	var r registration
	if d.cfg.Role == RoleConnection {
		r = h.registration()
	}
	waited := d.tracker.Waiting()
	h.adopt(d, s, r)
	decision := meter.Decision{Verdict: meter.Held, Sample: s, Reason: h.foreign(d, s, r)}
	if decision.Reason == "" {
		decision = d.tracker.Offer(s)
	}
	h.show(d, decision)
	h.remind(d, decision)
	defer h.changed()
	if d.cfg.Role == RoleConnection && d.tracker.Waiting() != waited {
		if err := h.prover.keep(h, d.tracker.State()); err != nil {
			return fmt.Errorf("keeping that a meter is set aside: %w", err)
		}
	}
	if decision.Verdict != meter.Accepted || d.cfg.Role != RoleConnection {
		return nil
	}
	p, err := h.prover.prove(h, decision.Sample, d.tracker.State())
	if err != nil {
		return fmt.Errorf("keeping a boundary reading: %w", err)
	}
	if !p.decided {
		return nil
	}
	why := clip(p.why)
	h.mu.Lock()
	again := d.view.unproven == why
	d.view.unproven = why
	h.mu.Unlock()
	if why != "" && !again {
		d.log.Warn("interval boundary not proven", "reason", why)
	}
	return nil
}

// remind gives a sample to the history.
func (h *Home) remind(d *device, decision meter.Decision) {
	if decision.Verdict == meter.Accepted {
		h.history.accept(d.name, decision.Sample)
		return
	}
	h.history.setAside(d.name, decision, reasonOf(decision))
}

// foreign says why a sample of the connection is not of the meter that the ledger
// knows; empty if it is, or while the ledger knows none. What another one
// said before that is forgotten.
func (h *Home) foreign(d *device, s meter.Sample, r registration) string {
	if d.cfg.Role != RoleConnection || !r.metered {
		return ""
	}
	if got := h.prover.meterOf(s); got != r.meter {
		return fmt.Sprintf("the reading is of meter %s, but the ledger knows %s as this home's", got, r.meter)
	}
	if serial := d.tracker.State().Serial; s.Signed != nil && serial != "" && serial != r.meter.String() {
		if t, err := meter.NewTracker(d.source.Definition().MaxPowerW, meter.TrackerState{}); err == nil {
			d.tracker = t
		}
	}
	return ""
}

// show makes the view what the decision says.
func (h *Home) show(d *device, decision meter.Decision) {
	h.mu.Lock()
	v := &d.view
	was := v.state
	v.identity, v.serial = identityText(decision.Sample.Identity), decision.Sample.Identity.Serial
	v.waiting = decision.Verdict == meter.Replaced
	if v.signedBy = meter.SignedByAgent; decision.Sample.Signed != nil {
		v.signedBy = meter.SignedByDevice
	}
	if decision.Verdict != meter.Accepted {
		v.count(decision.Verdict.String() + "/" + reasonOf(decision))
	}
	switch decision.Verdict {
	case meter.Accepted:
		v.accepted++
		v.state, v.note, v.failures = api.MeterOK, "", 0
		v.sample, v.lastAt = decision.Sample, decision.Sample.At
		if d.cfg.Role == RoleConnection {
			h.course.note(decision.Sample, h.calendar, h.tolerance())
		}
		if w := v.sample.PowerW; w != nil && (*w > maxPowerW || *w < -maxPowerW) {
			v.sample.PowerW = nil
		}
	case meter.Held, meter.Replaced:
		v.state, v.note = api.MeterSuspect, clip(decision.Reason)
	case meter.Refused:
		v.failures++
		v.note = clip(decision.Reason)
		if v.failures >= silentAfter {
			v.state = api.MeterSuspect
		}
	}
	state, note := v.state, v.note
	h.mu.Unlock()
	switch {
	case was == api.MeterSilent && state == api.MeterOK:
		d.log.Info("meter answers again")
	case was != api.MeterSuspect && state == api.MeterSuspect:
		d.log.Warn("readings set aside", "reason", note)
	}
}

func identityText(i meter.Identity) string {
	var parts []string
	for _, part := range []string{i.Maker, i.Model, i.Serial} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return clip(strings.Join(parts, " "))
}

// maxText bounds what a device can put on the page, in bytes.
const maxText = 300

func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}
