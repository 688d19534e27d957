package market_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"math/big"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// This is R3 a second time, by trying everything and as slow as that is: each
// order is taken apart into single Wh, every number of bids and of offers is
// tried, and so is every price. It shares no code and no idea with the package.

// A dumbWh is one Wh of one order.
type dumbWh struct {
	order int
	price int64
}

// A dumbMarket is a market in single Wh.
type dumbMarket struct {
	market.Market
	bids   []dumbWh // dearest first
	offers []dumbWh // cheapest first
}

func newDumbMarket(m market.Market) *dumbMarket {
	d := &dumbMarket{Market: m}
	for i, o := range m.Orders {
		for _, s := range o.Steps {
			for range s.WattHours {
				if o.Side == market.Bid {
					d.bids = append(d.bids, dumbWh{i, int64(s.Price)})
				} else {
					d.offers = append(d.offers, dumbWh{i, int64(s.Price)})
				}
			}
		}
	}
	slices.SortStableFunc(d.bids, func(a, b dumbWh) int { return cmp.Compare(b.price, a.price) })
	slices.SortStableFunc(d.offers, func(a, b dumbWh) int { return cmp.Compare(a.price, b.price) })
	return d
}

// clear returns the clearing, to be compared in full.
func (d *dumbMarket) clear() market.Clearing {
	bought, sold, welfare := d.quantities()
	price := d.price(bought, sold)
	wh := make([]int64, len(d.Orders))
	d.allocate(wh, d.bids, bought)
	d.allocate(wh, d.offers, sold)
	c := market.Clearing{
		GridImport: market.WattHours(max(bought-sold, 0)),
		GridExport: market.WattHours(max(sold-bought, 0)),
		Welfare:    market.Money(roundDumb(big.NewRat(welfare, 1000)).Int64()),
	}
	for i := range d.Orders {
		amount := roundDumb(big.NewRat(int64(price)*wh[i], 1000)).Int64()
		c.Allocations = append(c.Allocations, market.Allocation{Order: i, WattHours: market.WattHours(wh[i]), Price: price, Amount: market.Money(amount)})
	}
	for _, n := range d.Network.Nodes {
		c.Prices = append(c.Prices, market.NodePrice{Node: n.ID, Price: price})
		if n.Parent != "" {
			c.Flows = append(c.Flows, market.Flow{Node: n.ID, WattHours: d.flow(n.ID, wh)})
		}
	}
	return c
}

// quantities tries every number of bid and offer Wh: the most welfare wins, and
// of equal welfare the most Wh.
func (d *dumbMarket) quantities() (bought, sold int, welfare int64) {
	first := true
	var value int64
	for b := 0; b <= len(d.bids); b++ {
		if b > 0 {
			value += d.bids[b-1].price
		}
		var cost int64
		for o := 0; o <= len(d.offers); o++ {
			if o > 0 {
				cost += d.offers[o-1].price
			}
			total := value - cost
			switch {
			case d.Tariff == nil && b != o:
				continue
			case b > o:
				total -= int64(b-o) * int64(d.Tariff.ImportPrice)
			case b < o:
				total += int64(o-b) * int64(d.Tariff.ExportPrice)
			}
			if first || total > welfare || total == welfare && b+o > bought+sold {
				first, bought, sold, welfare = false, b, o, total
			}
		}
	}
	return bought, sold, welfare
}

// supports says whether a price leaves nobody wanting more or less.
func (d *dumbMarket) supports(p int64, bought, sold int) bool {
	for i, w := range d.bids {
		if i < bought && w.price < p || i >= bought && w.price > p {
			return false
		}
	}
	for i, w := range d.offers {
		if i < sold && w.price > p || i >= sold && w.price < p {
			return false
		}
	}
	if d.Tariff == nil {
		return true
	}
	in, out := int64(d.Tariff.ImportPrice), int64(d.Tariff.ExportPrice)
	return out <= p && p <= in && (bought <= sold || p == in) && (sold <= bought || p == out)
}

// price tries every price there could be.
func (d *dumbMarket) price(bought, sold int) market.Price {
	least, most := int64(0), int64(0)
	for _, o := range d.Orders {
		for _, s := range o.Steps {
			least, most = min(least, int64(s.Price)), max(most, int64(s.Price))
		}
	}
	if d.Tariff != nil {
		least, most = min(least, int64(d.Tariff.ExportPrice)), max(most, int64(d.Tariff.ImportPrice))
	}
	// One beyond either end stands for all that lie further.
	var all []int64
	for p := least - 1; p <= most+1; p++ {
		if d.supports(p, bought, sold) {
			all = append(all, p)
		}
	}
	lower, upper := all[0], all[len(all)-1]
	switch {
	case lower < least && upper > most:
		return 0
	case lower < least:
		return market.Price(upper)
	case upper > most:
		return market.Price(lower)
	default:
		return market.Price(roundDumb(big.NewRat(lower+upper, 2)).Int64())
	}
}

// allocate gives the first n Wh of one side to their orders, price by price; the
// last price's are shared.
func (d *dumbMarket) allocate(wh []int64, side []dumbWh, n int) {
	for len(side) > 0 && n > 0 {
		same := 0
		has := make(map[int]int64)
		for same < len(side) && side[same].price == side[0].price {
			has[side[same].order]++
			same++
		}
		for _, node := range d.Network.Nodes {
			if node.Parent == "" {
				d.share(wh, has, node.ID, int64(min(n, same)))
			}
		}
		n -= min(n, same)
		side = side[same:]
	}
}

// A dumbRival is an order or a child among whom a node shares.
type dumbRival struct {
	order int
	child string
	has   int64
	gets  int64
	rest  *big.Rat
	hash  [32]byte
}

// share shares n Wh among the orders at and below a node, who have has.
func (d *dumbMarket) share(wh []int64, has map[int]int64, node string, n int64) {
	var rivals []dumbRival
	for i, o := range d.Orders {
		if o.Node != node || has[i] == 0 {
			continue
		}
		name := []byte(o.ID)
		if o.ID == "" {
			name = append(slices.Clone(o.Household[:]), map[market.Side]byte{market.Bid: 1, market.Offer: 2}[o.Side])
		}
		rivals = append(rivals, dumbRival{order: i, has: has[i], hash: sha256.Sum256(slices.Concat(d.Seed, []byte{0}, name))})
	}
	for _, child := range d.Network.Nodes {
		if child.Parent == node && d.below(has, child.ID) > 0 {
			rivals = append(rivals, dumbRival{child: child.ID, has: d.below(has, child.ID), hash: sha256.Sum256(slices.Concat(d.Seed, []byte{1}, []byte(child.ID)))})
		}
	}
	var total int64
	for _, r := range rivals {
		total += r.has
	}
	left := n
	for i := range rivals {
		r := &rivals[i]
		exact := big.NewRat(n*r.has, total)
		r.gets = new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()
		r.rest = exact.Sub(exact, new(big.Rat).SetInt64(r.gets))
		left -= r.gets
	}
	slices.SortFunc(rivals, func(a, b dumbRival) int {
		return cmp.Or(b.rest.Cmp(a.rest), bytes.Compare(a.hash[:], b.hash[:]))
	})
	for i, r := range rivals {
		if int64(i) < left {
			r.gets++
		}
		if r.child != "" {
			d.share(wh, has, r.child, r.gets)
		} else {
			wh[r.order] += r.gets
		}
	}
}

// below adds up what the orders at and below a node have.
func (d *dumbMarket) below(has map[int]int64, node string) int64 {
	var sum int64
	for i, o := range d.Orders {
		if o.Node == node {
			sum += has[i]
		}
	}
	for _, child := range d.Network.Nodes {
		if child.Parent == node {
			sum += d.below(has, child.ID)
		}
	}
	return sum
}

// flow adds up what leaves a node.
func (d *dumbMarket) flow(node string, wh []int64) market.WattHours {
	signed := make(map[int]int64)
	for i, o := range d.Orders {
		signed[i] = wh[i]
		if o.Side == market.Bid {
			signed[i] = -wh[i]
		}
	}
	return market.WattHours(d.below(signed, node))
}
