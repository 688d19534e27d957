package trader_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
)

// home lives through days: an order for each interval, made while the one before it runs, and wholly taken.
type home struct {
	street
	minute int64
	sunny  float64
}

// weather: a night, a day with clouds, machines that go on and off, and a peak in the evening.
func (h *home) weather() {
	day := h.minute % 1440
	if day == 0 {
		h.sunny = 0.2 + 0.8*h.rng.Float64()
	}
	if h.rng.IntN(15) == 0 {
		h.loadW = 150 + h.rng.Int64N(300)
		if day > 17*60 && day < 22*60 {
			h.loadW += 300 + h.rng.Int64N(800)
		}
		if h.rng.IntN(25) == 0 {
			h.loadW += 2000
		}
	}
	height := math.Max(0, math.Sin(float64(day-6*60)/(12*60)*math.Pi))
	cloud := 1.0
	if h.rng.IntN(3) == 0 {
		cloud = 0.4 + 0.6*h.rng.Float64()
	}
	h.sunW = int64(3000 * height * h.sunny * cloud)
}

// days returns what the metered intervals were off by, Wh together. With follow the plan orders and the battery follows;
// without, the order is what the connection came to and the battery stores what is too much.
func (h *home) days(n int, follow bool) (off int64) {
	var known []trader.Metered
	var battery []int64 // of each interval, Wh
	orders := map[market.Interval]int64{}
	for k := range market.Interval(n * 96) {
		order, ordered := orders[k]
		var net, counted, age, took int64
		var meanMS, meanSum int64
		house := h.loadW - h.sunW
		for m := range int64(15) {
			h.weather()
			if m%3 == 0 {
				counted, age = net/wattMS, 0
			}
			want := h.sunW - h.loadW
			if follow && ordered && order != 0 {
				band := h.band
				band.SoCBp = new(h.soc())
				want = trader.Follow(trader.Course{
					TargetWh: order, CountedWh: counted, AgeMS: age, LeftMS: (15 - m) * 60 * second, LeastMS: 60 * second, HouseW: house, BatteryW: took / max(1, meanMS),
				}, band, trader.Limits{})
			}
			did := h.step(min(max(want, -h.band.MaxDischargeW), h.band.MaxChargeW), 60*second)
			net += (h.loadW - h.sunW + did) * 60 * second
			meanSum += did * 60 * second
			age += 60 * second
			house = h.loadW - h.sunW
			h.minute++
			if m == 8 { // the gate of the next interval closes
				if f, ok := trader.Persist(k+1, known); ok {
					plan := int64(f.Import - f.Export)
					if follow {
						band := h.band
						band.SoCBp = new(h.soc())
						plan = trader.Plan(plan-battery[len(battery)-1], trader.Store{Band: band, CapacityWh: h.capWh}, interval)
					}
					orders[k+1] = plan
				}
			}
		}
		wh := net / wattMS
		if ordered {
			off += abs(wh - order)
		}
		known = append(known, trader.Metered{Interval: k, Import: market.WattHours(max(0, wh)), Export: market.WattHours(max(0, -wh))})
		battery = append(battery, meanSum/wattMS)
	}
	return off
}

// Over weeks of random homes, with nights that empty the battery and noons that fill it: planning and following is off by
// less than half of what the naive battery is.
func TestImbalanceOfWeeks(t *testing.T) {
	var naive, followed int64
	for seed := range uint64(12) {
		newHome := func() *home {
			return &home{street: street{
				rng: rand.New(rand.NewPCG(seed, 9)), loadW: 300, capWh: 3000 + 500*int64(seed%6), storeMJ: 1000 * wattMS,
				band: trader.Band{MaxChargeW: 4000, MaxDischargeW: 4000, ReserveBp: 500, CeilingBp: 10_000},
			}}
		}
		a, b := newHome().days(20, false), newHome().days(20, true)
		t.Logf("seed %d: naive %d Wh, followed %d Wh", seed, a, b)
		naive, followed = naive+a, followed+b
	}
	t.Logf("together: naive %d Wh, followed %d Wh", naive, followed)
	if 2*followed > naive {
		t.Errorf("following is off by %d Wh, the naive by %d: expected less than half", followed, naive)
	}
}
