package def

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Types of registers and how many they take.
var wordsOf = map[string]int{
	"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4,
}

// Orders of the words of a value. Bytes within a word are always big-endian, as Modbus says.
const (
	OrderBig    = "big"    // high word first; the default
	OrderLittle = "little" // low word first
)

// Words is the number of registers that the point takes.
func (p Point) Words() int { return wordsOf[p.Type] }

// raw joins the words of the point to its bit pattern.
func (p Point) raw(words []uint16) uint64 {
	var v uint64
	for i := range words {
		w := words[i]
		if p.Order == OrderLittle {
			w = words[len(words)-1-i]
		}
		v = v<<16 | uint64(w)
	}
	return v
}

// shift is the power of ten from the unit of the point to Wh or W.
func (p Point) shift() int {
	if strings.HasPrefix(p.Unit, "k") {
		return p.Exponent + 3
	}
	return p.Exponent
}

// counter is a number in the unit of the point as whole Wh.
func (p Point) counter(n decimal, nearest bool) (uint64, error) {
	if p.Unit == "Wmin" {
		const perWh = 60
		return n.counter(p.Exponent, perWh, nearest)
	}
	return n.counter(p.shift(), 1, nearest)
}

// decode returns the exact number in the words; ok is false if it means "not implemented".
func (p Point) decode(words []uint16) (d decimal, ok bool, err error) {
	raw := p.raw(words)
	if slices.Contains(p.Invalid, raw) {
		return decimal{}, false, nil
	}
	var v int64
	switch p.Type {
	case "float32":
		d, err = floatDecimal(float64(math.Float32frombits(uint32(raw)))) //nolint:gosec // two words
		return d, err == nil, err
	case "float64":
		d, err = floatDecimal(math.Float64frombits(raw))
		return d, err == nil, err
	case "int16":
		v = int64(int16(raw)) //nolint:gosec // the sign is in the bits
	case "int32":
		v = int64(int32(raw)) //nolint:gosec // the sign is in the bits
	case "int64":
		v = int64(raw) //nolint:gosec // the sign is in the bits
	default:
		return decimal{mantissa: new(big.Int).SetUint64(raw)}, true, nil
	}
	m := big.NewInt(v)
	return decimal{neg: v < 0, mantissa: m.Abs(m)}, true, nil
}

// isFloat tells the types whose values are the nearest neighbours of what the device counted.
func isFloat(kind string) bool { return kind == "float32" || kind == "float64" }

// traits of the point's counter at the given words of its own register.
func (p Point) traits(words []uint16) Traits {
	return Traits{ResolutionWh: max(1, p.ResolutionWh, p.stepWh(words)), WrapWh: wrapAt(p.WrapBits, p.shift())}
}

// stepWh is what the last digit of a register stands for: of an integer by its exponent, of a float at its value.
func (p Point) stepWh(words []uint16) uint64 {
	switch p.Type {
	case "float32":
		f := math.Float32frombits(uint32(p.raw(words)) &^ (1 << 31)) //nolint:gosec // two words
		return floatStepWh(float64(math.Nextafter32(f, math.MaxFloat32))-float64(f), p.shift())
	case "float64":
		f := math.Float64frombits(p.raw(words) &^ (1 << 63))
		return floatStepWh(math.Nextafter(f, math.MaxFloat64)-f, p.shift())
	}
	if s := p.shift(); s > 0 && s <= 18 {
		return pow10(s).Uint64()
	}
	return 1
}

// text is the number in the unit of the point. Of a float it is the shortest text that stands for the same float.
func (p Point) text(n decimal, words []uint16) string {
	if isFloat(p.Type) && p.Exponent == 0 {
		if p.Type == "float32" {
			return strconv.FormatFloat(float64(math.Float32frombits(uint32(p.raw(words)))), 'f', -1, 32) //nolint:gosec // two words
		}
		return strconv.FormatFloat(math.Float64frombits(p.raw(words)), 'f', -1, 64)
	}
	n.exp += p.Exponent
	return n.String()
}

// Encode writes a value in Wh or W (import positive) as the device would hold it: what a simulator needs. A value
// that does not fit wraps as the device's own counter does. Of a point with Add or Subtract it is the point's own
// register, with 0 in the others.
func (p Point) Encode(value int64) ([]uint16, error) {
	n := p.Words()
	if n == 0 {
		return nil, fmt.Errorf("encoding a point: got type %q, expected one of %s", p.Type, typeNames())
	}
	if p.Positive == "export" {
		value = -value
	}
	var raw uint64
	// One rounding only: the quotient of two integers, to the nearest float.
	switch p.Type {
	case "float32":
		f, _ := new(big.Rat).SetFrac(scaled(value, -p.shift())).Float32()
		raw = uint64(math.Float32bits(f))
	case "float64":
		f, _ := new(big.Rat).SetFrac(scaled(value, -p.shift())).Float64()
		raw = math.Float64bits(f)
	default:
		num, den := scaled(value, -p.shift())
		raw = new(big.Int).And(num.Div(num, den), new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	}
	return p.words(raw), nil
}

// words is the bit pattern as the registers of the point hold it.
func (p Point) words(raw uint64) []uint16 {
	n := p.Words()
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

// scaled is value × 10^shift as a fraction.
func scaled(value int64, shift int) (*big.Int, *big.Int) {
	num, den := big.NewInt(value), big.NewInt(1)
	if shift >= 0 {
		return num.Mul(num, pow10(shift)), den
	}
	return num, pow10(-shift)
}

// text reads the characters in registers: up to the first NUL, printable ASCII only, without blanks around.
func text(words []uint16) string {
	b := make([]byte, 0, 2*len(words))
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, w)
	}
	s, _, _ := strings.Cut(string(b), "\x00")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// bcd is the number whose decimal digits are four to a register, with its leading zeros. A digit above 9, as all ones
// are where a number was never written, makes it none.
func bcd(words []uint16) string {
	b := make([]byte, 0, 4*len(words))
	for _, w := range words {
		b = fmt.Appendf(b, "%04x", w)
	}
	if bytes.ContainsAny(b, "abcdef") {
		return ""
	}
	return string(b)
}
