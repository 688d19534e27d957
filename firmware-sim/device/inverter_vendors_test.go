package device

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// reads compares registers with what a perfect reader expects.
func reads(t *testing.T, d Inverter, c Condition, name string, address uint16, want ...uint16) {
	t.Helper()
	if diff := cmp.Diff(want, ask(t, d, c, address, uint16(len(want)))); diff != "" {
		t.Errorf("%s: %s", name, diff)
	}
}

// holds compares what an inverter holds to.
func holds(t *testing.T, d Inverter, at int64, want home.Control, until int64) {
	t.Helper()
	got, end := d.Control(at)
	if diff := cmp.Diff(want, got); diff != "" || end != until {
		t.Errorf("after %d ms, until %d ms, want %d ms: %s", at-noon, end-noon, until-noon, diff)
	}
}

func refuses(t *testing.T, d Inverter, at int64, want modbus.Exception, address uint16, words ...uint16) {
	t.Helper()
	if next, err := d.Write(at, address, words); !errors.Is(err, want) || next != d {
		t.Errorf("writing %v at %d: %v, want %v and nothing changed", words, address, err, want)
	}
}

func TestSunSpecDER(t *testing.T) {
	d := newTestInverter(t, "sunspec-der")
	models, c := sunSpecModels(t, d), testCondition(noon)
	m := func(model, offset uint16) uint16 { return models[model] + offset }
	reads(t, d, c, "state, running", m(701, 2), 2, 1, 3, 1)
	reads(t, d, c, "power", m(701, 10), 1900)
	reads(t, d, c, "given and taken, Wh", m(701, 19), 0, 0, 15070, 26801, 0, 0, 0, 12345)
	reads(t, d, c, "power of a phase", m(701, 41), 950)
	reads(t, d, c, "scales", m(701, 116), 0)
	reads(t, d, c, "ratings", m(702, 2), 6000)
	reads(t, d, c, "rates", m(702, 10), 5000, 5000)
	reads(t, d, c, "settings", m(702, 34), 5000, 5000)
	reads(t, d, c, "storage", m(713, 2), 10000, 5432, 5432, 10000, 0, 0, 0xFFFE)
	reads(t, d, c, "battery", m(802, 3), 10000, 5000, 5000)
	reads(t, d, c, "content", m(802, 11), 5432)
	reads(t, d, c, "charging, remote", m(802, 16), 4, 0)
	reads(t, d, c, "into the battery", m(802, 47), 0xFFFF-1200+1)

	reserve := home.Control{Reserve: 50_000}
	holds(t, d, noon, reserve, never)
	// Give 1500 W for a minute, then as before.
	d = tell(t, d, noon, m(704, 31), 0, 60)
	d = tell(t, d, noon, m(704, 24), 0, 1500)
	d = tell(t, d, noon, m(704, 22), 1)
	set := reserve
	set.Output = home.Between(1_500_000, 1_500_000)
	holds(t, d, noon, set, noon+60_000)
	reads(t, d, testCondition(noon+1), "seconds left", m(704, 33), 0, 60)
	holds(t, d, noon+60_000, reserve, never)
	reads(t, d, testCondition(noon+60_000), "not enabled, 0 W", m(704, 22), 0, 1, 0, 0)
	// In percent, with a reversion that is a set point too: take 10 %, then 20 %.
	ten, twenty := int16(-1000), int16(-2000)
	d = tell(t, d, noon+70_000, m(704, 28), uint16(ten), uint16(twenty), 1)
	d = tell(t, d, noon+70_000, m(704, 22), 1, 0)
	set.Output = home.Between(-600_000, -600_000)
	holds(t, d, noon+70_000, set, noon+130_000)
	set.Output = home.Between(-1_200_000, -1_200_000)
	holds(t, d, noon+130_000, set, never)
	d = tell(t, d, noon+140_000, m(704, 30), 0, 0, 0) // no reversion, no timer
	d = tell(t, d, noon+140_000, m(704, 22), 0)
	// A limit of 25 %.
	d = tell(t, d, noon+140_000, m(704, 14), 1, 2500)
	set.Output = home.Between(-6_000_000, 1_500_000)
	holds(t, d, noon+140_000, set, never)
	// A heartbeat that stops sets it free, and one that goes on binds it again.
	d = tell(t, d, noon+150_000, m(802, 19), 7)
	holds(t, d, noon+150_000, set, noon+210_000)
	d = tell(t, d, noon+160_000, m(802, 19), 7)
	holds(t, d, noon+160_000, set, noon+210_000)
	holds(t, d, noon+210_000, reserve, never)
	reads(t, d, testCondition(noon+210_000), "local", m(802, 17), 1)
	d = tell(t, d, noon+220_000, m(802, 19), 8)
	holds(t, d, noon+220_000, set, noon+280_000)
	// The battery alone, and the inverter, switched off.
	d = tell(t, d, noon+220_000, m(802, 50), 2)
	set.Battery = home.Between(0, 0)
	holds(t, d, noon+220_000, set, noon+280_000)
	d = tell(t, d, noon+220_000, m(802, 51), 2)
	set.Off = true
	holds(t, d, noon+220_000, set, noon+280_000)

	refuses(t, d, noon+220_000, modbus.IllegalDataValue, m(704, 24), 0, 6001)
	refuses(t, d, noon+220_000, modbus.IllegalDataAddress, m(704, 24), 0) // half a number
	refuses(t, d, noon+220_000, modbus.IllegalDataValue, m(802, 50), 3)
	refuses(t, d, noon+220_000, modbus.IllegalDataAddress, m(704, 20), 0, 0) // it counts by itself
	refuses(t, d, noon+220_000, modbus.IllegalDataAddress, m(704, 2), 1)     // no power factor here
}

func TestHuaweiLuna(t *testing.T) {
	d, c := newTestInverter(t, "huawei-luna2000"), testCondition(noon)
	c.Moment.Grid = -250_000
	reads(t, d, c, "rated", 30073, 0, 6000)
	reads(t, d, c, "of the sun", 32064, 0, 3100)
	reads(t, d, c, "output", 32080, 0, 1900)
	reads(t, d, c, "given, 0.01 kWh", 32106, 1507, 2680) // 98,765,432
	reads(t, d, c, "battery", 37001, 0, 1200)
	reads(t, d, c, "content, 54.3 %", 37004, 543)
	reads(t, d, c, "most", 37046, 0, 5000, 0, 5000)
	reads(t, d, c, "charged and discharged, 0.01 kWh", 37066, 0, 7000, 0, 6000)
	reads(t, d, c, "export at the door", 37113, 0, 250)
	reads(t, d, c, "capacity and content", 37758, 0, 10000, 543)
	reads(t, d, c, "battery again", 37765, 0, 1200)
	reads(t, d, c, "limits", 47075, 0, 5000, 0, 5000)

	own := home.Control{Reserve: 50_000}
	holds(t, d, noon, own, never)
	refuses(t, d, noon, modbus.IllegalDataValue, 47100, 1) // for no time
	// Charge with 2 kW for 15 minutes.
	d = tell(t, d, noon, 47247, 0, 2000)
	d = tell(t, d, noon, 47083, 15)
	d = tell(t, d, noon, 47246, 0)
	holds(t, d, noon, own, never)
	d = tell(t, d, noon, 47100, 1)
	led := own
	led.Battery = home.Between(2_000_000, 2_000_000)
	holds(t, d, noon, led, noon+15*60_000)
	reads(t, d, testCondition(noon+60_001), "minutes left", 37025, 14)
	// A new power holds for the rest of the time; a new order begins it anew.
	d = tell(t, d, noon+60_000, 47247, 0, 3000)
	led.Battery = home.Between(3_000_000, 3_000_000)
	holds(t, d, noon+60_000, led, noon+15*60_000)
	d = tell(t, d, noon+120_000, 47249, 0, 1000)
	d = tell(t, d, noon+120_000, 47100, 2)
	led.Battery = home.Between(-1_000_000, -1_000_000)
	holds(t, d, noon+120_000, led, noon+17*60_000)
	holds(t, d, noon+17*60_000, own, never)
	reads(t, d, testCondition(noon+17*60_000), "stopped", 47100, 0)
	// Up to 80 %, without an end.
	d = tell(t, d, noon+120_000, 47246, 1)
	d = tell(t, d, noon+120_000, 47101, 800)
	d = tell(t, d, noon+120_000, 47100, 1)
	led.Battery, led.Ceiling = home.Between(3_000_000, 3_000_000), 800_000
	holds(t, d, noon+120_000, led, never)
	d = tell(t, d, noon+120_000, 47100, 0)
	// Not to discharge, and no export.
	d = tell(t, d, noon+120_000, 47077, 0, 0)
	d = tell(t, d, noon+120_000, 47415, 6, 0, 0)
	held := own
	held.Battery, held.Export = home.Between(0, 5_000_000), home.Between(0, 0)
	holds(t, d, noon+120_000, held, never)
	d = tell(t, d, noon+120_000, 47415, 7)
	d = tell(t, d, noon+120_000, 47418, 600)
	d = tell(t, d, noon+120_000, 47087, 0)
	held.Export, held.SolarOnly = home.Between(0, 3_600_000), true
	holds(t, d, noon+120_000, held, never)

	refuses(t, d, noon+120_000, modbus.IllegalDataValue, 47247, 0, 5001)
	refuses(t, d, noon+120_000, modbus.IllegalDataValue, 47083, 1441)
	refuses(t, d, noon+120_000, modbus.IllegalDataValue, 47086, 5) // no time of use here
	refuses(t, d, noon+120_000, modbus.IllegalDataAddress, 37760, 1)
	if _, err := d.Registers(c, modbus.Holding, 30034, 2); !errors.Is(err, modbus.IllegalDataAddress) {
		t.Errorf("over the end of a block: %v", err)
	}
}

func TestSolarEdge(t *testing.T) {
	d, c := newTestInverter(t, "solaredge-storedge"), testCondition(noon)
	floats := func(v float32) []uint16 { // low word first
		b := math.Float32bits(v)
		return []uint16{uint16(b), uint16(b >> 16)}
	}
	reads(t, d, c, "chain", 40000, 0x5375, 0x6e53, 1, 65)
	reads(t, d, c, "inverter", 40069, 103, 50)
	reads(t, d, c, "power", 40083, 1900, 0)
	reads(t, d, c, "given", 40093, 15070, 26801, 0)
	reads(t, d, c, "the end", 40121, 0xFFFF, 0)
	reads(t, d, c, "capacity", 0xE142, floats(10000)...)
	reads(t, d, c, "battery", 0xE174, floats(1200)...)
	reads(t, d, c, "discharged and charged", 0xE176, 60000, 0, 0, 0, 4464, 1, 0, 0)
	reads(t, d, c, "content", 0xE184, floats(54.321)...)
	reads(t, d, c, "charging", 0xE186, 3, 0)
	reads(t, d, c, "as delivered", 0xE004, 4, 1)
	reads(t, d, c, "seconds, low word first", 0xE00B, 3600, 0)

	own := home.Control{Reserve: 50_000}
	holds(t, d, noon, own, never)
	holds(t, tell(t, d, noon, 0xE004, 1), noon, own, never)
	d = tell(t, d, noon, 0xE00B, 120, 0)
	d = tell(t, d, noon, 0xE00E, floats(2500)...)
	d = tell(t, d, noon, 0xE00D, 3)
	led := own
	led.Battery = home.Between(2_500_000, 2_500_000)
	holds(t, d, noon, led, noon+120_000)
	holds(t, d, noon+120_000, own, never)
	reads(t, d, testCondition(noon+120_000), "no command", 0xE00D, append([]uint16{7}, append(floats(5000), floats(5000)...)...)...)
	d = tell(t, d, noon+130_000, 0xE00E, floats(2500)...)
	for mode, want := range map[uint16]home.Control{
		0: {Reserve: 50_000, Battery: home.Between(0, 0)},
		1: {Reserve: 50_000, Battery: home.Between(0, 2_500_000), Aim: home.Rest, SolarOnly: true},
		2: {Reserve: 50_000, Battery: home.Between(0, 2_500_000), Aim: home.Store, SolarOnly: true},
		4: {Reserve: 50_000, Battery: home.Between(-5_000_000, 2_500_000), Aim: home.Give},
		5: {Reserve: 50_000, Battery: home.Between(-5_000_000, 0)},
		7: {Reserve: 50_000, Battery: home.Between(-5_000_000, 2_500_000)},
	} {
		holds(t, tell(t, d, noon+130_000, 0xE00D, mode), noon+130_000, want, noon+250_000)
	}
	// When the command is over, the default mode holds: here nothing moves.
	d = tell(t, d, noon+130_000, 0xE00A, 0)
	d = tell(t, d, noon+130_000, 0xE00D, 7)
	led.Battery = home.Between(0, 0)
	holds(t, d, noon+250_000, led, never)
	reads(t, d, testCondition(noon+250_000), "the mode in force", 0xE00D, 0)
	// A limit of the house's export, then of the production.
	d = tell(t, d, noon+260_000, 0xE002, floats(1000)...)
	d = tell(t, d, noon+260_000, 0xE000, 1)
	led.Export = home.Between(0, 1_000_000)
	holds(t, d, noon+260_000, led, never)
	d = tell(t, d, noon+260_000, 0xE000, 4)
	led.Export, led.Output = home.Bound{}, home.Between(-6_000_000, 1_000_000)
	holds(t, d, noon+260_000, led, never)
	d = tell(t, d, noon+260_000, 0xE000, 0)
	d = tell(t, d, noon+260_000, 0xF001, 50)
	led.Output = home.Between(-6_000_000, 3_000_000)
	holds(t, d, noon+260_000, led, never)

	refuses(t, d, noon, modbus.IllegalDataValue, 0xE00E, floats(5001)...)
	refuses(t, d, noon, modbus.IllegalDataValue, 0xE00E, floats(float32(math.NaN()))...)
	refuses(t, d, noon, modbus.IllegalDataValue, 0xE00D, 6)
	refuses(t, d, noon, modbus.IllegalDataAddress, 0xE00E, 0)
	refuses(t, d, noon, modbus.IllegalDataValue, 0xE00B, 0x5181, 1) // 86401
	refuses(t, d, noon, modbus.IllegalDataAddress, 0xE174, 0, 0)
}

// TestInvertersSayUnknown: each in its own way, and the serial number of another
// is all that differs when another one answers.
func TestInvertersSayUnknown(t *testing.T) {
	c := testCondition(noon)
	c.NoPower, c.NoCounters = true, true
	battery := newTestInverter(t, "sunspec-battery")
	m := sunSpecModels(t, battery)
	reads(t, battery, c, "power", m[103]+14, 0x8000)
	reads(t, battery, c, "energy", m[103]+24, 0, 0)
	reads(t, battery, c, "into the battery", m[160]+61, 0xFFFF, 0, 0)
	reads(t, battery, c, "content", m[124]+8, 0xFFFF)
	der := newTestInverter(t, "sunspec-der")
	m = sunSpecModels(t, der)
	reads(t, der, c, "power", m[701]+10, 0x8000)
	reads(t, der, c, "energy", m[701]+19, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF)
	reads(t, der, c, "content", m[713]+3, 0xFFFF, 0xFFFF)
	reads(t, der, c, "battery", m[802]+47, 0x8000)
	huawei := newTestInverter(t, "huawei-luna2000")
	reads(t, huawei, c, "content", 37760, 0xFFFF)
	reads(t, huawei, c, "battery", 37765, 0x7FFF, 0xFFFF)
	reads(t, huawei, c, "totals", 37780, 0xFFFF, 0xFFFF)
	edge := newTestInverter(t, "solaredge-storedge")
	reads(t, edge, c, "battery", 0xE174, 0xFFFF, 0xFF7F, 0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF)
	reads(t, edge, c, "content", 0xE184, 0xFFFF, 0xFF7F)

	for _, d := range []Inverter{battery, der, huawei, edge} {
		other := d.As(newDevice(t, "huawei-luna2000", Spec{Serial: 87_654_321, Rating: testRating}).(Inverter))
		if d.serial() != 20_123_456 || other.serial() != 87_654_321 {
			t.Errorf("%T: serial numbers %d and %d", d, d.serial(), other.serial())
		}
	}
}
