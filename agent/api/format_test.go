package api

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func v(n int64) *int64 { return &n }

func TestFormat(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{formatPrice(v(143_000), "EUR"), "14.3 ct"},
		{formatPrice(v(143_500), "EUR"), "14.4 ct"}, // half to even, up
		{formatPrice(v(142_500), "EUR"), "14.2 ct"}, // half to even, down
		{formatPrice(v(-52_000), "EUR"), "−5.2 ct"},
		{formatPrice(v(0), "EUR"), "0.0 ct"},
		{formatPrice(v(143_000), "CHF"), "0.143 CHF"},
		{formatPrice(nil, "EUR"), "–"},
		{formatMoney(v(420_000), "EUR"), "€0.42"},
		{formatMoney(v(-1_204_999), "EUR"), "−€1.20"},
		{formatMoney(v(-4_999), "EUR"), "€0.00"}, // no minus before nothing
		{formatMoney(v(-5_001), "EUR"), "−€0.01"},
		{formatMoney(v(12_345_678_900_000), "EUR"), "€12,345,678.90"},
		{formatMoney(v(math.MinInt64), "EUR"), "−€9,223,372,036,854.78"},
		{formatMoney(v(420_000), "CHF"), "0.42 CHF"},
		{formatMoney(v(-420_000), "CHF"), "−0.42 CHF"},
		{formatMoney(nil, "EUR"), "–"},
		{formatSmallMoney(v(42_000), "EUR"), "+4.2 ct"},
		{formatSmallMoney(v(-42_000), "EUR"), "−4.2 ct"},
		{formatSmallMoney(v(0), "EUR"), "0.0 ct"},
		{formatSmallMoney(nil, "EUR"), "–"},
		{formatPower(v(840)), "840 W"},
		{formatPower(v(999)), "999 W"},
		{formatPower(v(1000)), "1.0 kW"},
		{formatPower(v(-1_250)), "−1.2 kW"},
		{formatPower(v(math.MinInt64)), "−9,223,372,036,854,775.8 kW"},
		{formatPower(v(0)), "0 W"},
		{formatPower(nil), "–"},
		{formatEnergy(v(840)), "840 Wh"},
		{formatEnergy(v(12_400)), "12.40 kWh"},
		{formatEnergy(v(1_204_310)), "1,204 kWh"},
		{formatEnergy(nil), "–"},
		{formatShare(v(8350)), "84 %"},
		{formatShare(v(8250)), "82 %"},
		{formatShare(v(10_000)), "100 %"},
		{formatShare(v(10_001)), "–"},
		{formatShare(v(-1)), "–"},
		{formatShare(nil), "–"},
		{formatCount(v(math.MaxInt64)), "9,223,372,036,854,775,807"},
		{formatAge(-time.Second), "0 s"},
		{formatAge(119 * time.Second), "119 s"},
		{formatAge(119 * time.Minute), "119 min"},
		{formatAge(47 * time.Hour), "47 h"},
		{formatAge(math.MaxInt64), "106,751 days"},
		{percent(0), "0%"},
		{percent(5), "0.05%"},
		{percent(1830), "18.3%"},
		{percent(fullWidth), "100%"},
	} {
		if got := strings.ReplaceAll(c.got, nbsp, " "); got != c.want {
			t.Errorf("got %q, expected %q", got, c.want)
		}
	}
}

// scaled is compared with exact rational arithmetic.
func TestScaledIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64().Draw(t, "n")
		exp := rapid.IntRange(0, 6).Draw(t, "exp")
		decimals := rapid.IntRange(0, exp).Draw(t, "decimals")
		got := strings.ReplaceAll(strings.Replace(scaled(n, exp, decimals), minus, "-", 1), ",", "")
		shown, ok := new(big.Rat).SetString(got)
		if !ok {
			t.Fatalf("%q is no number", got)
		}
		exact := new(big.Rat).SetFrac(big.NewInt(n), new(big.Int).SetUint64(pow10(exp)))
		off := new(big.Rat).Abs(new(big.Rat).Sub(shown, exact))
		half := new(big.Rat).SetFrac(big.NewInt(1), new(big.Int).SetUint64(2*pow10(decimals)))
		switch off.Cmp(half) {
		case 1:
			t.Fatalf("scaled(%d, %d, %d) = %q is off by %s", n, exp, decimals, got, off)
		case 0:
			if last := got[len(got)-1]; (last-'0')%2 != 0 {
				t.Fatalf("scaled(%d, %d, %d) = %q: a half must round to even", n, exp, decimals, got)
			}
		}
		if strings.HasPrefix(got, "-") && shown.Sign() == 0 {
			t.Fatalf("scaled(%d, %d, %d) = %q: a minus before nothing", n, exp, decimals, got)
		}
	})
}

func TestSaturatingArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		clamp := func(x *big.Int) int64 {
			switch {
			case x.Cmp(big.NewInt(math.MaxInt64)) > 0:
				return math.MaxInt64
			case x.Cmp(big.NewInt(math.MinInt64)) < 0:
				return math.MinInt64
			}
			return x.Int64()
		}
		if got, want := saturatingAdd(a, b), clamp(new(big.Int).Add(big.NewInt(a), big.NewInt(b))); got != want {
			t.Fatalf("%d + %d: got %d, expected %d", a, b, got, want)
		}
		if got, want := saturatingSub(a, b), clamp(new(big.Int).Sub(big.NewInt(a), big.NewInt(b))); got != want {
			t.Fatalf("%d − %d: got %d, expected %d", a, b, got, want)
		}
	})
}
