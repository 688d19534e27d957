package market

import "fmt"

// A Position is what one household has to settle for one interval.
type Position struct {
	Household     HouseholdID
	Bought        WattHours // allocated to its bid
	Sold          WattHours // allocated to its offer
	Price         Price     // at its node
	MeteredImport WattHours
	MeteredExport WattHours
}

// Terms are the prices of what the market itself did not trade.
type Terms struct {
	// Retail and FeedIn price imbalance, at the household's node; FeedIn is at
	// most Retail. Neither is used when islanded.
	Retail, FeedIn Price
	// Islanded: there is no supplier. Imbalance is then priced at the node's own
	// price, whichever way it goes, and settled with AccountIsland.
	Islanded bool
	// CommunityFee is per kWh bought in the market, at least 0.
	CommunityFee Price
}

// validate refuses terms that somebody could gain by.
func (t Terms) validate() error {
	if !t.Islanded && t.FeedIn > t.Retail {
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
	supplier, retail, feedIn := AccountSupplier, t.Retail, t.FeedIn
	if t.Islanded {
		supplier, retail, feedIn = AccountIsland, p.Price, p.Price
	}
	home := HouseholdAccount(p.Household)
	off := p.Imbalance()
	transfers, err := settleLines(k, []line{
		{KindBuy, home, AccountMarket, p.Price, p.Bought},
		{KindSell, AccountMarket, home, p.Price, p.Sold},
		{KindImbalanceImport, home, supplier, retail, off.Import},
		{KindImbalanceSurplus, supplier, home, feedIn, off.Surplus},
		{KindImbalanceExport, supplier, home, feedIn, off.Export},
		{KindImbalanceShortfall, home, supplier, retail, off.Shortfall},
		{KindCommunityFee, home, AccountCooperative, t.CommunityFee, p.Bought},
	})
	if err != nil {
		return nil, fmt.Errorf("settling household %v: %w", p.Household, err)
	}
	return transfers, nil
}

// A line is a transfer before its amount is known.
type line struct {
	kind          TransferKind
	debit, credit Account
	price         Price
	wh            WattHours
}

// settleLines returns the transfers of those lines that come to more than nothing.
func settleLines(k Interval, lines []line) ([]Transfer, error) {
	var transfers []Transfer
	for _, l := range lines {
		amount, err := Amount(l.price, l.wh)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", l.kind, err)
		}
		if amount == 0 {
			continue
		}
		t, err := newTransfer(k, l.kind, l.debit, l.credit, amount)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", l.kind, err)
		}
		transfers = append(transfers, t)
	}
	return transfers, nil
}

// A Pool adds up what the market account has to do with the households: what
// the buy and sell lines of their positions come to. The zero value is empty.
type Pool struct {
	Bought, Sold WattHours
	Balance      Money // what households paid in less what they were paid
	Lines        Money // buy and sell lines so far; rounding leaves at most half a micro-unit each
}

// Add adds one household's position, or leaves the pool as it was.
func (l *Pool) Add(p Position) error {
	next, err := l.with(p)
	if err != nil {
		return fmt.Errorf("adding household %v to the pool: %w", p.Household, err)
	}
	*l = next
	return nil
}

func (l *Pool) with(p Position) (next Pool, err error) {
	if err := p.validate(); err != nil {
		return Pool{}, err
	}
	paid, err := Amount(p.Price, p.Bought)
	if err != nil {
		return Pool{}, err
	}
	received, err := Amount(p.Price, p.Sold)
	if err != nil {
		return Pool{}, err
	}
	if next.Bought, err = l.Bought.Add(p.Bought); err != nil {
		return Pool{}, err
	}
	if next.Sold, err = l.Sold.Add(p.Sold); err != nil {
		return Pool{}, err
	}
	if next.Balance, err = l.Balance.Add(paid); err != nil {
		return Pool{}, err
	}
	if next.Balance, err = next.Balance.Sub(received); err != nil {
		return Pool{}, err
	}
	next.Lines = l.Lines + 2
	return next, nil
}

// SettleMarket returns the market account's own transfers for interval k: the
// grid's part to or from the supplier, at the root's prices, and what rounding
// left to or from the rounding account, so that the market account is zero. It
// fails with ErrUnbalanced if the pool and the grid's part cannot come from one
// clearing: if their energy does not add up, or their money is further from
// zero than rounding explains.
func SettleMarket(k Interval, gridImport, gridExport WattHours, t Terms, pool Pool) ([]Transfer, error) {
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	if err := checkGrid(gridImport, gridExport, t, pool); err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	transfers, err := settleLines(k, []line{
		{KindGridImport, AccountMarket, AccountSupplier, t.Retail, gridImport},
		{KindGridExport, AccountSupplier, AccountMarket, t.FeedIn, gridExport},
	})
	if err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	balances, err := Balances(transfers)
	if err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	left, err := balances[AccountMarket].Add(pool.Balance)
	if err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	if most := pool.Lines + 1; left > most || left < -most {
		return nil, fmt.Errorf("settling the market: got %d micro-units left over, want at most %d from rounding: %w", left, most, ErrUnbalanced)
	}
	if left == 0 {
		return transfers, nil
	}
	rounding, err := newTransfer(k, KindRounding, AccountMarket, AccountRounding, left)
	if err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	return append(transfers, rounding), nil
}

// checkGrid checks the energy of an interval (M3).
func checkGrid(gridImport, gridExport WattHours, t Terms, pool Pool) error {
	switch {
	case gridImport < 0 || gridExport < 0:
		return fmt.Errorf("grid: got import %d and export %d Wh, want 0 or more: %w", gridImport, gridExport, ErrBadQuantity)
	case gridImport > 0 && gridExport > 0:
		return fmt.Errorf("grid: got import %d and export %d Wh, want one of them 0: %w", gridImport, gridExport, ErrUnbalanced)
	case t.Islanded && (gridImport > 0 || gridExport > 0):
		return fmt.Errorf("grid: got import %d and export %d Wh of an island, want 0: %w", gridImport, gridExport, ErrUnbalanced)
	}
	// Of two non-negative numbers the difference fits.
	if pool.Bought-pool.Sold != gridImport-gridExport {
		return fmt.Errorf("got %d Wh bought and %d sold, want as many with grid import %d and export %d: %w",
			pool.Bought, pool.Sold, gridImport, gridExport, ErrUnbalanced)
	}
	return nil
}

// Settle returns all transfers of interval k: every household's, in the order
// of positions, then the market's.
func Settle(k Interval, positions []Position, gridImport, gridExport WattHours, t Terms) ([]Transfer, error) {
	var all []Transfer
	var pool Pool
	for _, p := range positions {
		transfers, err := SettleHousehold(k, p, t)
		if err != nil {
			return nil, err
		}
		if err := pool.Add(p); err != nil {
			return nil, err
		}
		all = append(all, transfers...)
	}
	transfers, err := SettleMarket(k, gridImport, gridExport, t, pool)
	if err != nil {
		return nil, err
	}
	return append(all, transfers...), nil
}
