package home

import "hash/fnv"

// Streams keep the uses of one seed apart, so that a new use changes no old one.
const (
	streamClouds uint64 = iota + 1
	streamHomeClouds
	streamHousehold
	streamDay
	streamBattery
	streamCounter
	streamAway
	streamHoliday
	streamCar
	streamHeat
	streamAir = 64 // and the one after it
)

// mix is the finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable
// pseudorandom number generators", OOPSLA 2014): a bijection whose output bits
// each depend on all input bits. The models ask for random numbers by place and
// not in sequence, so that any instant can be computed alone (H6).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// random is a number that belongs to a seed, a stream and a place in it.
func random(seed, stream uint64, place int64) uint64 {
	return mix(mix(seed^mix(stream)) ^ uint64(place)) //nolint:gosec // G115: any bits will do, they are hashed
}

// unit maps a random number into [0, 1).
func unit(r uint64) float64 { return float64(r>>11) / (1 << 53) }

// Seed gives each home randomness of its own out of the street's seed.
func Seed(street uint64, id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash never fails
	return mix(street ^ h.Sum64())
}

// CounterStart is what a home's counter shows at the beginning of time: a
// meter that has been in use for a while, between low and high.
func CounterStart(homeSeed uint64, counter string, low, high MilliWattHours) MilliWattHours {
	r := random(Seed(homeSeed, counter), streamCounter, 0)
	return low + MilliWattHours(r%uint64(high-low)) //nolint:gosec // G115: high > low, both small
}

// noise is value noise in [-1, 1]: random values on a grid of the given period,
// smoothly joined. Its correlation time is about the period.
func noise(seed, stream uint64, at, period int64) float64 {
	cell := floorDiv(at, period)
	f := float64(at-cell*period) / float64(period)
	f = f * f * (3 - 2*f)
	a := unit(random(seed, stream, cell))
	b := unit(random(seed, stream, cell+1))
	return 2*(a+(b-a)*f) - 1
}
