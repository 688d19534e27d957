package sunspec

import (
	"maps"
	"math"
	"slices"
)

// kinds are the types of points: how many registers they take (0: as many as the model says) and what in them means
// "not implemented".
var kinds = map[string]struct {
	size uint16
	// as is the register type of the same form, empty for what is no number.
	as   string
	none func(words []uint16) bool
}{
	"int16":      {1, "int16", is(0x8000)},
	"sunssf":     {1, "int16", is(0x8000)},
	"uint16":     {1, "uint16", is(0xffff)},
	"enum16":     {1, "uint16", is(0xffff)},
	"bitfield16": {1, "uint16", is(0xffff)},
	"count":      {1, "uint16", is(0xffff)},
	"acc16":      {1, "uint16", never},
	"int32":      {2, "int32", is(0x8000, 0)},
	"uint32":     {2, "uint32", is(0xffff, 0xffff)},
	"enum32":     {2, "uint32", is(0xffff, 0xffff)},
	"bitfield32": {2, "uint32", is(0xffff, 0xffff)},
	"acc32":      {2, "uint32", never},
	"int64":      {4, "int64", is(0x8000, 0, 0, 0)},
	"uint64":     {4, "uint64", is(0xffff, 0xffff, 0xffff, 0xffff)},
	"bitfield64": {4, "uint64", is(0xffff, 0xffff, 0xffff, 0xffff)},
	"acc64":      {4, "uint64", never},
	"float32":    {2, "float32", notFinite32},
	"float64":    {4, "float64", notFinite64},
	"string":     {0, "", empty},
	"pad":        {1, "", func([]uint16) bool { return true }},
}

// Kinds are the names of the types, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

func is(pattern ...uint16) func([]uint16) bool {
	return func(words []uint16) bool { return slices.Equal(words, pattern) }
}

// never: every pattern of an accumulator is a count.
func never([]uint16) bool { return false }

func empty(words []uint16) bool {
	for _, w := range words {
		if w != 0 {
			return false
		}
	}
	return true
}

func notFinite32(words []uint16) bool {
	f := float64(math.Float32frombits(uint32(words[0])<<16 | uint32(words[1])))
	return math.IsNaN(f)
}

func notFinite64(words []uint16) bool {
	var v uint64
	for _, w := range words {
		v = v<<16 | uint64(w)
	}
	return math.IsNaN(math.Float64frombits(v))
}

// Implemented reports whether the words of the point mean something. An accumulator that says 0 may mean that it does
// not accumulate, or that it has not begun to: that needs a look at its neighbours, and is not decided here.
func (p Point) Implemented(words []uint16) bool {
	k, ok := kinds[p.Type]
	return ok && len(words) == int(p.Size) && len(words) > 0 && !k.none(words)
}

// RegisterType is the type of the registers that hold the point, as plain Modbus definitions name it; empty for what is
// no number.
func (p Point) RegisterType() string { return kinds[p.Type].as }

// Accumulates reports whether the point is an accumulator, which begins anew at 2 to the power of its bits.
func (p Point) Accumulates() bool { return p.Type == "acc16" || p.Type == "acc32" || p.Type == "acc64" }

// ReadLimit is the most registers that one request can ask for.
const ReadLimit = 125

// Span is a run of registers of a model that one request reads; offsets count from the model id.
type Span struct {
	Offset, Count uint16
}

// Spans says what to ask for to have all these points of a model, each together with its scale factor. The first span
// begins with the id and the length, which prove that the model is still where the chain said. There is one span if
// they fit; else a point that lies beyond has a span of its own with everything from its scale factor on. ok is false if
// a point is unknown or too far from its factor.
func (m *Model) Spans(names ...string) (spans []Span, ok bool) {
	head := Span{Count: 2}
	var more []Span
	for _, name := range names {
		p, ok := m.Point(name)
		if !ok {
			return nil, false
		}
		from, to := p.Offset, p.Offset+p.Size
		if p.SF != "" {
			sf, ok := m.Point(p.SF)
			if !ok {
				return nil, false
			}
			from, to = min(from, sf.Offset), max(to, sf.Offset+sf.Size)
		}
		switch {
		case to <= ReadLimit:
			head.Count = max(head.Count, to)
		case to-from <= ReadLimit:
			more = append(more, Span{from, to - from})
		default:
			return nil, false
		}
	}
	return append([]Span{head}, more...), true
}
