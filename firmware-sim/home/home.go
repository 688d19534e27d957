package home

// Home is one house: its sources and its battery. Its zero value is a house
// without anything; Load must be set.
type Home struct {
	Load    Source
	Solar   Source   // nil: none
	Battery *Battery // nil: none
	// Stored is what the battery holds at the beginning of time.
	Stored MilliWattHours
}

// State is everything that a house's future depends on, at an instant: totals
// since the beginning of time, what the battery holds, and the remainders that
// are carried. It is a value and comparable.
type State struct {
	Load, Solar       MilliWattHours
	Charge, Discharge MilliWattHours
	Import, Export    MilliWattHours
	Stored            MilliWattHours

	loadRest, solarRest MicroJoules
}

// Begin is the state at the beginning of time.
func (h *Home) Begin() State { return State{Stored: h.Stored} }

// InitialCharge is a plausible content of a battery at the beginning of time:
// between 10 and 60 percent.
func (b *Battery) InitialCharge(homeSeed uint64) MilliWattHours {
	return b.Capacity/10 + MilliWattHours(float64(b.Capacity)*0.5*unit(random(homeSeed, streamBattery, 0)))
}

// Step moves a state from one instant to a later one. See the package's
// documentation for why H1 holds to the integer.
func (h *Home) Step(s State, from, to int64) State {
	load, rest := count(energyBetween(h.Load, from, to) + s.loadRest)
	s.Load += load
	s.loadRest = rest

	var solar MilliWattHours
	if h.Solar != nil {
		solar, rest = count(energyBetween(h.Solar, from, to) + s.solarRest)
		s.Solar += solar
		s.solarRest = rest
	}

	net := load - solar
	if h.Battery != nil {
		if net < 0 {
			taken, kept := h.Battery.charge(s.Stored, -net, to-from)
			s.Charge += taken
			s.Stored += kept
			net += taken
		} else {
			given, drawn := h.Battery.discharge(s.Stored, net, to-from)
			s.Discharge += given
			s.Stored -= drawn
			net -= given
		}
	}
	if net < 0 {
		s.Export -= net
	} else {
		s.Import += net
	}
	return s
}
