package def

import (
	"fmt"
	"math"
	"math/big"
)

// In the base unit a power is W, an energy Wh, a time s, and a percentage hundredths of a per cent, or W if it is of
// a power.

// maxValue bounds what is believed of a control point, so that products fit.
const maxValue = 1_000_000_000

const secondsPerMinute = 60

// exponent is the power of ten of a point; ok is false where a scale factor is none.
func (p placed) exponent(h held) (int, bool) {
	if p.sf == nil {
		return p.Exponent, true
	}
	sf := int(int16(h[*p.sf])) //nolint:gosec // the sign is in the bits
	return sf, sf >= -maxSF && sf <= maxSF
}

// missing are the raw values by which SunSpec says "not implemented".
var missing = map[string]uint64{
	"int16": 0x8000, "uint16": 0xffff, "int32": 0x8000_0000, "uint32": 0xffff_ffff,
	"int64": 1 << 63, "uint64": math.MaxUint64,
}

func (p placed) decimal(h held) (decimal, bool) {
	point := Point{Type: p.typ, Order: p.Order, Invalid: p.Invalid}
	words := h.words(p.at, p.words)
	if none, ok := missing[p.typ]; ok && p.Model != 0 && point.raw(words) == none {
		return decimal{}, false
	}
	n, ok, err := point.decode(words)
	return n, ok && err == nil
}

// raw is the number in a point's registers, without its scale.
func (l *ControlLayout) raw(h held, name string) (int64, bool) {
	p, there := l.points[name]
	if !there {
		return 0, false
	}
	n, ok := p.decimal(h)
	if !ok {
		return 0, false
	}
	v, err := n.signed(0)
	return v, err == nil
}

// value is a point in its base unit.
func (l *ControlLayout) value(h held, name string) (int64, bool) {
	p, there := l.points[name]
	if !there {
		return 0, false
	}
	n, ok := p.decimal(h)
	exp, good := p.exponent(h)
	if !ok || !good {
		return 0, false
	}
	var whole int64 = 1
	switch p.Unit {
	case "kW", "kWh":
		exp += 3
	case "min":
		whole = secondsPerMinute
	case "%":
		exp += 2
		if p.Of != "" {
			if whole, ok = l.value(h, p.Of); !ok || whole <= 0 {
				return 0, false
			}
			n = n.times(whole)
			exp -= 4
			whole = 1
		}
	}
	v, err := n.signed(exp)
	if err != nil || v > maxValue || v < -maxValue {
		return 0, false
	}
	if p.Positive == "discharge" {
		v = -v
	}
	return v * whole, true
}

// times multiplies exactly.
func (d decimal) times(n int64) decimal {
	m := new(big.Int).Mul(d.mantissa, big.NewInt(n))
	if m.Sign() < 0 {
		d.neg, m = !d.neg, m.Neg(m)
	}
	d.mantissa = m
	return d
}

func (l *ControlLayout) known(h held, name string) *int64 {
	if v, ok := l.value(h, name); ok {
		return &v
	}
	return nil
}

// positive is a bound; one of nothing is none.
func (l *ControlLayout) positive(h held, name string) *int64 {
	if v, ok := l.value(h, name); ok && v > 0 {
		return &v
	}
	return nil
}

// encode makes the words of a value in the base unit, rounded towards 0, or up.
func (l *ControlLayout) encode(h held, name string, v int64, up bool) ([]uint16, error) {
	p := l.points[name]
	exp, ok := p.exponent(h)
	if !ok {
		return nil, fmt.Errorf("scale factor: got %d, expected -%d to %d: %w", int16(h[*p.sf]), maxSF, maxSF, ErrNotReady) //nolint:gosec // the sign is in the bits
	}
	if p.Positive == "discharge" {
		v = -v
	}
	num, den := big.NewInt(v), big.NewInt(1)
	switch p.Unit {
	case "kW", "kWh":
		exp += 3
	case "min":
		den.SetInt64(secondsPerMinute)
	case "%":
		exp += 2
		if p.Of != "" {
			whole, ok := l.value(h, p.Of)
			if !ok || whole <= 0 {
				return nil, fmt.Errorf("%s: the device does not say: %w", p.Of, ErrNotReady)
			}
			den.SetInt64(whole)
			exp -= 4
		}
	}
	if exp >= 0 {
		den.Mul(den, pow10(exp))
	} else {
		num.Mul(num, pow10(-exp))
	}
	if p.typ == "float32" {
		f, _ := new(big.Rat).SetFrac(num, den).Float32()
		return p.split(uint64(math.Float32bits(f))), nil
	}
	quo, rest := new(big.Int).QuoRem(num, den, new(big.Int))
	if up && rest.Sign() > 0 {
		quo.Add(quo, big.NewInt(1))
	}
	if !quo.IsInt64() {
		return nil, fmt.Errorf("got %s, expected what fits %s: %w", quo, p.typ, errOutOfRange)
	}
	return p.encodeRaw(quo.Int64())
}

// bits of the integer types, and whether they have a sign.
var integers = map[string]struct {
	bits   int
	signed bool
}{
	"int16": {16, true}, "uint16": {16, false}, "int32": {32, true}, "uint32": {32, false},
	"int64": {64, true}, "uint64": {64, false},
}

// encodeRaw makes the words of a number as the registers hold it.
func (p placed) encodeRaw(v int64) ([]uint16, error) {
	if p.typ == "float32" {
		return p.split(uint64(math.Float32bits(float32(v)))), nil
	}
	t := integers[p.typ]
	least, most := int64(math.MinInt64), int64(math.MaxInt64)
	if t.bits < 64 {
		least, most = -1<<(t.bits-1), 1<<(t.bits-1)-1
		if !t.signed {
			least, most = 0, 1<<t.bits-1
		}
	}
	if v < least || v > most || !t.signed && v < 0 {
		return nil, fmt.Errorf("got %d, expected %d to %d: %w", v, least, most, errOutOfRange)
	}
	return p.split(uint64(v)), nil //nolint:gosec // two's complement
}

// split divides a bit pattern into the words of the point.
func (p placed) split(raw uint64) []uint16 {
	n := int(p.words)
	words := make([]uint16, n)
	for i := range words {
		at := n - 1 - i
		if p.Order == OrderLittle {
			at = i
		}
		words[at] = uint16(raw >> (16 * i)) //nolint:gosec // one word of several
	}
	return words
}
