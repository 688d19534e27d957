package market_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/commonwatt/commonwatt/market"
)

// steps reads "price:wh" pairs in a row.
func steps(numbers ...int64) []market.Step {
	var s []market.Step
	for i := 0; i+1 < len(numbers); i += 2 {
		s = append(s, market.Step{Price: market.Price(numbers[i]), WattHours: market.WattHours(numbers[i+1])})
	}
	return s
}

// rising returns n steps of 1 Wh at the prices 1 to n.
func rising(n int) []market.Step {
	var s []market.Step
	for i := range n {
		s = append(s, market.Step{Price: market.Price(i + 1), WattHours: 1})
	}
	return s
}

func TestR2OrderValidate(t *testing.T) {
	bounds := market.OrderBounds{MinPrice: -10, MaxPrice: 100, MaxQuantity: 1000}
	for _, test := range []struct {
		name  string
		side  market.Side
		steps []market.Step
		field string
		want  error
	}{
		{"one step", market.Bid, steps(50, 1), "", nil},
		{"falling bid", market.Bid, steps(100, 500, -10, 500), "", nil},
		{"rising offer", market.Offer, steps(-10, 500, 100, 500), "", nil},
		{"16 steps", market.Offer, rising(16), "", nil},
		{"no side", 0, steps(50, 1), "side", market.ErrBadSide},
		{"third side", 3, steps(50, 1), "side", market.ErrBadSide},
		{"no step", market.Bid, nil, "steps", market.ErrTooManySteps},
		{"17 steps", market.Offer, rising(17), "steps", market.ErrTooManySteps},
		{"rising bid", market.Bid, steps(50, 1, 51, 1), "steps[1].price", market.ErrStepsUnordered},
		{"falling offer", market.Offer, steps(50, 1, 60, 1, 59, 1), "steps[2].price", market.ErrStepsUnordered},
		{"level bid", market.Bid, steps(50, 1, 50, 1), "steps[1].price", market.ErrStepsUnordered},
		{"level offer", market.Offer, steps(50, 1, 50, 1), "steps[1].price", market.ErrStepsUnordered},
		{"zero quantity", market.Bid, steps(50, 1, 40, 0), "steps[1].wh", market.ErrBadQuantity},
		{"negative quantity", market.Bid, steps(50, -1), "steps[0].wh", market.ErrBadQuantity},
		{"above the fuse", market.Bid, steps(50, 600, 40, 401), "steps[1].wh", market.ErrBadQuantity},
		{"quantities that wrap", market.Bid, steps(50, 1, 40, 1<<63-1), "steps[1].wh", market.ErrBadQuantity},
		{"too cheap", market.Offer, steps(-11, 1), "steps[0].price", market.ErrPriceOutOfBounds},
		{"too dear", market.Bid, steps(101, 1), "steps[0].price", market.ErrPriceOutOfBounds},
	} {
		t.Run(test.name, func(t *testing.T) {
			order := market.Order{ID: "o1", Side: test.side, Steps: test.steps}
			err := order.Validate(bounds)
			checkFieldError(t, err, "order", "o1", test.field, test.want)
		})
	}
}

// checkFieldError checks that an error is a FieldError about that field, or nil
// if want is.
func checkFieldError(t *testing.T, err error, of, id, field string, want error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
		return
	}
	var got *market.FieldError
	if !errors.As(err, &got) || !errors.Is(err, want) {
		t.Fatalf("got %v, want a field error for %v", err, want)
	}
	if got.Of != of || got.ID != id || got.Field != field {
		t.Errorf("got %s %q, field %q, want %s %q, field %q", got.Of, got.ID, got.Field, of, id, field)
	}
}

// On the ledger an order has no id: errors name household and side.
func TestR2OrderErrorNamesHousehold(t *testing.T) {
	order := market.Order{Household: market.HouseholdID{0xab}, Side: market.Offer, Steps: steps(5, 0)}
	err := order.Validate(market.WidestOrderBounds())
	want := `order "ab000000000000000000000000000000 offer": steps[0].wh: got 0 after 0, ` +
		`want at least 1 and at most 4611686018427387904 in all: bad quantity`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestR2Crossed(t *testing.T) {
	for _, test := range []struct {
		bid, offer []market.Step
		want       bool
	}{
		{steps(100, 1), steps(101, 1), false},
		{steps(100, 1), steps(100, 1), true},
		{steps(100, 1, 50, 1), steps(60, 1, 200, 1), true},
		{steps(100, 1, 50, 1), steps(101, 1, 200, 1), false},
		{nil, steps(1, 1), false},
		{steps(1, 1), nil, false},
	} {
		bid, offer := market.Order{Side: market.Bid, Steps: test.bid}, market.Order{Side: market.Offer, Steps: test.offer}
		if got := market.Crossed(bid, offer); got != test.want {
			t.Errorf("bid %v, offer %v: got %v, want %v", test.bid, test.offer, got, test.want)
		}
	}
}

func TestSideText(t *testing.T) {
	for text, side := range map[string]market.Side{"bid": market.Bid, "offer": market.Offer} {
		var got market.Side
		if err := got.UnmarshalText([]byte(text)); err != nil || got != side {
			t.Errorf("reading %q: got %v, %v, want %d", text, got, err, side)
		}
		if written, err := side.MarshalText(); err != nil || string(written) != text {
			t.Errorf("writing %d: got %q, %v, want %q", side, written, err, text)
		}
	}
	for _, text := range []string{"", "Bid", "ask", "offer "} {
		if err := new(market.Side).UnmarshalText([]byte(text)); !errors.Is(err, market.ErrBadSide) {
			t.Errorf("reading %q: got %v, want %v", text, err, market.ErrBadSide)
		}
	}
	if _, err := market.Side(3).MarshalText(); !errors.Is(err, market.ErrBadSide) {
		t.Errorf("writing side 3: got %v, want %v", err, market.ErrBadSide)
	}
	if got := fmt.Sprint(market.Side(3)); got != "side(3)" {
		t.Errorf("printing side 3: got %q", got)
	}
}
