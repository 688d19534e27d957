package def_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter/def"
)

// bits writes registers as ones and zeros, the highest first, after putting the words into the order of the type.
func bits(words []uint16, order string) string {
	words = slices.Clone(words)
	if order == def.OrderLittle {
		slices.Reverse(words)
	}
	var b strings.Builder
	for _, w := range words {
		fmt.Fprintf(&b, "%016b", w)
	}
	return b.String()
}

// valueOf is a deliberately dumb decoder: it looks at one bit after the other and adds up fractions. It returns the
// value and what its last bit is worth; false is not a number.
func valueOf(kind, bits string) (value, last *big.Rat, ok bool) {
	two := big.NewRat(2, 1)
	power := func(n int) *big.Rat {
		p := big.NewRat(1, 1)
		for ; n > 0; n-- {
			p.Mul(p, two)
		}
		for ; n < 0; n++ {
			p.Quo(p, two)
		}
		return p
	}
	sum := func(bits string, highest int) *big.Rat {
		v := new(big.Rat)
		for i, b := range bits {
			if b == '1' {
				v.Add(v, power(highest-i))
			}
		}
		return v
	}
	if !strings.HasPrefix(kind, "float") {
		v := sum(bits, len(bits)-1)
		if kind[0] == 'i' && bits[0] == '1' {
			v.Sub(v, power(len(bits)))
		}
		return v, power(0), true
	}
	exponents := 8
	if kind == "float64" {
		exponents = 11
	}
	bias := 1<<(exponents-1) - 1
	raised, _ := new(big.Int).SetString(bits[1:1+exponents], 2)
	e, fraction := int(raised.Int64()), bits[1+exponents:]
	if e == 1<<exponents-1 {
		return nil, nil, false
	}
	v := sum(fraction, -1)
	if e == 0 {
		e = 1 // below the smallest normal number
	} else {
		v.Add(v, power(0))
	}
	v.Mul(v, power(e-bias))
	if bits[0] == '1' {
		v.Neg(v)
	}
	return v, power(e - bias - len(fraction)), true
}

// whole rounds to an integer: down, or to the nearest, half to even.
func whole(v *big.Rat, nearest bool) *big.Int {
	down := new(big.Int).Div(v.Num(), v.Denom()) // Euclidean: towards minus infinity
	if !nearest {
		return down
	}
	rest := new(big.Rat).Sub(v, new(big.Rat).SetInt(down))
	c := rest.Cmp(big.NewRat(1, 2))
	if c > 0 || (c == 0 && down.Bit(0) == 1) {
		down.Add(down, big.NewInt(1))
	}
	return down
}

func ten(n int) *big.Rat {
	p, _ := new(big.Rat).SetString(fmt.Sprintf("1e%d", n))
	return p
}

type register struct {
	kind, order string
	exponent    int
	words       []uint16
	invalid     []uint64
}

func drawRegister(t *rapid.T, i int) register {
	r := register{
		kind:     rapid.SampledFrom([]string{"int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"}).Draw(t, fmt.Sprint("type", i)),
		order:    rapid.SampledFrom([]string{"", def.OrderBig, def.OrderLittle}).Draw(t, fmt.Sprint("order", i)),
		exponent: rapid.IntRange(-9, 9).Draw(t, fmt.Sprint("exponent", i)),
	}
	n := map[byte]int{'1': 1, '3': 2, '6': 4}[strings.TrimLeft(r.kind, "uinftloa")[0]]
	word := rapid.OneOf(rapid.Uint16(), rapid.SampledFrom([]uint16{0, 1, 0x7fff, 0x8000, 0xffff, 0x7f80, 0xff80, 0x7ff0, 0x4680}))
	for range n {
		r.words = append(r.words, word.Draw(t, "word"))
	}
	if rapid.IntRange(0, 9).Draw(t, "invalid?") == 0 {
		raw, _ := new(big.Int).SetString(bits(r.words, r.order), 2)
		r.invalid = []uint64{raw.Uint64()}
	}
	return r
}

// summed is a point of one to three registers, and what the dumb decoder makes of them.
type summed struct {
	name   string
	point  def.Point
	words  []uint16
	sum    *big.Rat
	step   *big.Rat // of the coarsest float, or else of the finest integer
	float  bool
	known  bool
	broken bool // one of them is no number
}

func drawSum(t *rapid.T) summed {
	n := rapid.IntRange(1, 3).Draw(t, "registers")
	s := summed{name: def.PointImport, point: def.Point{Block: "b", Unit: "Wh"}, sum: new(big.Rat), step: new(big.Rat), known: true}
	subtract, kilo := 0, 0
	if rapid.Bool().Draw(t, "power") {
		s.name, s.point.Unit = def.PointPower, "W"
		s.point.Positive = rapid.SampledFrom([]string{"", "import", "export"}).Draw(t, "positive")
		subtract = rapid.IntRange(0, n-1).Draw(t, "subtracted")
	}
	if rapid.Bool().Draw(t, "kilo") {
		s.point.Unit, kilo = "k"+s.point.Unit, 3
	}
	var fine *big.Rat
	for i := range n {
		r := drawRegister(t, i)
		term := def.Term{Address: uint16(len(s.words)), Type: r.kind, Order: r.order, Exponent: r.exponent, Invalid: r.invalid}
		minus := i >= n-subtract
		switch {
		case i == 0:
			s.point.Type, s.point.Order, s.point.Exponent, s.point.Invalid = r.kind, r.order, r.exponent, r.invalid
		case minus:
			s.point.Subtract = append(s.point.Subtract, term)
		default:
			s.point.Add = append(s.point.Add, term)
		}
		s.words = append(s.words, r.words...)
		value, last, ok := valueOf(r.kind, bits(r.words, r.order))
		if r.invalid != nil || !ok {
			s.known, s.broken = false, s.broken || r.invalid == nil
			continue
		}
		scale := ten(r.exponent + kilo)
		value.Mul(value, scale)
		last.Mul(last, scale)
		if minus {
			value.Neg(value)
		}
		s.sum.Add(s.sum, value)
		if strings.HasPrefix(r.kind, "float") {
			s.float = true
			if last.Cmp(s.step) > 0 {
				s.step = last
			}
		} else if fine == nil || last.Cmp(fine) < 0 {
			fine = last
		}
	}
	if fine != nil && fine.Cmp(s.step) > 0 {
		s.step = fine
	}
	return s
}

// TestDecodersAgree: for all types, orders, scales and sums of registers, the reader and the dumb decoder make the same
// of the same words.
func TestDecodersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSum(t)
		d := def.Definition{
			Protocol: def.ProtocolModbus, Points: map[string]def.Point{s.name: s.point},
			Modbus: &def.Modbus{Blocks: []def.Block{{Name: "b", Function: 3, Count: uint16(len(s.words))}}},
		}
		got, err := d.ReadValues(t.Context(), held(s.words), def.Survey{})
		if err != nil {
			t.Fatal(err)
		}
		if got.DeviceError != s.broken {
			t.Fatalf("%+v %x: device error is %v", s.point, s.words, got.DeviceError)
		}
		switch {
		case !s.known:
			if got.ImportWh != nil || got.PowerW != nil || got.OutOfRange {
				t.Fatalf("%+v %x: got %+v, expected unknown", s.point, s.words, got)
			}
		case s.name == def.PointPower:
			comparePower(t, got, whole(s.sum, true), s.point.Positive == "export")
		default:
			compareCounter(t, got, s)
		}
	})
}

func compareCounter(t *rapid.T, got def.Values, s summed) {
	want := whole(s.sum, s.float)
	if s.sum.Sign() < 0 || !want.IsInt64() {
		if got.ImportWh != nil || !got.OutOfRange {
			t.Fatalf("%+v %x: got %+v, expected %s to be out of range", s.point, s.words, got, s.sum.FloatString(3))
		}
		return
	}
	if got.ImportWh == nil || got.OutOfRange || new(big.Int).SetUint64(*got.ImportWh).Cmp(want) != 0 {
		t.Fatalf("%+v %x: got %+v, expected %s", s.point, s.words, got, want)
	}
	compareStep(t, got.ImportTraits.ResolutionWh, s.step)
}

func comparePower(t *rapid.T, got def.Values, want *big.Int, export bool) {
	if want.CmpAbs(big.NewInt(1e12)) > 0 {
		if got.PowerW != nil || !got.OutOfRange {
			t.Fatalf("got %+v, expected %s to be out of range", got, want)
		}
		return
	}
	if export {
		want.Neg(want)
	}
	if got.PowerW == nil || got.OutOfRange || *got.PowerW != want.Int64() {
		t.Fatalf("got %+v, expected %s W", got, want)
	}
}

// compareStep: the resolution is the step in whole units, rounded up, from 1 to a bound. It comes from floats, so in the
// last digits it may be off.
func compareStep(t *rapid.T, got uint64, step *big.Rat) {
	f, _ := step.Float64()
	switch {
	case f <= 1:
		if got != 1 && f < 0.999999 {
			t.Fatalf("got a resolution of %d, expected 1", got)
		}
	case f > 1e15:
		if got < 1e15 {
			t.Fatalf("got a resolution of %d, expected the bound", got)
		}
	case float64(got) < f*0.999999 || float64(got) > f*1.000001+1:
		t.Fatalf("got a resolution of %d, expected %s rounded up", got, step.FloatString(6))
	}
}

const terms = `
schema: 1
id: terms
version: 1
name: counters of two tariffs and power of two directions
facts: [https://example.org]
protocol: modbus
signed_by: agent
max_power_w: 1000
modbus:
  unit: 1
  zero_unknown: true
  blocks:
    - {name: all, function: 3, address: 10, count: 20}
  faults:
    - {block: all, address: 10, type: uint16, values: [7, 9]}
identify:
  maker: {text: Terms}
  model: {block: all, address: 11, type: uint16, expect: ["5"], text: Five}
  serial: {block: all, address: 12, type: uint32}
points:
  import: {block: all, address: 14, type: uint32, unit: kWh, exponent: -1, add: [{address: 16, type: uint32, exponent: -1}]}
  export: {block: all, address: 18, type: uint16, unit: kWh, add: [{address: 19, type: uint16, exponent: -3}]}
  power: {block: all, address: 20, type: uint16, unit: W, subtract: [{address: 21, type: uint16, invalid: [65535]}]}
tests:
  - name: none
    expect: {error: none}
`

func TestTerms(t *testing.T) {
	d, err := def.Parse([]byte(terms))
	if err != nil {
		t.Fatal(err)
	}
	good := []uint16{0, 5, 0, 77, 0, 1000, 0, 234, 12, 345, 0, 500, 0, 0, 0, 0, 0, 0, 0, 0}
	at := func(words []uint16) def.ReadRegisters {
		return func(_ context.Context, _ uint8, address, count uint16) ([]uint16, error) {
			return words[address-10:][:count], nil
		}
	}
	s, err := d.Survey(t.Context(), at(good))
	if err != nil || s.Identity != (def.Identity{Maker: "Terms", Model: "Five", Serial: "77"}) {
		t.Fatalf("survey: %+v, %v", s, err)
	}
	with := func(i int, w uint16) []uint16 {
		words := slices.Clone(good)
		words[i] = w
		return words
	}
	show := func(words []uint16) string {
		v, err := d.ReadValues(t.Context(), at(words), s)
		if err != nil {
			return err.Error()
		}
		text := ""
		for _, n := range []*uint64{v.ImportWh, v.ExportWh} {
			if n == nil {
				text += "? "
			} else {
				text += fmt.Sprintf("%d ", *n)
			}
		}
		if v.PowerW == nil {
			text += "?"
		} else {
			text += fmt.Sprint(*v.PowerW)
		}
		return fmt.Sprintf("%s %d %d %v", text, v.ImportTraits.ResolutionWh, v.ExportTraits.ResolutionWh, v.DeviceError)
	}
	for _, c := range []struct {
		name  string
		words []uint16
		want  string
	}{
		// 100.0 + 23.4 kWh; 12 kWh + 345 Wh; 0 W drawn, 500 W fed in.
		{"good", good, "123400 12345 -500 100 1 false"},
		{"a term that is unknown makes the sum unknown", with(11, 0xffff), "123400 12345 ? 100 1 false"},
		{"a fault spoils all", with(0, 9), "? ? ? 0 0 true"},
		{"another serial number in the same answer", with(3, 78), `serial is "78", expected "77" as before`},
		{"another model in the same answer", with(1, 6), `got "6", expected 5`},
		{"two counters of 0 are unknown", []uint16{0, 5, 0, 77, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "? ? 1 0 0 false"},
		{"one counter of 0 is a home that never exported", []uint16{0, 5, 0, 77, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, "100 0 1 100 1 false"},
	} {
		if got := show(c.words); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, expected %q", c.name, got, c.want)
		}
	}
	if _, err := d.ReadValues(t.Context(), at(with(3, 78)), s); !errors.Is(err, def.ErrWrongDevice) {
		t.Errorf("another serial number: got %v, expected %v", err, def.ErrWrongDevice)
	}
}

func TestParseRefusesTerms(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"add: [{address: 16,", "subtract: [{address: 16,", "points.import.subtract: got 1, expected nothing: only power"},
		{"add: [{address: 16,", "wrap_bits: 32, add: [{address: 16,", "points.import.wrap_bits: got 32, expected nothing: a sum"},
		{"add: [{address: 16,", "add: [{address: 29,", "points.import.add[0].address: got 29, expected an address within its block"},
		{"subtract: [{address: 21, type: uint16", "subtract: [{address: 21, type: uint24", `points.power.subtract[0].type: got "uint24"`},
		{"invalid: [65535]", "invalid: [65536]", "points.power.subtract[0].invalid: got 65536, expected values of 16 bits"},
		{"invalid: [65535]", "invalid: [65535], order: mixed", `points.power.subtract[0].order: got "mixed"`},
		{"invalid: [65535]", "invalid: [65535], exponent: 10", "points.power.subtract[0].exponent: got 10"},
		{"type: uint16, unit: W,", "type: float32, wrap_bits: 32, unit: W,", "points.power.wrap_bits: got 32, expected nothing: a float"},
		{"type: uint16, values: [7, 9]", "type: float32, values: [7, 9]", `modbus.faults[0].type: got "float32"`},
		{"type: uint16, values: [7, 9]", "type: uint16, values: []", "modbus.faults[0].values: got none"},
		{"type: uint16, values: [7, 9]", "type: uint16, values: [70000]", "modbus.faults[0].values: got 70000, expected values of 16 bits"},
		{"{block: all, address: 10, type: uint16, values", "{block: some, address: 10, type: uint16, values", `modbus.faults[0].block: got "some"`},
		{"{block: all, address: 12, type: uint32}", "{block: some, address: 12, type: uint32}", `identify.serial.block: got "some"`},
		{"{block: all, address: 12, type: uint32}", "{block: all, address: 29, type: uint32}", "identify.serial.address: got 29"},
		{"{block: all, address: 12, type: uint32}", "{block: all, function: 3, address: 12, type: uint32}", "just the block"},
		{"{block: all, address: 12, type: uint32}", "{block: all, address: 12, type: uint32, optional: true}", "just the block"},
		{"address: 10, count: 20}", "address: 10, count: 20, optional: true}", "expected a block that is not optional"},
		{`expect: ["5"], text: Five`, "text: Five", "identify.model: got 2, expected one way"},
	} {
		changed := strings.Replace(terms, c.old, c.new, 1)
		if changed == terms {
			t.Fatalf("%q is not there", c.old)
		}
		if _, err := def.Parse([]byte(changed)); !errors.Is(err, def.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, expected %q", c.new, err, c.want)
		}
	}
}

// TestDecimalDigits: serial numbers whose digits are four to a register.
func TestDecimalDigits(t *testing.T) {
	const definition = `schema: 1
id: digits
version: 1
name: A meter with a serial number in decimal digits
facts: ["https://example.com/digits"]
protocol: modbus
signed_by: agent
max_power_w: 69000
modbus:
  unit: 1
  blocks:
    - {name: measured, function: 4, address: 0, count: 2}
identify:
  maker: {text: Maker}
  serial: {function: 3, address: 0x1000, type: bcd, count: %d%s}
points:
  import: {block: measured, address: 0, type: uint32, unit: Wh}
tests:
  - name: one
    registers:
      - {function: 4, address: 0, words: "0000 0001"}
    expect: {import_wh: 1, export_wh: null, power_w: null, quality: good, identity: {maker: Maker}}
`
	for _, c := range []struct {
		extra  string
		words  []uint16
		serial string
	}{
		{"", []uint16{0x0023, 0x4711}, "00234711"},
		{", order: little", []uint16{0x2300, 0x1147}, "00234711"},
		{"", []uint16{0, 0, 0}, ""}, // nobody filled it
		{"", []uint16{0xffff, 0xffff}, ""},
		{"", []uint16{0x0023, 0x471a}, ""},
		{`, expect: ["9999"]`, []uint16{0x9999}, "9999"},
	} {
		d, err := def.Parse(fmt.Appendf(nil, definition, len(c.words), c.extra))
		if err != nil {
			t.Fatal(err)
		}
		s, err := d.Survey(t.Context(), func(context.Context, uint8, uint16, uint16) ([]uint16, error) { return c.words, nil })
		if err != nil || s.Identity.Serial != c.serial {
			t.Errorf("%04x%s: got %q and %v, expected %q", c.words, c.extra, s.Identity.Serial, err, c.serial)
		}
	}
	for _, count := range []int{0, 126} {
		if _, err := def.Parse(fmt.Appendf(nil, definition, count, "")); err == nil || !strings.Contains(err.Error(), "identify.serial.type") {
			t.Errorf("%d registers: got %v, expected a complaint about the type", count, err)
		}
	}
}
