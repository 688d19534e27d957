package home

// Home is one house: its sources and its battery. Its zero value is a house
// without anything; Load must be set.
type Home struct {
	Load    Source
	Single  Source   // the part of Load that is on one phase alone; nil: none
	Solar   Source   // nil: none
	Battery *Battery // nil: none
	// Hybrid: the panels are behind the battery's inverter, which can curtail them
	// and gives at most Rated at its terminals, both together. Otherwise what the
	// inverter is told concerns the battery alone.
	Hybrid bool
	Rated  MilliWatts
	// Stored is what the battery holds at the beginning of time.
	Stored MilliWattHours
}

// State is everything that a house's future depends on, at an instant: totals
// since the beginning of time, what the battery holds, and the remainders that
// are carried. It is a value and comparable.
type State struct {
	Load, Solar       MilliWattHours // Solar is what the panels really gave
	Charge, Discharge MilliWattHours
	Import, Export    MilliWattHours
	Stored            MilliWattHours

	Curtailed    MilliWattHours // what the sun could have given besides
	Lost         MilliWattHours // in the battery: both ways and standing
	Given, Taken MilliWattHours // at the inverter's terminals
	Single       MilliWattHours // the part of Load that is on one phase alone

	loadRest, solarRest, lossRest, singleRest MicroJoules
}

// Begin is the state at the beginning of time.
func (h *Home) Begin() State { return State{Stored: h.Stored} }

// InitialCharge is a plausible content of a battery at the beginning of time:
// between 10 and 60 percent, and not below its floor.
func (b *Battery) InitialCharge(homeSeed uint64) MilliWattHours {
	return max(b.Floor, b.Capacity/10+MilliWattHours(float64(b.Capacity)*0.5*unit(random(homeSeed, streamBattery, 0))))
}

// Step moves a state from one instant to a later one in the inverter's own mode.
func (h *Home) Step(s State, from, to int64) State { return h.StepUnder(s, Control{}, from, to) }

// StepUnder moves a state from one instant to a later one, between which the
// control does not change. See the package's documentation for why H1 holds to
// the integer.
func (h *Home) StepUnder(s State, c Control, from, to int64) State {
	load, rest := count(energyBetween(h.Load, from, to) + s.loadRest)
	s.Load += load
	s.loadRest = rest
	if h.Single != nil {
		var single MilliWattHours
		single, s.singleRest = count(energyBetween(h.Single, from, to) + s.singleRest)
		s.Single += single
	}

	var potential MilliWattHours
	if h.Solar != nil {
		potential, rest = count(energyBetween(h.Solar, from, to) + s.solarRest)
		s.solarRest = rest
	}
	solar, battery := potential, MilliWattHours(0)
	if h.Battery != nil {
		up, down := h.Battery.most(s.Stored, &c, to-from)
		c.Output = h.output(c.Output)
		q := question{
			load: int64(load), solar: int64(potential), up: int64(up), down: int64(down), hybrid: h.Hybrid, aim: c.Aim,
			battery: c.Battery.energyIn(from, to), output: c.Output.energyIn(from, to), export: c.Export.energyIn(from, to),
			solarOnly: c.SolarOnly, off: c.Off,
		}
		b, sun := q.decide()
		battery, solar = MilliWattHours(b), MilliWattHours(sun)
		s = h.Battery.move(s, battery, to-from)
	}
	s.Solar += solar
	s.Curtailed += potential - solar
	if output := h.behind(solar) - battery; output > 0 {
		s.Given += output
	} else {
		s.Taken -= output
	}
	if net := load - solar + battery; net > 0 {
		s.Import += net
	} else {
		s.Export -= net
	}
	return s
}

// move books what the battery takes (positive) or gives, and what it loses.
func (b *Battery) move(s State, energy MilliWattHours, milliseconds int64) State {
	if energy > 0 {
		kept := b.kept(energy)
		s.Charge += energy
		s.Stored += kept
		s.Lost += energy - kept
	} else {
		drawn := b.drawn(-energy)
		s.Discharge -= energy
		s.Stored -= drawn
		s.Lost += drawn + energy
	}
	if b.Standing > 0 {
		standing, rest := count(MicroJoules(int64(b.Standing)*milliseconds) + s.lossRest)
		standing = min(standing, s.Stored)
		s.lossRest = rest
		s.Stored -= standing
		s.Lost += standing
	}
	return s
}

// output adds the rating of a hybrid inverter to what it was told.
func (h *Home) output(b Bound) Bound {
	if !h.Hybrid || h.Rated == 0 {
		return b
	}
	if !b.On {
		return Between(-h.Rated, h.Rated)
	}
	for _, s := range []*Slope{&b.Min, &b.Max} {
		s.From = min(max(s.From, -h.Rated), h.Rated)
		s.To = min(max(s.To, -h.Rated), h.Rated)
	}
	return b
}

// behind is what panels add to the inverter's terminals.
func (h *Home) behind(solar MilliWattHours) MilliWattHours {
	if h.Hybrid {
		return solar
	}
	return 0
}

// Moment is a house at an instant. Powers are those of the instant and not means.
// Battery is positive when it charges, Output when the inverter gives, Grid when
// the house imports.
type Moment struct {
	Load, Solar, Battery, Output, Grid MilliWatts
	Curtailed                          MilliWatts
	Stored                             MilliWattHours
	Control                            Control
}

// Moment is what happens at an instant with a content of the battery: the same
// decision as that of a step, in powers.
func (h *Home) Moment(s State, c Control, at int64) Moment {
	m := Moment{Stored: s.Stored, Control: c}
	m.Load, _ = h.Load.Power(at)
	if h.Solar != nil {
		m.Solar, _ = h.Solar.Power(at)
	}
	if b := h.Battery; b != nil {
		q := question{
			load: int64(m.Load), solar: int64(m.Solar), hybrid: h.Hybrid, aim: c.Aim,
			battery: c.Battery.powerAt(at), output: h.output(c.Output).powerAt(at), export: c.Export.powerAt(at),
			solarOnly: c.SolarOnly, off: c.Off,
		}
		// What it can do for the second to come.
		up, down := b.most(s.Stored, &c, second)
		q.up, q.down = b.power(up), b.power(down)
		battery, solar := q.decide()
		m.Curtailed = m.Solar - MilliWatts(solar)
		m.Battery, m.Solar = MilliWatts(battery), MilliWatts(solar)
	}
	m.Output = -m.Battery
	if h.Hybrid {
		m.Output += m.Solar
	}
	m.Grid = m.Load - m.Solar + m.Battery
	return m
}

const second = 1000 // milliseconds

// power is the power with which an energy is taken or given within a second: all
// of the battery's if that is what it is limited by, else less.
func (b *Battery) power(e MilliWattHours) int64 {
	if e >= b.limit(second) {
		return int64(b.Power)
	}
	return int64(MeanPower(e, second))
}
