package market

import "fmt"

// WattHours is energy in whole Wh.
type WattHours int64

// Price is micro-units of currency per kWh; any sign.
type Price int64

// Money is micro-units of currency; any sign.
type Money int64

const (
	// MaxPrice bounds the size of every price and fee, negative ones too.
	MaxPrice Price = 1 << 40
	// MaxTotalWh bounds the energy of all orders of a market together.
	MaxTotalWh WattHours = 1 << 62
)

// whPerKWh is why a price times Wh is a thousand times the money.
const whPerKWh = 1000

// Amount returns what wh cost at price p, p × wh / 1000 rounded half to even.
// The product is 128 bits wide; money that does not fit is ErrOverflow.
func Amount(p Price, wh WattHours) (Money, error) {
	product := Mul128(int64(p), int64(wh))
	if n, ok := product.narrow(); ok {
		return Money(thousandth(n)), nil
	}
	m, err := RoundHalfEven(product, whPerKWh)
	if err != nil {
		return 0, fmt.Errorf("computing %d micro-units/kWh × %d Wh: %w", p, wh, err)
	}
	return Money(m), nil
}

// Midpoint returns the middle of two prices, rounded half to even.
func Midpoint(a, b Price) Price {
	sum := Mul128(int64(a), 1).Add(Mul128(int64(b), 1))
	// The middle of two int64 fits: the error cannot occur.
	m, _ := RoundHalfEven(sum, 2)
	return Price(m)
}

// Add returns w + x, or ErrOverflow.
func (w WattHours) Add(x WattHours) (WattHours, error) {
	sum, err := addInt64(int64(w), int64(x))
	return WattHours(sum), err
}

// Sub returns w - x, or ErrOverflow.
func (w WattHours) Sub(x WattHours) (WattHours, error) {
	difference, err := subInt64(int64(w), int64(x))
	return WattHours(difference), err
}

// Add returns m + x, or ErrOverflow.
func (m Money) Add(x Money) (Money, error) {
	sum, err := addInt64(int64(m), int64(x))
	return Money(sum), err
}

// Sub returns m - x, or ErrOverflow.
func (m Money) Sub(x Money) (Money, error) {
	difference, err := subInt64(int64(m), int64(x))
	return Money(difference), err
}

func addInt64(a, b int64) (int64, error) {
	sum := a + b
	if (sum > a) != (b > 0) {
		return 0, fmt.Errorf("adding %d and %d: %w", a, b, ErrOverflow)
	}
	return sum, nil
}

func subInt64(a, b int64) (int64, error) {
	difference := a - b
	if (difference < a) != (b > 0) {
		return 0, fmt.Errorf("subtracting %d from %d: %w", b, a, ErrOverflow)
	}
	return difference, nil
}
