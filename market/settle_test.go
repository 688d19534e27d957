package market_test

import (
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

var (
	home     = market.HouseholdID{1}
	ownTerms = market.Terms{Retail: 300_000, FeedIn: 80_000, CommunityFee: 1_000}
)

// transfer returns one of interval 7.
func transfer(kind market.TransferKind, debit, credit market.Account, amount market.Money) market.Transfer {
	return market.Transfer{Debit: debit, Credit: credit, Amount: amount, Kind: kind, Interval: 7}
}

// Every line of R7, alone.
func TestR7Lines(t *testing.T) {
	account := market.HouseholdAccount(home)
	island := ownTerms
	island.Islanded = true
	for _, test := range []struct {
		name     string
		position market.Position
		terms    market.Terms
		want     []market.Transfer
	}{
		{"nothing", market.Position{Price: 100_000}, ownTerms, nil},
		{"bought and used", market.Position{Price: 100_000, Bought: 600, MeteredImport: 600}, ownTerms, []market.Transfer{
			transfer(market.KindBuy, account, market.AccountMarket, 60_000),
			transfer(market.KindCommunityFee, account, market.AccountCooperative, 600),
		}},
		{"sold and delivered", market.Position{Price: 100_000, Sold: 600, MeteredExport: 600}, ownTerms, []market.Transfer{
			transfer(market.KindSell, market.AccountMarket, account, 60_000),
		}},
		{"imported more than bought", market.Position{MeteredImport: 50}, ownTerms, []market.Transfer{
			transfer(market.KindImbalanceImport, account, market.AccountSupplier, 15_000),
		}},
		{"bought more than imported", market.Position{Bought: 100, MeteredImport: 50}, market.Terms{Retail: 300_000, FeedIn: 80_000}, []market.Transfer{
			transfer(market.KindImbalanceSurplus, market.AccountSupplier, account, 4_000),
		}},
		{"fed in more than sold", market.Position{MeteredExport: 50}, ownTerms, []market.Transfer{
			transfer(market.KindImbalanceExport, market.AccountSupplier, account, 4_000),
		}},
		{"sold more than fed in", market.Position{Sold: 100, MeteredExport: 50}, ownTerms, []market.Transfer{
			transfer(market.KindImbalanceShortfall, account, market.AccountSupplier, 15_000),
		}},
		{"island, both ways", market.Position{Price: 50_000, MeteredImport: 20, MeteredExport: 40}, island, []market.Transfer{
			transfer(market.KindImbalanceImport, account, market.AccountIsland, 1_000),
			transfer(market.KindImbalanceExport, market.AccountIsland, account, 2_000),
		}},
		{"negative price", market.Position{Price: -100_000, Bought: 600, MeteredImport: 600}, market.Terms{}, []market.Transfer{
			transfer(market.KindBuy, market.AccountMarket, account, 60_000),
		}},
		{"negative feed-in", market.Position{MeteredExport: 50}, market.Terms{FeedIn: -20_000}, []market.Transfer{
			transfer(market.KindImbalanceExport, account, market.AccountSupplier, 1_000),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.position.Household = home
			got, err := market.SettleHousehold(7, test.position, test.terms)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("transfers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestR7Refuses(t *testing.T) {
	for _, test := range []struct {
		name     string
		position market.Position
		terms    market.Terms
		want     error
	}{
		{"negative bought", market.Position{Bought: -1}, ownTerms, market.ErrBadQuantity},
		{"negative sold", market.Position{Sold: -1}, ownTerms, market.ErrBadQuantity},
		{"negative import", market.Position{MeteredImport: -1}, ownTerms, market.ErrBadQuantity},
		{"negative export", market.Position{MeteredExport: -1}, ownTerms, market.ErrBadQuantity},
		{"feed-in above retail", market.Position{}, market.Terms{Retail: 1, FeedIn: 2}, market.ErrBadTariff},
		{"negative fee", market.Position{}, market.Terms{CommunityFee: -1}, market.ErrBadTariff},
		{"too much money", market.Position{MeteredImport: 1 << 62}, ownTerms, market.ErrOverflow},
	} {
		if got, err := market.SettleHousehold(7, test.position, test.terms); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestR7MarketRefuses(t *testing.T) {
	island := market.Terms{Islanded: true}
	for _, test := range []struct {
		name            string
		gridIn, gridOut market.WattHours
		terms           market.Terms
		pool            market.Pool
		want            error
	}{
		{"both ways", 5, 5, ownTerms, market.Pool{}, market.ErrUnbalanced},
		{"negative", -5, 0, ownTerms, market.Pool{}, market.ErrBadQuantity},
		{"island with a grid", 5, 0, island, market.Pool{Bought: 5}, market.ErrUnbalanced},
		{"energy from nowhere", 0, 0, ownTerms, market.Pool{Bought: 6, Sold: 5}, market.ErrUnbalanced},
		{"energy that stays", 0, 4, ownTerms, market.Pool{Sold: 5}, market.ErrUnbalanced},
		{"money from nowhere", 0, 0, ownTerms, market.Pool{Bought: 5, Sold: 5, Balance: -4, Lines: 2}, market.ErrUnbalanced},
		{"money that stays", 0, 0, ownTerms, market.Pool{Bought: 5, Sold: 5, Balance: 4, Lines: 2}, market.ErrUnbalanced},
	} {
		if got, err := market.SettleMarket(7, test.gridIn, test.gridOut, test.terms, test.pool); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

// Ten buyers of 1 Wh for 0.4 micro-units each pay nothing, as amounts are
// rounded; their seller is paid 4, which rounding has to find.
func TestM9RoundingPaysWhatRoundingTook(t *testing.T) {
	positions := []market.Position{{Household: home, Price: 400, Sold: 10, MeteredExport: 10}}
	for i := range 10 {
		positions = append(positions, market.Position{Household: market.HouseholdID{2, byte(i)}, Price: 400, Bought: 1, MeteredImport: 1})
	}
	got, err := market.Settle(7, positions, 0, 0, market.Terms{})
	if err != nil {
		t.Fatal(err)
	}
	want := []market.Transfer{
		transfer(market.KindSell, market.AccountMarket, market.HouseholdAccount(home), 4),
		transfer(market.KindRounding, market.AccountRounding, market.AccountMarket, 4),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("transfers (-want +got):\n%s", diff)
	}
}

// settled is an interval as it may happen: a clearing, and meters that counted
// what they liked.
type settled struct {
	market    market.Market
	clearing  market.Clearing
	positions []market.Position
	terms     market.Terms
	transfers []market.Transfer
}

// streetMarkets have household quantities and prices at which amounts are not whole.
func streetMarkets() generator {
	return generator{
		nodes: 4, orders: 12, steps: 3,
		price: rapid.Map(rapid.IntRange(-30_000, 400_000), func(p int) market.Price { return market.Price(p) }),
		wh:    rapid.Map(rapid.IntRange(1, 4000), func(w int) market.WattHours { return market.WattHours(w) }),
	}
}

func drawSettled(t *rapid.T) settled {
	s := settled{market: streetMarkets().draw(t)}
	var err error
	if s.clearing, err = market.Clear(s.market); err != nil {
		t.Fatal(err)
	}
	s.terms = market.Terms{Islanded: true}
	if grid := s.market.Tariff; grid != nil {
		s.terms = market.Terms{Retail: grid.Retail(), FeedIn: grid.FeedIn()}
	}
	s.terms.CommunityFee = market.Price(rapid.IntRange(0, 20_000).Draw(t, "community fee"))
	for i, o := range s.market.Orders {
		p := market.Position{Household: market.HouseholdID{byte(i)}, Price: s.clearing.Allocations[i].Price}
		if o.Side == market.Bid {
			p.Bought = s.clearing.Allocations[i].WattHours
		} else {
			p.Sold = s.clearing.Allocations[i].WattHours
		}
		s.positions = append(s.positions, metered(t, p))
	}
	if s.transfers, err = market.Settle(7, s.positions, s.clearing.GridImport, s.clearing.GridExport, s.terms); err != nil {
		t.Fatal(err)
	}
	return s
}

// metered draws what a household's meter counted.
func metered(t *rapid.T, p market.Position) market.Position {
	counter := rapid.OneOf(rapid.Just(market.WattHours(0)), rapid.Just(p.Bought), rapid.Just(p.Sold),
		rapid.Map(rapid.IntRange(0, 5000), func(w int) market.WattHours { return market.WattHours(w) }))
	p.MeteredImport, p.MeteredExport = counter.Draw(t, "metered import"), counter.Draw(t, "metered export")
	return p
}

func balancesOf(t *rapid.T, transfers []market.Transfer) map[market.Account]market.Money {
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
		lines := market.Money(len(s.positions) + 1)
		if got := balances[market.AccountRounding]; got > lines || got < -lines {
			t.Fatalf("M9: rounding has %d of %d lines, want at most one each", got, lines)
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
		booked, err := market.SettleHousehold(7, s.positions[i], s.terms)
		if err != nil {
			t.Fatal(err)
		}
		all := s.transfers
		for range 2 {
			s.positions[i] = metered(t, s.positions[i])
			due, err := market.SettleHousehold(7, s.positions[i], s.terms)
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
		fresh, err := market.Settle(7, s.positions, s.clearing.GridImport, s.clearing.GridExport, s.terms)
		if err != nil {
			t.Fatal(err)
		}
		got, want := balancesOf(t, all), balancesOf(t, fresh)
		for account := range got {
			if got[account] != want[account] {
				t.Fatalf("%s has %d after corrections, %d if settled so at first", account, got[account], want[account])
			}
		}
		for account := range want {
			if got[account] != want[account] {
				t.Fatalf("%s has %d after corrections, %d if settled so at first", account, got[account], want[account])
			}
		}
	})
}

// A household that bids and offers at the no-regret prices, among neighbours
// who do as they like, and that delivers and uses what it said.
func TestR9NoOneWorseOff(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := streetMarkets().draw(t)
		m.Tariff = &market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000}
		m.Network = market.Network{Nodes: []market.Node{{ID: "root"}}}
		for i := range m.Orders {
			m.Orders[i].Node = "root"
		}
		preference := market.NoRegret(*m.Tariff)
		quantity := market.WattHours(rapid.IntRange(1, 5000).Draw(t, "quantity"))
		own := market.Order{ID: "own", Node: "root", Side: market.Bid, Steps: []market.Step{{Price: preference.MaxBuy, WattHours: quantity}}}
		p := market.Position{Household: home, MeteredImport: quantity}
		alone, err := market.Amount(m.Tariff.Retail(), quantity)
		if err != nil {
			t.Fatal(err)
		}
		alone = -alone
		if rapid.Bool().Draw(t, "offers") {
			own.Side, own.Steps[0].Price = market.Offer, preference.MinSell
			p.MeteredImport, p.MeteredExport = 0, quantity
			if alone, err = market.Amount(m.Tariff.FeedIn(), quantity); err != nil {
				t.Fatal(err)
			}
		}
		m.Orders = append(m.Orders, own)
		c, err := market.Clear(m)
		if err != nil {
			t.Fatal(err)
		}
		mine := c.Allocations[len(c.Allocations)-1]
		p.Price = mine.Price
		if own.Side == market.Bid {
			p.Bought = mine.WattHours
		} else {
			p.Sold = mine.WattHours
		}
		transfers, err := market.SettleHousehold(7, p, market.Terms{Retail: m.Tariff.Retail(), FeedIn: m.Tariff.FeedIn()})
		if err != nil {
			t.Fatal(err)
		}
		together := balancesOf(t, transfers)[market.HouseholdAccount(home)]
		if together < alone-market.Money(len(transfers)) {
			t.Fatalf("M12: the household has %d with its neighbours, %d alone: %+v", together, alone, transfers)
		}
		// At these prices nothing is left over: the grid would have taken part.
		if mine.WattHours != quantity {
			t.Fatalf("R3: got %d Wh, want all %d, as the grid trades at this price", mine.WattHours, quantity)
		}
	})
}

func TestR7BadPositionLeavesPool(t *testing.T) {
	full := market.Pool{Bought: 1, Sold: 2, Balance: -1 << 62, Lines: 4}
	pool := full
	for name, p := range map[string]market.Position{
		"negative":        {Bought: -1},
		"too dear":        {Bought: 1 << 62, Price: market.MaxPrice},
		"too much money":  {Sold: 1 << 60, Price: 7_000},
		"too much bought": {Bought: 1<<63 - 1},
		"too much sold":   {Sold: 1<<63 - 1},
	} {
		if err := pool.Add(p); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
		if pool != full {
			t.Errorf("%s: got %+v, want it as it was", name, pool)
		}
	}
}

func TestCorrectBetweenManyAccounts(t *testing.T) {
	booked := []market.Transfer{
		transfer(market.KindBuy, "b", "c", 10),
		transfer(market.KindBuy, "b", "a", 10),
		transfer(market.KindBuy, "c", "a", 10),
	}
	due := []market.Transfer{
		transfer(market.KindBuy, "b", "c", 7),
		transfer(market.KindBuy, "c", "a", 10),
		transfer(market.KindSell, "d", "a", 1),
	}
	got, err := market.Correct(7, booked, due)
	if err != nil {
		t.Fatal(err)
	}
	want := []market.Transfer{
		transfer(market.KindCorrection, "a", "b", 10),
		transfer(market.KindCorrection, "d", "a", 1),
		transfer(market.KindCorrection, "c", "b", 3),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("corrections (-want +got):\n%s", diff)
	}
	most := transfer(market.KindBuy, "a", "b", 1<<63-1)
	for name, list := range map[string][2][]market.Transfer{
		"booked": {{most, most}, nil},
		"due":    {nil, {most, most}},
	} {
		if got, err := market.Correct(7, list[0], list[1]); !errors.Is(err, market.ErrOverflow) {
			t.Errorf("%s: got %v, %v, want %v", name, got, err, market.ErrOverflow)
		}
	}
}

// The least int64 has no positive twin: flipping such an amount must not wrap.
func TestM2LeastAmountOverflows(t *testing.T) {
	p := market.Position{Bought: 1 << 60, MeteredImport: 1 << 60, Price: -8_000}
	if got, err := market.SettleHousehold(7, p, ownTerms); !errors.Is(err, market.ErrOverflow) {
		t.Errorf("got %v, %v, want %v", got, err, market.ErrOverflow)
	}
}

func TestBalancesOverflow(t *testing.T) {
	most := transfer(market.KindBuy, "a", "b", 1<<63-1)
	if got, err := market.Balances([]market.Transfer{most, most}); !errors.Is(err, market.ErrOverflow) {
		t.Errorf("got %v, %v, want %v", got, err, market.ErrOverflow)
	}
}

func TestTransferKindText(t *testing.T) {
	names := []string{
		"buy", "sell", "imbalance-import", "imbalance-surplus", "imbalance-export", "imbalance-shortfall",
		"grid-import", "grid-export", "community-fee", "rounding", "correction",
	}
	for i, name := range names {
		kind := market.TransferKind(i + 1)
		var read market.TransferKind
		if err := read.UnmarshalText([]byte(name)); err != nil || read != kind {
			t.Errorf("reading %q: got %d, %v, want %d", name, read, err, kind)
		}
		if text, err := kind.MarshalText(); err != nil || string(text) != name {
			t.Errorf("writing %d: got %q, %v, want %q", kind, text, err, name)
		}
	}
	for _, kind := range []market.TransferKind{0, market.TransferKind(len(names) + 1), 255} {
		if text, err := kind.MarshalText(); !errors.Is(err, market.ErrBadTransferKind) {
			t.Errorf("writing %d: got %q, %v, want %v", kind, text, err, market.ErrBadTransferKind)
		}
	}
	for _, name := range []string{"", "Buy", "bonus"} {
		if err := new(market.TransferKind).UnmarshalText([]byte(name)); !errors.Is(err, market.ErrBadTransferKind) {
			t.Errorf("reading %q: got %v, want %v", name, err, market.ErrBadTransferKind)
		}
	}
}
