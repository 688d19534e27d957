package def

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

var (
	errNotNumber  = errors.New("not a number")
	errOutOfRange = errors.New("out of range")
)

// maxDigits bounds the text of a number; 2^64 has 20 digits.
const maxDigits = 40

// decimal is (-1)^neg × mantissa × 10^exp, exactly.
type decimal struct {
	neg      bool
	mantissa *big.Int
	exp      int
}

// parseDecimal reads a JSON number without going through floating point.
func parseDecimal(text string) (decimal, error) {
	if len(text) == 0 || len(text) > maxDigits {
		return decimal{}, fmt.Errorf("got %d characters: %w", len(text), errNotNumber)
	}
	var d decimal
	body, exponent, hasExp := strings.Cut(strings.ToLower(text), "e")
	if hasExp {
		e, err := strconv.Atoi(exponent)
		if err != nil || e < -50 || e > 50 {
			return decimal{}, fmt.Errorf("got exponent %q: %w", exponent, errNotNumber)
		}
		d.exp = e
	}
	body, d.neg = strings.CutPrefix(body, "-")
	whole, fraction, dot := strings.Cut(body, ".")
	if whole == "" || (dot && fraction == "") || strings.Trim(whole+fraction, "0123456789") != "" {
		return decimal{}, fmt.Errorf("got %q: %w", text, errNotNumber)
	}
	d.mantissa, _ = new(big.Int).SetString(whole+fraction, 10)
	d.exp -= len(fraction)
	return d, nil
}

// ratio returns numerator and denominator of |d| × 10^shift.
func (d decimal) ratio(shift int) (*big.Int, *big.Int) {
	num, den := new(big.Int).Set(d.mantissa), big.NewInt(1)
	if e := d.exp + shift; e >= 0 {
		num.Mul(num, pow10(e))
	} else {
		den.Set(pow10(-e))
	}
	return num, den
}

func pow10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// counter returns d × 10^shift / per as a counter, rounded to the nearest or with the unit that is not yet full cut off.
func (d decimal) counter(shift int, per int64, nearest bool) (uint64, error) {
	if d.neg && d.mantissa.Sign() != 0 {
		return 0, fmt.Errorf("counter is negative: %w", errOutOfRange)
	}
	num, den := d.ratio(shift)
	den.Mul(den, big.NewInt(per))
	if nearest {
		num = nearestQuo(num, den)
	} else {
		num.Quo(num, den)
	}
	if !num.IsInt64() {
		return 0, fmt.Errorf("counter is above 2^63: %w", errOutOfRange)
	}
	return num.Uint64(), nil
}

// nearestQuo is num / den rounded to the nearest, half to even.
func nearestQuo(num, den *big.Int) *big.Int {
	quo, rest := new(big.Int).QuoRem(num, den, new(big.Int))
	switch rest.Lsh(rest, 1).Cmp(den) {
	case 1:
		quo.Add(quo, big.NewInt(1))
	case 0:
		if quo.Bit(0) == 1 {
			quo.Add(quo, big.NewInt(1))
		}
	}
	return quo
}

// signed returns d × 10^shift rounded to the nearest, half to even.
func (d decimal) signed(shift int) (int64, error) {
	num, den := d.ratio(shift)
	quo := nearestQuo(num, den)
	if d.neg {
		quo.Neg(quo)
	}
	if !quo.IsInt64() {
		return 0, fmt.Errorf("value does not fit 64 bits: %w", errOutOfRange)
	}
	return quo.Int64(), nil
}

// floatDecimal is the exact value of a float: every one is an integer divided by a power of two, and so a finite decimal
// too.
func floatDecimal(v float64) (decimal, error) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return decimal{}, fmt.Errorf("got %v: %w", v, errNotNumber)
	}
	frac, exp := math.Frexp(math.Abs(v))
	mantissa := big.NewInt(int64(math.Ldexp(frac, 53)))
	exp -= 53
	if zeros := int(mantissa.TrailingZeroBits()); zeros > 0 {
		mantissa.Rsh(mantissa, uint(zeros))
		exp += zeros
	}
	d := decimal{neg: math.Signbit(v), mantissa: mantissa}
	if mantissa.Sign() == 0 {
		return d, nil
	}
	if exp >= 0 {
		mantissa.Lsh(mantissa, uint(exp))
		return d, nil
	}
	// m / 2^k = m × 5^k / 10^k
	mantissa.Mul(mantissa, new(big.Int).Exp(big.NewInt(5), big.NewInt(int64(-exp)), nil))
	d.exp = exp
	return d, nil
}

// String is the number in full, without an exponent.
func (d decimal) String() string {
	digits := d.mantissa.String()
	if d.exp > 0 {
		if digits != "0" {
			digits += strings.Repeat("0", d.exp)
		}
	} else if d.exp < 0 {
		if missing := 1 - d.exp - len(digits); missing > 0 {
			digits = strings.Repeat("0", missing) + digits
		}
		digits = digits[:len(digits)+d.exp] + "." + digits[len(digits)+d.exp:]
	}
	if d.neg && d.mantissa.Sign() != 0 {
		return "-" + digits
	}
	return digits
}

// maxStepWh bounds a resolution: a float that steps coarser than this is no counter of a home.
const maxStepWh = 1e15

// floatStepWh is the distance from a float to its upper neighbour, × 10^shift, in whole units rounded up.
func floatStepWh(distance float64, shift int) uint64 {
	step := distance * math.Pow10(shift)
	if !(step > 1) {
		return 1
	}
	if step > maxStepWh {
		return maxStepWh
	}
	return uint64(math.Ceil(step))
}

// wrapAt is 2^n × 10^shift in whole units, 0 if that is nothing sensible.
func wrapAt(n, shift int) uint64 {
	if n < 8 || n > 63 || shift > 18 || shift < -18 {
		return 0
	}
	v := uint64(1) << n
	for ; shift > 0; shift-- {
		hi, lo := bits.Mul64(v, 10)
		if hi != 0 || lo > math.MaxInt64 {
			return 0
		}
		v = lo
	}
	for ; shift < 0; shift++ {
		v /= 10
	}
	return v
}

// plus adds exactly.
func (d decimal) plus(o decimal) decimal {
	if d.exp < o.exp {
		d, o = o, d
	}
	a := new(big.Int).Mul(d.mantissa, pow10(d.exp-o.exp))
	b := new(big.Int).Set(o.mantissa)
	if d.neg {
		a.Neg(a)
	}
	if o.neg {
		b.Neg(b)
	}
	a.Add(a, b)
	neg := a.Sign() < 0
	return decimal{neg: neg, mantissa: a.Abs(a), exp: o.exp}
}
