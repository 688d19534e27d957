package market

import (
	"fmt"
	"math/bits"
)

// Sharing says how RuleSharing prices and shares.
type Sharing struct {
	// Price is the community's price; nil for the midpoint of the grid's two
	// prices. An island has no grid and needs one.
	Price *Price
	// Keys is what all members' keys come to, those who have no bid in this market
	// included; 0 if only the bids' own count.
	Keys int64
}

// sharing clears by R4's sharing, as the laws on energy sharing have it. Everybody
// trades at one price that is known before. Of the bids all steps at that price or
// dearer take part, of the offers all steps at that price or cheaper. The grid takes
// no part: what is not shared is imbalance, bought and sold at the tariff.
//
// If no bid has a Key, the bids share what is offered pro rata to what they ask for,
// which metered is their consumption; if more is offered than that, each gets all.
// If some have, the keys are static shares: each bid is due that part of all that is
// offered that its key is of all keys, and gets it up to what it asks for. What it
// leaves stays with the offers. What is shared is taken from the offers pro rata to
// what they have. All shares are rounded down, and what that leaves goes one Wh each
// by largest remainder, then in the tie order of R3. Two bids of one household that
// follow each other count as one, with the first one's key.
//
// It holds: what bids pay is what offers are paid, but for rounding; nobody pays
// more than their limit or is paid less; nobody gets more than the order, and with
// keys nobody more than 1 Wh above the due part. No limit but whether it takes part
// matters: nobody gains by naming another than the true one. A price within the
// tariff leaves nobody worse off than alone (R9).
//
// The network is one without limits and fees: the laws settle the network's charges
// apart, by their own tariff.
func (c *Clearer) sharing(m *Market) error {
	if err := checkBare(m); err != nil {
		return err
	}
	price, err := m.sharingPrice()
	if err != nil {
		return err
	}
	c.announce(m, price, price, price)
	bids, offers := takers(m, Bid, price), takers(m, Offer, price)
	present, all, err := m.keys(bids)
	if err != nil {
		return err
	}
	offered := total(offers)
	var got []WattHours
	if all > 0 {
		got = c.divide(m, bids, func(l *lot) WattHours { return WattHours(m.Orders[l.order].Key) }, part(offered, present, all))
	} else {
		got = c.divide(m, bids, func(l *lot) WattHours { return l.wh }, min(offered, total(bids)))
	}
	var shared WattHours
	for i := range bids {
		got[i] = min(got[i], bids[i].wh)
		shared += got[i]
	}
	c.grant(m, bids, got, price)
	got = c.divide(m, offers, func(l *lot) WattHours { return l.wh }, shared)
	c.grant(m, offers, got, price)
	return c.conclude(m)
}

// sharingPrice returns the community's price.
func (m *Market) sharingPrice() (Price, error) {
	switch p := m.Sharing.Price; {
	case p != nil && (*p < -MaxPrice || *p > MaxPrice):
		return 0, fmt.Errorf("sharing: price: got %d, want %d to %d: %w", *p, -MaxPrice, MaxPrice, ErrPriceOutOfBounds)
	case p != nil:
		return *p, nil
	case m.Tariff == nil:
		return 0, fmt.Errorf("sharing: price: got none on an island, want one, as there is no tariff to take the middle of: %w", ErrBadTariff)
	default:
		return Midpoint(m.Tariff.FeedIn(), m.Tariff.Retail()), nil
	}
}

// keys returns what the bids' keys come to, and what all keys do; 0 for no keys.
func (m *Market) keys(bids []lot) (present, all int64, err error) {
	for i := range bids {
		o := &m.Orders[bids[i].order]
		if o.Key < 0 || o.Key > int64(MaxTotalWh)-present {
			return 0, 0, o.fieldError("key", ErrBadQuantity, "got %d after %d of other bids, want 0 or more and at most %d in all",
				o.Key, present, MaxTotalWh)
		}
		present += o.Key
	}
	switch all = m.Sharing.Keys; {
	case all == 0:
		return present, present, nil
	case all < present || all > int64(MaxTotalWh):
		return 0, 0, fmt.Errorf("sharing: keys: got %d, want 0, or at least the bids' %d and at most %d: %w", all, present, MaxTotalWh, ErrBadQuantity)
	default:
		return present, all, nil
	}
}

// takers returns one lot for each household's part of a side, or each order that
// has a name, with the Wh that take part at a price, 0 included.
func takers(m *Market, side Side, price Price) []lot {
	var lots []lot
	for i := range m.Orders {
		o := &m.Orders[i]
		if o.Side != side {
			continue
		}
		if i == 0 || !o.follows(&m.Orders[i-1]) {
			lots = append(lots, lot{order: int32(i)})
		}
		lots[len(lots)-1].wh += o.takes(price)
	}
	return lots
}

// follows says whether two orders are one household's on one side (see Metered.Orders).
func (o *Order) follows(before *Order) bool {
	return o.ID == "" && before.ID == "" && o.Household == before.Household && o.Side == before.Side
}

// takes returns the Wh of the steps that a price is good enough for.
func (o *Order) takes(price Price) WattHours {
	var wh WattHours
	for _, s := range o.Steps {
		if o.Side == Bid && s.Price >= price || o.Side == Offer && s.Price <= price {
			wh += s.WattHours
		}
	}
	return wh
}

// part returns wh × share / whole, rounded down, for 0 ≤ share ≤ whole.
func part(wh WattHours, share, whole int64) WattHours {
	hi, lo := bits.Mul64(uint64(wh), uint64(share))  //nolint:gosec // neither is negative
	quotient, _ := bits.Div64(hi, lo, uint64(whole)) //nolint:gosec // > 0
	return WattHours(quotient)                       //nolint:gosec // at most wh
}

// divide returns for each lot its share of wh by weight.
func (c *Clearer) divide(m *Market, lots []lot, weight func(*lot) WattHours, wh WattHours) []WattHours {
	g := &c.margin
	g.seats, g.rivals = g.seats[:0], g.rivals[:0]
	var whole WattHours
	for i := range lots {
		g.seats = append(g.seats, seat{order: lots[i].order})
		g.rivals = append(g.rivals, rival{wh: weight(&lots[i]), seat: int32(i)})
		whole += g.rivals[i].wh
	}
	got := make([]WattHours, len(lots))
	if whole == 0 {
		return got
	}
	g.divide(m, wh, whole)
	for i := range got {
		got[i] = g.rivals[i].got
	}
	return got
}

// grant allocates to each lot's orders in turn.
func (c *Clearer) grant(m *Market, lots []lot, got []WattHours, price Price) {
	for i := range lots {
		for at, left := lots[i].order, got[i]; left > 0; at++ {
			taken := min(left, m.Orders[at].takes(price))
			c.result.Allocations[at].WattHours = taken
			left -= taken
		}
	}
}
