package market

import "fmt"

// MaxSteps is the largest number of steps in an order.
const MaxSteps = 16

// Side says whether an order buys or sells.
type Side uint8

// The sides. Their numbers are part of the tie order of R3.
const (
	Bid   Side = 1
	Offer Side = 2
)

// String returns "bid" or "offer".
func (s Side) String() string {
	switch s {
	case Bid:
		return "bid"
	case Offer:
		return "offer"
	default:
		return fmt.Sprintf("side(%d)", uint8(s))
	}
}

// MarshalText returns "bid" or "offer", or ErrBadSide.
func (s Side) MarshalText() ([]byte, error) {
	if s != Bid && s != Offer {
		return nil, fmt.Errorf("writing side: got %d, want %d (bid) or %d (offer): %w", uint8(s), Bid, Offer, ErrBadSide)
	}
	return []byte(s.String()), nil
}

// UnmarshalText reads "bid" or "offer", or fails with ErrBadSide.
func (s *Side) UnmarshalText(text []byte) error {
	switch string(text) {
	case "bid":
		*s = Bid
	case "offer":
		*s = Offer
	default:
		return fmt.Errorf("reading side: got %q, want %q or %q: %w", text, "bid", "offer", ErrBadSide)
	}
	return nil
}

// A Step of a bid is "this much, if the price is at most"; of an offer, "this
// much, if at least".
type Step struct {
	Price     Price
	WattHours WattHours // > 0
}

// An Order is a household's curve for one interval, at the node it is connected to.
type Order struct {
	// ID names the order in a market file, where it stands for household and
	// side in the tie order. It is empty on the ledger, where those two name it.
	ID        string
	Household HouseholdID
	Node      string
	Side      Side
	Steps     []Step // a bid's prices fall, an offer's rise
	Key       int64  // a bid's static share, at least 0; only RuleSharing looks at it, and at no offer's
}

// name is how errors call the order.
func (o *Order) name() string {
	if o.ID != "" {
		return o.ID
	}
	return o.Household.String() + " " + o.Side.String()
}

// OrderBounds are a community's limits on an order; all are inclusive.
type OrderBounds struct {
	MinPrice, MaxPrice Price
	MaxQuantity        WattHours // all steps together, from the connection's fuse
}

// WidestOrderBounds returns the bounds that the arithmetic itself sets.
func WidestOrderBounds() OrderBounds {
	return OrderBounds{MinPrice: -MaxPrice, MaxPrice: MaxPrice, MaxQuantity: MaxTotalWh}
}

// Validate checks the order by R2: side, 1 to MaxSteps steps, quantities above
// 0 and together within bounds, prices within bounds and strictly falling (bid)
// or rising (offer). An error is a *FieldError. Whether the node exists and the
// household may order there is not known here.
func (o *Order) Validate(b OrderBounds) error {
	if err := o.check(b); err != nil {
		return err
	}
	for i := 1; i < len(o.Steps); i++ {
		if o.Steps[i].Price == o.Steps[i-1].Price {
			return o.fieldError(fmt.Sprintf("steps[%d].price", i), ErrStepsUnordered,
				"got %d twice, want one step a price", o.Steps[i].Price)
		}
	}
	return nil
}

// check is Validate but for equal neighbours, which a market file may have.
func (o *Order) check(b OrderBounds) error {
	if o.Side != Bid && o.Side != Offer {
		return o.fieldError("side", ErrBadSide, "got %d, want %d (bid) or %d (offer)", uint8(o.Side), Bid, Offer)
	}
	if len(o.Steps) < 1 || len(o.Steps) > MaxSteps {
		return o.fieldError("steps", ErrTooManySteps, "got %d, want 1 to %d", len(o.Steps), MaxSteps)
	}
	var total WattHours
	last := o.Steps[0].Price
	for i, s := range o.Steps {
		if s.Price < b.MinPrice || s.Price > b.MaxPrice {
			return o.fieldError(fmt.Sprintf("steps[%d].price", i), ErrPriceOutOfBounds,
				"got %d, want %d to %d", s.Price, b.MinPrice, b.MaxPrice)
		}
		if o.Side == Bid && s.Price > last || o.Side == Offer && s.Price < last {
			return o.fieldError(fmt.Sprintf("steps[%d].price", i), ErrStepsUnordered,
				"got %d after %d, want a bid's prices to fall and an offer's to rise", s.Price, last)
		}
		if s.WattHours <= 0 || s.WattHours > b.MaxQuantity-total {
			return o.fieldError(fmt.Sprintf("steps[%d].wh", i), ErrBadQuantity,
				"got %d after %d, want at least 1 and at most %d in all", s.WattHours, total, b.MaxQuantity)
		}
		last = s.Price
		total += s.WattHours
	}
	return nil
}

func (o *Order) fieldError(field string, cause error, format string, args ...any) error {
	return &FieldError{Of: "order", ID: o.name(), Field: field, Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), cause)}
}

// Crossed reports whether a household's bid and offer for one interval would
// trade with each other: unless every bid price is below every offer price.
func Crossed(bid, offer Order) bool {
	for _, b := range bid.Steps {
		for _, o := range offer.Steps {
			if b.Price >= o.Price {
				return true
			}
		}
	}
	return false
}
