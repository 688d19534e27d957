package market

import "math/bits"

// histogramBits is how much of the key one pass of a selection resolves: few
// enough buckets to stay in the fastest cache, and never more than six passes
// over what is left, whatever the keys.
const histogramBits = 11

// few is how many units are sorted rather than counted; measured.
const few = 24

// A selector finds the units at positions of a curve without sorting it.
type selector struct {
	units       []unit
	lo          int64
	shift       int
	mass, finer histogram
	used        int // buckets of mass
	rest        []unit
}

// A histogram holds how much is in each of the equal parts of a range of keys.
type histogram [1 << histogramBits]WattHours

// selected says which units cover a position.
type selected struct {
	key    int64     // the key of the units there
	total  WattHours // the Wh of all units of that key
	offset WattHours // the position, counted from the first Wh of that key
}

// load makes units the ones to select from. None may have a key below lo or above
// hi, and these must be less than 2^63 apart. The units are only read.
func (s *selector) load(units []unit, lo, hi int64) {
	s.units, s.lo = units, lo
	s.shift, s.used = s.mass.count(units, lo, hi)
}

// at returns what covers position, 0 being the first Wh, when the units are laid
// end to end in rising key. The position must be inside.
func (s *selector) at(position WattHours) selected {
	mass, used, units, lo, shift := &s.mass, s.used, s.units, s.lo, s.shift
	for {
		bucket := 0
		for _, wh := range mass[:used] {
			if position < wh {
				break
			}
			position -= wh
			bucket++
		}
		if shift == 0 {
			return selected{key: lo + int64(bucket), total: mass[bucket], offset: position}
		}
		units = s.keep(units, lo, shift, int64(bucket))
		if len(units) <= few {
			sortFew(units)
			return among(units, position)
		}
		var hi int64
		if lo, hi = span(units); lo == hi {
			return selected{key: lo, total: mass[bucket], offset: position}
		}
		mass = &s.finer
		shift, used = mass.count(units, lo, hi)
	}
}

// count fills the histogram with units of keys from lo to hi. It returns by how
// much a key's distance from lo is to be shifted to find its bucket, and how many
// buckets there are.
func (h *histogram) count(units []unit, lo, hi int64) (shift, used int) {
	width := uint64(hi - lo) //nolint:gosec // hi ≥ lo
	// Few units need few buckets, and these have to be cleared.
	shift = max(bits.Len64(width)-min(histogramBits, bits.Len(uint(len(units)))-2), 0)
	used = int(width>>shift) + 1 //nolint:gosec // at most 1 << histogramBits
	clear(h[:used])
	for _, u := range units {
		h[(u.key-lo)>>shift&(1<<histogramBits-1)] += u.wh
	}
	return shift, used
}

// among is at for units in order.
func among(units []unit, position WattHours) selected {
	for i := 0; ; {
		s := selected{key: units[i].key, offset: position}
		for ; i < len(units) && units[i].key == s.key; i++ {
			s.total += units[i].wh
		}
		if position < s.total {
			return s
		}
		position -= s.total
	}
}

// sortFew sorts a few units by key.
func sortFew(units []unit) {
	for i := 1; i < len(units); i++ {
		u, k := units[i], i
		for ; k > 0 && units[k-1].key > u.key; k-- {
			units[k] = units[k-1]
		}
		units[k] = u
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

// cut returns the cut above the first position Wh of the loaded units, which hold total.
func (s *selector) cut(position, total WattHours) cut {
	k := cut{lower: minKey, upper: maxKey}
	if position > 0 {
		last := s.at(position - 1)
		k.lower, k.part = last.key, last.offset+1
		if k.part < last.total {
			k.upper = k.lower
			return k
		}
	}
	if position < total {
		for _, u := range s.units {
			if u.key > k.lower {
				k.upper = min(k.upper, u.key)
			}
		}
	}
	return k
}

// cutSorted is cut for units in order.
func cutSorted(units []unit, position WattHours) cut {
	k := cut{lower: minKey, upper: maxKey}
	for _, u := range units {
		if position == 0 {
			k.upper = u.key
			return k
		}
		if u.key != k.lower {
			k.lower, k.part = u.key, 0
		}
		part := min(u.wh, position)
		k.part += part
		position -= u.wh
		if position < 0 {
			k.upper = u.key
			return k
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
