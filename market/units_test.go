package market_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// roundDumb is half to even in the words of the definition, on exact fractions.
func roundDumb(q *big.Rat) *big.Int {
	floor := new(big.Int).Div(q.Num(), q.Denom()) // Euclidean: down, as the denominator is positive
	rest := new(big.Rat).Sub(q, new(big.Rat).SetInt(floor))
	switch rest.Cmp(big.NewRat(1, 2)) {
	case -1:
		return floor
	case 1:
		return floor.Add(floor, big.NewInt(1))
	default:
		return floor.Add(floor, big.NewInt(int64(floor.Bit(0))))
	}
}

func TestM1AmountRoundsHalfToEven(t *testing.T) {
	for _, test := range []struct {
		price market.Price
		wh    market.WattHours
		want  market.Money
	}{
		{300_000, 50, 15_000},
		{100_000, 900, 90_000},
		{1, 499, 0},
		{1, 500, 0},
		{1, 501, 1},
		{1, 1500, 2},
		{1, 2500, 2},
		{3, 500, 2},
		{-1, 500, 0},
		{-1, 501, -1},
		{-1, 1500, -2},
		{-1, 2500, -2},
		{0, math.MaxInt64, 0},
		{1000, math.MaxInt64, math.MaxInt64},
		{1000, math.MinInt64, math.MinInt64},
		{-1000, -math.MaxInt64, math.MaxInt64},
		{market.MaxPrice, 1 << 32, 4_722_366_482_869_645_214}, // 2^72 / 1000 = …213.696
	} {
		got, err := market.Amount(test.price, test.wh)
		if err != nil || got != test.want {
			t.Errorf("amount(%d, %d): got %d, %v, want %d", test.price, test.wh, got, err, test.want)
		}
	}
}

func TestM2AmountOverflows(t *testing.T) {
	for _, test := range []struct {
		price market.Price
		wh    market.WattHours
	}{
		{1001, math.MaxInt64},
		{-1001, math.MaxInt64},
		{-1000, math.MinInt64}, // 2^63 is one too many
		{math.MinInt64, math.MinInt64},
		{math.MaxInt64, math.MinInt64},
		{market.MaxPrice, market.MaxTotalWh},
	} {
		if got, err := market.Amount(test.price, test.wh); !errors.Is(err, market.ErrOverflow) {
			t.Errorf("amount(%d, %d): got %d, %v, want an overflow", test.price, test.wh, got, err)
		}
	}
}

// checkAmount compares Amount with exact fractions.
func checkAmount(t interface {
	Helper()
	Fatalf(string, ...any)
}, p, wh int64,
) {
	t.Helper()
	product := new(big.Int).Mul(big.NewInt(p), big.NewInt(wh))
	want := roundDumb(new(big.Rat).SetFrac(product, big.NewInt(1000)))
	got, err := market.Amount(market.Price(p), market.WattHours(wh))
	if want.IsInt64() != (err == nil) || err == nil && int64(got) != want.Int64() || err != nil && !errors.Is(err, market.ErrOverflow) {
		t.Fatalf("amount(%d, %d): got %d, %v, want %v", p, wh, got, err, want)
	}
}

func TestM1AmountIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		checkAmount(t, rapid.Int64().Draw(t, "price"), rapid.Int64().Draw(t, "wh"))
	})
}

func TestM1SmallAmountsAreExact(t *testing.T) {
	for n := int64(-5_000); n <= 5_000; n++ {
		checkAmount(t, n, 1)
	}
	for _, n := range []int64{-1 << 63, -1<<63 + 1, 1<<63 - 1, 1<<63 - 308, 1<<63 - 307} {
		checkAmount(t, n, 1)
	}
}

func FuzzAmount(f *testing.F) {
	for _, v := range []int64{0, 1, -1, 500, 1500, 2500, 1 << 40, -1 << 40, math.MaxInt64, math.MinInt64} {
		f.Add(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(v)), 1500))
		f.Add(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(v)), uint64(v)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) != 16 {
			return
		}
		checkAmount(t, int64(binary.BigEndian.Uint64(data)), int64(binary.BigEndian.Uint64(data[8:])))
	})
}

func TestM1RoundHalfEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		c, d := rapid.Int64().Draw(t, "c"), rapid.Int64().Draw(t, "d")
		e, f := rapid.Int64().Draw(t, "e"), rapid.Int64().Draw(t, "f")
		denominator := rapid.Uint64().Draw(t, "denominator")
		// Halved so that the sum of the products stays within 128 bits.
		got, err := market.RoundHalfEven(market.Mul128(a>>1, b).Add(market.Mul128(c>>2, d)).Sub(market.Mul128(e>>2, f)), denominator)
		sum := new(big.Int).Mul(big.NewInt(a>>1), big.NewInt(b))
		sum.Add(sum, new(big.Int).Mul(big.NewInt(c>>2), big.NewInt(d)))
		sum.Sub(sum, new(big.Int).Mul(big.NewInt(e>>2), big.NewInt(f)))
		if denominator == 0 {
			if !errors.Is(err, market.ErrOverflow) {
				t.Fatalf("dividing by 0: got %d, %v, want an overflow", got, err)
			}
			return
		}
		want := roundDumb(new(big.Rat).SetFrac(sum, new(big.Int).SetUint64(denominator)))
		if want.IsInt64() != (err == nil) || err == nil && got != want.Int64() {
			t.Fatalf("%v / %d: got %d, %v, want %v", sum, denominator, got, err, want)
		}
	})
}

func TestM1Midpoint(t *testing.T) {
	for _, test := range []struct{ a, b, want market.Price }{
		{80_000, 300_000, 190_000},
		{0, 1, 0},
		{1, 2, 2},
		{2, 3, 2},
		{-1, 0, 0},
		{-2, -1, -2},
		{-3, 2, 0},
		{math.MaxInt64, math.MaxInt64, math.MaxInt64},
		{math.MinInt64, math.MinInt64, math.MinInt64},
		{math.MinInt64, math.MaxInt64, 0},
	} {
		if got := market.Midpoint(test.a, test.b); got != test.want {
			t.Errorf("midpoint(%d, %d): got %d, want %d", test.a, test.b, got, test.want)
		}
		if got := market.Midpoint(test.b, test.a); got != test.want {
			t.Errorf("midpoint(%d, %d): got %d, want %d", test.b, test.a, got, test.want)
		}
	}
}

func TestM2AddAndSub(t *testing.T) {
	edges := []int64{0, 1, -1, 2, -2, 1 << 62, -1 << 62, math.MaxInt64 - 1, math.MaxInt64, math.MinInt64, math.MinInt64 + 1}
	check := func(what string, a, b, got int64, err error, want *big.Int) {
		t.Helper()
		if want.IsInt64() != (err == nil) || err == nil && got != want.Int64() || err != nil && !errors.Is(err, market.ErrOverflow) {
			t.Errorf("%d %s %d: got %d, %v, want %v", a, what, b, got, err, want)
		}
	}
	for _, a := range edges {
		for _, b := range edges {
			sum := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
			difference := new(big.Int).Sub(big.NewInt(a), big.NewInt(b))
			w, err := market.WattHours(a).Add(market.WattHours(b))
			check("Wh +", a, b, int64(w), err, sum)
			w, err = market.WattHours(a).Sub(market.WattHours(b))
			check("Wh -", a, b, int64(w), err, difference)
			m, err := market.Money(a).Add(market.Money(b))
			check("money +", a, b, int64(m), err, sum)
			m, err = market.Money(a).Sub(market.Money(b))
			check("money -", a, b, int64(m), err, difference)
		}
	}
}
