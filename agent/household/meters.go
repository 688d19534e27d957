package household

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/meter"
)

// device is one meter as the home sees it. The poll goroutine owns source and
// tracker; view is under Home.mu.
type device struct {
	cfg     MeterConfig
	source  meter.Source
	tracker *meter.Tracker
	view    deviceView
}

// deviceView is what is known of a device now.
type deviceView struct {
	state    api.MeterState
	note     string
	identity string
	quality  string
	lastAt   time.Time // community time of the last accepted sample
	sample   meter.Sample
	failures int
}

// readTimeout bounds one look at a pull source on the wall clock.
const readTimeout = 3 * time.Second

// silentAfter is how many failed reads in a row make a meter silent.
const silentAfter = 3

func (h *Home) openDevice(c MeterConfig) (*device, error) {
	src, err := meter.Open(context.Background(), meter.Config{
		Definition: c.Definition, Address: c.Address, Unit: c.Unit,
		Now: h.community, Timeout: 0, Log: h.opt.Log.With("meter", c.Role), Pool: h.pool,
		ClientID: "commonwatt-" + h.id.String()[:12] + "-" + c.Role,
	})
	if err != nil {
		return nil, err
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
	return &device{cfg: c, source: src, tracker: t, view: deviceView{state: api.MeterStarting}}, nil
}

// period is how often a pull source is read on the wall clock.
func (h *Home) period() time.Duration {
	return min(max(h.wallInterval()/10, 300*time.Millisecond), 10*time.Second)
}

// poll reads one device for as long as the home runs. No error of a device ends it.
func (h *Home) poll(ctx context.Context, d *device) error {
	for ctx.Err() == nil {
		limit := readTimeout
		if d.source.Push() {
			limit = max(h.wallInterval()/2, 2*time.Second)
		}
		sample, err := h.read(ctx, d, limit)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			h.failed(d, err)
		} else if err := h.observe(d, sample); err != nil {
			return err
		}
		if !d.source.Push() && !pause(ctx, h.nextPoll()) {
			return nil
		}
		if d.source.Push() && err != nil && !pause(ctx, h.period()) {
			return nil
		}
	}
	return nil
}

func (h *Home) read(ctx context.Context, d *device, limit time.Duration) (meter.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return d.source.Read(ctx)
}

// nextPoll is a period away, or just after the next boundary if that is sooner, so
// that each boundary is proven as early as can be.
func (h *Home) nextPoll() time.Duration {
	const settle = 10 * time.Millisecond
	boundary := h.until(h.calendar.End(h.calendar.At(h.community()))) + settle
	return max(min(h.period(), boundary), settle)
}

func (h *Home) failed(d *device, err error) {
	h.mu.Lock()
	d.view.failures++
	first := d.view.failures == silentAfter
	if d.view.failures >= silentAfter || errors.Is(err, meter.ErrNoMessage) {
		d.view.state = api.MeterSilent
	}
	d.view.note = err.Error()
	h.mu.Unlock()
	if first {
		h.opt.Log.Warn("meter is silent", "role", d.cfg.Role, "address", d.cfg.Address, "err", err)
	} else {
		h.opt.Log.Debug("reading meter failed", "role", d.cfg.Role, "address", d.cfg.Address, "err", err)
	}
	h.changed()
}

// observe takes one sample: the view always, the proof of a boundary if it is good.
func (h *Home) observe(d *device, s meter.Sample) error {
	decision := d.tracker.Offer(s)
	h.mu.Lock()
	v := &d.view
	again := v.state == api.MeterSilent
	v.identity = identityText(s.Identity)
	v.quality = decision.Sample.Quality.String()
	switch decision.Verdict {
	case meter.Accepted:
		v.state, v.note, v.failures = api.MeterOK, "", 0
		v.sample, v.lastAt = decision.Sample, s.At
	case meter.Held, meter.Replaced:
		v.state, v.note = api.MeterSuspect, decision.Reason
	default:
		v.failures++
		v.note = decision.Reason
		if v.failures >= silentAfter {
			v.state = api.MeterSuspect
		}
	}
	state, note := v.state, v.note
	h.mu.Unlock()
	switch {
	case again && state == api.MeterOK:
		h.opt.Log.Info("meter answers again", "role", d.cfg.Role)
	case state == api.MeterSuspect:
		h.opt.Log.Debug("reading set aside", "role", d.cfg.Role, "reason", note)
	}
	defer h.changed()
	if decision.Verdict != meter.Accepted || d.cfg.Role != RoleConnection {
		return nil
	}
	if err := h.prover.prove(h, decision.Sample, d.tracker.State()); err != nil {
		return fmt.Errorf("keeping a boundary reading: %w", err)
	}
	return nil
}

func identityText(i meter.Identity) string {
	text := ""
	for _, part := range []string{i.Maker, i.Model, i.Serial} {
		if part == "" {
			continue
		}
		if text != "" {
			text += " "
		}
		text += part
	}
	return text
}
