package def_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/meter/def"
)

// twoRequests are the devices whose map does not allow both counters in one answer.
var twoRequests = map[string]bool{"carlo-gavazzi-em24": true, "dzg-dvh4013": true}

// TestPlainDefinitions: what every built-in definition of a plain register map promises.
func TestPlainDefinitions(t *testing.T) {
	all, err := def.Load("")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Protocol != def.ProtocolModbus {
			continue
		}
		// Of a battery the vectors of control are more than those of its counters.
		if len(d.Facts) < 2 || d.Notes == "" || (len(d.Tests) < 2 && d.Control == nil) {
			t.Errorf("%s: %d facts, %d tests and %d letters of notes, expected two of each and notes", d.ID, len(d.Facts), len(d.Tests), len(d.Notes))
		}
		imported := d.Points[def.PointImport]
		exported, both := d.Points[def.PointExport]
		if both && (imported.Block != exported.Block) != twoRequests[d.ID] {
			t.Errorf("%s: import is of block %q and export of %q: they must be of one moment where the device can", d.ID, imported.Block, exported.Block)
		}
		for _, f := range d.Facts {
			if !strings.HasPrefix(f, "https://") && !strings.HasPrefix(f, "http://") {
				t.Errorf("%s: fact %q is no public address", d.ID, f)
			}
		}
		if known := vectorsKnow(d); !known {
			t.Errorf("%s: no vector has all that the device measures", d.ID)
		}
	}
}

// vectorsKnow reports whether a vector has all points of the definition, with power that is not 0.
func vectorsKnow(d def.Definition) bool {
	for _, v := range d.Tests {
		e := v.Expect
		all := true
		for name, known := range map[string]bool{
			def.PointImport: e.ImportWh != nil && *e.ImportWh > 0,
			def.PointExport: e.ExportWh != nil && *e.ExportWh > 0,
			def.PointPower:  e.PowerW != nil && *e.PowerW != 0,
		} {
			if _, has := d.Points[name]; has && !known {
				all = false
			}
		}
		if all {
			return true
		}
	}
	return false
}

// heldRegisters is a unit with these registers, by function and address; it refuses others.
type heldRegisters map[[2]int]uint16

func (held heldRegisters) read(_ context.Context, function uint8, address, count uint16) ([]uint16, error) {
	words := make([]uint16, count)
	for i := range words {
		w, ok := held[[2]int{int(function), int(address) + i}]
		if !ok {
			return nil, fmt.Errorf("register %d: %w", int(address)+i, def.ErrRefused)
		}
		words[i] = w
	}
	return words, nil
}

// vectorDevice holds the registers of a vector, with other words put over them one after the other.
func vectorDevice(v def.Vector, over []byte) heldRegisters {
	held := heldRegisters{}
	for _, r := range v.Registers {
		for i, text := range strings.Fields(r.Words) {
			w, err := strconv.ParseUint(text, 16, 16)
			if err != nil {
				continue
			}
			if len(over) >= 2 {
				w, over = uint64(binary.BigEndian.Uint16(over)), over[2:]
			}
			held[[2]int{int(r.Function), int(r.Address) + i}] = uint16(w)
		}
	}
	return held
}

// FuzzRegisters: whatever the registers of a device hold, its values can be or are unknown, and the same registers have
// the same values.
func FuzzRegisters(f *testing.F) {
	all, err := def.Load("")
	if err != nil {
		f.Fatal(err)
	}
	var defs []def.Definition
	for _, d := range all {
		if d.Protocol == def.ProtocolModbus || d.Protocol == def.ProtocolSunSpec {
			f.Add(len(defs), 0, []byte{})
			f.Add(len(defs), 1, []byte{0x7f, 0xc0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0})
			defs = append(defs, d)
		}
	}
	f.Fuzz(func(t *testing.T, which, vector int, over []byte) {
		d := defs[uint(which)%uint(len(defs))]
		held := vectorDevice(d.Tests[uint(vector)%uint(len(d.Tests))], over)
		s, err := d.Survey(t.Context(), held.read)
		if err != nil {
			return
		}
		first, err := d.ReadValues(t.Context(), held.read, s)
		if err != nil {
			return
		}
		for _, wh := range []*uint64{first.ImportWh, first.ExportWh} {
			if wh != nil && *wh > 1<<63-1 {
				t.Fatalf("%s: a counter of %d Wh", d.ID, *wh)
			}
		}
		if first.PowerW != nil && (*first.PowerW > 1e12 || *first.PowerW < -1e12) {
			t.Fatalf("%s: %d W", d.ID, *first.PowerW)
		}
		again, err := d.ReadValues(t.Context(), held.read, s)
		if err != nil || !same(first.ImportWh, again.ImportWh) || !same(first.ExportWh, again.ExportWh) {
			t.Fatalf("%s: the same registers twice: %+v and %+v, %v", d.ID, first, again, err)
		}
	})
}
