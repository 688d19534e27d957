package market

import "fmt"

// payAsBid clears by R4's pay-as-bid. Who trades how much is R3's answer, and so
// are the nodes' prices. What they pay follows from their own limits: the accepted
// bids from the dearest down meet the accepted offers from the cheapest up, Wh by
// Wh, and each pair trades at the midpoint of its two limits, half to even as every
// midpoint of R3. What is left then meets the grid, at the grid's own price. At
// equal price the tie order of R3 decides who comes first.
//
// An order's amount is the exact sum over its pairs, rounded once; its price is the
// mean of theirs, or R3's if it has none.
//
// It holds: M3 to M5, as R3's allocation is the largest of most welfare; nobody
// pays more than their limit or is paid less; what bids pay is what offers are paid,
// but for the grid's part and rounding. It does not hold that naming one's true
// limit is best: a bid that is sure to be accepted gains by naming less.
func (c *Clearer) payAsBid(m *Market) error {
	if err := checkBare(m); err != nil {
		return err
	}
	if err := c.uniform(m); err != nil {
		return err
	}
	bids, offers := c.accepted(m, Bid), c.accepted(m, Offer)
	sums := make([]Int128, len(m.Orders)) // of price × Wh
	for len(bids) > 0 && len(offers) > 0 {
		b, o := &bids[0], &offers[0]
		wh := min(b.wh, o.wh)
		value := Mul128(int64(Midpoint(b.price, o.price)), int64(wh))
		sums[b.order] = sums[b.order].Add(value)
		sums[o.order] = sums[o.order].Add(value)
		if b.wh -= wh; b.wh == 0 {
			bids = bids[1:]
		}
		if o.wh -= wh; o.wh == 0 {
			offers = offers[1:]
		}
	}
	// Without a grid both are empty now.
	for i := range bids {
		sums[bids[i].order] = sums[bids[i].order].Add(Mul128(int64(m.Tariff.Retail()), int64(bids[i].wh)))
	}
	for i := range offers {
		sums[offers[i].order] = sums[offers[i].order].Add(Mul128(int64(m.Tariff.FeedIn()), int64(offers[i].wh)))
	}
	for i := range c.result.Allocations {
		a := &c.result.Allocations[i]
		if a.WattHours == 0 {
			continue
		}
		amount, err := RoundHalfEven(sums[i], whPerKWh)
		if err != nil {
			return fmt.Errorf("adding up the pairs of order %q: %w", m.Orders[i].name(), err)
		}
		// A mean of prices fits: the error cannot occur.
		mean, _ := RoundHalfEven(sums[i], uint64(a.WattHours)) //nolint:gosec // > 0
		a.Amount, a.Price = Money(amount), Price(mean)
	}
	return nil
}

// accepted returns what R3 has allocated on one side, in merit order.
func (c *Clearer) accepted(m *Market, side Side) []lot {
	var lots []lot
	for i := range m.Orders {
		o := &m.Orders[i]
		if o.Side != side {
			continue
		}
		left := c.result.Allocations[i].WattHours
		for _, s := range o.Steps {
			if taken := min(left, s.WattHours); taken > 0 {
				lots = append(lots, lot{order: int32(i), price: s.Price, wh: taken})
				left -= taken
			}
		}
	}
	c.lineUp(m, lots, side)
	return lots
}
