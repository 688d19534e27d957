package household

import (
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// leads makes a leader without a device: what it decides is looked at, not written.
func (r *rig) leads(c ControlConfig) *leader {
	return &leader{home: r.home, cfg: c, view: controlView{battery: map[market.Interval]int64{}}}
}

// battery is what a battery says of itself.
func battery(socBp int64) meter.ControlState {
	most := int64(4000)
	return meter.ControlState{ControlState: def.ControlState{Mode: def.ModeOwn, SoCBp: &socBp, MaxChargeW: &most, MaxDischargeW: &most}}
}

// signed is a set point as the power of the battery.
func signed(s *meter.SetPoint) int64 {
	if s.Mode == def.ModeDischarge {
		return -s.PowerW
	}
	return s.PowerW
}

// TestDispatchFollows: on the real ledger, the target is what the clearing gave the home, the power is what is missing to
// it, and without a ledger, an order, a reading or a person's leave there is no set point.
func TestDispatchFollows(t *testing.T) {
	r := newRig(t, nil)
	r.register()
	l := r.leads(ControlConfig{Mode: LeadFollow, ReservePercent: 10})
	if want, why := l.decide(battery(5000)); want != nil {
		t.Fatalf("before anything is known: got %+v, %s", want, why)
	}
	r.until(on(9, 5))
	p := r.home.positionAt(r.at(9, 0))
	if !p.known {
		t.Fatal("the home has no allocation")
	}
	want, why := l.decide(battery(5000))
	if want == nil || !strings.HasPrefix(why, "It follows the ") || !strings.HasSuffix(why, " until 09:15.") {
		t.Fatalf("got %+v, %q, expected to follow until 09:15", want, why)
	}
	// Ten of fifteen minutes are left, and the house goes on as it does.
	c := r.home.course
	missing := (p.targetWh-(c.net-c.base))*3600/600 - *l.house.w
	if got := signed(want); min(max(missing, -4000), 4000)-got > 60 || got-min(max(missing, -4000), 4000) > 60 {
		t.Errorf("got %d W, expected about %d", got, missing)
	}
	if want, _ := l.decide(battery(1000)); want == nil || signed(want) < 0 {
		t.Errorf("at its reserve: got %+v, expected no discharge", want)
	}
	if want, _ := l.decide(battery(10_000)); want == nil || signed(want) > 0 {
		t.Errorf("full: got %+v, expected no charge", want)
	}
	l.paused.Store(true)
	if want, why := l.decide(battery(5000)); want != nil || !strings.Contains(why, "person") {
		t.Errorf("paused: got %+v, %s", want, why)
	}
	l.paused.Store(false)
	r.catching = true
	if want, _ := l.decide(battery(5000)); want != nil {
		t.Errorf("the ledger is away: got %+v", want)
	}
	r.catching = false
	r.clock.set(on(9, 14))
	if want, why := l.decide(battery(5000)); want != nil || !strings.Contains(why, "silent") {
		t.Errorf("silent meter: got %+v, %s", want, why)
	}
	r.clock.set(on(9, 16))
	if want, _ := l.decide(battery(5000)); want != nil {
		t.Errorf("an interval of which the meter said nothing: got %+v", want)
	}
}

// TestDispatchKeepsLimits: a limit of the connection reduces charging, never below the legal floor, and the roof is limited
// so that the export is what is allowed.
func TestDispatchKeepsLimits(t *testing.T) {
	r := newRig(t, nil)
	r.register()
	r.until(on(8, 5))
	l := r.leads(ControlConfig{Mode: LeadCharge, PowerW: 3000})
	want, _ := l.decide(battery(5000))
	if want == nil || signed(want) != 3000 {
		t.Fatalf("without a limit: got %+v", want)
	}
	house := *l.house.w
	little, floor := int64(500), int64(4200)
	if got := trader.Bounded(3000, house, l.band(battery(5000)), trader.Limits{ImportW: &little, FloorW: floor}); got != min(3000, floor-house) {
		t.Errorf("below the floor: got %d W, expected %d", got, min(3000, floor-house))
	}
	if got := trader.Bounded(3000, house, l.band(battery(5000)), trader.Limits{ImportW: &little}); got != little-house {
		t.Errorf("without a floor: got %d W, expected %d", got, little-house)
	}
	if got := tighter(&little, nil); got != &little {
		t.Errorf("no limit is tighter than one: got %v", got)
	}
	roof := r.leads(ControlConfig{Mode: LeadLimitExport})
	if want, why := roof.decide(meter.ControlState{}); want != nil {
		t.Errorf("no envelope: got %+v, %s", want, why)
	}
}

// TestDispatchKeepsEnvelopes: what the ledger limits at the home's node or above it reaches the battery and the roof.
func TestDispatchKeepsEnvelopes(t *testing.T) {
	most, export := int64(5000), int64(1000)
	r := newRig(t, func(o *townOptions) {
		o.network = []ledger.Node{{ID: "grid"}, {ID: "street", Parent: "grid", ImportLimitW: &most}, {ID: "feeder", Parent: "street", ExportLimitW: &export}}
		o.node = "feeder"
	})
	r.register()
	r.until(on(8, 5))
	l := r.leads(ControlConfig{Mode: LeadCharge, PowerW: 20_000})
	state := battery(5000)
	*state.MaxChargeW = 20_000
	want, _ := l.decide(state)
	if want == nil || signed(want)+*l.house.w != most {
		t.Fatalf("got %+v with a house of %d W, expected the connection at %d W", want, *l.house.w, most)
	}
	l = r.leads(ControlConfig{Mode: LeadDischarge, PowerW: 20_000})
	*state.MaxDischargeW = 20_000
	if want, _ = l.decide(state); want == nil || signed(want)+*l.house.w != -export {
		t.Fatalf("got %+v with a house of %d W, expected the connection at %d W", want, *l.house.w, -export)
	}
	// The roof gives 3000 W and the connection 2500: 1500 of them may stay.
	roof := r.leads(ControlConfig{Mode: LeadLimitExport})
	gives, out := int64(-3000), int64(-2500)
	r.home.opt.Config.Meters = append(r.home.opt.Config.Meters, MeterConfig{Role: RoleSolar})
	r.home.meters[0].view.sample.PowerW = &out
	r.home.meters = append(r.home.meters, &device{view: deviceView{state: api.MeterOK, sample: meter.Sample{PowerW: &gives}}})
	want, why := roof.decide(meter.ControlState{})
	r.home.meters = r.home.meters[:1]
	r.home.opt.Config.Meters = r.home.opt.Config.Meters[:1]
	if want == nil || want.Mode != def.ModeLimit || want.PowerW != 1500 {
		t.Fatalf("got %+v, %s, expected a roof of 1500 W", want, why)
	}
}

// TestSteady: a set point that differs by little is not written anew.
func TestSteady(t *testing.T) {
	r := newRig(t, nil)
	l := r.leads(ControlConfig{})
	at := func(w int64) int64 {
		return l.steady(&meter.SetPoint{Mode: def.ModeCharge, PowerW: w, Lease: time.Minute}).PowerW
	}
	for _, c := range []struct{ wanted, got int64 }{{1000, 1000}, {1030, 1000}, {970, 1000}, {1045, 1045}, {1010, 1045}, {0, 0}, {10, 0}, {900, 900}} {
		if got := at(c.wanted); got != c.got {
			t.Errorf("wanted %d W: got %d, expected %d", c.wanted, got, c.got)
		}
	}
}

// TestPlanned: of the forecast the battery's part is taken out, and put in as it will be.
func TestPlanned(t *testing.T) {
	r := newRig(t, nil)
	l := r.leads(ControlConfig{Mode: LeadFollow, CapacityWh: 5000})
	r.home.leaders = []*leader{l}
	t.Cleanup(func() { r.home.leaders = nil })
	f := trader.Forecast{Export: 100, From: 50}
	if got := r.home.planned(f); got != f {
		t.Errorf("nothing is known of the battery: got %+v", got)
	}
	const wattMS = 3_600_000
	l.view.battery[49], l.view.battery[50] = 0, 200*wattMS // the house gave 300, the battery took 200
	l.view.state = battery(10_000)
	if got := r.home.planned(f); got.Export != 300 || got.Import != 0 {
		t.Errorf("full: got %+v, expected to sell all that the house gives", got)
	}
	l.view.state = battery(5000)
	if got := r.home.planned(f); got.Export != 0 || got.Import != 0 {
		t.Errorf("half full: got %+v, expected to store it", got)
	}
	l.view.state = battery(500)
	l.view.battery[50] = -400 * wattMS // it gave 400 of the 300 that the house took
	if got := r.home.planned(f); got.Import != 300 {
		t.Errorf("empty: got %+v, expected to buy what the house takes", got)
	}
}

func TestControlByHand(t *testing.T) {
	r := newRig(t, nil)
	l := r.leads(ControlConfig{Mode: LeadFollow})
	r.home.leaders = []*leader{l}
	t.Cleanup(func() { r.home.leaders = nil })
	refused := func(index int, action string) bool {
		err := r.home.Control(index, action)
		_, ok := err.(*api.Refused) //nolint:errorlint // it is not wrapped
		return ok
	}
	if !refused(1, "release") || !refused(-1, "release") || !refused(0, "dance") || !refused(0, "approve") {
		t.Error("what cannot be done is not refused")
	}
	if err := r.home.Control(0, "release"); err != nil || !l.paused.Load() {
		t.Errorf("release: %v", err)
	}
	if err := r.home.Control(0, "resume"); err != nil || l.paused.Load() {
		t.Errorf("resume: %v", err)
	}
}
