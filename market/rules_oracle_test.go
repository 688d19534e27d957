package market_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"math/big"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// This is R4 a second time, Wh by Wh and as slow as that is.

// dumbHash is an order's place in the tie order.
func dumbHash(m market.Market, i int) []byte {
	o := m.Orders[i]
	name := []byte(o.ID)
	if o.ID == "" {
		name = append(slices.Clone(o.Household[:]), map[market.Side]byte{market.Bid: 1, market.Offer: 2}[o.Side])
	}
	sum := sha256.Sum256(slices.Concat(m.Seed, []byte{0}, name))
	return sum[:]
}

// dumbLine lists single Wh in merit order: as much of each order as taken says.
func dumbLine(m market.Market, side market.Side, taken func(order int) market.WattHours) []dumbWh {
	var line []dumbWh
	for i, o := range m.Orders {
		left := taken(i)
		for _, s := range o.Steps {
			for range s.WattHours {
				if o.Side == side && left > 0 {
					line = append(line, dumbWh{i, int64(s.Price)})
					left--
				}
			}
		}
	}
	slices.SortStableFunc(line, func(a, b dumbWh) int {
		if side == market.Bid {
			a.price, b.price = -a.price, -b.price
		}
		return cmp.Or(cmp.Compare(a.price, b.price), bytes.Compare(dumbHash(m, a.order), dumbHash(m, b.order)))
	})
	return line
}

func everything(int) market.WattHours { return 1 << 60 }

func dumbMoney(thousandths int64) market.Money {
	return market.Money(roundDumb(big.NewRat(thousandths, 1000)).Int64())
}

func dumbMiddle(a, b int64) int64 { return roundDumb(big.NewRat(a+b, 2)).Int64() }

// dumbPayAsBid returns R3's answer with R4's prices and amounts.
func dumbPayAsBid(m market.Market) market.Clearing {
	c := newDumbMarket(m).clear()
	taken := func(i int) market.WattHours { return c.Allocations[i].WattHours }
	bids, offers := dumbLine(m, market.Bid, taken), dumbLine(m, market.Offer, taken)
	sums := make([]int64, len(m.Orders))
	for k := range max(len(bids), len(offers)) {
		switch {
		case k >= len(bids):
			sums[offers[k].order] += int64(m.Tariff.ExportPrice)
		case k >= len(offers):
			sums[bids[k].order] += int64(m.Tariff.ImportPrice)
		default:
			price := dumbMiddle(bids[k].price, offers[k].price)
			sums[bids[k].order] += price
			sums[offers[k].order] += price
		}
	}
	for i := range c.Allocations {
		if a := &c.Allocations[i]; a.WattHours > 0 {
			a.Amount = dumbMoney(sums[i])
			a.Price = market.Price(roundDumb(big.NewRat(sums[i], int64(a.WattHours))).Int64())
		}
	}
	return c
}

// A dumbShare is what an order gets of a rule without the grid, and its price.
type dumbShare struct {
	wh    market.WattHours
	price market.Price
}

func shares(c market.Clearing) []dumbShare {
	var s []dumbShare
	for _, a := range c.Allocations {
		s = append(s, dumbShare{a.WattHours, a.Price})
	}
	return s
}

// dumbMcAfee returns the shares and the surplus × 1000.
func dumbMcAfee(m market.Market) ([]dumbShare, int64) {
	bids, offers := dumbLine(m, market.Bid, everything), dumbLine(m, market.Offer, everything)
	n := 0
	for n < len(bids) && n < len(offers) && bids[n].price >= offers[n].price {
		n++
	}
	node := newDumbMarket(m).clear()
	got := shares(node)
	for i := range got {
		got[i].wh = 0
	}
	if n == 0 {
		return got, 0
	}
	lastBid, lastOffer := bids[n-1], offers[n-1]
	before := func(line []dumbWh, last int) []int {
		var orders []int
		for _, w := range line {
			if w.order == last {
				break
			}
			if !slices.Contains(orders, w.order) {
				orders = append(orders, w.order)
			}
		}
		slices.SortFunc(orders, func(a, b int) int { return bytes.Compare(dumbHash(m, a), dumbHash(m, b)) })
		return orders
	}
	all := func(orders []int) (wh market.WattHours) {
		for _, i := range orders {
			wh += m.Orders[i].Steps[0].WattHours
		}
		return wh
	}
	for i, o := range m.Orders {
		got[i].price = market.Price(lastBid.price)
		if o.Side == market.Offer {
			got[i].price = market.Price(lastOffer.price)
		}
	}
	buyers, sellers := before(bids, lastBid.order), before(offers, lastOffer.order)
	traded := min(all(buyers), all(sellers))
	for _, orders := range [][]int{buyers, sellers} {
		for left := traded; left > 0; {
			for _, i := range orders {
				if left > 0 && got[i].wh < m.Orders[i].Steps[0].WattHours {
					got[i].wh++
					left--
				}
			}
		}
	}
	return got, (lastBid.price - lastOffer.price) * int64(traded)
}

// dumbDeal shares wh by weight among orders: largest remainder, then the hash.
func dumbDeal(m market.Market, orders []int, weight map[int]int64, wh int64) map[int]int64 {
	var whole int64
	for _, i := range orders {
		whole += weight[i]
	}
	got, rest := map[int]int64{}, map[int]int64{}
	if whole == 0 {
		return got
	}
	left := wh
	for _, i := range orders {
		got[i], rest[i] = wh*weight[i]/whole, wh*weight[i]%whole
		left -= got[i]
	}
	orders = slices.Clone(orders)
	slices.SortFunc(orders, func(a, b int) int {
		return cmp.Or(cmp.Compare(rest[b], rest[a]), bytes.Compare(dumbHash(m, a), dumbHash(m, b)))
	})
	for _, i := range orders[:left] {
		got[i]++
	}
	return got
}

func dumbSharing(m market.Market) []dumbShare {
	var price market.Price
	if m.Sharing.Price != nil {
		price = *m.Sharing.Price
	} else {
		price = market.Price(dumbMiddle(int64(m.Tariff.ExportPrice), int64(m.Tariff.ImportPrice)))
	}
	has, keys := map[int]int64{}, map[int]int64{}
	var bids, offers []int
	var demand, supply, key int64
	for i, o := range m.Orders {
		for _, s := range o.Steps {
			if o.Side == market.Bid && s.Price >= price || o.Side == market.Offer && s.Price <= price {
				has[i] += int64(s.WattHours)
			}
		}
		if o.Side == market.Bid {
			bids = append(bids, i)
			demand += has[i]
			keys[i] = o.Key
			key += o.Key
		} else {
			offers = append(offers, i)
			supply += has[i]
		}
	}
	due := dumbDeal(m, bids, has, min(demand, supply))
	if all := max(key, m.Sharing.Keys); all > 0 {
		due = dumbDeal(m, bids, keys, supply*key/all)
	}
	got := make([]dumbShare, len(m.Orders))
	var shared int64
	for _, i := range bids {
		got[i].wh = market.WattHours(min(due[i], has[i]))
		shared += int64(got[i].wh)
	}
	for i, wh := range dumbDeal(m, offers, has, shared) {
		got[i].wh = market.WattHours(wh)
	}
	for i := range got {
		got[i].price = price
	}
	return got
}

func TestR4AgainstDumbImplementation(t *testing.T) {
	for _, rule := range otherRules() {
		for name, g := range map[string]generator{"small": smallMarkets(), "long": longMarkets()} {
			t.Run(rule+" "+name, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					m := ruleMarkets(t, g, rule)
					c, err := market.Clear(m)
					if err != nil {
						t.Fatal(err)
					}
					got, want, surplus := shares(c), []dumbShare(nil), int64(0)
					switch rule {
					case market.RulePayAsBid:
						if diff := diffClearing(dumbPayAsBid(m), c); diff != "" {
							t.Fatalf("clearing of %+v (-dumb +got):\n%s", m, diff)
						}
						return
					case market.RuleMcAfee:
						want, surplus = dumbMcAfee(m)
					case market.RuleSharing:
						want = dumbSharing(m)
					}
					if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(dumbShare{}), cmpopts.EquateEmpty()); diff != "" {
						t.Fatalf("shares of %+v (-dumb +got):\n%s", m, diff)
					}
					if c.Surplus != dumbMoney(surplus) || c.Surplus < 0 {
						t.Fatalf("got surplus %d, want %d thousandths, rounded", c.Surplus, surplus)
					}
				})
			})
		}
	}
}
