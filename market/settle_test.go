package market_test

import (
	"errors"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

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
	island := market.Terms{Retail: 50_000, FeedIn: 50_000, Islanded: true}
	published := market.Terms{Retail: 60_000, FeedIn: 40_000, Islanded: true}
	for _, test := range []struct {
		name     string
		position market.Position
		terms    market.Terms
		want     []market.Transfer
	}{
		{"nothing", market.Position{}, ownTerms, nil},
		{"bought and used", market.Position{Bought: 600, Buy: 60_000, MeteredImport: 600}, ownTerms, []market.Transfer{
			transfer(market.KindBuy, account, market.AccountMarket, 60_000),
			transfer(market.KindCommunityFee, account, market.AccountCooperative, 600),
		}},
		{"sold and delivered", market.Position{Sold: 600, Sell: 60_000, MeteredExport: 600}, ownTerms, []market.Transfer{
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
		{"island, both ways", market.Position{MeteredImport: 20, MeteredExport: 40}, island, []market.Transfer{
			transfer(market.KindImbalanceImport, account, market.AccountIsland, 1_000),
			transfer(market.KindImbalanceExport, market.AccountIsland, account, 2_000),
		}},
		{"island with prices of its own", market.Position{MeteredImport: 20, MeteredExport: 40}, published, []market.Transfer{
			transfer(market.KindImbalanceImport, account, market.AccountIsland, 1_200),
			transfer(market.KindImbalanceExport, market.AccountIsland, account, 1_600),
		}},
		{"negative price", market.Position{Bought: 600, Buy: -60_000, Sold: 5, Sell: -500, MeteredImport: 600, MeteredExport: 5}, market.Terms{}, []market.Transfer{
			transfer(market.KindBuy, market.AccountMarket, account, 60_000),
			transfer(market.KindSell, account, market.AccountMarket, 500),
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
		{"paid for nothing", market.Position{Buy: 1, MeteredImport: 1}, ownTerms, market.ErrUnbalanced},
		{"sold nothing", market.Position{Sell: -1}, ownTerms, market.ErrUnbalanced},
		{"feed-in above retail", market.Position{}, market.Terms{Retail: 1, FeedIn: 2}, market.ErrBadTariff},
		{"feed-in above retail on an island", market.Position{}, market.Terms{Retail: 1, FeedIn: 2, Islanded: true}, market.ErrBadTariff},
		{"negative fee", market.Position{}, market.Terms{CommunityFee: -1}, market.ErrBadTariff},
		{"too much money", market.Position{MeteredImport: 1 << 62}, ownTerms, market.ErrOverflow},
	} {
		if got, err := market.SettleHousehold(7, test.position, test.terms); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestR7AloneRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		position market.Position
		terms    market.Terms
		want     error
	}{
		"negative import":      {market.Position{MeteredImport: -1}, ownTerms, market.ErrBadQuantity},
		"feed-in above retail": {market.Position{}, market.Terms{Retail: 1, FeedIn: 2}, market.ErrBadTariff},
		"too dear":             {market.Position{MeteredImport: 1 << 62}, ownTerms, market.ErrOverflow},
		"too much earned":      {market.Position{MeteredExport: 1 << 62}, ownTerms, market.ErrOverflow},
		"too much together":    {market.Position{MeteredImport: 1 << 44, MeteredExport: 1 << 44}, market.Terms{Retail: 1 << 28, FeedIn: -1 << 28}, market.ErrOverflow},
	} {
		if got, err := market.Alone(test.position, test.terms); !errors.Is(err, test.want) {
			t.Errorf("%s: got %d, %v, want %v", name, got, err, test.want)
		}
	}
	got, err := market.Alone(market.Position{MeteredImport: 600, MeteredExport: 100, Bought: 5, Buy: 9}, ownTerms)
	if err != nil || got != 180_000-8_000 {
		t.Errorf("got %d, %v, want 172000: 0.6 kWh at retail less 0.1 kWh at feed-in", got, err)
	}
}

func TestR7MarketLines(t *testing.T) {
	flows := []market.Flow{
		{Node: "a", WattHours: 4_500, Fee: 1_000, Rent: 333},
		{Node: "b", WattHours: -1_500, Fee: 2_001, Rent: 0},
		{Node: "c"},
	}
	tariff := market.Tariff{ImportPrice: 300_000, ExportPrice: -20_000}
	// Fees are 4,500 + 3,001.5 and rent 1,498.5: each is rounded once, half to even.
	got, err := market.SettleMarket(7, market.Totals{
		GridExport: 3_000, Tariff: &tariff, Flows: flows, Surplus: 77, RentTo: market.AccountGridOperator,
	}, market.Pool{Sold: 3_000, Balance: 60_000 + 7_502 + 1_498 + 77 + 1, Lines: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := []market.Transfer{
		transfer(market.KindGridExport, market.AccountMarket, market.AccountSupplier, 60_000),
		transfer(market.KindGridFee, market.AccountMarket, market.AccountGridOperator, 7_502),
		transfer(market.KindRent, market.AccountMarket, market.AccountGridOperator, 1_498),
		transfer(market.KindSurplus, market.AccountMarket, market.AccountCooperative, 77),
		transfer(market.KindRounding, market.AccountMarket, market.AccountRounding, 1),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("transfers (-want +got):\n%s", diff)
	}
}

func TestR7MarketRefuses(t *testing.T) {
	tariff := &market.Tariff{ImportPrice: 300_000, ExportPrice: 80_000}
	balanced := market.Pool{Bought: 5, Sold: 5}
	flow := func(wh market.WattHours, fee, rent market.Price) []market.Flow {
		return []market.Flow{{Node: "n", WattHours: wh, Fee: fee, Rent: rent}}
	}
	for _, test := range []struct {
		name   string
		totals market.Totals
		pool   market.Pool
		want   error
	}{
		{"both ways", market.Totals{GridImport: 5, GridExport: 5, Tariff: tariff}, market.Pool{}, market.ErrUnbalanced},
		{"negative", market.Totals{GridImport: -5, Tariff: tariff}, market.Pool{}, market.ErrBadQuantity},
		{"island with a grid", market.Totals{GridImport: 5}, market.Pool{Bought: 5}, market.ErrUnbalanced},
		{"energy from nowhere", market.Totals{Tariff: tariff}, market.Pool{Bought: 6, Sold: 5}, market.ErrUnbalanced},
		{"energy that stays", market.Totals{GridExport: 4, Tariff: tariff}, market.Pool{Sold: 5}, market.ErrUnbalanced},
		{"money from nowhere", market.Totals{Tariff: tariff}, market.Pool{Bought: 5, Sold: 5, Balance: -5, Lines: 2}, market.ErrUnbalanced},
		{"money that stays", market.Totals{Tariff: tariff}, market.Pool{Bought: 5, Sold: 5, Balance: 5, Lines: 2}, market.ErrUnbalanced},
		{"negative surplus", market.Totals{Surplus: -1}, balanced, market.ErrUnbalanced},
		{"rent to a household", market.Totals{RentTo: market.HouseholdAccount(home)}, balanced, market.ErrUnbalanced},
		{"negative fee", market.Totals{Flows: flow(1, -1, 0)}, balanced, market.ErrUnbalanced},
		{"negative rent", market.Totals{Flows: flow(1, 0, -1)}, balanced, market.ErrUnbalanced},
		{"bad tariff", market.Totals{Tariff: &market.Tariff{ExportPrice: 1}}, balanced, market.ErrBadTariff},
		{"too much rent", market.Totals{Flows: flow(-1<<63, 0, 1<<62)}, balanced, market.ErrOverflow},
		{"too much fee", market.Totals{Flows: flow(1<<62, 1<<20, 0)}, balanced, market.ErrOverflow},
		{"a little too much rent", market.Totals{Flows: flow(1<<62, 0, 1<<20)}, balanced, market.ErrOverflow},
		{"too much for the grid", market.Totals{GridImport: 1 << 62, Tariff: tariff}, market.Pool{Bought: 1 << 62}, market.ErrOverflow},
		{"too much together", market.Totals{GridImport: 1 << 30, Tariff: tariff}, market.Pool{Bought: 1 << 30, Balance: -1 << 63}, market.ErrOverflow},
	} {
		if got, err := market.SettleMarket(7, test.totals, test.pool); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v, want %v", test.name, got, err, test.want)
		}
	}
}

func TestR7BadPositionLeavesPool(t *testing.T) {
	full := market.Pool{Bought: 1, Sold: 2, Balance: -1 << 62, Lines: 4}
	pool := full
	for name, p := range map[string]market.Position{
		"negative":        {Bought: -1},
		"too dear":        {Bought: 1, Buy: -1 << 62, Sold: 1, Sell: 1 << 62},
		"paid for 0 Wh":   {Buy: 1},
		"too much money":  {Sold: 1 << 60, Sell: 7 << 60},
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
	p := market.Position{Bought: 1 << 60, MeteredImport: 1 << 60, Buy: -1 << 63}
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
		"grid-import", "grid-export", "community-fee", "rounding", "correction", "grid-fee", "congestion-rent", "surplus",
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
