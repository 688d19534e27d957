package def_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// memory is a device with registers from one address on; it refuses all others and counts what it is asked.
type memory struct {
	base     uint16
	words    []uint16
	requests int
	longest  uint16
}

func (m *memory) read(_ context.Context, function uint8, address, count uint16) ([]uint16, error) {
	m.requests++
	m.longest = max(m.longest, count)
	from := int(address) - int(m.base)
	if function != 3 || from < 0 || from+int(count) > len(m.words) {
		return nil, fmt.Errorf("registers %d to %d: %w", address, int(address)+int(count), def.ErrRefused)
	}
	return slices.Clone(m.words[from : from+int(count)]), nil
}

// put writes words of a model's point; at is where the model begins.
func (m *memory) put(t *rapid.T, id uint16, at int, name string, words ...uint16) {
	model, err := sunspec.Lookup(id)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := model.Point(name)
	if !ok || int(p.Size) != len(words) {
		t.Fatalf("model %d has no %s of %d registers", id, name, len(words))
	}
	copy(m.words[at+int(p.Offset):], words)
}

func sunSpec(tb testing.TB, id string) def.Definition {
	tb.Helper()
	d, err := def.Parse([]byte(builtin(tb, id)))
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// device makes a chain of a common model and one more, whose points are all 0.
func device(id, length uint16) (m *memory, at int) {
	m = &memory{base: 40000, words: append([]uint16{sunspec.MarkerHigh, sunspec.MarkerLow, 1, 66}, make([]uint16, 66)...)}
	at = len(m.words)
	m.words = append(append(m.words, id, length), make([]uint16, length)...)
	m.words = append(m.words, sunspec.EndModel, 0)
	return m, at
}

// TestIntegersAndScale: every 16-bit power with every scale factor is what plain arithmetic says, or unknown; and it comes
// in one request with its factor.
func TestIntegersAndScale(t *testing.T) {
	d := sunSpec(t, "sunspec-meter")
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.Uint16().Draw(t, "raw")
		sf := rapid.OneOf(rapid.Int16Range(-12, 12), rapid.Int16()).Draw(t, "sf")
		m, at := device(203, 105)
		m.put(t, 203, at, "W", raw)
		m.put(t, 203, at, "W_SF", uint16(sf))
		s, err := d.Survey(t.Context(), m.read)
		if err != nil {
			t.Fatal(err)
		}
		m.requests = 0
		v, err := d.ReadValues(t.Context(), m.read, s)
		if err != nil || m.requests != 1 || m.longest > 125 {
			t.Fatalf("%d requests, the longest of %d: %v", m.requests, m.longest, err)
		}
		// The dumb way: repeated multiplication and division, half to even.
		want, known := int64(int16(raw)), raw != 0x8000 && sf >= -10 && sf <= 10
		switch {
		case !known:
		case sf >= 0:
			for range sf {
				want *= 10
			}
		default:
			den := int64(1)
			for range -sf {
				den *= 10
			}
			quo, rest := want/den, want%den
			up := int64(1)
			if want < 0 {
				rest, up = -rest, -1
			}
			if 2*rest > den || 2*rest == den && quo%2 != 0 {
				quo += up
			}
			want = quo
		}
		const most = 1_000_000_000_000
		if known && (want > most || want < -most) {
			known = false
		}
		if (v.PowerW != nil) != known || known && *v.PowerW != want {
			t.Fatalf("raw %#x with factor %d: got %v, expected %d (%v)", raw, sf, v.PowerW, want, known)
		}
		if badFactor := raw != 0x8000 && sf != -0x8000 && (sf < -10 || sf > 10); v.DeviceError != badFactor {
			t.Fatalf("raw %#x with factor %d: device error %v", raw, sf, v.DeviceError)
		}
	})
}

// TestAccumulators: a pair of accumulators is what it says, both 0 is unknown, and it begins anew at 2^32 × 10^factor.
func TestAccumulators(t *testing.T) {
	meter, kostal := sunSpec(t, "sunspec-meter"), sunSpec(t, "kostal-sunspec")
	kostal.Identify = def.IdentityPoints{}
	rapid.Check(t, func(t *rapid.T) {
		in, out := rapid.Uint32().Draw(t, "import"), rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32()).Draw(t, "export")
		sf := rapid.Int16Range(-3, 3).Draw(t, "sf")
		m, at := device(203, 105)
		for name, v := range map[string]uint32{"TotWhImp": in, "TotWhExp": out} {
			m.put(t, 203, at, name, uint16(v>>16), uint16(v))
		}
		m.put(t, 203, at, "TotWh_SF", uint16(sf))
		scale := func(v uint64) uint64 {
			for range sf {
				v *= 10
			}
			for range -sf {
				v /= 10
			}
			return v
		}
		for _, d := range []def.Definition{meter, kostal} {
			negative := d.ID == "kostal-sunspec"
			s, err := d.Survey(t.Context(), m.read)
			if err != nil {
				t.Fatal(err)
			}
			v, err := d.ReadValues(t.Context(), m.read, s)
			if err != nil {
				t.Fatal(err)
			}
			wantIn, wantOut, wrap := uint64(in), uint64(out), uint64(1)<<32
			if negative && out >= 1<<31 {
				wantOut, wrap = uint64(-out), 1<<31
			}
			if negative && in >= 1<<31 {
				wantIn = uint64(-in)
			}
			wantIn, wantOut = scale(wantIn), scale(wantOut)
			if wantIn == 0 && wantOut == 0 {
				if v.ImportWh != nil || v.ExportWh != nil {
					t.Fatalf("%s: both 0: got %+v", d.ID, v)
				}
				continue
			}
			if v.ImportWh == nil || v.ExportWh == nil || *v.ImportWh != wantIn || *v.ExportWh != wantOut || v.ExportTraits.WrapWh != scale(wrap) {
				t.Fatalf("%s: %d and %d with factor %d: got %v, %v, %+v", d.ID, in, out, sf, v.ImportWh, v.ExportWh, v.ExportTraits)
			}
		}
	})
}

// TestOneSampleOneModel: power and charge may be of two models, the two counters never are.
func TestOneSampleOneModel(t *testing.T) {
	d := sunSpec(t, "sunspec-inverter")
	m, _ := device(103, 50)
	end := len(m.words) - 2
	m.words = append(m.words[:end], append(append([]uint16{701, 153}, make([]uint16, 153)...), sunspec.EndModel, 0)...)
	s, err := d.Survey(t.Context(), m.read)
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.ReadValues(t.Context(), m.read, s)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range v.Origins {
		if o.Model != 701 {
			t.Errorf("%s is of model %d, expected 701", o.Point, o.Model)
		}
	}
	if m.longest > 125 || len(v.Origins) != 3 {
		t.Errorf("got %d points, the longest request was %d", len(v.Origins), m.longest)
	}
}

// TestChainMoved: a model that is not where the chain said is an error, whatever stands there now.
func TestChainMoved(t *testing.T) {
	d := sunSpec(t, "sunspec-meter")
	m, at := device(203, 105)
	s, err := d.Survey(t.Context(), m.read)
	if err != nil {
		t.Fatal(err)
	}
	m.words[at] = 103
	if v, err := d.ReadValues(t.Context(), m.read, s); !errors.Is(err, sunspec.ErrBadChain) || !strings.Contains(err.Error(), "got model 103") {
		t.Errorf("got %+v, %v", v, err)
	}
	again, err := d.Survey(t.Context(), m.read)
	if err == nil || again.Equal(s) {
		t.Errorf("the next survey finds the same: %v", err)
	}
	if _, err := d.ReadValues(t.Context(), m.read, def.Survey{}); !errors.Is(err, sunspec.ErrNoModel) {
		t.Errorf("without a survey: got %v", err)
	}
}

// FuzzChain: whatever the registers of a SunSpec device hold, each definition reads it with a bounded number of requests
// of at most 125 registers, and ends with values that can be, or an error.
func FuzzChain(f *testing.F) {
	var defs []def.Definition
	all, err := def.Load("")
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range all {
		if d.Protocol != def.ProtocolSunSpec {
			continue
		}
		for _, v := range d.Tests {
			for _, r := range v.Registers {
				var data []byte
				for text := range strings.FieldsSeq(r.Words) {
					var w uint16
					if _, err := fmt.Sscanf(text, "%x", &w); err != nil {
						f.Fatal(err)
					}
					data = binary.BigEndian.AppendUint16(data, w)
				}
				f.Add(len(defs), r.Address, data)
			}
		}
		defs = append(defs, d)
	}
	f.Fuzz(func(t *testing.T, which int, base uint16, data []byte) {
		d := defs[uint(which)%uint(len(defs))]
		m := &memory{base: base}
		for i := range len(data) / 2 {
			m.words = append(m.words, binary.BigEndian.Uint16(data[2*i:]))
		}
		s, err := d.Survey(t.Context(), m.read)
		if err != nil {
			return
		}
		surveyed := m.requests
		v, err := d.ReadValues(t.Context(), m.read, s)
		if m.longest > 125 || surveyed > 80 || m.requests-surveyed > 8 {
			t.Fatalf("%d and %d requests, the longest of %d", surveyed, m.requests-surveyed, m.longest)
		}
		if err != nil && (v.ImportWh != nil || v.ExportWh != nil) {
			t.Fatalf("an error and values: %+v, %v", v, err)
		}
		for _, wh := range []*uint64{v.ImportWh, v.ExportWh} {
			if wh != nil && *wh > 1<<63-1 {
				t.Fatalf("a counter of %d Wh", *wh)
			}
		}
		for _, o := range v.Origins {
			if (o.Value == "") != (o.Unknown != "") {
				t.Fatalf("neither value nor reason: %+v", o)
			}
		}
	})
}
