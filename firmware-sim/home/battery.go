package home

// Battery is a store behind the meter that is run for self-consumption: it
// takes what the sun gives beyond the load and gives what the load needs beyond
// the sun.
type Battery struct {
	Capacity MilliWattHours // usable
	Power    MilliWatts     // limit at its terminals, both ways
	// Efficiency of each way in parts per million; a round trip has its square.
	Efficiency int64
}

const million = 1_000_000

// limit is the energy that the battery's power moves in a time.
func (b *Battery) limit(milliseconds int64) MilliWattHours {
	return MilliWattHours(int64(b.Power) * milliseconds / MicroJoulesPerMilliWattHour)
}

// charge takes what it can of a surplus: taken at the terminals, kept in the
// cells. What is lost is rounded up, so that rounding never makes energy (H4).
func (b *Battery) charge(stored, surplus MilliWattHours, milliseconds int64) (taken, kept MilliWattHours) {
	room := b.Capacity - stored
	taken = min(surplus, b.limit(milliseconds), room*million/MilliWattHours(b.Efficiency))
	return taken, taken * MilliWattHours(b.Efficiency) / million
}

// discharge gives what it can of a need: given at the terminals, drawn from the
// cells.
func (b *Battery) discharge(stored, need MilliWattHours, milliseconds int64) (given, drawn MilliWattHours) {
	given = min(need, b.limit(milliseconds), stored*MilliWattHours(b.Efficiency)/million)
	drawn = (given*million + MilliWattHours(b.Efficiency) - 1) / MilliWattHours(b.Efficiency)
	return given, drawn
}
