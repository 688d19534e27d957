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
// end to end in rising key. The position must be inside, the keys must differ by
// less than 2^63. The units are only read.
func (s *selector) at(units []unit, position WattHours) selected {
	for {
		lo, hi := units[0].key, units[0].key
		for _, u := range units {
			lo, hi = min(lo, u.key), max(hi, u.key)
		}
		width := uint64(hi - lo) //nolint:gosec // hi ≥ lo
		shift := max(bits.Len64(width)-histogramBits, 0)
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
	}
}

// keep copies the units of one bucket. From the second pass on the units are in
// rest itself; as it never writes ahead of where it reads, that is safe.
func (s *selector) keep(units []unit, lo int64, shift int, bucket int64) []unit {
	s.rest = s.rest[:0]
	for _, u := range units {
		if (u.key-lo)>>shift == bucket {
			s.rest = append(s.rest, u)
		}
	}
	return s.rest
}
