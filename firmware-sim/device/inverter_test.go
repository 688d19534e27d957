package device

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

var testRating = Rating{Output: 6_000_000, Battery: 5_000_000, Solar: 6_000_000, Capacity: 10_000_000, Floor: 500_000}

const noon = int64(1_782_129_600_000) // 2026-06-22T12:00:00Z

// testCondition is an inverter that charges with 1.2 kW out of 3.1 kW of sun.
func testCondition(at int64) Condition {
	return Condition{
		Reading: Reading{Index: 17, At: time.UnixMilli(at), Import: 12_345_999, Export: 987_654_321_000},
		Now:     at,
		Moment:  home.Moment{Solar: 3_100_000, Battery: 1_200_000, Output: 1_900_000, Stored: 5_432_100},
		Charge:  70_000_999, Discharge: 60_000_000, Solar: 5_000_000_000,
	}
}

func newTestInverter(t *testing.T, id string) Inverter {
	t.Helper()
	return newDevice(t, id, Spec{Serial: 20_123_456, Unit: 7, Rating: testRating}).(Inverter)
}

// tell writes registers that the device must take.
func tell(t *testing.T, d Inverter, at int64, address uint16, words ...uint16) Inverter {
	t.Helper()
	next, err := d.Write(at, address, words)
	if err != nil {
		t.Fatalf("writing %v at %d: %v", words, address, err)
	}
	return next
}

// ask reads holding registers.
func ask(t *testing.T, d Inverter, c Condition, address, count uint16) []uint16 {
	t.Helper()
	words, err := d.Registers(c, modbus.Holding, address, count)
	if err != nil {
		t.Fatalf("reading %d at %d: %v", count, address, err)
	}
	return words
}

// sunSpecModels walks a chain as a reader does: the address of each model's id.
func sunSpecModels(t *testing.T, d Inverter) map[uint16]uint16 {
	t.Helper()
	c := testCondition(noon)
	if diff := cmp.Diff([]uint16{0x5375, 0x6e53}, ask(t, d, c, 40000, 2)); diff != "" {
		t.Fatal(diff)
	}
	models := map[uint16]uint16{}
	for at := uint16(40002); ; {
		head := ask(t, d, c, at, 2)
		if head[0] == 0xFFFF {
			return models
		}
		models[head[0]] = at
		at += 2 + head[1]
	}
}

// watts is what a bound says of the battery at an instant, in W.
func watts(d Inverter, at int64) (low, high int64) {
	c, _ := d.Control(at)
	if !c.Battery.On {
		return -5000, 5000
	}
	return c.Battery.Min.At(at).Watts(), c.Battery.Max.At(at).Watts()
}

func TestSunSpecBatteryMeasures(t *testing.T) {
	d := newTestInverter(t, "sunspec-battery")
	models, c := sunSpecModels(t, d), testCondition(noon)
	for name, want := range map[string]struct {
		model, offset uint16
		words         []uint16
	}{
		"AC power and scale":    {103, 14, []uint16{1900, 0}},
		"energy, Wh":            {103, 24, []uint16{15070, 26801, 0}}, // 987,654,321
		"state, running":        {103, 38, []uint16{4}},
		"nameplate, 6 kW":       {120, 2, []uint16{82, 6000, 0}},
		"10 kWh, 5 kW":          {120, 19, []uint16{10000, 0}},
		"charge rates":          {120, 23, []uint16{5000, 0, 5000, 0}},
		"of the sun":            {160, 10 + 11, []uint16{3100}},
		"into the battery":      {160, 50 + 11, []uint16{1200, 1, 4464}},
		"out of the battery":    {160, 70 + 11, []uint16{0, 0, 60000}},
		"most, and at delivery": {124, 2, []uint16{5000, 100, 100, 0}},
		"reserve, 54.32 %":      {124, 7, []uint16{500, 5432}},
		"charging":              {124, 11, []uint16{4}},
		"rates":                 {124, 12, []uint16{10000, 10000, 0, 0, 0, 1}},
		"scales":                {124, 18, []uint16{0, 0, 0x8000, 0xFFFE, 0xFFFE, 0x8000, 0xFFFF, 0xFFFE}},
	} {
		got := ask(t, d, c, models[want.model]+want.offset, uint16(len(want.words)))
		if diff := cmp.Diff(want.words, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestSunSpecBatteryObeys: model 124 with its timer, window and ramp.
func TestSunSpecBatteryObeys(t *testing.T) {
	d := newTestInverter(t, "sunspec-battery")
	models := sunSpecModels(t, d)
	storage := models[124]
	expect := func(at, low, high int64) {
		t.Helper()
		if l, h := watts(d, at); l != low || h != high {
			t.Errorf("after %d ms the battery may do %d to %d W, want %d to %d", at-noon, l, h, low, high)
		}
	}
	expect(noon, -5000, 5000)
	// Charge with exactly half of 5 kW for 60 s: both limits, discharging limited to
	// a negative rate.
	d = tell(t, d, noon, storage+15, 60)
	negative := int16(-5000)
	d = tell(t, d, noon, storage+12, uint16(negative), 5000)
	expect(noon, -5000, 5000)
	d = tell(t, d, noon+1, storage+5, 3)
	expect(noon+1, 2500, 2500)
	expect(noon+60_000, 2500, 2500)
	if _, until := d.Control(noon + 1); until != noon+60_001 {
		t.Errorf("holds until %d", until-noon)
	}
	expect(noon+60_001, -5000, 5000)
	if got := ask(t, d, testCondition(noon+60_001), storage+5, 1); got[0] != 0 {
		t.Errorf("StorCtl_Mod reads %d after the timer, want 0", got[0])
	}
	// Renewed in time it holds on.
	d = tell(t, d, noon+30_000, storage+5, 3)
	expect(noon+89_999, 2500, 2500)
	// Not to discharge, without a timer.
	d = tell(t, d, noon+95_000, storage+12, 0, 10000, 0, 0, 0, 1)
	d = tell(t, d, noon+95_000, storage+5, 2)
	expect(noon+95_000, 0, 5000)
	expect(math.MaxInt64-1, 0, 5000)
	// A ramp of 10 s to no more than 1 kW of charging.
	d = tell(t, d, noon+100_000, storage+16, 10)
	d = tell(t, d, noon+100_000, storage+13, 2000)
	d = tell(t, d, noon+100_000, storage+5, 3)
	expect(noon+100_000, 0, 5000)
	expect(noon+105_000, 0, 3000)
	expect(noon+110_000, 0, 1000)
}

func TestSunSpecBatteryLimits(t *testing.T) {
	d := newTestInverter(t, "sunspec-battery")
	models := sunSpecModels(t, d)
	limits := models[123]
	d = tell(t, d, noon, limits+5, 3000) // 30 %
	d = tell(t, d, noon, limits+7, 10)
	d = tell(t, d, noon, limits+9, 1)
	d = tell(t, d, noon+1, limits+4, 0)
	c, until := d.Control(noon + 1)
	if want := home.Between(-6_000_000, 1_800_000); c.Output != want || !c.Off || until != noon+10_000 {
		t.Errorf("got %+v until %d", c, until-noon)
	}
	c, until = d.Control(noon + 10_000)
	if c.Output.On || !c.Off || until != never {
		t.Errorf("after the timer %+v until %d", c, until)
	}
	if got := ask(t, d, testCondition(noon+10_000), limits+5, 5); got[0] != 10000 || got[4] != 0 {
		t.Errorf("after the timer it reads %v", got)
	}
	d = tell(t, d, noon+2, models[124]+7, 2000)
	d = tell(t, d, noon+3, models[124]+17, 0)
	if c, _ := d.Control(noon + 3); c.Reserve != 200_000 || !c.SolarOnly {
		t.Errorf("reserve and source: %+v", c)
	}
}

func TestSunSpecBatteryRefuses(t *testing.T) {
	d := newTestInverter(t, "sunspec-battery")
	models := sunSpecModels(t, d)
	for name, c := range map[string]struct {
		address uint16
		words   []uint16
		want    modbus.Exception
	}{
		"a rate above 100 %":    {models[124] + 12, []uint16{10001}, modbus.IllegalDataValue},
		"a mode of no meaning":  {models[124] + 5, []uint16{4}, modbus.IllegalDataValue},
		"more than it can":      {models[124] + 2, []uint16{5001}, modbus.IllegalDataValue},
		"what it measures":      {models[124] + 8, []uint16{1}, modbus.IllegalDataAddress},
		"over the end of rates": {models[124] + 16, []uint16{1, 1, 1}, modbus.IllegalDataAddress},
		"a window of 123":       {models[123] + 6, []uint16{1}, modbus.IllegalDataAddress},
		"nothing":               {models[124] + 5, nil, modbus.IllegalDataAddress},
		"somewhere":             {1, []uint16{1}, modbus.IllegalDataAddress},
	} {
		next, err := d.Write(noon, c.address, c.words)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if next != d {
			t.Errorf("%s: a refused write changed the inverter", name)
		}
	}
	if _, err := d.Registers(testCondition(noon), modbus.Input, 40000, 2); !errors.Is(err, modbus.IllegalDataAddress) {
		t.Errorf("input registers: %v", err)
	}
}

// TestInvertersHoldOn: whatever is written into any inverter, in any order, what
// it holds to is made of finitely many pieces of time, and lies within what it
// can do.
func TestInvertersHoldOn(t *testing.T) {
	for _, id := range Kinds() {
		kind, _ := Lookup(id)
		if !kind.Obeys() {
			continue
		}
		t.Run(id, func(t *testing.T) {
			fields := writable(newTestInverter(t, id))
			rapid.Check(t, func(rt *rapid.T) {
				d := newTestInverter(t, id)
				at := noon
				for range rapid.IntRange(1, 12).Draw(rt, "writes") {
					at += rapid.Int64Range(0, 100_000).Draw(rt, "later")
					f := rapid.SampledFrom(fields).Draw(rt, "field")
					words := rapid.SliceOfN(rapid.Uint16(), f.words, f.words).Draw(rt, "words")
					if rapid.Bool().Draw(rt, "small") {
						for i := range words {
							words[i] &= 7
						}
					}
					next, err := d.Write(at, f.at, words)
					if err != nil && !errors.Is(err, modbus.IllegalDataValue) && !errors.Is(err, modbus.IllegalDataAddress) {
						rt.Fatalf("writing %v at %d: %v", words, f.at, err)
					}
					d = next
				}
				holdsOn(rt, d, at)
			})
		})
	}
}

func holdsOn(t *rapid.T, d Inverter, at int64) {
	for n := 0; ; n++ {
		c, until := d.Control(at)
		if low, high := c.Battery.Min.At(at), c.Battery.Max.At(at); low < -testRating.Battery || high > testRating.Battery || low > high {
			t.Fatalf("the battery is bound to %d…%d", low, high)
		}
		if low, high := c.Output.Min.At(at), c.Output.Max.At(at); low > high {
			t.Fatalf("the output is bound to %d…%d", low, high)
		}
		if c.Reserve < 0 || c.Reserve > 1_000_000 || c.Ceiling < 0 || c.Ceiling > 1_000_000 {
			t.Fatalf("reserve %d, ceiling %d", c.Reserve, c.Ceiling)
		}
		if until == never {
			return
		}
		if until <= at || n > 12 {
			t.Fatalf("change %d, from %d to %d", n, at, until)
		}
		at = until
	}
}

// writable are the fields of any inverter.
func writable(d Inverter) []field {
	switch d := d.(type) {
	case *sunSpecBattery:
		return d.sheet.fields
	case *sunSpecDER:
		return d.sheet.fields
	case *huaweiLuna:
		return d.sheet.fields
	case *solarEdge:
		return d.sheet.fields
	}
	return nil
}

// FuzzInverter writes and reads any registers of any inverter: what is refused
// changes nothing, and what is taken holds on.
func FuzzInverter(f *testing.F) {
	f.Add(uint8(0), uint16(47100), []byte{0, 1}, uint16(47075))
	f.Add(uint8(1), uint16(0xE00B), []byte{0, 60, 0, 0, 0, 3}, uint16(0xE100))
	f.Add(uint8(2), uint16(40400), []byte{0, 1, 0, 0, 5, 220}, uint16(40000))
	var kinds []string
	for _, id := range Kinds() {
		if kind, _ := Lookup(id); kind.Obeys() {
			kinds = append(kinds, id)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, address uint16, data []byte, read uint16) {
		d := newTestInverter(t, kinds[int(which)%len(kinds)])
		words := make([]uint16, min(len(data)/2, 123))
		for i := range words {
			words[i] = uint16(data[2*i])<<8 | uint16(data[2*i+1])
		}
		next, err := d.Write(noon, address, words)
		if err != nil && (next != d || !errors.Is(err, modbus.IllegalDataValue) && !errors.Is(err, modbus.IllegalDataAddress)) {
			t.Fatalf("refused with %v, changed: %t", err, next != d)
		}
		at := noon
		for n := 0; ; n++ {
			_, until := next.Control(at)
			if until == never {
				break
			}
			if until <= at || n > 12 {
				t.Fatalf("change %d, from %d to %d", n, at, until)
			}
			at = until
		}
		for _, table := range []modbus.Table{modbus.Holding, modbus.Input} {
			count := 1 + address%125
			got, err := next.Registers(testCondition(noon+1000), table, read, count)
			if err == nil && len(got) != int(count) {
				t.Fatalf("got %d registers, want %d", len(got), count)
			}
		}
	})
}
