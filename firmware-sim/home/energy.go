package home

// MilliWatts is a power. Its sign is given where it is used.
type MilliWatts int64

// Watts rounds to whole W, half away from zero.
func (p MilliWatts) Watts() int64 {
	if p < 0 {
		return -int64((500 - p) / 1000)
	}
	return int64((p + 500) / 1000)
}

// MicroJoules is an energy: one milliwatt for one millisecond.
type MicroJoules int64

// MilliWattHours is a counted energy.
type MilliWattHours int64

// MicroJoulesPerMilliWattHour is exact: 1 mWh = 3.6 J.
const MicroJoulesPerMilliWattHour = 3_600_000

// MilliWattHoursPerWattHour is what a counter in Wh is a floor of.
const MilliWattHoursPerWattHour = 1000

// Milliseconds of the spans that the models think in.
const (
	minuteMS = 60_000
	hourMS   = 60 * minuteMS
	dayMS    = 24 * hourMS
)

// maxPower bounds every source: a megawatt is no home, and it keeps sums of
// microjoules over any step far from the limits of int64.
const maxPower MilliWatts = 1_000_000_000

// Source is a power over time that is constant in pieces: a load, or what
// panels produce. It is never negative.
type Source interface {
	// Power returns the power at an instant and the instant (later than at) until
	// which it stays so.
	Power(at int64) (power MilliWatts, until int64)
}

// energyBetween is the exact energy of a source from one instant to another.
func energyBetween(s Source, from, to int64) MicroJoules {
	var sum MicroJoules
	for at := from; at < to; {
		power, until := s.Power(at)
		until = min(until, to)
		sum += MicroJoules(int64(power) * (until - at))
		at = until
	}
	return sum
}

// count turns an energy into whole milliwatt-hours and gives back what is left
// of it, to be carried into the next step.
func count(e MicroJoules) (whole MilliWattHours, rest MicroJoules) {
	return MilliWattHours(e / MicroJoulesPerMilliWattHour), e % MicroJoulesPerMilliWattHour
}

// MeanPower is the power that moves an energy in a time, rounded toward zero.
func MeanPower(e MilliWattHours, milliseconds int64) MilliWatts {
	if milliseconds <= 0 {
		return 0
	}
	return MilliWatts(int64(e) * MicroJoulesPerMilliWattHour / milliseconds)
}

// milliWatts rounds a model's watts, and keeps a bad number from the books.
func milliWatts(watts float64) MilliWatts {
	if !(watts > 0) { // also a NaN
		return 0
	}
	if watts >= float64(maxPower)/1000 {
		return maxPower
	}
	return MilliWatts(watts*1000 + 0.5)
}

// floorDiv divides toward minus infinity, so that times before 1970 fall into
// the right piece too.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
