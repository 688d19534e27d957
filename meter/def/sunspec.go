package def

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// The raw values that mean "not implemented" in SunSpec.
const (
	noInt16 = 0x8000
	maxSF   = 10
)

func (d *Definition) surveySunSpec(ctx context.Context, read ReadRegisters) (Survey, error) {
	known, err := models()
	if err != nil {
		return Survey{}, err
	}
	holding := func(ctx context.Context, address, count uint16) ([]uint16, error) {
		return read(ctx, 3, address, count)
	}
	blocks, err := sunspec.Discover(ctx, holding)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{blocks: blocks}
	common := known[1]
	b, err := sunspec.Find(blocks, common)
	if err != nil {
		return Survey{}, err
	}
	if _, err := sunspec.Find(blocks, known[d.SunSpec.Model]); err != nil {
		return Survey{}, err
	}
	words, err := readModel(ctx, read, b, b.Length+2)
	if err != nil {
		return Survey{}, err
	}
	for part, name := range map[string]string{"maker": "Mn", "model": "Md", "serial": "SN", "firmware": "Vr"} {
		p, _ := common.Point(name)
		s.Identity.set(part, text(words[p.Offset:p.Offset+p.Size]))
	}
	return s, nil
}

// readModel reads a model from its id on and checks that it is still where the chain said.
func readModel(ctx context.Context, read ReadRegisters, b sunspec.Block, count uint16) ([]uint16, error) {
	words, err := readExactly(ctx, read, 3, b.Address, count)
	if err != nil {
		return nil, fmt.Errorf("reading SunSpec model %d at %d: %w", b.Model, b.Address, err)
	}
	if words[0] != b.Model || words[1] != b.Length {
		return nil, fmt.Errorf("reading SunSpec model %d at %d: got model %d with length %d, expected length %d: %w",
			b.Model, b.Address, words[0], words[1], b.Length, sunspec.ErrBadChain)
	}
	return words, nil
}

// readSunSpec reads the points and their scale factors in one request: a device may change a scale factor between two.
func (d *Definition) readSunSpec(ctx context.Context, read ReadRegisters, s Survey) (Values, error) {
	known, err := models()
	if err != nil {
		return Values{}, err
	}
	m := known[d.SunSpec.Model]
	b, err := sunspec.Find(s.blocks, m)
	if err != nil {
		return Values{}, err
	}
	end := uint16(2)
	for _, p := range d.Points {
		sp, _ := m.Point(p.Point)
		sf, _ := m.Point(sp.SF)
		end = max(end, sp.Offset+sp.Size, sf.Offset+sf.Size)
	}
	words, err := readModel(ctx, read, b, end)
	if err != nil {
		return Values{}, err
	}
	var v Values
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		v.setSunSpec(name, d.Points[name], m, words)
	}
	// A device that accumulates nothing, or has not begun to, says 0 for both counters; a home that never exported
	// says 0 for one. So a lone 0 counts, and two are unknown.
	if v.ImportWh != nil && v.ExportWh != nil && *v.ImportWh == 0 && *v.ExportWh == 0 {
		v.ImportWh, v.ExportWh = nil, nil
	}
	return v, nil
}

func (v *Values) setSunSpec(name string, p Point, m *sunspec.Model, words []uint16) {
	sp, _ := m.Point(p.Point)
	sf, _ := m.Point(sp.SF)
	factor := words[sf.Offset]
	if factor == noInt16 {
		return
	}
	p.Exponent = int(int16(factor)) //nolint:gosec // the sign is in the bits
	if p.Exponent < -maxSF || p.Exponent > maxSF {
		v.DeviceError = true
		return
	}
	value := words[sp.Offset : sp.Offset+sp.Size]
	p.Type = "int16"
	if sp.Type == "acc32" {
		p.Type, p.WrapBits = "uint32", 32
	} else if value[0] == noInt16 {
		return
	}
	n, _, err := p.decode(value)
	if err != nil {
		v.DeviceError = true
		return
	}
	t := p.traits(value)
	if p.Exponent > 0 {
		t.ResolutionWh = max(t.ResolutionWh, pow10(p.Exponent).Uint64())
	}
	v.set(name, p, n, t, false)
}
