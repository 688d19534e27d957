package trader_test

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/agent/trader"
)

func drawBand(t *rapid.T) trader.Band {
	b := trader.Band{
		MaxChargeW:    rapid.Int64Range(0, 20_000).Draw(t, "max charge"),
		MaxDischargeW: rapid.Int64Range(0, 20_000).Draw(t, "max discharge"),
		ReserveBp:     rapid.Int64Range(0, 5000).Draw(t, "reserve"),
		CeilingBp:     rapid.Int64Range(5001, 10_000).Draw(t, "ceiling"),
	}
	if rapid.Bool().Draw(t, "tells") {
		b.SoCBp = new(rapid.Int64Range(0, 10_000).Draw(t, "soc"))
	}
	return b
}

func drawLimits(t *rapid.T) trader.Limits {
	l := trader.Limits{FloorW: rapid.SampledFrom([]int64{0, 4200}).Draw(t, "floor")}
	if rapid.Bool().Draw(t, "import limited") {
		l.ImportW = new(rapid.Int64Range(0, 20_000).Draw(t, "import limit"))
	}
	if rapid.Bool().Draw(t, "export limited") {
		l.ExportW = new(rapid.Int64Range(0, 20_000).Draw(t, "export limit"))
	}
	return l
}

// Whatever is asked: never beyond what the battery can, never out of an empty or into a full one, and at the connection
// never beyond a limit that the battery could keep.
func TestFollowKeepsWithinBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, l := drawBand(t), drawLimits(t)
		c := trader.Course{
			TargetWh: rapid.Int64Range(-10_000, 10_000).Draw(t, "target"), CountedWh: rapid.Int64Range(-10_000, 10_000).Draw(t, "counted"),
			AgeMS: rapid.Int64Range(0, 900_000).Draw(t, "age"), LeftMS: rapid.Int64Range(-10, 900_000).Draw(t, "left"),
			LeastMS: rapid.Int64Range(0, 60_000).Draw(t, "least"),
			HouseW:  rapid.Int64Range(-20_000, 20_000).Draw(t, "house"), BatteryW: rapid.Int64Range(-20_000, 20_000).Draw(t, "battery"),
		}
		w := trader.Follow(c, b, l)
		if w > b.MaxChargeW || w < -b.MaxDischargeW {
			t.Fatalf("got %d W of a battery of %d and %d", w, b.MaxChargeW, b.MaxDischargeW)
		}
		if b.SoCBp != nil && (w < 0 && *b.SoCBp <= b.ReserveBp || w > 0 && *b.SoCBp >= b.CeilingBp) {
			t.Fatalf("got %d W at %d bp, reserve %d, ceiling %d", w, *b.SoCBp, b.ReserveBp, b.CeilingBp)
		}
		low, high := b.Range()
		if l.ImportW != nil && l.ExportW == nil {
			if most := max(*l.ImportW, l.FloorW); c.HouseW+w > most && w > low {
				t.Fatalf("import of %d W above the limit of %d, and the battery could help", c.HouseW+w, most)
			}
		}
		if l.ExportW != nil && -(c.HouseW+w) > *l.ExportW && w < high {
			t.Fatalf("export of %d W above the limit of %d, and the battery could help", -(c.HouseW + w), *l.ExportW)
		}
		if p := trader.Production(3000, c.HouseW, w, l); p != nil && *p < 3000 && c.HouseW >= -3000 && -(c.HouseW+w+3000-*p) > *l.ExportW {
			t.Fatalf("with the roof limited to %d W the connection still exports too much", *p)
		}
	})
}

// street is an honest home: integers, losses, counters that step by the Wh and stand for a refresh.
type street struct {
	rng     *rand.Rand
	loadW   int64
	sunW    int64
	storeMJ int64 // W·ms in the battery
	band    trader.Band
	capWh   int64
}

const (
	wattMS   = 3_600_000
	second   = 1000
	interval = 900 * second
)

func (s *street) soc() int64 { return s.storeMJ / wattMS * 10_000 / s.capWh }

// weather changes what the house and the roof do, now and then.
func (s *street) weather() {
	if s.rng.IntN(20) == 0 {
		s.loadW = 150 + s.rng.Int64N(600)
		if s.rng.IntN(8) == 0 {
			s.loadW += 2000
		}
	}
	if s.rng.IntN(25) == 0 {
		s.sunW = s.rng.Int64N(3000)
	}
}

// step moves the battery for a time, as far as it can, and returns what it did.
func (s *street) step(w, ms int64) int64 {
	if w > 0 {
		room := s.capWh*wattMS - s.storeMJ
		w = min(w, room/ms)
		s.storeMJ += w * ms * 95 / 100
		return w
	}
	w = max(w, -s.storeMJ*95/100/ms)
	s.storeMJ += w * ms * 100 / 95
	return w
}

// live runs an interval towards a target and returns the net energy in W·ms. follow false is self-consumption.
func (s *street) live(follow bool, targetWh int64) int64 {
	const tick, refresh = 10 * second, 60 * second
	var net, counted, age, house, did int64
	house = s.loadW - s.sunW
	for at := int64(0); at < interval; at += tick {
		s.weather()
		if at%refresh == 0 {
			counted, age = net/wattMS, 0
		}
		want := s.sunW - s.loadW // the naive one sees at once
		if follow {
			band := s.band
			band.SoCBp = new(s.soc())
			want = trader.Follow(trader.Course{
				TargetWh: targetWh, CountedWh: counted, AgeMS: age, LeftMS: interval - at, LeastMS: tick, HouseW: house, BatteryW: did,
			}, band, trader.Limits{})
		}
		did = s.step(min(max(want, -s.band.MaxDischargeW), s.band.MaxChargeW), tick)
		net += (s.loadW - s.sunW + did) * tick
		age += tick
		house = s.loadW - s.sunW // as the meter said a moment ago
	}
	return net
}

func abs(v int64) int64 { return max(v, -v) }

// In random homes on honest physics: whoever follows what was sold ends nearer to it than whoever stores what is too much,
// over the intervals together, and by far if the battery has room at both ends.
func TestFollowEndsNearerThanNaive(t *testing.T) {
	var naive, followed, worst int64
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 7))
		start := street{
			loadW: 300, sunW: rng.Int64N(3000), capWh: 5000, storeMJ: (1000 + rng.Int64N(3000)) * wattMS,
			band: trader.Band{MaxChargeW: 4000, MaxDischargeW: 4000, CeilingBp: 10_000},
		}
		target := rng.Int64N(800) - 500
		a, b := start, start
		a.rng, b.rng = rand.New(rand.NewPCG(seed, 8)), rand.New(rand.NewPCG(seed, 8))
		offNaive, off := abs(a.live(false, target)-target*wattMS), abs(b.live(true, target)-target*wattMS)
		naive += offNaive
		followed += off
		worst = max(worst, off)
		if off > offNaive+20*wattMS {
			t.Errorf("seed %d, target %d Wh: following ends %d Wh away, the naive %d", seed, target, off/wattMS, offNaive/wattMS)
		}
	}
	t.Logf("off by %d Wh together, %d at most; naive %d Wh", followed/wattMS, worst/wattMS, naive/wattMS)
	if followed*10 > naive {
		t.Errorf("following is off by %d Wh together, the naive by %d: expected a tenth", followed/wattMS, naive/wattMS)
	}
}

func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := trader.Store{Band: drawBand(t), CapacityWh: rapid.Int64Range(0, 20_000).Draw(t, "capacity")}
		house := rapid.Int64Range(-5000, 5000).Draw(t, "house")
		net := trader.Plan(house, s, interval)
		if abs(net) > abs(house) || net != 0 && (net > 0) != (house > 0) {
			t.Fatalf("a battery that only stores what is too much makes %d Wh of %d", net, house)
		}
		if moved := abs(house - net); moved*wattMS > max(s.MaxChargeW, s.MaxDischargeW)*interval || moved > s.CapacityWh {
			t.Fatalf("moved %d Wh: more than the battery can", moved)
		}
	})
	full, half := int64(10_000), int64(5000)
	s := trader.Store{Band: trader.Band{MaxChargeW: 4000, MaxDischargeW: 4000, SoCBp: &full, CeilingBp: 10_000}, CapacityWh: 5000}
	if got := trader.Plan(-300, s, interval); got != -300 {
		t.Errorf("a full battery: got %d, expected to sell all of 300 Wh", -got)
	}
	s.SoCBp = &half
	if got := trader.Plan(-300, s, interval); got != 0 {
		t.Errorf("a half full battery: got %d, expected to store 300 Wh", got)
	}
}
