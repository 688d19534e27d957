package home

import (
	"math"
	"slices"
)

// Control is what an inverter holds to for a while. The zero Control is its own
// mode, self-consumption. What can be told is made of bounds, since that is what
// makers' registers come down to: a set point is a bound whose two ends are
// equal, "hold" is one that forbids discharging.
//
// Where wishes contradict each other, the first of these wins: what battery and
// panels can do; Export; Output; Battery; as little curtailed sun as possible;
// Aim.
type Control struct {
	// Aim is what the battery is for where no bound decides.
	Aim Aim
	// Battery bounds the battery's power, charging positive.
	Battery Bound
	// Output bounds what the inverter gives at its terminals, giving positive:
	// the panels' power, if they are behind it, less the battery's.
	Output Bound
	// Export bounds what the house gives to the street; only Max counts.
	Export Bound
	// SolarOnly: the battery takes no more than what the panels give at that time.
	SolarOnly bool
	// Off: disconnected. Neither the battery nor panels behind the inverter move.
	Off bool
	// Reserve and Ceiling are contents in parts per million of the capacity,
	// below and above which the battery is not discharged or charged. The
	// battery's own Floor holds too. A Ceiling of 0 is none.
	Reserve, Ceiling int64
}

// Aim is what a battery does with its freedom.
type Aim uint8

// The aims.
const (
	Balance Aim = iota // self-consumption: the house neither imports nor exports
	Rest               // nothing, unless sun would be curtailed
	Store              // take all of the sun
	Give               // give as much as it can
)

// Bound is a range of powers. It holds only when it is On.
type Bound struct {
	On       bool
	Min, Max Slope
}

// Between is a bound that does not move.
func Between(low, high MilliWatts) Bound {
	return Bound{On: true, Min: Level(low), Max: Level(high)}
}

// Fixed is the one power that a bound allows at an instant, if it is only one.
func (b Bound) Fixed(at int64) (MilliWatts, bool) {
	low := b.Min.At(at)
	return low, b.On && low == b.Max.At(at)
}

// Mode is a word for what a control means for the battery at an instant: off,
// charge, discharge or idle for a set point, output for one of the inverter's
// terminals, its aim if that is another one, hold where it must not discharge, nocharge where it must not charge,
// limited for any other bound, and self-consumption for its own mode.
func (c *Control) Mode(at int64) string {
	power, fixed := c.Battery.Fixed(at)
	_, output := c.Output.Fixed(at)
	switch {
	case c.Off:
		return "off"
	case fixed && power > 0:
		return "charge"
	case fixed && power < 0:
		return "discharge"
	case fixed:
		return "idle"
	case output:
		return "output"
	case c.Aim == Store:
		return "store"
	case c.Aim == Give:
		return "give"
	case c.Aim == Rest:
		return "rest"
	case !c.Battery.On:
		return "self-consumption"
	case c.Battery.Min.At(at) == 0:
		return "hold"
	case c.Battery.Max.At(at) == 0:
		return "nocharge"
	default:
		return "limited"
	}
}

// Slope is a power that goes evenly from one value to another in a time: From
// before Begin, To from End on.
type Slope struct {
	From, To   MilliWatts
	Begin, End int64
}

// Level is a slope that is none.
func Level(p MilliWatts) Slope { return Slope{From: p, To: p} }

// At is the slope's power at an instant.
func (s Slope) At(at int64) MilliWatts {
	switch {
	case at >= s.End:
		return s.To
	case at <= s.Begin:
		return s.From
	default:
		return s.From + MilliWatts(int64(s.To-s.From)*(at-s.Begin)/(s.End-s.Begin))
	}
}

// mean is the exact mean over a time in which the slope has no bend, rounded
// toward zero. Where it jumps at the end, the jump is not yet part of it.
func (s Slope) mean(from, to int64) MilliWatts {
	if from >= s.End || from >= to {
		return s.To
	}
	if to <= s.Begin {
		return s.From
	}
	if s.Begin >= s.End {
		return s.From
	}
	return (s.At(from) + s.At(to)) / 2
}

// power bounds evaluated for a piece of time, in any one unit.
type limits struct {
	on        bool
	low, high int64
}

// powerAt is the bound at an instant in mW.
func (b Bound) powerAt(at int64) limits {
	return limits{b.On, int64(b.Min.At(at)), int64(b.Max.At(at))}
}

// energyIn is the bound over a piece of time in mWh, rounded toward zero.
func (b Bound) energyIn(from, to int64) limits {
	energy := func(s Slope) int64 { return int64(s.mean(from, to)) * (to - from) / MicroJoulesPerMilliWattHour }
	if !b.On {
		return limits{}
	}
	return limits{true, energy(b.Min), energy(b.Max)}
}

// question is what an inverter has to decide for an instant (in mW) or a step
// (in mWh).
type question struct {
	load, solar             int64 // what the house wants, what the sun could give
	up, down                int64 // what the battery can take and give
	hybrid                  bool  // the panels are behind the inverter
	aim                     Aim
	battery, output, export limits
	solarOnly, off          bool
}

// decide gives the battery's part (charging positive) and what of the sun is
// used. It is the order of Control in numbers: each line below may undo what the
// lines before it wanted, never what a later one demands.
func (q question) decide() (battery, solar int64) {
	solar = q.solar
	if q.off {
		if q.hybrid {
			solar = 0
		}
		return 0, solar
	}
	low, high := -q.down, q.up
	if q.battery.on {
		high = clamp(max(q.battery.low, q.battery.high), -q.down, q.up)
		low = clamp(q.battery.low, -q.down, q.up)
	}
	if q.solarOnly {
		high = min(high, max(0, q.solar))
		low = min(low, high)
	}
	battery = clamp(q.wish(), low, high)

	behind := int64(0) // what the inverter gives beside the battery
	if q.hybrid {
		behind = q.solar
	}
	need := int64(math.MinInt64) // what the battery must take at least
	if q.output.on {
		// What the output must not fall below is first tried within the battery's
		// bound and then beyond it.
		if most := behind - q.output.low; battery > most {
			battery = max(most, -q.down)
		}
		need = behind - q.output.high
	}
	if q.export.on {
		need = max(need, q.solar-q.load-q.export.high)
	}
	if battery < need {
		battery = max(battery, min(need, high))
	}
	if cut := min(need-battery, behind); battery < need && cut > 0 {
		solar -= cut
		need -= cut
	}
	if battery < need { // a bound of the battery gives way to the limits
		battery = min(need, q.up)
	}
	return battery, solar
}

// wish is the battery's power by its aim alone.
func (q question) wish() int64 {
	switch q.aim {
	case Rest:
		return 0
	case Store:
		return q.solar
	case Give:
		return -q.down
	case Balance:
	}
	return q.solar - q.load
}

func clamp(v, low, high int64) int64 { return min(max(v, low), high) }

// Piece is a control and the instant from which on it holds.
type Piece struct {
	At      int64
	Control Control
}

// Plan is what a home's inverter was told over time, and what follows from that
// by its timers. The zero Plan is its own mode for ever.
type Plan struct{ pieces []Piece }

// At is the control at an instant and the instant until which it stays so.
func (p *Plan) At(at int64) (Control, int64) {
	i, found := slices.BinarySearchFunc(p.pieces, at, func(e Piece, at int64) int {
		switch {
		case e.At < at:
			return -1
		case e.At > at:
			return 1
		}
		return 0
	})
	if found {
		i++
	}
	until := int64(math.MaxInt64)
	if i < len(p.pieces) {
		until = p.pieces[i].At
	}
	if i == 0 {
		return Control{}, until
	}
	return p.pieces[i-1].Control, until
}

// replace forgets what was planned from an instant on and plans pieces instead,
// which are in order and begin there.
func (p *Plan) replace(from int64, pieces []Piece) {
	keep := len(p.pieces)
	for keep > 0 && p.pieces[keep-1].At >= from {
		keep--
	}
	p.pieces = p.pieces[:keep]
	for _, piece := range pieces {
		// A renewed lease changes nothing before its end.
		if last := len(p.pieces) - 1; last >= 0 && p.pieces[last].Control == piece.Control {
			continue
		}
		p.pieces = append(p.pieces, piece)
	}
}
