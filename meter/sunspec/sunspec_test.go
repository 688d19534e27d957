package sunspec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// device holds registers from some addresses on and refuses all others.
type device map[uint16][]uint16

func (d device) read(_ context.Context, address, count uint16) ([]uint16, error) {
	for base, words := range d {
		if from := int(address) - int(base); from >= 0 && from+int(count) <= len(words) {
			return words[from : from+int(count)], nil
		}
	}
	return nil, fmt.Errorf("registers %d to %d: %w", address, int(address)+int(count), sunspec.ErrRefused)
}

func chain(models ...[]uint16) []uint16 {
	words := []uint16{sunspec.MarkerHigh, sunspec.MarkerLow}
	for _, m := range models {
		words = append(words, m...)
	}
	return append(words, sunspec.EndModel, 0)
}

func model(id, length uint16) []uint16 {
	return append([]uint16{id, length}, make([]uint16, length)...)
}

func TestDiscover(t *testing.T) {
	gone := errors.New("connection lost")
	for _, c := range []struct {
		name   string
		device sunspec.Read
		want   []sunspec.Block
		err    string
	}{
		{"at 40000", device{40000: chain(model(1, 66), model(203, 105))}.read, []sunspec.Block{{1, 40002, 66}, {203, 40070, 105}}, ""},
		{"at 0", device{0: chain(model(1, 65))}.read, []sunspec.Block{{1, 2, 65}}, ""},
		{"at 50000 behind other registers at 40000", device{40000: {1, 2}, 0: {3, 4}, 50000: chain(model(1, 66))}.read, []sunspec.Block{{1, 50002, 66}}, ""},
		{"an empty chain", device{0: chain()}.read, nil, ""},
		{"none", device{}.read, nil, "no SunSpec marker"},
		{"a chain without end", device{0: chain(slices.Repeat([]uint16{7, 1, 0}, 100))}.read, nil, "more than 64 models without an end"},
		{"a chain that runs over the last register", device{50000: append(chain(), make([]uint16, 15000)...)}.patched(50002, 9, 15600).read, nil, "beyond the last register"},
		{"a model without length", device{0: chain([]uint16{1, 0})}.read, nil, "got id 1 and length 0"},
		{"a model without id", device{0: chain([]uint16{0, 5})}.read, nil, "got id 0 and length 5"},
		{"a chain that breaks off", device{0: chain(model(1, 66))[:68]}.read, nil, "reading the head of model 2 at 70"},
		{"a connection that breaks off", func(context.Context, uint16, uint16) ([]uint16, error) { return nil, gone }, nil, "connection lost"},
		{"half a head", func(_ context.Context, a, _ uint16) ([]uint16, error) {
			if a == 40000 {
				return []uint16{sunspec.MarkerHigh, sunspec.MarkerLow}, nil
			}
			return []uint16{1}, nil
		}, nil, "got 1 registers, expected 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := sunspec.Discover(t.Context(), c.device)
			if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) || !slices.Equal(got, c.want) {
				t.Errorf("got %v, %v, expected %v, %q", got, err, c.want, c.err)
			}
		})
	}
}

func (d device) patched(address uint16, words ...uint16) device {
	for base := range d {
		copy(d[base][address-base:], words)
	}
	return d
}

// TestModels holds the layouts to offsets that were counted by hand in the published models.
func TestModels(t *testing.T) {
	models := map[uint16]*sunspec.Model{}
	for _, id := range sunspec.IDs() {
		m, err := sunspec.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		models[id] = m
	}
	for _, c := range []struct {
		model  uint16
		point  string
		offset uint16
	}{
		{1, "Mn", 2},
		{1, "Md", 18},
		{1, "Opt", 34},
		{1, "Vr", 42},
		{1, "SN", 50},
		{1, "DA", 66},
		{1, "Pad", 67},
		{203, "W", 18},
		{203, "W_SF", 22},
		{203, "TotWhExp", 38},
		{203, "TotWhImp", 46},
		{203, "TotWh_SF", 54},
		{203, "TotVArh_SF", 104},
		{203, "Evt", 105},
		{103, "W", 14},
		{103, "WH", 24},
		{103, "WH_SF", 26},
		{113, "W", 22},
		{113, "WH", 32},
		{213, "W", 28},
		{213, "TotWhExp", 60},
		{213, "TotWhImp", 68},
		{701, "W", 10},
		{701, "TotWhInj", 19},
		{701, "TotWhAbs", 23},
		{701, "TotWh_SF", 120},
		{124, "StorCtl_Mod", 5},
		{124, "InOutWRte_RvrtTms", 15},
		{124, "InOutWRte_SF", 25},
		{704, "WSetEna", 22},
		{704, "WSet", 24},
		{704, "PFWInj.PF", 59},
		{704, "PFWAbsRvrt.Ext", 66},
		{802, "SoC", 11},
		{802, "W", 47},
		{802, "W_SF", 63},
		{713, "SoC", 4},
		{160, "N", 8},
		{160, "module[0].DCW", 21},
		{160, "module[3].DCW", 81},
	} {
		if p, ok := models[c.model].Point(c.point); !ok || p.Offset != c.offset {
			t.Errorf("model %d, %s: got offset %d (%v), expected %d", c.model, c.point, p.Offset, ok, c.offset)
		}
	}
	for _, m := range models {
		points := m.Points
		if m.Repeat != nil {
			points = append(slices.Clone(points), m.Repeat.Points...)
		}
		for _, p := range points {
			if !slices.Contains(sunspec.Kinds(), p.Type) {
				t.Errorf("model %d, %s: type %s is not known", m.ID, p.Name, p.Type)
			}
			if p.SF != "" {
				if sf, ok := m.Point(p.SF); !ok || sf.Type != "sunssf" {
					t.Errorf("model %d, %s: scale factor %s is no sunssf of the model", m.ID, p.Name, p.SF)
				}
			}
		}
	}
	blocks := []sunspec.Block{{1, 40002, 65}, {203, 40069, 104}}
	if _, err := sunspec.Find(blocks, models[1]); err != nil {
		t.Errorf("common model of 65 registers: %v", err)
	}
	if _, err := sunspec.Find(blocks, models[203]); !errors.Is(err, sunspec.ErrBadChain) {
		t.Errorf("meter model of 104 registers: got %v, expected %v", err, sunspec.ErrBadChain)
	}
}

// FuzzSunSpecChain: whatever the registers hold, discovery ends after a bounded number of requests with blocks that
// follow each other, or an error.
func FuzzSunSpecChain(f *testing.F) {
	f.Add(uint16(40000), bytesOf(chain(model(1, 66), model(203, 105))))
	f.Add(uint16(0), bytesOf(chain(model(1, 65))))
	f.Add(uint16(50000), bytesOf(chain([]uint16{9, 65535})))
	f.Fuzz(func(t *testing.T, base uint16, data []byte) {
		words := make([]uint16, len(data)/2)
		for i := range words {
			words[i] = uint16(data[2*i])<<8 | uint16(data[2*i+1])
		}
		d := device{base: words}
		requests := 0
		blocks, err := sunspec.Discover(t.Context(), func(ctx context.Context, address, count uint16) ([]uint16, error) {
			requests++
			return d.read(ctx, address, count)
		})
		if requests > 70 {
			t.Fatalf("%d requests", requests)
		}
		if err != nil && len(blocks) > 0 {
			t.Fatalf("got %v and %v", blocks, err)
		}
		for i := 1; i < len(blocks); i++ {
			if before := blocks[i-1]; int(blocks[i].Address) != int(before.Address)+2+int(before.Length) {
				t.Fatalf("block %d of %v does not follow the one before", i, blocks)
			}
		}
	})
}

func bytesOf(words []uint16) []byte {
	var b []byte
	for _, w := range words {
		b = append(b, byte(w>>8), byte(w))
	}
	return b
}
