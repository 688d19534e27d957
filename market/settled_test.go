package market_test

import (
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// settled is an interval as it may happen: a clearing, and meters that counted
// what they liked.
type settled struct {
	market    market.Market
	clearing  market.Clearing
	totals    market.Totals
	positions []market.Position // one for each order
	terms     []market.Terms    // those at its node
	transfers []market.Transfer
}

// streetMarkets have household quantities and prices at which amounts are not
// whole, on networks with limits and fees.
func streetMarkets() generator {
	return generator{
		nodes: 6, orders: 12, steps: 3,
		price: rapid.Map(rapid.IntRange(-30_000, 400_000), func(p int) market.Price { return market.Price(p) }),
		wh:    rapid.Map(rapid.IntRange(1, 4000), func(w int) market.WattHours { return market.WattHours(w) }),
	}.edged()
}

// termsAt returns the terms at a node, as R7 has them.
func termsAt(t interface{ Fatal(...any) }, m market.Market, c market.Clearing, node string) market.Terms {
	if m.Tariff == nil {
		own, _ := c.PriceAt(node)
		return market.Terms{Retail: own, FeedIn: own, Islanded: true}
	}
	tariff, err := m.Network.TariffAt(*m.Tariff, node)
	if err != nil {
		t.Fatal(err)
	}
	return market.Terms{Retail: tariff.Retail(), FeedIn: tariff.FeedIn()}
}

func totalsOf(m market.Market, c market.Clearing) market.Totals {
	return market.Totals{GridImport: c.GridImport, GridExport: c.GridExport, Tariff: m.Tariff, Flows: c.Flows, Surplus: c.Surplus}
}

// add adds an allocation to a position.
func add(p *market.Position, side market.Side, a market.Allocation) {
	if side == market.Bid {
		p.Bought += a.WattHours
		p.Buy += a.Amount
	} else {
		p.Sold += a.WattHours
		p.Sell += a.Amount
	}
}

// settle returns all transfers of interval 7: every position's, then the market's.
func settle(t interface{ Fatal(...any) }, positions []market.Position, terms []market.Terms, totals market.Totals) []market.Transfer {
	var all []market.Transfer
	var pool market.Pool
	for i, p := range positions {
		transfers, err := market.SettleHousehold(7, p, terms[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.Add(p); err != nil {
			t.Fatal(err)
		}
		all = append(all, transfers...)
	}
	transfers, err := market.SettleMarket(7, totals, pool)
	if err != nil {
		t.Fatal(err)
	}
	return append(all, transfers...)
}

func drawSettled(t *rapid.T) settled {
	s := settled{market: streetMarkets().draw(t)}
	var err error
	if s.clearing, err = market.Clear(s.market); err != nil {
		t.Fatal(err)
	}
	s.totals = totalsOf(s.market, s.clearing)
	s.totals.RentTo = rapid.SampledFrom([]market.Account{"", market.AccountCooperative, market.AccountGridOperator}).Draw(t, "rent to")
	fee := market.Price(rapid.IntRange(0, 20_000).Draw(t, "community fee"))
	for i, o := range s.market.Orders {
		p := market.Position{Household: market.HouseholdID{byte(i)}}
		add(&p, o.Side, s.clearing.Allocations[i])
		terms := termsAt(t, s.market, s.clearing, o.Node)
		terms.CommunityFee = fee
		s.positions = append(s.positions, metered(t, p))
		s.terms = append(s.terms, terms)
	}
	s.transfers = settle(t, s.positions, s.terms, s.totals)
	return s
}

// metered draws what a household's meter counted.
func metered(t *rapid.T, p market.Position) market.Position {
	counter := rapid.OneOf(rapid.Just(market.WattHours(0)), rapid.Just(p.Bought), rapid.Just(p.Sold),
		rapid.Map(rapid.IntRange(0, 5000), func(w int) market.WattHours { return market.WattHours(w) }))
	p.MeteredImport, p.MeteredExport = counter.Draw(t, "metered import"), counter.Draw(t, "metered export")
	return p
}

func balancesOf(t interface{ Fatal(...any) }, transfers []market.Transfer) map[market.Account]market.Money {
	balances, err := market.Balances(transfers)
	if err != nil {
		t.Fatal(err)
	}
	return balances
}

func TestR7AccountsBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSettled(t)
		var sum market.Money
		balances := balancesOf(t, s.transfers)
		for _, b := range balances {
			sum += b
		}
		if sum != 0 {
			t.Fatalf("M9: the sum over all accounts is %d, want 0: %v", sum, balances)
		}
		if got := balances[market.AccountMarket]; got != 0 {
			t.Fatalf("M9: the market is left with %d, want 0: %v", got, s.transfers)
		}
		lines := market.Money(2) // half of one each: the grid, fees, rent, surplus
		for _, p := range s.positions {
			if p.Bought > 0 || p.Sold > 0 {
				lines++
			}
		}
		if got := balances[market.AccountRounding]; got > lines || got < -lines {
			t.Fatalf("M9: rounding has %d of %d lines, want at most one each", got, lines)
		}
		if balances[market.AccountGridOperator] < 0 {
			t.Fatalf("R7: the grid operator has %d, want 0 or more", balances[market.AccountGridOperator])
		}
		for _, x := range s.transfers {
			if x.Amount <= 0 || x.Debit == x.Credit || x.Interval != 7 {
				t.Fatalf("R7: got %+v, want an amount above 0 between two accounts, of interval 7", x)
			}
			if _, err := x.Kind.MarshalText(); err != nil {
				t.Fatalf("R7: %v", err)
			}
		}
	})
}

// The physical check: what the meters counted is what the supplier is charged
// for less what it is credited for.
func TestR7PhysicalCheck(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSettled(t)
		supplied := s.clearing.GridImport - s.clearing.GridExport
		var counted market.WattHours
		for _, p := range s.positions {
			off := p.Imbalance()
			if off.Import != 0 && off.Surplus != 0 || off.Export != 0 && off.Shortfall != 0 {
				t.Fatalf("M10: got %+v, want one direction each", off)
			}
			supplied += off.Import - off.Surplus - off.Export + off.Shortfall
			counted += p.MeteredImport - p.MeteredExport
		}
		if supplied != counted {
			t.Fatalf("M10: the supplier's part is %d Wh, the meters counted %d", supplied, counted)
		}
	})
}

// M11: a street in which one report comes late, and then is corrected again.
func TestM11CorrectionsComeToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSettled(t)
		if len(s.positions) == 0 {
			return
		}
		i := rapid.IntRange(0, len(s.positions)-1).Draw(t, "corrected")
		booked, err := market.SettleHousehold(7, s.positions[i], s.terms[i])
		if err != nil {
			t.Fatal(err)
		}
		all := s.transfers
		for range 2 {
			s.positions[i] = metered(t, s.positions[i])
			due, err := market.SettleHousehold(7, s.positions[i], s.terms[i])
			if err != nil {
				t.Fatal(err)
			}
			corrections, err := market.Correct(7, booked, due)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range corrections {
				if c.Kind != market.KindCorrection || c.Amount <= 0 || c.Interval != 7 {
					t.Fatalf("got %+v, want a correction above 0 of interval 7", c)
				}
			}
			booked = append(booked, corrections...)
			all = append(all, corrections...)
		}
		got, want := balancesOf(t, all), balancesOf(t, settle(t, s.positions, s.terms, s.totals))
		for account := range got {
			if got[account] == 0 {
				delete(got, account)
			}
		}
		for account := range want {
			if want[account] == 0 {
				delete(want, account)
			}
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Fatalf("balances after corrections (+) and if settled so at first (-):\n%s", diff)
		}
	})
}

// Ten buyers of 1 Wh for 0.4 micro-units each pay nothing, as amounts are
// rounded; their seller is paid 4, which rounding has to find.
func TestM9RoundingPaysWhatRoundingTook(t *testing.T) {
	positions := []market.Position{{Household: home, Sold: 10, Sell: 4, MeteredExport: 10}}
	for i := range 10 {
		positions = append(positions, market.Position{Household: market.HouseholdID{2, byte(i)}, Bought: 1, MeteredImport: 1})
	}
	got := settle(t, positions, make([]market.Terms, len(positions)), market.Totals{Tariff: &market.Tariff{}})
	want := []market.Transfer{
		transfer(market.KindSell, market.AccountMarket, market.HouseholdAccount(home), 4),
		transfer(market.KindRounding, market.AccountRounding, market.AccountMarket, 4),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("transfers (-want +got):\n%s", diff)
	}
}

// What is traded may be beyond all money, though its welfare is 0: the answer is right and
// says so. By a rule whose answer is amounts it is an error.
func TestM2AllocatedAmountOverflows(t *testing.T) {
	dear := func(id string, side market.Side) market.Order {
		return market.Order{ID: id, Node: "root", Side: side, Steps: []market.Step{{Price: market.MaxPrice, WattHours: 1 << 40}}}
	}
	m := market.Market{
		Network: market.Network{Nodes: []market.Node{{ID: "root"}}},
		Orders:  []market.Order{dear("a", market.Bid), dear("b", market.Offer)},
	}
	got, err := market.Clear(m)
	var field *market.FieldError
	if err != nil || !errors.Is(got.Unpayable, market.ErrOverflow) || !errors.As(got.Unpayable, &field) || field.ID != "a" {
		t.Errorf("got %+v, %v, want order a and %v", got, err, market.ErrOverflow)
	}
	if a := got.Allocations; len(a) != 2 || a[0].WattHours != 1<<40 || a[1].WattHours != 1<<40 || got.Welfare != 0 {
		t.Errorf("got %+v, want all traded", got)
	}
	m.Rule = market.RulePayAsBid
	if got, err := market.Clear(m); !errors.Is(err, market.ErrOverflow) {
		t.Errorf("pay-as-bid: got %+v, %v, want %v", got, err, market.ErrOverflow)
	}
}
