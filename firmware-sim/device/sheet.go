package device

import (
	"slices"

	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// field is one number of an inverter's map that can be written.
type field struct {
	at     uint16 // address of its first register
	words  int    // 1 or 2
	signed bool
	// What it takes, and what it holds as delivered. Of a float they are not used:
	// see check.
	low, high, first int64
	// check takes the place of low and high, for numbers that are floats.
	check func(raw int64) bool
	// timer is begun anew by writing this field; 0: none.
	timer int
}

// timers is how many an inverter has; index 0 stands for none.
const timers = 4

// sheet is the writable part of a map, in the order of addresses.
type sheet struct {
	fields   []field
	lowFirst bool // of a number in two registers, the low word comes first
}

// held is what the fields of a sheet hold, and when timers were last begun: -1 is
// never. It is not changed once it is made.
type held struct {
	values []int64
	began  [timers]int64
}

// delivered is what a new inverter holds.
func (s *sheet) delivered() held {
	h := held{began: [timers]int64{-1, -1, -1, -1}}
	for _, f := range s.fields {
		h.values = append(h.values, f.first)
	}
	return h
}

// write gives what is held after registers were written, all of them or none. An
// address that cannot be written, or half of a number, is an illegal address; a
// number that the field does not take is an illegal value.
func (s *sheet) write(h held, at int64, address uint16, words []uint16) (held, error) {
	values, began := slices.Clone(h.values), h.began
	i, found := slices.BinarySearchFunc(s.fields, address, func(f field, a uint16) int { return int(f.at) - int(a) })
	if !found || len(words) == 0 {
		return h, modbus.IllegalDataAddress
	}
	bad := false
	for ; len(words) > 0; i++ {
		if i == len(s.fields) || s.fields[i].at != address || len(words) < s.fields[i].words {
			return h, modbus.IllegalDataAddress
		}
		f := &s.fields[i]
		v := s.decode(f, words)
		bad = bad || !f.takes(v)
		values[i] = v
		if f.timer != 0 {
			began[f.timer] = at
		}
		words = words[f.words:]
		address += uint16(f.words) //nolint:gosec // G115: 1 or 2
	}
	if bad {
		return h, modbus.IllegalDataValue
	}
	return held{values: values, began: began}, nil
}

func (f *field) takes(v int64) bool {
	if f.check != nil {
		return f.check(v)
	}
	return f.low <= v && v <= f.high
}

// decode is a field's number out of its registers.
func (s *sheet) decode(f *field, words []uint16) int64 {
	if f.words == 1 {
		if f.signed {
			return int64(int16(words[0])) //nolint:gosec // G115: two's complement is the format
		}
		return int64(words[0])
	}
	high, low := words[0], words[1]
	if s.lowFirst {
		high, low = low, high
	}
	v := uint32(high)<<16 | uint32(low)
	if f.signed {
		return int64(int32(v)) //nolint:gosec // G115: two's complement is the format
	}
	return int64(v)
}

// fill puts what is held into an image of registers that begins at base. Fields
// outside of it are left out.
func (s *sheet) fill(h held, image []uint16, base int) {
	for i, f := range s.fields {
		at := int(f.at) - base
		if at < 0 || at+f.words > len(image) {
			continue
		}
		v := uint32(h.values[i]) //nolint:gosec // G115: two's complement is the format
		if f.words == 1 {
			image[at] = uint16(v) //nolint:gosec // G115: it fits, or is two's complement
			continue
		}
		high, low := at, at+1
		if s.lowFirst {
			high, low = low, high
		}
		image[high], image[low] = uint16(v>>16), uint16(v) //nolint:gosec // G115: the two halves
	}
}

// with is what is held with some values replaced.
func (h held) with(values map[int]int64) held {
	h.values = slices.Clone(h.values)
	for i, v := range values {
		h.values[i] = v
	}
	return h
}
