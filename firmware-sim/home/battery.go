package home

// Battery is a store behind the meter. Left alone it is run for
// self-consumption: it takes what the sun gives beyond the load and gives what
// the load needs beyond the sun. See Control for what else it can be told.
type Battery struct {
	Capacity MilliWattHours // usable
	Power    MilliWatts     // limit at its terminals, both ways
	// Efficiency of each way in parts per million; a round trip has its square.
	Efficiency int64
	// Floor is the content below which it is not discharged.
	Floor MilliWattHours
	// Standing is what its electronics draw from the cells at all times, as long
	// as there is something in them.
	Standing MilliWatts
}

const million = 1_000_000

// limit is the energy that the battery's power moves in a time.
func (b *Battery) limit(milliseconds int64) MilliWattHours {
	return MilliWattHours(int64(b.Power) * milliseconds / MicroJoulesPerMilliWattHour)
}

// most is the energy that it can take, and that it can give, at its terminals
// in a time and with a content; reserve and ceiling are what a control sets.
func (b *Battery) most(stored MilliWattHours, c *Control, milliseconds int64) (up, down MilliWattHours) {
	limit := b.limit(milliseconds)
	room := max(0, min(b.Capacity, b.ceiling(c))-stored)
	above := max(0, stored-b.floor(c))
	return min(limit, room*million/MilliWattHours(b.Efficiency)), min(limit, above*MilliWattHours(b.Efficiency)/million)
}

// floor is the content below which nothing is given, with a control's reserve.
func (b *Battery) floor(c *Control) MilliWattHours {
	return max(b.Floor, b.Capacity*MilliWattHours(c.Reserve)/million)
}

func (b *Battery) ceiling(c *Control) MilliWattHours {
	if c.Ceiling == 0 {
		return b.Capacity
	}
	return b.Capacity * MilliWattHours(c.Ceiling) / million
}

// kept is what of an energy taken at the terminals arrives in the cells. What is
// lost is rounded up, so that rounding never makes energy (H4).
func (b *Battery) kept(taken MilliWattHours) MilliWattHours {
	return taken * MilliWattHours(b.Efficiency) / million
}

// drawn is what leaves the cells for an energy given at the terminals.
func (b *Battery) drawn(given MilliWattHours) MilliWattHours {
	return (given*million + MilliWattHours(b.Efficiency) - 1) / MilliWattHours(b.Efficiency)
}
