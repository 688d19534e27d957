package market

import "math/bits"

// histogramBits is how much of the key one pass of a selection resolves: few
// enough buckets to stay in the fastest cache, and never more than six passes
// over what is left, whatever the keys.
const histogramBits = 11

// A selector finds the unit at a position of a curve without sorting it.
type selector struct {
	mass [1 << histogramBits]WattHours
	rest []unit
}

// selected says which units cover a position.
type selected struct {
	key    int64     // the key of the units there
	total  WattHours // the Wh of all units of that key
	offset WattHours // the position, counted from the first Wh of that key
}

// at returns what covers position, 0 being the first Wh, when the units are laid
// end to end in rising key. The position must be inside, no key below lo or above
// hi, and these less than 2^63 apart. The units are only read.
func (s *selector) at(units []unit, lo, hi int64, position WattHours) selected {
	for {
		width := uint64(hi - lo) //nolint:gosec // hi ≥ lo
		// Few units need few buckets, and these have to be cleared.
		shift := max(bits.Len64(width)-min(histogramBits, bits.Len(uint(len(units)))), 0)
		mass := s.mass[:width>>shift+1]
		clear(mass)
		for _, u := range units {
			mass[(u.key-lo)>>shift] += u.wh
		}
		bucket := 0
		for position >= mass[bucket] {
			position -= mass[bucket]
			bucket++
		}
		if shift == 0 {
			return selected{key: lo + int64(bucket), total: mass[bucket], offset: position}
		}
		units = s.keep(units, lo, shift, int64(bucket))
		lo, hi = span(units)
	}
}

// span returns the least and the largest key of units.
func span(units []unit) (lo, hi int64) {
	lo, hi = maxKey, minKey
	for _, u := range units {
		lo, hi = min(lo, u.key), max(hi, u.key)
	}
	return lo, hi
}

// keep copies the units of one bucket. From the second pass on the units are in
// rest itself; as it never writes ahead of where it reads, that is safe.
func (s *selector) keep(units []unit, lo int64, shift int, bucket int64) []unit {
	rest := s.rest[:0]
	for _, u := range units {
		if (u.key-lo)>>shift == bucket {
			rest = append(rest, u)
		}
	}
	s.rest = rest
	return rest
}

const (
	minKey int64 = -1 << 63
	maxKey int64 = 1<<63 - 1
)

// A cut is a place between two Wh of a curve.
type cut struct {
	lower, upper int64     // the keys of the units on either side; minKey, maxKey if there is none
	part         WattHours // how much of the units of key lower is below the cut
}

// cut returns the cut above the first position Wh of units, which hold total and
// have no key below lo or above hi.
func (s *selector) cut(units []unit, lo, hi int64, position, total WattHours) cut {
	k := cut{lower: minKey, upper: maxKey}
	if position > 0 {
		last := s.at(units, lo, hi, position-1)
		k.lower, k.part = last.key, last.offset+1
		if k.part < last.total {
			k.upper = k.lower
			return k
		}
	}
	if position < total {
		for _, u := range units {
			if u.key > k.lower {
				k.upper = min(k.upper, u.key)
			}
		}
	}
	return k
}

// bounds returns the prices between which the cut lies.
func (k cut) bounds() (lower, upper bound) {
	return bound{price: priceOf(k.lower), known: k.lower != minKey}, bound{price: priceOf(k.upper), known: k.upper != maxKey}
}

// key returns the key that fills what is below the cut, together with a share of
// the units that have it; none if the curve is empty.
func (k cut) key(none int64) int64 {
	switch {
	case k.lower != minKey:
		return k.lower
	case k.upper != maxKey:
		return k.upper
	default:
		return none
	}
}
