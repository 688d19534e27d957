package household

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// needed are the modes that a definition must have to be led in a way.
var needed = map[string][]string{
	LeadFollow: {def.ModeCharge, def.ModeDischarge}, LeadHold: {def.ModeHold}, LeadHoldCharge: {def.ModeHoldCharge},
	LeadCharge: {def.ModeCharge}, LeadDischarge: {def.ModeDischarge}, LeadLimitExport: {def.ModeLimit},
}

// leader leads one device. Its goroutine owns all but the view, which is under Home.mu, and what is atomic.
type leader struct {
	home     *Home
	index    int
	cfg      ControlConfig
	actuator *meter.Actuator
	log      *slog.Logger

	paused  atomic.Bool
	approve atomic.Bool

	track  track
	house  houseGuess
	last   *meter.SetPoint
	lastAt time.Time // since when it is asked for, or released; community time

	view controlView
}

// controlView is what is known of a device that is led.
type controlView struct {
	state            meter.ControlState
	known            meter.Identity
	other            bool
	paused           bool
	why, note        string
	writes, failures int64
	// battery is what it took in an interval, Wh; of the newest ones.
	battery map[market.Interval]int64
}

// lead beats until ctx ends. No error of a device ends it. A device without a timer of its own is then brought back to
// its own mode; one with a timer is left alone.
func (h *Home) lead(ctx context.Context, l *leader) error {
	for pause(ctx, h.beat()) {
		l.beat(ctx)
	}
	if !l.actuator.Reverts() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		if _, err := l.actuator.Release(end); err != nil {
			l.log.ErrorContext(end, "device without a timer is left as it is", "address", l.cfg.Address, "err", err)
		}
	}
	return nil
}

// beat is how often a device is looked after, on the wall clock.
func (h *Home) beat() time.Duration { return max(h.period()/2, 200*time.Millisecond) }

// lease is how long a set point holds, in community time: several beats, so that one may fail.
func (l *leader) lease() time.Duration {
	if l.cfg.LeaseS > 0 {
		return time.Duration(l.cfg.LeaseS) * time.Second
	}
	h := l.home
	return max(h.calendar.Length/3, 8*h.communitySpan(h.beat())).Truncate(time.Second)
}

// beat looks at the device, decides, and sees to it that it does so.
func (l *leader) beat(ctx context.Context) {
	h := l.home
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if l.approve.Swap(false) {
		l.actuator.Approve()
	}
	state, err := l.actuator.Read(ctx)
	why := ""
	if err == nil {
		l.account(state)
		var want *meter.SetPoint
		want, why = l.decide(state)
		if want == nil {
			if l.last != nil || l.lastAt.IsZero() {
				l.last, l.lastAt = nil, h.community()
			}
			state, err = l.actuator.Release(ctx)
		} else {
			want.Lease = l.lease()
			want = l.steady(want)
			state, err = l.actuator.Apply(ctx, *want)
		}
	}
	if err == nil {
		l.track.goesOn(h.community(), powerOf(state))
	}
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // the home ends
	}
	l.show(state, why, err)
	h.changed()
}

// powerOf is what a device does, or was told to if it does not say what it does.
func powerOf(s meter.ControlState) int64 {
	switch {
	case s.BatteryW != nil:
		return *s.BatteryW
	case s.SetW == nil:
		return 0
	case s.Mode == def.ModeDischarge:
		return -*s.SetW
	case s.Mode == def.ModeCharge:
		return *s.SetW
	}
	return 0
}

// account adds what the device did since the last beat to its interval.
func (l *leader) account(state meter.ControlState) {
	h := l.home
	now := h.community()
	done, ok := l.track.add(now, powerOf(state), h.calendar.Length)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.calendar.At(now)
	l.view.battery[k] += done
	delete(l.view.battery, k-keptMetered)
}

// steady keeps the set point that holds if the new one differs by little: a device need not be written to for that.
func (l *leader) steady(want *meter.SetPoint) *meter.SetPoint {
	const little = 40
	if l.last != nil && l.last.Mode == want.Mode && l.last.Lease == want.Lease {
		if off := l.last.PowerW - want.PowerW; want.PowerW > 0 && off > -little && off < little {
			return l.last
		}
	}
	l.last, l.lastAt = want, l.home.community()
	return want
}

// decide says what the device is to do and why; nil is to be on its own.
func (l *leader) decide(state meter.ControlState) (*meter.SetPoint, string) {
	h := l.home
	if l.paused.Load() {
		return nil, "A person told this home to leave it alone."
	}
	now := h.community()
	k := h.calendar.At(now)
	p := h.positionAt(k)
	limits := trader.Limits{ImportW: p.importW, ExportW: p.export, FloorW: p.floorW}
	h.mu.Lock()
	c := h.course
	h.mu.Unlock()
	l.house.learn(c, &l.track, now, h.calendar.Length, now.Sub(l.lastAt) > h.calendar.Length/2)
	switch l.cfg.Mode {
	case LeadHold, LeadHoldCharge:
		return &meter.SetPoint{Mode: l.cfg.Mode}, "It is set to " + l.cfg.Mode + "."
	case LeadCharge, LeadDischarge:
		w := l.cfg.PowerW
		if l.cfg.Mode == LeadDischarge {
			w = -w
		}
		if l.house.w == nil {
			return nil, "Nothing is known yet of the house."
		}
		return l.power(trader.Bounded(w, *l.house.w, l.band(state), limits)), fmt.Sprintf("It is set to %s with %d W.", l.cfg.Mode, l.cfg.PowerW)
	case LeadLimitExport:
		return l.limit(p, limits)
	case LeadFollow:
		return l.follow(state, c, p, limits, now)
	}
	return nil, "It is left to its own mode."
}

// leastTarget is the smallest target worth following, Wh: near nothing the device's own mode is as good.
const leastTarget = 10

// follow keeps the connection on the way to what was bought and sold.
func (l *leader) follow(state meter.ControlState, c course, p position, limits trader.Limits, now time.Time) (*meter.SetPoint, string) {
	h := l.home
	k := h.calendar.At(now)
	end := h.calendar.End(k)
	switch {
	case !p.known:
		return nil, "Nothing was bought or sold for this interval: it is left to its own mode."
	case p.targetWh >= -leastTarget && p.targetWh <= leastTarget:
		return nil, "So little was bought or sold for this interval that its own mode is as near: it is left to it."
	case c.interval != k || !c.proven || l.house.w == nil:
		return nil, "The connection meter has not said yet where this interval began: it is left to its own mode."
	case now.Sub(c.at) > h.calendar.Length/2:
		return nil, "The connection meter is silent: it is left to its own mode."
	}
	age := min(max(now.Sub(c.movedAt), 0), l.house.refresh, now.Sub(h.calendar.Start(k)))
	band := l.band(state)
	w := trader.Follow(trader.Course{
		TargetWh: p.targetWh, CountedWh: c.net - c.base, AgeMS: age.Milliseconds(),
		LeftMS: end.Sub(now).Milliseconds(), LeastMS: h.communitySpan(h.beat()).Milliseconds(),
		HouseW: *l.house.w, BatteryW: l.track.mean(now.Add(-age), now),
	}, band, limits)
	what := fmt.Sprintf("purchase of %d Wh", p.targetWh)
	if p.targetWh <= 0 {
		what = fmt.Sprintf("sale of %d Wh", -p.targetWh)
	}
	return l.power(w), fmt.Sprintf("It follows the %s until %s.", what, end.Format("15:04"))
}

// power is a set point: charging is positive, and nothing is neither.
func (l *leader) power(w int64) *meter.SetPoint {
	if w < 0 {
		return &meter.SetPoint{Mode: def.ModeDischarge, PowerW: -w}
	}
	return &meter.SetPoint{Mode: def.ModeCharge, PowerW: w}
}

// limit brings the limit of the connection's export to the roof.
func (l *leader) limit(p position, limits trader.Limits) (*meter.SetPoint, string) {
	h := l.home
	h.mu.Lock()
	power := h.power(l.views(), localShares{})
	h.mu.Unlock()
	if p.export == nil {
		return nil, "The connection may export as much as it can."
	}
	if power.ConnectionW == nil || power.SolarW == nil {
		return nil, "Nothing is known of the roof and the connection: it is left to its own mode."
	}
	most := trader.Production(*power.SolarW, *power.ConnectionW, 0, limits)
	return &meter.SetPoint{Mode: def.ModeLimit, PowerW: *most}, fmt.Sprintf("The grid operator allows the connection %d W.", *p.export)
}

// views are the meters' views. The caller holds mu.
func (l *leader) views() []deviceView {
	list := make([]deviceView, len(l.home.meters))
	for i, d := range l.home.meters {
		list[i] = d.view
	}
	return list
}

// fullBp is full: many batteries never say 100 %.
const fullBp = 9_980

// band is what the battery may do: what it says itself, and what the configuration says.
func (l *leader) band(state meter.ControlState) trader.Band {
	most := func(says *int64) int64 {
		switch {
		case says == nil:
			return l.cfg.MaxPowerW
		case l.cfg.MaxPowerW == 0:
			return *says
		}
		return min(*says, l.cfg.MaxPowerW)
	}
	return trader.Band{
		MaxChargeW: most(state.MaxChargeW), MaxDischargeW: most(state.MaxDischargeW),
		SoCBp: state.SoCBp, ReserveBp: l.cfg.ReservePercent * 100, CeilingBp: fullBp,
	}
}

// communitySpan is how much community time passes in a time of the wall clock.
func (h *Home) communitySpan(d time.Duration) time.Duration { return d * time.Duration(h.clock.Rate) }
