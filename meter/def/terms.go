package def

import (
	"errors"
	"fmt"
	"slices"
)

// cut takes count registers out of a block that was read.
func (b Block) cut(block []uint16, address uint16, count int) []uint16 {
	at := int(address - b.Address)
	return block[at : at+count]
}

// faulty reports whether a register of the device says that the others are not to be believed.
func (d *Definition) faulty(held map[string][]uint16) bool {
	return slices.ContainsFunc(d.Modbus.Faults, func(f RegisterFault) bool {
		p := Point{Type: f.Type, Order: f.Order}
		b, _ := d.block(f.Block)
		return slices.Contains(f.Values, p.raw(b.cut(held[f.Block], f.Address, p.Words())))
	})
}

// seenAgain compares what an answer says of the device with the survey: a late answer of another unit, or a device
// that was exchanged since, has other values too.
func (d *Definition) seenAgain(held map[string][]uint16, s Survey) error {
	for name, p := range d.Identify.all() {
		if p == nil || p.Block == "" {
			continue
		}
		b, _ := d.block(p.Block)
		value, err := "", error(nil)
		if words, ok := held[p.Block]; ok {
			value, err = p.value(b.cut(words, p.Address, int(p.words())))
		}
		if err != nil && !errors.Is(err, errBlank) {
			return fmt.Errorf("identifying the device by %s: %w", name, err)
		}
		if known := s.Identity.get(name); value != known {
			return fmt.Errorf("block %s: %s is %q, expected %q as before: %w", p.Block, name, value, known, ErrWrongDevice)
		}
	}
	return nil
}

// forget makes points unknown.
func (v *Values) forget(why string, points ...string) {
	for i, o := range v.Origins {
		if slices.Contains(points, o.Point) && o.Unknown == "" {
			v.Origins[i].Value, v.Origins[i].Unknown = "", why
		}
	}
	for _, name := range points {
		switch name {
		case PointImport:
			v.ImportWh, v.ImportTraits = nil, Traits{}
		case PointExport:
			v.ExportWh, v.ExportTraits = nil, Traits{}
		case PointPower:
			v.PowerW = nil
		case PointSoC:
			v.SoCBp = nil
		}
	}
}

// terms are the registers of a point, its own first; those from minus on are subtracted.
func (p Point) terms() (all []Point, minus int) {
	of := func(t Term) Point {
		return Point{Unit: p.Unit, Block: p.Block, Address: t.Address, Type: t.Type, Order: t.Order, Exponent: t.Exponent, Invalid: t.Invalid}
	}
	all = append(all, p)
	for _, t := range p.Add {
		all = append(all, of(t))
	}
	minus = len(all)
	for _, t := range p.Subtract {
		all = append(all, of(t))
	}
	return all, minus
}

// scale is the power of ten that came with the values of a point; 0 if it has no such register.
func (p Point) scale(b Block, block []uint16) (int, error) {
	if p.Scale == nil {
		return 0, nil
	}
	sf := Point{Type: p.Scale.Type, Order: p.Order}
	n, _, err := sf.decode(b.cut(block, p.Scale.Address, sf.Words()))
	factor, err2 := n.signed(0)
	if err != nil || err2 != nil || factor < -maxSF || factor > maxSF {
		return 0, fmt.Errorf("scale factor at %d is beyond -%d to %d: %w", p.Scale.Address, maxSF, maxSF, errOutOfRange)
	}
	return int(factor), nil
}

// setSum gives a point the sum of its registers, if all of them are known. It is rounded once, at the end.
func (v *Values) setSum(name string, p Point, b Block, block []uint16) {
	all, minus := p.terms()
	factor, scaleErr := p.scale(b, block)
	var sum decimal
	traits := Traits{WrapWh: wrapAt(p.WrapBits, p.shift()+factor)}
	var fine uint64 // the step of the finest integer: one register may hold the whole part and another the rest
	known, nearest := true, false
	first := len(v.Origins)
	for i, t := range all {
		words := b.cut(block, t.Address, t.Words())
		o := Origin{Point: name, Block: b.Name, Function: b.Function, Address: new(t.Address), Words: words, Type: t.Type, Unit: t.Unit}
		t.Exponent += factor
		if p.Scale != nil && scaleErr == nil {
			o.Scale = &t.Exponent
		}
		n, ok, err := t.decode(words)
		switch {
		case scaleErr != nil:
			o.Unknown, ok, v.DeviceError = scaleErr.Error(), false, true
		case err != nil:
			o.Unknown, ok, v.DeviceError = err.Error(), false, true
		case !ok:
			o.Unknown = "not implemented"
		default:
			o.Value = t.text(n, words)
		}
		v.Origins = append(v.Origins, o)
		known = known && ok
		if !known {
			continue
		}
		n.exp += t.shift()
		if i >= minus {
			n.neg = !n.neg
		}
		if i == 0 {
			sum = n
		} else {
			sum = sum.plus(n)
		}
		switch step := t.stepWh(words); {
		case isFloat(t.Type):
			nearest, traits.ResolutionWh = true, max(traits.ResolutionWh, step)
		case fine == 0 || step < fine:
			fine = step
		}
	}
	if !known {
		return
	}
	traits.ResolutionWh = max(1, p.ResolutionWh, traits.ResolutionWh, fine)
	p.Unit, p.Exponent = "", 0 // the sum is in Wh, W or per cent
	if !v.set(name, p, sum, traits, nearest) {
		for i := range v.Origins[first:] {
			v.Origins[first+i].Value, v.Origins[first+i].Unknown = "", "out of range"
		}
	}
}
