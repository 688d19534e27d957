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
