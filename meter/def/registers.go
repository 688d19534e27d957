package def

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
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
	plans    []modelPlan // follow from blocks and the definition
	unproven bool
}

// Proven reports whether the device said all by which the definition knows its kind.
func (s Survey) Proven() bool { return !s.unproven }

// errBlank is returned for registers of an identity that hold nothing.
var errBlank = errors.New("registers are blank")

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
	held, absent := map[string][]uint16{}, map[string]bool{}
	for _, b := range d.Modbus.Blocks {
		words, missing, err := d.readBlock(ctx, read, b)
		if errors.Is(err, ErrRefused) && (b.Optional || !d.counts(b) && !d.faults(b)) {
			continue
		}
		if err != nil {
			return Values{}, fmt.Errorf("reading block %s: %w", b.Name, err)
		}
		held[b.Name] = words
		maps.Copy(absent, missing)
	}
	if err := d.seenAgain(held, s); err != nil {
		return Values{}, err
	}
	var v Values
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p := d.Points[name]
		b, _ := d.block(p.Block)
		if words, ok := held[p.Block]; ok && !absent[name] {
			v.setSum(name, p, b, words)
		}
	}
	if d.faulty(held) {
		v.DeviceError = true
		v.forget("the device reports a fault", PointImport, PointExport, PointPower, PointSoC)
	}
	if d.Modbus.ZeroUnknown && v.ImportWh != nil && v.ExportWh != nil && *v.ImportWh == 0 && *v.ExportWh == 0 {
		v.forget("the device says 0 for what it does not know", PointImport, PointExport)
	}
	return v, nil
}

// put decodes the words of a point and sets its value. Integers are cut off to whole Wh as a counter does, floats are
// rounded: they are the neighbours of what the device counted.
func (v *Values) put(name string, p Point, words []uint16, o *Origin) {
	n, ok, err := p.decode(words)
	switch {
	case err != nil:
		v.DeviceError = true
		o.Unknown = err.Error()
	case !ok:
		o.Unknown = "not implemented"
	case !v.set(name, p, n, p.traits(words), isFloat(p.Type)):
		o.Unknown = "out of range"
	default:
		o.Value = p.text(n, words)
	}
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
func (v *Values) set(name string, p Point, n decimal, t Traits, nearest bool) bool {
	switch name {
	case PointPower:
		w, err := n.signed(p.shift())
		if err != nil || w > maxWatt || w < -maxWatt {
			v.OutOfRange = true
			return false
		}
		if p.Positive == "export" {
			w = -w
		}
		v.PowerW = &w
		return true
	case PointSoC:
		bp, err := n.signed(p.Exponent + 2)
		if err != nil || bp < 0 || bp > 10_000 {
			v.OutOfRange = true
			return false
		}
		v.SoCBp = &bp
		return true
	}
	wh, err := p.counter(n, nearest)
	if err != nil {
		v.OutOfRange = true
		return false
	}
	if name == PointImport {
		v.ImportWh, v.ImportTraits = &wh, t
	} else {
		v.ExportWh, v.ExportTraits = &wh, t
	}
	return true
}

// maxWatt bounds a power that is believed; no connection of a street comes near.
const maxWatt = 1e12

func (d *Definition) surveyModbus(ctx context.Context, read ReadRegisters) (Survey, error) {
	var s Survey
	for name, p := range d.Identify.all() {
		if p == nil {
			continue
		}
		value, err := d.ask(ctx, read, p)
		switch {
		case errors.Is(err, ErrRefused), errors.Is(err, errBlank):
			// Older and newer models of a device differ in what they say of themselves, and gateways and copies say
			// less: unknown is no contradiction.
			s.unproven = s.unproven || len(p.Expect) > 0
			continue
		case err != nil:
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

// swapped turns the bytes of each word around where the device puts the low one first.
func (p *IdentityPoint) swapped(words []uint16) []uint16 {
	if p.Order != OrderLittle {
		return words
	}
	turned := make([]uint16, len(words))
	for i, w := range words {
		turned[i] = bits.ReverseBytes16(w)
	}
	return turned
}

func (i Identity) get(name string) string {
	return map[string]string{"maker": i.Maker, "model": i.Model, "serial": i.Serial, "firmware": i.Firmware}[name]
}

// ask reads one part of the identity from the device.
func (d *Definition) ask(ctx context.Context, read ReadRegisters, p *IdentityPoint) (string, error) {
	if p.Block != "" {
		// The whole block: some devices give it in one piece or not at all.
		b, _ := d.block(p.Block)
		words, err := readExactly(ctx, read, b.Function, b.Address, b.Count)
		if err != nil {
			return "", err
		}
		return p.value(b.cut(words, p.Address, int(p.words())))
	}
	if p.Function == 0 {
		return p.Text, nil
	}
	words, err := readExactly(ctx, read, p.Function, p.Address, p.words())
	if p.Optional && errors.Is(err, ErrRefused) {
		return p.Text, nil
	}
	if err != nil {
		return "", err
	}
	return p.value(words)
}

// value is what the registers of an identity point say, if they may say that.
func (p *IdentityPoint) value(words []uint16) (string, error) {
	var value string
	switch p.Type {
	case "string":
		value = text(p.swapped(words))
	case "bcd":
		value = bcd(p.swapped(words))
	default:
		value = strconv.FormatUint(Point{Type: p.Type, Order: p.Order}.raw(words), 10)
	}
	if !slices.Contains(p.Expect, value) && blank(words) {
		return "", errBlank
	}
	if len(p.Expect) > 0 && !slices.Contains(p.Expect, value) {
		return "", fmt.Errorf("got %q, expected %s: %w", value, strings.Join(p.Expect, " or "), ErrWrongDevice)
	}
	if p.Text != "" {
		return p.Text, nil
	}
	return value, nil
}

// blank reports whether registers hold what those hold that nobody filled: all zeros, all ones, or blanks.
func blank(words []uint16) bool {
	for _, empty := range []uint16{0, 0xffff, 0x2020} {
		if !slices.ContainsFunc(words, func(w uint16) bool { return w != empty }) {
			return true
		}
	}
	return false
}
