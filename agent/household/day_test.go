package household

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// day is a home that lives in virtual time, with a meter on a real wire.
type day struct {
	*town
	t      *testing.T
	opt    Options
	device *device630
	home   *Home
	stop   context.CancelFunc
	ended  chan error
	at     map[market.Interval]unit630 // the connection's counters when it began
}

func (d *day) run() {
	d.t.Helper()
	var ctx context.Context
	ctx, d.stop = context.WithCancel(d.t.Context())
	d.home, d.ended = mustOpen(d.t, d.opt), make(chan error, 1)
	go func() { d.ended <- d.home.Run(ctx) }()
}

func (d *day) end() {
	d.t.Helper()
	d.stop()
	if err := <-d.ended; err != nil {
		d.t.Error(err)
	}
}

// live counts, makes blocks and looks at the page, each community minute until a time.
func (d *day) live(until time.Time) {
	d.t.Helper()
	clock := d.home.clock
	for now := clock.Community(time.Now()); now.Before(until); now = clock.Community(time.Now()) {
		synctest.Wait()
		minute := int(now.Sub(dawn) / time.Minute)
		var c counters
		c.step(minute)
		d.device.set(func(units map[uint8]*unit630) {
			if minute%15 == 0 { // it counts a quarter of a minute later, so this is what it said at the boundary
				d.at[d.home.calendar.At(now)] = *units[1]
			}
			units[1].imported += uint32(c.imported)
			units[1].exported += uint32(c.exported)
			units[1].power = 60 * (float32(c.imported) - float32(c.exported))
			units[2].exported += uint32(minute % 7)
			units[2].power = -60 * float32(minute%7)
			units[3].power = float32(minute%5) - 2
		})
		for range 2 {
			d.block()
			time.Sleep(500 * time.Millisecond) // virtual: a block each half second of the wall clock
		}
		d.look(d.home.Snapshot())
	}
}

// look wants what the page says to fit together, at each moment.
func (d *day) look(s api.Snapshot) {
	d.t.Helper()
	p := s.Power
	if p.HouseW != nil && *p.ConnectionW+*p.SolarW != *p.HouseW+*p.BatteryW {
		d.t.Errorf("%v: connection %d + solar %d is not house %d + battery %d", s.At, *p.ConnectionW, *p.SolarW, *p.HouseW, *p.BatteryW)
	}
	if p.NeighboursW != nil && *p.NeighboursW+*p.GridW != *p.ConnectionW {
		d.t.Errorf("%v: neighbours %d + grid %d is not connection %d", s.At, *p.NeighboursW, *p.GridW, *p.ConnectionW)
	}
	if a := s.Account; a.Balance != nil && *a.Balance != *a.Earned-*a.Spent {
		d.t.Errorf("%v: balance %d is not %d - %d", s.At, *a.Balance, *a.Earned, *a.Spent)
	}
}

// A day of a home, as it runs: a real meter on Modbus TCP, all goroutines, a gap and a
// restart. What was settled is what the device counted, to the Wh, and each interval was
// ordered for at most once (H2, H5, H6).
func TestOneDay(t *testing.T) {
	t.Parallel()
	device := newDevice630(t)
	device.units = map[uint8]*unit630{1: {imported: 1_234_567, exported: 89_012}, 2: {exported: 5_000}, 3: {}}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		tw := found(t, townOptions{start: start, rate: 60, now: time.Now})
		c := config("eastron-sdm630", device.address())
		for unit, role := range []string{RoleSolar, RoleBattery} {
			c.Meters = append(c.Meters, MeterConfig{Role: role, Definition: "eastron-sdm630", Address: device.address(), Unit: uint8(unit + 2)})
		}
		d := &day{town: tw, t: t, device: device, opt: tw.options(0, c), at: map[market.Interval]unit630{}}
		d.run()
		time.Sleep(250 * time.Millisecond)
		d.live(on(9, 10))
		device.breaks(true)
		d.live(on(9, 25))
		if p, ok := problem(d.home.Snapshot(), "meter-silent"); !ok {
			t.Errorf("silent, but the page says %+v", p)
		}
		if s := d.home.Snapshot(); s.Power.ConnectionW != nil || s.Power.HouseW != nil || s.Power.SolarW != nil {
			t.Errorf("silent, but the page shows %+v", s.Power)
		}
		d.live(on(10, 20))
		device.breaks(false)
		d.live(on(14, 7))
		d.end()
		// Nobody reads for a while, over one boundary; the device counts on.
		d.live(on(14, 20))
		d.run()
		d.live(dawn.Add(24*time.Hour + 5*time.Minute))
		d.end()
		d.compare()
	})
}

func (d *day) compare() {
	d.t.Helper()
	calendar := d.home.calendar
	first := calendar.At(on(6, 15))
	imported, exported, last := d.counted(d.home.id, first)
	if want := calendar.At(dawn.Add(24*time.Hour)) - 1; last != want {
		d.t.Fatalf("metered to interval %d, want %d: %+v", last, want, d.home.Snapshot().Problems)
	}
	from, to := d.at[first], d.at[last+1]
	if uint32(imported) != to.imported-from.imported || uint32(exported) != to.exported-from.exported {
		d.t.Errorf("settled %d and %d Wh, the device counted %d and %d", imported, exported, to.imported-from.imported, to.exported-from.exported)
	}
	estimated := 0
	for k, s := range d.settlements(d.home.id) {
		switch before, after := d.at[k], d.at[k+1]; s.Quality {
		case ledger.QualityEstimated:
			estimated++
		case ledger.QualityGood:
			if uint32(s.Import) != after.imported-before.imported || uint32(s.Export) != after.exported-before.exported {
				d.t.Errorf("interval %d: settled %d and %d Wh, the device counted from %+v to %+v", k, s.Import, s.Export, before, after)
			}
		case ledger.QualityMissing, ledger.QualitySubstitute, ledger.QualityDoubtful, ledger.QualityCorrected:
			d.t.Errorf("interval %d: quality %s", k, s.Quality)
		}
	}
	// From 9:00 to 10:30, and from 14:00 to 14:30; some of it may be lost to the meter's back-off.
	if estimated < 7 || estimated > 9 {
		d.t.Errorf("%d intervals are estimated, want about 8", estimated)
	}
	if n := d.wasSeen(ledger.KindOrder); n < 85 || n > 96 {
		d.t.Errorf("%d orders, want one for most of 96 intervals", n)
	}
	if n := d.wasSeen(ledger.KindReport); n != 96-estimated+2-1 {
		d.t.Errorf("%d reports, want one for each of %d proven spans", n, 96-estimated+2-1)
	}
	s := d.home.Snapshot()
	if got := s.Account.Settlements; got != int64(len(d.settlements(d.home.id))) {
		d.t.Errorf("the page counts %d settlements", got)
	}
}
