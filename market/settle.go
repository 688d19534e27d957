package market

import "fmt"

// A Position is what one household has to settle for one interval.
type Position struct {
	Household     HouseholdID
	Bought        WattHours // allocated to its bid
	Sold          WattHours // allocated to its offer
	Buy           Money     // what it pays for Bought, any sign
	Sell          Money     // what it is paid for Sold, any sign
	MeteredImport WattHours
	MeteredExport WattHours
}

// Terms are the prices of what the market itself did not trade.
type Terms struct {
	// Retail and FeedIn price imbalance; FeedIn is at most Retail. They are those
	// at the household's node (see Network.TariffAt), or islanded the node's own
	// price, twice, or the community's published island prices.
	Retail, FeedIn Price
	// Islanded: there is no supplier, and imbalance is settled with AccountIsland.
	Islanded bool
	// CommunityFee is per kWh bought in the market, at least 0.
	CommunityFee Price
}

// validate refuses terms that somebody could gain by.
func (t Terms) validate() error {
	if t.FeedIn > t.Retail {
		return fmt.Errorf("terms: feed-in price: got %d, want at most the retail price %d: %w", t.FeedIn, t.Retail, ErrBadTariff)
	}
	if t.CommunityFee < 0 {
		return fmt.Errorf("terms: community fee: got %d, want 0 or more: %w", t.CommunityFee, ErrBadTariff)
	}
	return nil
}

// An Imbalance is how metered energy differs from allocated energy. At most one
// of Import and Surplus, and one of Export and Shortfall, is not 0.
type Imbalance struct {
	Import    WattHours // imported, not bought
	Surplus   WattHours // bought, not imported
	Export    WattHours // fed in, not sold
	Shortfall WattHours // sold, not fed in
}

// Imbalance returns metered minus allocated, side by side.
func (p Position) Imbalance() Imbalance {
	// Both are ≥ 0 in a valid position, so that no difference overflows.
	return Imbalance{
		Import:    max(p.MeteredImport-p.Bought, 0),
		Surplus:   max(p.Bought-p.MeteredImport, 0),
		Export:    max(p.MeteredExport-p.Sold, 0),
		Shortfall: max(p.Sold-p.MeteredExport, 0),
	}
}

func (p Position) validate() error {
	for _, q := range []struct {
		name string
		wh   WattHours
	}{{"bought", p.Bought}, {"sold", p.Sold}, {"metered import", p.MeteredImport}, {"metered export", p.MeteredExport}} {
		if q.wh < 0 {
			return fmt.Errorf("household %v: %s: got %d Wh, want 0 or more: %w", p.Household, q.name, q.wh, ErrBadQuantity)
		}
	}
	if p.Bought == 0 && p.Buy != 0 || p.Sold == 0 && p.Sell != 0 {
		return fmt.Errorf("household %v: got %d micro-units for %d Wh bought and %d for %d Wh sold, want none for 0 Wh: %w",
			p.Household, p.Buy, p.Bought, p.Sell, p.Sold, ErrUnbalanced)
	}
	return nil
}

// SettleHousehold returns one household's transfers for interval k by R7. They
// depend on nobody else's position, so that a corrected report is settled by
// calling it again and booking the difference with Correct.
func SettleHousehold(k Interval, p Position, t Terms) ([]Transfer, error) {
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("settling: %w", err)
	}
	if err := p.validate(); err != nil {
		return nil, fmt.Errorf("settling: %w", err)
	}
	supplier := AccountSupplier
	if t.Islanded {
		supplier = AccountIsland
	}
	home := HouseholdAccount(p.Household)
	off := p.Imbalance()
	lines := [...]line{
		{kind: KindBuy, debit: home, credit: AccountMarket, amount: p.Buy},
		{kind: KindSell, debit: AccountMarket, credit: home, amount: p.Sell},
		{kind: KindImbalanceImport, debit: home, credit: supplier, price: t.Retail, wh: off.Import},
		{kind: KindImbalanceSurplus, debit: supplier, credit: home, price: t.FeedIn, wh: off.Surplus},
		{kind: KindImbalanceExport, debit: supplier, credit: home, price: t.FeedIn, wh: off.Export},
		{kind: KindImbalanceShortfall, debit: home, credit: supplier, price: t.Retail, wh: off.Shortfall},
		{kind: KindCommunityFee, debit: home, credit: AccountCooperative, price: t.CommunityFee, wh: p.Bought},
	}
	transfers, err := settleLines(k, lines[:])
	if err != nil {
		return nil, fmt.Errorf("settling household %v: %w", p.Household, err)
	}
	return transfers, nil
}

// A line is a transfer before it is known whether it comes to anything: of an
// amount, or of what wh cost at a price.
type line struct {
	kind          TransferKind
	debit, credit Account
	amount        Money
	price         Price
	wh            WattHours
}

// settleLines returns the transfers of those lines that come to more than nothing.
func settleLines(k Interval, lines []line) ([]Transfer, error) {
	n := 0
	for i := range lines {
		l := &lines[i]
		if l.wh != 0 {
			var err error
			if l.amount, err = Amount(l.price, l.wh); err != nil {
				return nil, fmt.Errorf("%v: %w", l.kind, err)
			}
		}
		if l.amount != 0 {
			n++
		}
	}
	if n == 0 {
		return nil, nil
	}
	transfers := make([]Transfer, 0, n)
	for i := range lines {
		l := &lines[i]
		if l.amount == 0 {
			continue
		}
		t, err := newTransfer(k, l.kind, l.debit, l.credit, l.amount)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", l.kind, err)
		}
		transfers = append(transfers, t)
	}
	return transfers, nil
}

// Alone returns what the household's metered energy would have cost it without
// the community: its imports at the retail price, less its exports at the feed-in
// price. It is what R9 compares with, and a bill's savings line.
func Alone(p Position, t Terms) (Money, error) {
	if err := t.validate(); err != nil {
		return 0, fmt.Errorf("pricing household %v alone: %w", p.Household, err)
	}
	if err := p.validate(); err != nil {
		return 0, fmt.Errorf("pricing household %v alone: %w", p.Household, err)
	}
	paid, err := Amount(t.Retail, p.MeteredImport)
	if err != nil {
		return 0, fmt.Errorf("pricing household %v alone: %w", p.Household, err)
	}
	received, err := Amount(t.FeedIn, p.MeteredExport)
	if err != nil {
		return 0, fmt.Errorf("pricing household %v alone: %w", p.Household, err)
	}
	cost, err := paid.Sub(received)
	if err != nil {
		return 0, fmt.Errorf("pricing household %v alone: %w", p.Household, err)
	}
	return cost, nil
}
