package main

import (
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// TestInvertersAreLed leads each inverter by its definition, which was written
// without it, and looks at what the battery really does: in each mode that the
// definition has, renewed, and after whoever led it fell silent.
func TestInvertersAreLed(t *testing.T) {
	for _, id := range []string{"huawei-luna2000", "solaredge-storedge", "sunspec-battery", "sunspec-der"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			r := startServing(t, inverterFile(t, id, "battery"))
			community := func() time.Time {
				var c control.Clock
				get(t, r.Control, "/clock", &c)
				return c.CommunityTime
			}
			a, err := meter.OpenActuator(t.Context(), meter.Config{
				Definition: id, Address: "tcp://" + r.Modbus, Unit: 3, Now: community,
			}, meter.Identity{})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if s, err := a.Read(t.Context()); err != nil || s.Mode != def.ModeOwn {
				t.Fatalf("by itself: %+v, %v", s, err)
			}
			const lease = 5 * time.Minute
			for _, c := range []struct {
				mode      string
				power     int64
				truth     string
				low, high int64 // W of the battery
			}{
				{def.ModeDischarge, 1500, "", -1500, -1500},
				{def.ModeCharge, 2000, "", 2000, 2000},
				{def.ModeHold, 0, "hold", 0, 5000},
				{def.ModeHoldCharge, 0, "nocharge", -5000, 0},
				{def.ModeDischarge, 9000, "", -5000, -5000}, // cut down to what it can
			} {
				if _, has := a.Definition().Control.Modes[c.mode]; !has {
					continue
				}
				for range 3 { // twice renewed at half time
					s, err := a.Apply(t.Context(), meter.SetPoint{Mode: c.mode, PowerW: c.power, Lease: lease})
					if err != nil || s.Mode != c.mode || !s.Led {
						t.Fatalf("%s %d W: %+v, %v", c.mode, c.power, s, err)
					}
					i := now(t, r.Control)
					if i.BatteryW < c.low || i.BatteryW > c.high || c.truth != "" && i.Mode != c.truth {
						t.Errorf("%s %d W: it does %+v", c.mode, c.power, i)
					}
					move(t, r.Control, `{"advance":"150s"}`)
				}
			}
			// The last renewal was 150 s ago, and nobody is there any more. One that
			// waits for a heartbeat is on its own already.
			if i := now(t, r.Control); (i.Mode == "self-consumption") != (id == "sunspec-der") {
				t.Errorf("half a lease after the last word: %+v", i)
			}
			move(t, r.Control, `{"advance":"150s"}`)
			if i := now(t, r.Control); i.Mode != "self-consumption" {
				t.Errorf("a lease after the last word: %+v", i)
			}
			if s, err := a.Read(t.Context()); err != nil || s.Mode != def.ModeOwn || s.Led {
				t.Errorf("a lease after the last word it says %+v, %v", s, err)
			}
		})
	}
}

// TestProductionIsLimited: a limit at the terminals of an inverter with panels
// and battery behind it fills the battery first, then curtails the sun, and is
// gone with its lease.
func TestProductionIsLimited(t *testing.T) {
	r := startServing(t, inverterFile(t, "sunspec-battery", "inverter"))
	community := func() time.Time {
		var c control.Clock
		get(t, r.Control, "/clock", &c)
		return c.CommunityTime
	}
	a, err := meter.OpenActuator(t.Context(), meter.Config{
		Definition: "sunspec-limit", Address: "tcp://" + r.Modbus, Unit: 3, Now: community,
	}, meter.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const limit = 300
	curtailed := false
	for range 20 {
		if s, err := a.Apply(t.Context(), meter.SetPoint{Mode: def.ModeLimit, PowerW: limit, Lease: 30 * time.Minute}); err != nil || !s.Led {
			t.Fatalf("limiting: %+v, %v", s, err)
		}
		i := now(t, r.Control)
		if i.OutputW > limit || i.OutputMaxW == nil || *i.OutputMaxW != limit {
			t.Fatalf("limited to %d W: %+v", limit, i)
		}
		if i.CurtailedW > 0 && i.SoCPercent < 99 && i.BatteryW < 5000 {
			t.Fatalf("it curtails while its battery has room: %+v", i)
		}
		curtailed = curtailed || i.CurtailedW > 0
		move(t, r.Control, `{"advance":"10m"}`)
	}
	if !curtailed {
		t.Error("no sun was curtailed in three hours around noon in June")
	}
	move(t, r.Control, `{"advance":"30m"}`)
	if i := now(t, r.Control); i.OutputMaxW != nil && *i.OutputMaxW == limit || i.CurtailedW != 0 {
		t.Errorf("the lease is over: %+v", i)
	}
}
