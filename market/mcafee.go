package market

import (
	"fmt"
	"slices"
)

// mcAfee clears by R4's trade reduction, the idea of R. P. McAfee (A dominant
// strategy double auction, 1992) carried over to orders of any quantity as
// P. Huang, A. Scheller-Wolf and K. Sycara did (Design of a multi-unit double
// auction e-market, 2002), with another way of rationing. The grid takes no part:
// what is not traded is imbalance.
//
// Bids are lined up from the dearest down and offers from the cheapest up, equals
// in the tie order of R3, and matched Wh by Wh as long as a bid's limit is at least
// the offer's. The last bid and the last offer that trade so do not trade in the
// end, but make the prices: every bid before pays the limit of that bid, every offer
// before is paid the limit of that offer. If the bids before want more than the
// offers before have, or the other way round, the longer side is rationed evenly:
// each gets what it asked for, but at most a level that is the same for all, and
// the Wh that the level leaves over go one each in the tie order. The difference of
// the two prices goes to the cooperative.
//
// It holds:
//   - Nobody pays more than their limit or is paid less: those before the last are
//     at least as dear, or cheap.
//   - What bids pay is what offers are paid and the surplus, which is never negative:
//     the last bid and the last offer would have traded.
//   - Truthful in price: whatever the others do, no household gains by naming another
//     limit than its own. Among those who trade, neither who they are, nor the
//     prices, nor the rationing depends on how far before the last one is. Who moves
//     behind the last does not trade. Who moves up to trade, where its own limit
//     would not, drives the last bid up to someone whose limit it cannot want to pay.
//   - Asking for more than one needs does not raise what one gets of a rationed side
//     (the level is the same), as long as it does not change who is the last. It is
//     not truthful in quantity beyond that: a large bid may lower the price for what
//     is left of it by asking for less.
//
// What it costs is the trade of the last pair, and evenly means that no more of the
// welfare is sought. An order must have one step: with two, the second could be the
// last and make the price of the first. The nodes' prices are R3's for the same
// market, as an indication; nothing is traded at them.
func (c *Clearer) mcAfee(m *Market) error {
	if err := checkBare(m); err != nil {
		return err
	}
	for i := range m.Orders {
		o := &m.Orders[i]
		if last := len(o.Steps) - 1; o.Steps[last].Price != o.Steps[0].Price {
			return o.fieldError("steps", ErrTooManySteps, "got %d of different prices, want 1 under rule %q", last+1, m.Rule)
		}
	}
	if err := c.uniform(m); err != nil {
		return err
	}
	node := c.prices[c.tree.root()] // of all nodes, on a network without limits and fees
	bids, offers := c.whole(m, Bid), c.whole(m, Offer)
	lastBid, lastOffer := lastPair(bids, offers)
	if lastBid < 0 {
		c.announce(m, node, node, node)
		return c.conclude(m)
	}
	pay, paid := bids[lastBid].price, offers[lastOffer].price
	bids, offers = bids[:lastBid], offers[:lastOffer]
	c.announce(m, node, pay, paid)
	traded := min(total(bids), total(offers))
	c.ration(m, bids, traded)
	c.ration(m, offers, traded)
	surplus, err := RoundHalfEven(Mul128(int64(pay-paid), int64(traded)), whPerKWh)
	if err != nil {
		return fmt.Errorf("computing the surplus of %d Wh: %w", traded, err)
	}
	c.result.Surplus = Money(surplus)
	return c.conclude(m)
}

// whole returns the orders of one side, in merit order.
func (c *Clearer) whole(m *Market, side Side) []lot {
	var lots []lot
	for i := range m.Orders {
		o := &m.Orders[i]
		if o.Side != side {
			continue
		}
		l := lot{order: int32(i), price: o.Steps[0].Price}
		for _, s := range o.Steps {
			l.wh += s.WattHours
		}
		lots = append(lots, l)
	}
	c.lineUp(m, lots, side)
	return lots
}

// lastPair returns the last bid and the last offer that trade when as many Wh as
// can gain by it are matched, or -1 if none do.
func lastPair(bids, offers []lot) (lastBid, lastOffer int) {
	lastBid, lastOffer = -1, -1
	var b, o int
	var usedBid, usedOffer WattHours
	for b < len(bids) && o < len(offers) && bids[b].price >= offers[o].price {
		lastBid, lastOffer = b, o
		wh := min(bids[b].wh-usedBid, offers[o].wh-usedOffer)
		if usedBid += wh; usedBid == bids[b].wh {
			b, usedBid = b+1, 0
		}
		if usedOffer += wh; usedOffer == offers[o].wh {
			o, usedOffer = o+1, 0
		}
	}
	return lastBid, lastOffer
}

// ration allocates wh among lots that ask for as much or more, evenly.
func (c *Clearer) ration(m *Market, lots []lot, wh WattHours) {
	sizes := make([]WattHours, len(lots))
	for i := range lots {
		sizes[i] = lots[i].wh
	}
	slices.Sort(sizes)
	// From the smallest up: who asks for no more than an even share of what is
	// left gets it, which leaves no less for each of the others.
	level, left := MaxTotalWh, wh
	for i, size := range sizes {
		others := WattHours(len(sizes) - i)
		if size > left/others {
			level, left = left/others, left%others
			break
		}
		left -= size
	}
	g := &c.margin
	g.seats, g.rivals, g.tied = g.seats[:0], g.rivals[:0], g.tied[:0]
	for i := range lots {
		l := &lots[i]
		c.result.Allocations[l.order].WattHours = min(l.wh, level)
		if l.wh > level {
			at := int32(len(g.seats)) //nolint:gosec // at most MaxOrders
			g.seats = append(g.seats, seat{order: l.order})
			g.rivals = append(g.rivals, rival{got: level, seat: at})
			g.tied = append(g.tied, at)
		}
	}
	if left == 0 {
		return
	}
	g.draw(m, left)
	for i := range g.rivals {
		c.result.Allocations[g.seats[i].order].WattHours = g.rivals[i].got
	}
}
