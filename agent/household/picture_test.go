package household

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

func watts(w int64) deviceView {
	return deviceView{state: api.MeterOK, sample: meter.Sample{PowerW: &w}, lastAt: dawn}
}

// H4: signs as package api says, and what is unknown, or does not fit together, is nil.
func TestPower(t *testing.T) {
	t.Parallel()
	silent, dumb := deviceView{state: api.MeterSilent, sample: watts(7).sample}, deviceView{state: api.MeterOK}
	const c, s, b = RoleConnection, RoleSolar, RoleBattery
	n := number[int64]
	for name, x := range map[string]struct {
		roles   []string
		devices []deviceView
		want    api.Power
	}{
		"a house alone":                 {[]string{c}, []deviceView{watts(500)}, api.Power{ConnectionW: n(500), HouseW: n(500)}},
		"its meter is silent":           {[]string{c}, []deviceView{silent}, api.Power{}},
		"its meter tells no power":      {[]string{c}, []deviceView{dumb}, api.Power{}},
		"sun without a meter":           {[]string{c}, []deviceView{watts(-800)}, api.Power{ConnectionW: n(-800)}},
		"the sun is exported":           {[]string{c, s}, []deviceView{watts(-800), watts(-1000)}, api.Power{ConnectionW: n(-800), SolarW: n(1000), HouseW: n(200)}},
		"two roofs":                     {[]string{c, s, s}, []deviceView{watts(-800), watts(-600), watts(-500)}, api.Power{ConnectionW: n(-800), SolarW: n(1100), HouseW: n(300)}},
		"one of two roofs is silent":    {[]string{c, s, s}, []deviceView{watts(-800), watts(-600), silent}, api.Power{ConnectionW: n(-800)}},
		"the inverter at night":         {[]string{c, s}, []deviceView{watts(300), watts(4)}, api.Power{ConnectionW: n(300), SolarW: n(0), HouseW: n(300)}},
		"the battery charges":           {[]string{c, s, b}, []deviceView{watts(0), watts(-1000), watts(700)}, api.Power{ConnectionW: n(0), SolarW: n(1000), BatteryW: n(700), HouseW: n(300)}},
		"the battery discharges":        {[]string{c, b}, []deviceView{watts(-100), watts(-400)}, api.Power{ConnectionW: n(-100), BatteryW: n(-400), HouseW: n(300)}},
		"the battery is silent":         {[]string{c, b}, []deviceView{watts(-100), silent}, api.Power{ConnectionW: n(-100)}},
		"readings of different moments": {[]string{c, s}, []deviceView{watts(-3000), watts(-500)}, api.Power{ConnectionW: n(-3000), SolarW: n(500)}},
	} {
		t.Run(name, func(t *testing.T) {
			h := &Home{}
			for _, role := range x.roles {
				h.opt.Config.Meters = append(h.opt.Config.Meters, MeterConfig{Role: role})
				x.want.HasSolar = x.want.HasSolar || role == s
				x.want.HasBattery = x.want.HasBattery || role == b
			}
			got := h.power(x.devices, localShares{})
			got.At = nil
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever the meters say, what is shown adds up, and nothing overflows.
func TestPowerAddsUp(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := &Home{}
		devices := []deviceView{}
		for i := range rapid.IntRange(1, maxMeters).Draw(t, "meters") {
			role := RoleConnection
			if i > 0 {
				role = rapid.SampledFrom([]string{RoleSolar, RoleBattery}).Draw(t, "role")
			}
			h.opt.Config.Meters = append(h.opt.Config.Meters, MeterConfig{Role: role})
			devices = append(devices, watts(rapid.Int64Range(-maxPowerW, maxPowerW).Draw(t, "power")))
		}
		wh := rapid.Int64Range(0, 1<<40)
		s := localShares{
			known: true, intervalLength: time.Duration(rapid.IntRange(60, 3600).Draw(t, "length")) * time.Second,
			bought: market.WattHours(wh.Draw(t, "bought")), sold: market.WattHours(wh.Draw(t, "sold")),
		}
		p := h.power(devices, s)
		c := *p.ConnectionW
		if *p.GridW+*p.NeighboursW != c || c > 0 && (*p.GridW < 0 || *p.NeighboursW < 0) || c < 0 && (*p.GridW > 0 || *p.NeighboursW > 0) {
			t.Errorf("connection %d, grid %d, neighbours %d", c, *p.GridW, *p.NeighboursW)
		}
		value := func(v *int64) int64 {
			if v == nil {
				return 0
			}
			return *v
		}
		if p.HouseW != nil && (*p.HouseW < 0 || c+value(p.SolarW) != *p.HouseW+value(p.BatteryW)) || value(p.SolarW) < 0 {
			t.Errorf("%+v does not add up", p)
		}
	})
}

// Numbers that no device can mean are unknown, and texts are cut.
func TestHostileMeter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.mend = func(_ time.Time, s *meter.Sample) {
		*s.ImportWh, *s.ExportWh = math.MaxUint64, math.MaxInt64+1
		*s.PowerW = math.MinInt64
		s.Identity.Maker = strings.Repeat("ö", 1000)
	}
	r.register()
	r.until(on(7, 0))
	s := r.draw()
	m := s.Meters[0]
	if m.ImportWh != nil || m.ExportWh != nil || m.PowerW != nil || s.Power.ConnectionW != nil || len(m.Identity) > maxText+3 {
		t.Errorf("meter %+v, power %+v", m, s.Power)
	}
	r.mend = func(_ time.Time, s *meter.Sample) { *s.ImportWh = 0 }
	r.until(on(7, 10))
	if m := r.draw().Meters[0]; m.State != api.MeterSuspect || m.Quality != api.QualityDoubtful || len(m.Note) > maxText+3 {
		t.Errorf("meter %+v", m)
	}
}

// An interval goes from open to settled on the page, its money known only then; a
// neighbour who does not report makes it wait, and a substitute is named.
func TestIntervalStates(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *townOptions) {
		o.homes = 2
		o.rules = func(rules *ledger.Rules) { rules.ReportDeadlineS = 3600 }
	})
	r.register()
	r.neighbour()
	reported, silent := r.at(8, 0), r.at(8, 15)
	states := map[market.Interval][]string{}
	r.off = func(now time.Time) bool { return now.After(on(8, 20)) && now.Before(on(11, 0)) }
	r.after = func(now time.Time, s api.Snapshot) error {
		for _, k := range []market.Interval{reported, silent} {
			if now.Before(r.home.calendar.Start(k).Add(-10 * time.Minute)) {
				continue
			}
			i := shown(t, s, k)
			if n := len(states[k]); n == 0 || !strings.HasSuffix(states[k][n-1], " "+string(i.State)) {
				states[k] = append(states[k], now.Format("15:04 ")+string(i.State))
			}
			settled := i.State == api.StateSettled || i.State == api.StateSubstitute
			if (i.Net != nil) != settled || (i.Saved != nil) != settled || (i.Price != nil) == (i.State == api.StateOpen) {
				return fmt.Errorf("interval %+v", i)
			}
		}
		return nil
	}
	r.until(on(11, 30))
	want := map[market.Interval][]string{
		reported: {"07:50 open", "07:56 cleared", "09:26 settled"},
		silent:   {"08:05 open", "08:11 cleared", "08:32 missing", "09:41 substitute", "11:01 settled"}, // the first sample after a silence proves nothing
	}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	if i := shown(t, r.draw(), silent); i.Quality != api.QualityEstimated {
		t.Errorf("interval %+v, want it estimated", i)
	}
}

// scale rounds down, never above the whole, and does not overflow.
func TestScale(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.Int64Range(1, math.MaxInt64).Draw(t, "whole")
		part := rapid.Int64Range(0, whole).Draw(t, "part")
		wh := rapid.Int64Range(0, math.MaxInt64).Draw(t, "wh")
		got := int64(scale(market.WattHours(wh), market.WattHours(part), market.WattHours(whole)))
		if got < 0 || got > wh || part == whole && got != wh {
			t.Errorf("%d × %d / %d is %d", wh, part, whole, got)
		}
	})
}
