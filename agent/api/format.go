package api

import (
	"math/bits"
	"strconv"
	"time"
)

// Signs and the dash as people write them; all of them are one rune wide, so
// that columns stay in line.
const (
	minus   = "−"
	unknown = "–"
	nbsp    = "\u00a0"
)

// abs returns the magnitude of v, which for the smallest int64 is no int64.
func abs(v int64) uint64 {
	if v < 0 {
		return -uint64(v) //nolint:gosec // two's complement is what is wanted
	}
	return uint64(v)
}

// scaled writes v / 10^exp with the given number of decimals, rounded half to
// even, grouped by thousands, with a minus sign only if a digit is left to carry it.
func scaled(v int64, exp, decimals int) string {
	q := roundHalfEven(abs(v), pow10(exp-decimals))
	unit := pow10(decimals)
	out := group(q / unit)
	if decimals > 0 {
		frac := strconv.FormatUint(q%unit, 10)
		for len(frac) < decimals {
			frac = "0" + frac
		}
		out += "." + frac
	}
	if v < 0 && q != 0 {
		return minus + out
	}
	return out
}

func roundHalfEven(v, unit uint64) uint64 {
	q, r := v/unit, v%unit
	// Compared as r against unit-r, since 2*r could overflow.
	if rest := unit - r; r > rest || (r == rest && q%2 == 1) {
		q++
	}
	return q
}

func pow10(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}

// group puts a comma between thousands.
func group(v uint64) string {
	s := strconv.FormatUint(v, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// formatPower writes watts: "840 W", "1.2 kW". The direction is said in words
// beside the number, so the sign is kept only for values that have one.
func formatPower(w *int64) string {
	if w == nil {
		return unknown
	}
	if abs(*w) < 1000 {
		return scaled(*w, 0, 0) + nbsp + "W"
	}
	return scaled(*w, 3, 1) + nbsp + "kW"
}

// formatEnergy writes watt-hours: "840 Wh", "12.40 kWh", "1,204 kWh".
func formatEnergy(wh *int64) string {
	if wh == nil {
		return unknown
	}
	switch magnitude := abs(*wh); {
	case magnitude < 1000:
		return scaled(*wh, 0, 0) + nbsp + "Wh"
	case magnitude < 100_000:
		return scaled(*wh, 3, 2) + nbsp + "kWh"
	default:
		return scaled(*wh, 3, 0) + nbsp + "kWh"
	}
}

// formatPrice writes micro-units per kWh: "14.3 ct", or "0.143 CHF".
func formatPrice(p *int64, currency string) string {
	if p == nil {
		return unknown
	}
	if currency == euro {
		return scaled(*p, 4, 1) + nbsp + "ct"
	}
	return scaled(*p, 6, 3) + nbsp + currency
}

// euro is the one currency the page has a sign and a hundredth for.
const euro = "EUR"

// formatMoney writes micro-units: "€0.42", "−€1.20", "0.42 CHF".
func formatMoney(m *int64, currency string) string {
	if m == nil {
		return unknown
	}
	s := scaled(*m, 6, 2)
	if currency != euro {
		return s + nbsp + currency
	}
	if rest, ok := cutMinus(s); ok {
		return minus + "€" + rest
	}
	return "€" + s
}

// formatSmallMoney writes the money of one interval: "+4.2 ct", "−0.3 ct".
func formatSmallMoney(m *int64, currency string) string {
	if m == nil {
		return unknown
	}
	s := formatPrice(m, currency)
	if _, negative := cutMinus(s); !negative && *m > 0 {
		return "+" + s
	}
	return s
}

func cutMinus(s string) (string, bool) {
	if len(s) >= len(minus) && s[:len(minus)] == minus {
		return s[len(minus):], true
	}
	return s, false
}

// formatShare writes hundredths of a per cent as whole per cents. A share of
// less than nothing or more than all is as good as unknown.
func formatShare(bp *int64) string {
	if bp == nil || *bp < 0 || *bp > fullWidth {
		return unknown
	}
	return scaled(*bp, 2, 0) + nbsp + "%"
}

func formatCount(n *int64) string {
	if n == nil {
		return unknown
	}
	return scaled(*n, 0, 0)
}

// formatAge writes a duration roughly, as a person would: "12 s", "3 min".
func formatAge(d time.Duration) string {
	switch {
	case d < 0:
		return "0" + nbsp + "s"
	case d < 2*time.Minute:
		return strconv.FormatInt(int64(d/time.Second), 10) + nbsp + "s"
	case d < 2*time.Hour:
		return strconv.FormatInt(int64(d/time.Minute), 10) + nbsp + "min"
	case d < 48*time.Hour:
		return strconv.FormatInt(int64(d/time.Hour), 10) + nbsp + "h"
	default:
		return group(uint64(d/(24*time.Hour))) + nbsp + "days"
	}
}

// ratio returns part × scale / whole, rounded down, in 128 bits on the way.
// part must not exceed whole, whole must not be 0.
func ratio(part, whole, scale uint64) uint64 {
	hi, lo := bits.Mul64(part, scale)
	q, _ := bits.Div64(hi, lo, whole)
	return q
}
