package sunspec_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// TestNotImplemented: each type has its own pattern for "not implemented", and no other means that.
func TestNotImplemented(t *testing.T) {
	nan := math.Float32bits(float32(math.NaN()))
	none := map[string][][]uint16{
		"int16": {{0x8000}}, "sunssf": {{0x8000}}, "uint16": {{0xffff}}, "enum16": {{0xffff}}, "bitfield16": {{0xffff}}, "count": {{0xffff}},
		"int32": {{0x8000, 0}}, "uint32": {{0xffff, 0xffff}}, "enum32": {{0xffff, 0xffff}}, "bitfield32": {{0xffff, 0xffff}},
		"int64": {{0x8000, 0, 0, 0}}, "uint64": {{0xffff, 0xffff, 0xffff, 0xffff}}, "bitfield64": {{0xffff, 0xffff, 0xffff, 0xffff}},
		"float32": {{uint16(nan >> 16), uint16(nan)}, {0x7fc0, 0}, {0xffff, 0xffff}, {0x7f80, 1}},
		"float64": {{0x7ff8, 0, 0, 0}, {0xffff, 0xffff, 0xffff, 0xffff}},
		"string":  {{0, 0, 0}}, "pad": {{0x8000}, {0}, {0xffff}},
		"acc16": {}, "acc32": {}, "acc64": {},
	}
	some := map[string][][]uint16{
		"int16": {{0}, {0x7fff}, {0xffff}, {0x8001}}, "sunssf": {{0xfffe}}, "uint16": {{0}, {0x8000}}, "enum16": {{0}}, "bitfield16": {{0}}, "count": {{0}, {3}},
		"int32": {{0, 0}, {0x8000, 1}, {0, 0x8000}}, "uint32": {{0x8000, 0}, {0xffff, 0}}, "enum32": {{0, 7}}, "bitfield32": {{0, 0}},
		"int64": {{0, 0, 0, 0}, {0x8000, 0, 0, 1}}, "uint64": {{0, 0, 0, 0}, {0xffff, 0xffff, 0xffff, 0xfffe}}, "bitfield64": {{0, 0, 0, 1}},
		"float32": {{0, 0}, {0x7f80, 0}}, "float64": {{0, 0, 0, 0}}, "string": {{0, 0, 0x4100}}, "pad": {},
		"acc16": {{0}, {0xffff}}, "acc32": {{0, 0}, {0xffff, 0xffff}}, "acc64": {{0, 0, 0, 0}, {0xffff, 0xffff, 0xffff, 0xffff}},
	}
	for _, kind := range sunspec.Kinds() {
		if none[kind] == nil || some[kind] == nil {
			t.Errorf("type %s has no case", kind)
		}
		for want, cases := range map[bool][][]uint16{false: none[kind], true: some[kind]} {
			for _, words := range cases {
				p := sunspec.Point{Type: kind, Size: uint16(len(words))}
				if got := p.Implemented(words); got != want {
					t.Errorf("%s %04x: implemented is %v", kind, words, got)
				}
				if p.Implemented(words[1:]) || p.Implemented(append(words, 1)) {
					t.Errorf("%s: another number of registers is implemented", kind)
				}
			}
		}
	}
	if (sunspec.Point{Type: "int12", Size: 1}).Implemented([]uint16{1}) {
		t.Error("an unknown type is implemented")
	}
}

// TestSpans: whatever points are asked for, each comes whole and with its scale factor in one request of at most 125
// registers, and the first request begins with the head of the model.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := sunspec.Lookup(rapid.SampledFrom(sunspec.IDs()).Draw(t, "model"))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range m.Points {
			all = append(all, p.Name)
		}
		if m.Repeat != nil {
			for i := range 12 {
				for _, p := range m.Repeat.Points {
					all = append(all, fmt.Sprintf("%s[%d].%s", m.Repeat.Name, i, p.Name))
				}
			}
		}
		names := rapid.SliceOfN(rapid.SampledFrom(all), 1, 6).Draw(t, "points")
		spans, ok := m.Spans(names...)
		apart := false
		for _, name := range names {
			p, found := m.Point(name)
			if !found {
				t.Fatalf("no point %s", name)
			}
			sf, has := m.Point(p.SF)
			from, to := p.Offset, p.Offset+p.Size
			if has {
				from, to = min(from, sf.Offset), max(to, sf.Offset+1)
			}
			apart = apart || to-from > 125
			whole := func(s sunspec.Span) bool { return s.Offset <= from && to <= s.Offset+s.Count }
			if ok && !slices.ContainsFunc(spans, whole) {
				t.Fatalf("%s lies at %d to %d, which none of %v has", name, from, to, spans)
			}
		}
		if ok == apart {
			t.Fatalf("points %v: ok is %v, too far apart is %v", names, ok, apart)
		}
		for i, s := range spans {
			if s.Count > 125 || s.Count == 0 || i == 0 && (s.Offset != 0 || s.Count < 2) {
				t.Fatalf("spans %v", spans)
			}
		}
	})
}

// TestRepeats: a group that repeats is where it should be, as often as the length says.
func TestRepeats(t *testing.T) {
	m, err := sunspec.Lookup(160)
	if err != nil {
		t.Fatal(err)
	}
	for length, fits := range map[uint16]bool{8: true, 28: true, 88: true, 27: false, 7: false, 0: false, 2008: true, 2028: false} {
		if m.Fits(length) != fits {
			t.Errorf("length %d: got %v, expected %v", length, !fits, fits)
		}
	}
	for _, name := range []string{"module[-1].DCW", "module[01].DCW", "module[100].DCW", "module[1].None", "module.DCW", "module[1]DCW", "other[1].DCW", "module[].DCW", ""} {
		if p, ok := m.Point(name); ok {
			t.Errorf("%q is %+v", name, p)
		}
	}
	if _, err := sunspec.Lookup(9); !errors.Is(err, sunspec.ErrNoModel) {
		t.Errorf("an unknown model: got %v", err)
	}
}
