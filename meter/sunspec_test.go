package meter_test

import (
	"slices"
	"testing"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// chainOf lays out a SunSpec device at 40000: a common model of a length, and a model 203 with its counters.
func chainOf(t *testing.T, commonLength uint16, serial string, importWh, exportWh uint32) map[uint16]uint16 {
	t.Helper()
	held := map[uint16]uint16{40000: sunspec.MarkerHigh, 40001: sunspec.MarkerLow}
	at := uint16(40002)
	add := func(id, length uint16, points map[string][]uint16) {
		m, err := sunspec.Lookup(id)
		if err != nil {
			t.Fatal(err)
		}
		held[at], held[at+1] = id, length
		for name, words := range points {
			p, ok := m.Point(name)
			if !ok {
				t.Fatalf("model %d has no %s", id, name)
			}
			for i, w := range words {
				held[at+p.Offset+uint16(i)] = w
			}
		}
		at += length + 2
	}
	text := func(s string) (words []uint16) {
		for i := 0; i+1 < len(s); i += 2 {
			words = append(words, uint16(s[i])<<8|uint16(s[i+1]))
		}
		return words
	}
	add(1, commonLength, map[string][]uint16{"Mn": text("Sunny Meters"), "Md": text("SM-3"), "SN": text(serial)})
	wide := func(v uint32) []uint16 { return []uint16{uint16(v >> 16), uint16(v)} }
	add(203, 105, map[string][]uint16{"TotWhImp": wide(importWh), "TotWhExp": wide(exportWh), "W": {500}})
	held[at] = sunspec.EndModel
	return held
}

// TestChainAfterReconnect: the chain is read again with each new connection. What moved is found where it now is, as long
// as it is the same device; another one at the same place is noticed.
func TestChainAfterReconnect(t *testing.T) {
	m := newFakeMeter(t)
	m.chain = chainOf(t, 66, "SN0001", 1000, 500)
	source := openFakeBy(t, m, "sunspec-meter")
	for _, c := range []struct {
		name     string
		next     map[uint16]uint16
		importWh uint64
		changed  bool
	}{
		{"at the start", nil, 1000, false},
		{"the same chain", chainOf(t, 66, "SN0001", 1001, 500), 1001, false},
		{"another firmware, and all is one register further on", chainOf(t, 65, "SN0001", 1002, 500), 1002, false},
		{"another meter, laid out alike", chainOf(t, 65, "SN0002", 7002, 500), 7002, true},
	} {
		if c.next != nil {
			m.mu.Lock()
			m.next = c.next
			m.mu.Unlock()
			m.hangUp()
		}
		s := readSoon(t, source)
		if s.ImportWh == nil || *s.ImportWh != c.importWh || (s.Quality&meter.IdentityChanged != 0) != c.changed {
			t.Errorf("%s: got %s", c.name, sampleText(t, s))
		}
		models := slices.Collect(func(yield func(uint16) bool) {
			for _, o := range s.Origins {
				if !yield(o.Model) {
					return
				}
			}
		})
		if !slices.Equal(models, []uint16{203, 203, 203}) {
			t.Errorf("%s: values are of models %v", c.name, models)
		}
	}
}
