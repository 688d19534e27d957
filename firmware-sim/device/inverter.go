package device

import (
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// Inverter is a battery's inverter on Modbus that can be told what to do. Unlike
// the other devices it holds something: what was written into it, and when. So
// it is a value that does not change: Write gives the inverter after the write,
// and whoever keeps a journal of writes can make it anew.
//
// Times are Unix milliseconds of community time; timers run in it too. Writes
// come in the order of their times.
type Inverter interface {
	Device
	// Registers returns count registers of a table at the condition's instant. Its
	// errors are modbus exceptions.
	Registers(c Condition, table modbus.Table, address, count uint16) ([]uint16, error)
	// Write is the inverter after holding registers from an address on were set.
	// All of them or none: an error is a modbus exception.
	Write(at int64, address uint16, words []uint16) (Inverter, error)
	// Control is what it holds to at an instant, and until when if nobody writes
	// again; math.MaxInt64 is for ever.
	Control(at int64) (home.Control, int64)
	// As is the same inverter with another's serial number.
	As(other Inverter) Inverter
	serial() uint32
}

// Rating is what an inverter and its battery are built for.
type Rating struct {
	Output   home.MilliWatts // at the inverter's terminals
	Battery  home.MilliWatts // both ways
	Solar    home.MilliWatts // panels behind it; 0: none
	Capacity home.MilliWattHours
	Floor    home.MilliWattHours
}

// Condition is what an inverter measures at an instant. Its counters are those
// of the newest refresh, as with every meter; its powers are of the instant. What
// its reading does not know it does not show: the counters, or the powers and
// what the battery holds.
type Condition struct {
	Reading // of its terminals: Import is what it took, Export what it gave
	Now     int64
	Moment  home.Moment
	// Counters of the battery's and the panels' side.
	Charge, Discharge, Solar home.MilliWattHours
}

// percent is the battery's content in units of 1/scale percent, rounded down.
func (c Condition) percent(r Rating, scale int64) uint16 {
	return uint16(int64(c.Moment.Stored) * 100 * scale / int64(r.Capacity)) //nolint:gosec // G115: at most 100 % in the units of a register
}

// chargeStatus is SunSpec's ChaSt, the same in models 124 and 802.
func (c Condition) chargeStatus(r Rating) uint16 {
	const off, empty, discharging, charging, full, holding = 1, 2, 3, 4, 5, 6
	switch m := c.Moment; {
	case m.Control.Off:
		return off
	case m.Battery > 0:
		return charging
	case m.Battery < 0:
		return discharging
	case m.Stored >= r.Capacity*99/100:
		return full
	case m.Stored <= r.Floor+r.Capacity/100:
		return empty
	default:
		return holding
	}
}

// never is the end of what lasts for ever.
const never = int64(math.MaxInt64)

// expiry is when a timer of whole seconds that began at an instant runs out; 0
// seconds is a timer that is not used.
func expiry(began, seconds int64) int64 {
	if seconds <= 0 || began < 0 {
		return never
	}
	return began + 1000*seconds
}

// remaining is what is left of a timer, in seconds that have begun.
func remaining(end, now int64) int64 {
	if end == never || end <= now {
		return 0
	}
	return (end - now + 999) / 1000
}

// wattsWord packs a power in W divided by 10^factor into a signed register.
func wattsWord(p home.MilliWatts, factor int) uint16 {
	return word(int(clampInt(roundTo(int64(p), 1000*pow10(factor)), math.MinInt16+1, math.MaxInt16)))
}

// roundTo divides and rounds half away from zero.
func roundTo(v, unit int64) int64 {
	if v < 0 {
		return -((-v + unit/2) / unit)
	}
	return (v + unit/2) / unit
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

func clampInt(v, low, high int64) int64 { return min(max(v, low), high) }

// wattsFactor is the finest scale factor with which a rating fits into a signed
// register.
func wattsFactor(ratings ...home.MilliWatts) int {
	factor := 0
	for _, r := range ratings {
		for r.Watts() > math.MaxInt16*pow10(factor) {
			factor++
		}
	}
	return factor
}
