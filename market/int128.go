package market

import "math/bits"

// An Int128 is a signed 128-bit integer in two's complement: wide enough for
// any sum of price times energy that a market can hold (2^40 × 2^62, twice).
// The zero value is 0. Add and Sub wrap around like Go's integers; the callers'
// bounds keep them from it.
type Int128 struct {
	hi int64
	lo uint64
}

// Mul128 returns a × b, which always fits.
func Mul128(a, b int64) Int128 {
	hi, lo := bits.Mul64(uint64(a), uint64(b)) //nolint:gosec // two's complement, corrected below
	// As unsigned numbers a negative factor counts 2^64 too much, times the other one.
	return Int128{hi: int64(hi) - (a >> 63 & b) - (b >> 63 & a), lo: lo} //nolint:gosec // the high word, two's complement
}

// Add returns x + y.
func (x Int128) Add(y Int128) Int128 {
	lo, carry := bits.Add64(x.lo, y.lo, 0)
	return Int128{hi: x.hi + y.hi + int64(carry), lo: lo} //nolint:gosec // carry is 0 or 1
}

// Sub returns x - y.
func (x Int128) Sub(y Int128) Int128 {
	lo, borrow := bits.Sub64(x.lo, y.lo, 0)
	return Int128{hi: x.hi - y.hi - int64(borrow), lo: lo} //nolint:gosec // borrow is 0 or 1
}

// abs returns |x| as two unsigned words, and whether x is negative.
func (x Int128) abs() (hi, lo uint64, negative bool) {
	if x.hi >= 0 {
		return uint64(x.hi), x.lo, false
	}
	lo, borrow := bits.Sub64(0, x.lo, 0)
	hi, _ = bits.Sub64(0, uint64(x.hi), borrow) //nolint:gosec // two's complement
	return hi, lo, true
}

// narrow returns x as an int64, and whether it fits.
func (x Int128) narrow() (int64, bool) {
	n := int64(x.lo) //nolint:gosec // the low word, two's complement
	return n, n>>63 == x.hi
}

// RoundHalfEven returns numerator / denominator rounded to the nearest whole
// number, and to the even one of two that are equally near. It is the only
// rounding of money and prices (M1). A quotient that does not fit, or a
// denominator of 0, is ErrOverflow.
func RoundHalfEven(numerator Int128, denominator uint64) (int64, error) {
	hi, lo, negative := numerator.abs()
	if hi >= denominator {
		return 0, ErrOverflow
	}
	quotient, rest := bits.Div64(hi, lo, denominator)
	// rest > denominator/2, put so that doubling cannot overflow.
	other := denominator - rest
	if rest > other || rest == other && quotient&1 == 1 {
		if quotient++; quotient == 0 {
			return 0, ErrOverflow
		}
	}
	most := uint64(1<<63 - 1)
	if negative {
		most++
	}
	if quotient > most {
		return 0, ErrOverflow
	}
	result := int64(quotient) //nolint:gosec // 2^63 turns into the smallest int64, whose negation it is too
	if negative {
		result = -result
	}
	return result, nil
}

// thousandth is RoundHalfEven of n and 1000, for the many amounts of a clearing:
// by a constant the compiler multiplies instead of dividing, and there is no
// branch, because remainders are as good as random.
func thousandth(n int64) int64 {
	sign := n >> 63                                  // -1 or 0; (x ^ -1) + 1 is -x
	up := uint64((n^sign)-sign) + whPerKWh/2         //nolint:gosec // the size of n: 2^63 fits
	quotient := up / whPerKWh                        // rounded half up
	quotient -= quotient & ((up%whPerKWh - 1) >> 63) // to even, if that was exactly half
	return (int64(quotient) ^ sign) - sign           //nolint:gosec // below 2^63 / 999
}
