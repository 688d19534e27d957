package def

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// ErrRefused is what a ReadRegisters wraps when the device answered with an exception: it is there, but has no such
// registers.
var ErrRefused = sunspec.ErrRefused

// ErrWrongDevice is wrapped where what answers is not of the kind that the definition describes.
var ErrWrongDevice = errors.New("not the kind of device that the definition describes")

// ReadRegisters reads count registers with function 3 or 4, all of them or none.
type ReadRegisters func(ctx context.Context, function uint8, address, count uint16) ([]uint16, error)

// Survey is what has to be known of a Modbus device before its values can be read. It may differ after a reconnect.
type Survey struct {
	Identity Identity
	blocks   []sunspec.Block
}

// Equal reports whether two surveys found the same device with the same layout.
func (s Survey) Equal(o Survey) bool {
	return s.Identity == o.Identity && slices.Equal(s.blocks, o.blocks)
}

// Survey asks a Modbus device who it is and how it is laid out.
func (d *Definition) Survey(ctx context.Context, read ReadRegisters) (Survey, error) {
	switch d.Protocol {
	case ProtocolSunSpec:
		return d.surveySunSpec(ctx, read)
	case ProtocolModbus:
		return d.surveyModbus(ctx, read)
	}
	return Survey{}, fmt.Errorf("definition %s has protocol %s, expected modbus or sunspec: %w", d.ID, d.Protocol, ErrInvalid)
}

// ReadValues reads the blocks of a Modbus device and makes values of them.
func (d *Definition) ReadValues(ctx context.Context, read ReadRegisters, s Survey) (Values, error) {
	if d.Protocol == ProtocolSunSpec {
		return d.readSunSpec(ctx, read, s)
	}
	held := map[string][]uint16{}
	for _, b := range d.Modbus.Blocks {
		words, err := readExactly(ctx, read, b.Function, b.Address, b.Count)
		if err != nil {
			return Values{}, fmt.Errorf("reading block %s: %w", b.Name, err)
		}
		held[b.Name] = words
	}
	var v Values
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p := d.Points[name]
		b, _ := d.block(p.Block)
		at := int(p.Address - b.Address)
		words := held[p.Block][at : at+p.Words()]
		n, ok, err := p.decode(words)
		if err != nil {
			v.DeviceError = true
			continue
		}
		if ok {
			v.set(name, p, n, p.traits(words), p.Type == "float32")
		}
	}
	return v, nil
}

func readExactly(ctx context.Context, read ReadRegisters, function uint8, address, count uint16) ([]uint16, error) {
	words, err := read(ctx, function, address, count)
	if err != nil {
		return nil, err
	}
	if len(words) != int(count) {
		return nil, fmt.Errorf("got %d registers, expected %d", len(words), count)
	}
	return words, nil
}

// set gives a point its value; a value that cannot be leaves it unknown.
func (v *Values) set(name string, p Point, n decimal, t Traits, nearest bool) {
	if name == PointPower {
		w, err := n.signed(p.shift())
		if err != nil || w > maxWatt || w < -maxWatt {
			v.OutOfRange = true
			return
		}
		if p.Positive == "export" {
			w = -w
		}
		v.PowerW = &w
		return
	}
	wh, err := n.counter(p.shift(), nearest)
	if err != nil {
		v.OutOfRange = true
		return
	}
	if name == PointImport {
		v.ImportWh, v.ImportTraits = &wh, t
	} else {
		v.ExportWh, v.ExportTraits = &wh, t
	}
}

// maxWatt bounds a power that is believed; no connection of a street comes near.
const maxWatt = 1e12

func (d *Definition) surveyModbus(ctx context.Context, read ReadRegisters) (Survey, error) {
	var s Survey
	for name, p := range d.Identify.all() {
		if p == nil {
			continue
		}
		value, err := p.read(ctx, read)
		if err != nil {
			return Survey{}, fmt.Errorf("identifying the device by %s: %w", name, err)
		}
		s.Identity.set(name, value)
	}
	return s, nil
}

func (i *Identity) set(name, value string) {
	switch name {
	case "maker":
		i.Maker = value
	case "model":
		i.Model = value
	case "serial":
		i.Serial = value
	case "firmware":
		i.Firmware = value
	}
}

func (p *IdentityPoint) read(ctx context.Context, read ReadRegisters) (string, error) {
	if p.Text != "" {
		return p.Text, nil
	}
	words, err := readExactly(ctx, read, p.Function, p.Address, p.words())
	if p.Optional && errors.Is(err, ErrRefused) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var value string
	switch p.Type {
	case "string":
		value = text(words)
	default:
		value = strconv.FormatUint(Point{Type: p.Type}.raw(words), 10)
	}
	if len(p.Expect) > 0 && !slices.Contains(p.Expect, value) {
		return "", fmt.Errorf("got %q, expected %s: %w", value, strings.Join(p.Expect, " or "), ErrWrongDevice)
	}
	return value, nil
}

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
