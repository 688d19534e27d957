package home

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func ms(t *testing.T, text string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

var delft = Sky{Location: Location{Latitude: 52, Longitude: 4.4}, Seed: 42, Cloudiness: 0.7}

func testBattery() *Battery {
	return &Battery{Capacity: 10_000_000, Power: 5_000_000, Efficiency: 950_000}
}

func testHome(seed uint64) *Home {
	b := testBattery()
	return &Home{
		Load:    NewHousehold(3500, delft.Location.Longitude, seed),
		Solar:   NewRoof(Panels{KilowattPeak: 6, Azimuth: 180, Tilt: 35}, delft, seed),
		Battery: b,
		Stored:  b.InitialCharge(seed),
	}
}

// walk gives a fresh history's states over a span of days.
func walk(t *testing.T, h *Home, refreshMS, from int64, days float64) []State {
	t.Helper()
	first := floorDiv(from, refreshMS)
	last := first + int64(days*dayMS)/refreshMS
	var states []State
	history := NewHistory(h, refreshMS, first)
	if err := history.Walk(context.Background(), first, last, func(_ int64, s State) { states = append(states, s) }); err != nil {
		t.Fatal(err)
	}
	return states
}

// checkStep asserts H1, H2 and H3 of one step or refresh.
func checkStep(t interface {
	Helper()
	Fatalf(string, ...any)
}, b *Battery, before, after State, milliseconds int64,
) {
	t.Helper()
	d := State{
		Load: after.Load - before.Load, Solar: after.Solar - before.Solar,
		Charge: after.Charge - before.Charge, Discharge: after.Discharge - before.Discharge,
		Import: after.Import - before.Import, Export: after.Export - before.Export,
	}
	if d.Import-d.Export != d.Load-d.Solar+d.Charge-d.Discharge {
		t.Fatalf("H1: import %d − export %d ≠ load %d − solar %d + charge %d − discharge %d",
			d.Import, d.Export, d.Load, d.Solar, d.Charge, d.Discharge)
	}
	for _, counter := range []MilliWattHours{d.Load, d.Solar, d.Charge, d.Discharge, d.Import, d.Export} {
		if counter < 0 {
			t.Fatalf("H2: a counter fell: %+v", d)
		}
	}
	if b == nil {
		return
	}
	if after.Stored < 0 || after.Stored > b.Capacity {
		t.Fatalf("H3: stored %d of %d", after.Stored, b.Capacity)
	}
	if limit := b.limit(milliseconds); d.Charge+d.Discharge > limit {
		t.Fatalf("H3: charged %d, discharged %d, limit %d in %d ms", d.Charge, d.Discharge, limit, milliseconds)
	}
}

func TestConservationOverAYear(t *testing.T) {
	const refresh = 180_000
	h := testHome(7)
	states := walk(t, h, refresh, ms(t, "2026-01-01T00:00:00Z"), 365)
	for i := 1; i < len(states); i++ {
		checkStep(t, h.Battery, states[i-1], states[i], refresh)
	}
	end := states[len(states)-1]
	for name, total := range map[string]MilliWattHours{
		"solar": end.Solar, "charge": end.Charge, "discharge": end.Discharge, "import": end.Import, "export": end.Export,
	} {
		if total == 0 {
			t.Errorf("%s never moved in a year", name)
		}
	}
	if share := float64(end.Load) / 3_500_000_000; share < 0.93 || share > 1.07 {
		t.Errorf("load of a year is %d Wh, want about 3500 kWh", end.Load/1000)
	}
	// 6 kWp to the south in the Netherlands yields about 900 kWh a year and kWp.
	if yield := float64(end.Solar) / 6e6; yield < 700 || yield > 1150 {
		t.Errorf("yield is %.0f kWh per kWp", yield)
	}
}

// TestBatteryNeverMakesEnergy is H4 on random batteries and days.
func TestBatteryNeverMakesEnergy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Battery{
			Capacity:   MilliWattHours(rapid.Int64Range(1, 50_000_000).Draw(t, "capacity")),
			Power:      MilliWatts(rapid.Int64Range(0, 20_000_000).Draw(t, "power")),
			Efficiency: rapid.Int64Range(500_000, million).Draw(t, "efficiency"),
		}
		h := &Home{Load: &script{}, Solar: &script{}, Battery: b}
		h.Stored = MilliWattHours(rapid.Int64Range(0, int64(b.Capacity)).Draw(t, "stored"))
		load := rapid.SliceOfN(rapid.Int64Range(0, 30_000_000), 40, 40).Draw(t, "load")
		solar := rapid.SliceOfN(rapid.Int64Range(0, 30_000_000), 40, 40).Draw(t, "solar")
		h.Load, h.Solar = &script{power: load}, &script{power: solar}
		step := rapid.Int64Range(1, 400_000).Draw(t, "step")
		s := h.Begin()
		for i := range int64(30) {
			next := h.Step(s, i*step, (i+1)*step)
			checkStep(t, b, s, next, step)
			s = next
		}
		in := float64(s.Charge) * float64(b.Efficiency) / million
		out := float64(s.Discharge) * million / float64(b.Efficiency)
		if out > in+float64(h.Stored)+1 {
			t.Fatalf("H4: drew %.0f out of %.0f kept and %d held", out, in, h.Stored)
		}
	})
}

// script is a source with a given power for each 300 s.
type script struct{ power []int64 }

func (s *script) Power(at int64) (MilliWatts, int64) {
	const piece = 300_000
	return MilliWatts(s.power[at/piece%int64(len(s.power))]), (at/piece + 1) * piece
}

// TestStepsDoNotChangeTotals: what a source gave does not depend on how time
// was cut.
func TestStepsDoNotChangeTotals(t *testing.T) {
	from := ms(t, "2026-06-20T00:00:00Z")
	fine := walk(t, testHome(3), 60_000, from, 2)
	coarse := walk(t, testHome(3), 900_000, from, 2)
	a, b := fine[len(fine)-1], coarse[len(coarse)-1]
	if a.Load != b.Load || a.Solar != b.Solar || a.loadRest != b.loadRest {
		t.Errorf("totals differ: %+v and %+v", a, b)
	}
}

func TestHistoryIsAFunctionOfTime(t *testing.T) {
	const refresh = 180_000
	first := ms(t, "2026-06-20T00:00:00Z") / refresh
	ctx := context.Background()
	var want []State
	straight := NewHistory(testHome(5), refresh, first)
	if err := straight.Walk(ctx, first, first+1000, func(_ int64, s State) { want = append(want, s) }); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		h := NewHistory(testHome(5), refresh, first)
		for range 6 { // in any order, on and back, as a reader may ask
			i := rapid.Int64Range(-3, 1000).Draw(t, "index")
			got, before, err := h.At(ctx, first+i)
			if err != nil {
				t.Fatal(err)
			}
			if got != want[max(i, 0)] || before != want[max(i-1, 0)] {
				t.Fatalf("state at %d differs from the straight way", i)
			}
		}
	})
}

func TestHistoryStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h := NewHistory(testHome(1), 60_000, 0)
	if err := h.Advance(ctx, 1_000_000); err == nil {
		t.Fatal("want the context's error")
	}
	if h.index > marksEvery {
		t.Errorf("went on for %d refreshes", h.index)
	}
	if err := h.Advance(context.Background(), 200); err != nil {
		t.Errorf("advancing later: %v", err)
	}
}

// TestYearOfSixHomesIsFast guards the restart: it integrates from the epoch.
func TestYearOfSixHomesIsFast(t *testing.T) {
	begin := time.Now()
	for seed := range uint64(6) {
		h := NewHistory(testHome(seed), 180_000, 0)
		if err := h.Advance(context.Background(), 365*480); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	t.Logf("a year of six homes: %v", took)
	if limit := 30 * time.Second; took > limit { // generous: the race detector, a busy machine
		t.Errorf("took %v, want less than %v", took, limit)
	}
}

func BenchmarkHomeYear(b *testing.B) {
	for b.Loop() {
		h := NewHistory(testHome(1), 180_000, 0)
		if err := h.Advance(context.Background(), 365*480); err != nil {
			b.Fatal(err)
		}
	}
}

func TestHouseholdDay(t *testing.T) {
	h := NewHousehold(3500, 4.4, 9)
	midnight := ms(t, "2026-06-20T00:00:00Z")
	var hours [24]float64
	for day := range int64(60) {
		for hour := range int64(24) {
			from := midnight + day*dayMS + hour*hourMS
			hours[hour] += float64(energyBetween(h, from, from+hourMS)) / 3.6e9 / 60
		}
	}
	night, evening := slices.Max(hours[1:5]), slices.Max(hours[17:21])
	if evening < 2*night {
		t.Errorf("evening peak %.0f Wh, night %.0f Wh: %.0f", evening, night, hours)
	}
	other := NewHousehold(3500, 4.4, 10)
	if energyBetween(h, midnight, midnight+dayMS) == energyBetween(other, midnight, midnight+dayMS) {
		t.Error("two homes have the same day")
	}
}

func TestNoiseIsContinuous(t *testing.T) {
	for at := int64(-5 * hourMS); at < 5*hourMS; at += 1000 {
		a, b := noise(1, streamClouds, at, hourMS), noise(1, streamClouds, at+1000, hourMS)
		if math.Abs(a) > 1 || math.Abs(a-b) > 0.01 {
			t.Fatalf("at %d: %.3f then %.3f", at, a, b)
		}
	}
}
