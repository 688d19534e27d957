package market

import "fmt"

// A Pool adds up what the market account has to do with the households: what
// the buy and sell lines of their positions come to. The zero value is empty.
type Pool struct {
	Bought, Sold WattHours
	Balance      Money // what households paid in less what they were paid
	Lines        Money // buy and sell lines so far; rounding leaves at most one micro-unit each
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
	if next.Bought, err = l.Bought.Add(p.Bought); err != nil {
		return Pool{}, err
	}
	if next.Sold, err = l.Sold.Add(p.Sold); err != nil {
		return Pool{}, err
	}
	if next.Balance, err = l.Balance.Add(p.Buy); err != nil {
		return Pool{}, err
	}
	if next.Balance, err = next.Balance.Sub(p.Sell); err != nil {
		return Pool{}, err
	}
	next.Lines = l.Lines
	if p.Bought > 0 {
		next.Lines++
	}
	if p.Sold > 0 {
		next.Lines++
	}
	return next, nil
}

// Totals are a clearing's part in an interval's settlement that is no household's.
type Totals struct {
	GridImport, GridExport WattHours
	Tariff                 *Tariff // at the root; nil when islanded
	Flows                  []Flow
	Surplus                Money
	RentTo                 Account // AccountCooperative, or empty for it, or AccountGridOperator
}

// marketLines bounds the market's own lines of one interval but for rounding:
// grid import or export, fees, rent and surplus.
const marketLines = 4

// SettleMarket returns the market account's own transfers for interval k, each at
// most once: the grid's part to or from the supplier, at the root's prices; all
// edges' fees to the grid operator and all rent to whom it is for, each summed
// exactly and rounded once; the rule's surplus to the cooperative; and what
// rounding left to or from the rounding account, so that the market account is zero.
//
// It fails with ErrUnbalanced if the pool and the totals cannot come from one
// clearing: if their energy does not add up, or if more money is left than
// rounding explains, which is one micro-unit for every buy and sell line (a half,
// or twice that if it is of two orders) and half a one for each of the market's
// four lines: |left| ≤ Pool.Lines + 2.
func SettleMarket(k Interval, m Totals, pool Pool) ([]Transfer, error) {
	if err := m.validate(pool); err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	transfers, err := m.settle(k)
	if err != nil {
		return nil, fmt.Errorf("settling the market: %w", err)
	}
	left := pool.Balance
	for _, t := range transfers {
		if t.Debit == AccountMarket {
			left, err = left.Sub(t.Amount)
		} else {
			left, err = left.Add(t.Amount)
		}
		if err != nil {
			return nil, fmt.Errorf("settling the market: %w", err)
		}
	}
	if most := pool.Lines + marketLines/2; left > most || left < -most {
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

// settle returns all of SettleMarket's transfers but for rounding.
func (m *Totals) settle(k Interval) ([]Transfer, error) {
	var fees, rents Int128
	for _, f := range m.Flows {
		// A sign apart, this is fee × |flow|: the least int64 has no positive twin.
		fee, rent := Mul128(int64(f.Fee), int64(f.WattHours)), Mul128(int64(f.Rent), int64(f.WattHours))
		if f.WattHours < 0 {
			fee, rent = Int128{}.Sub(fee), Int128{}.Sub(rent)
		}
		fees, rents = fees.Add(fee), rents.Add(rent)
		// Both only grow. What is beyond this is no Money, and soon would wrap.
		if fees.hi|rents.hi >= 1<<32 {
			return nil, fmt.Errorf("fees and rent up to node %q: %w", f.Node, ErrOverflow)
		}
	}
	fee, err := RoundHalfEven(fees, whPerKWh)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", KindGridFee, err)
	}
	rent, err := RoundHalfEven(rents, whPerKWh)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", KindRent, err)
	}
	rentTo := m.RentTo
	if rentTo == "" {
		rentTo = AccountCooperative
	}
	var grid Tariff // an island trades nothing with it
	if m.Tariff != nil {
		grid = *m.Tariff
	}
	return settleLines(k, []line{
		{kind: KindGridImport, debit: AccountMarket, credit: AccountSupplier, price: grid.Retail(), wh: m.GridImport},
		{kind: KindGridExport, debit: AccountSupplier, credit: AccountMarket, price: grid.FeedIn(), wh: m.GridExport},
		{kind: KindGridFee, debit: AccountMarket, credit: AccountGridOperator, amount: Money(fee)},
		{kind: KindRent, debit: AccountMarket, credit: rentTo, amount: Money(rent)},
		{kind: KindSurplus, debit: AccountMarket, credit: AccountCooperative, amount: m.Surplus},
	})
}

// validate checks an interval's energy (M3) and that nothing has the wrong sign.
func (m *Totals) validate(pool Pool) error {
	if m.Tariff != nil {
		if err := m.Tariff.Validate(); err != nil {
			return err
		}
	}
	switch {
	case m.GridImport < 0 || m.GridExport < 0:
		return fmt.Errorf("grid: got import %d and export %d Wh, want 0 or more: %w", m.GridImport, m.GridExport, ErrBadQuantity)
	case m.GridImport > 0 && m.GridExport > 0:
		return fmt.Errorf("grid: got import %d and export %d Wh, want one of them 0: %w", m.GridImport, m.GridExport, ErrUnbalanced)
	case m.Tariff == nil && (m.GridImport > 0 || m.GridExport > 0):
		return fmt.Errorf("grid: got import %d and export %d Wh of an island, want 0: %w", m.GridImport, m.GridExport, ErrUnbalanced)
	case m.Surplus < 0:
		return fmt.Errorf("surplus: got %d, want 0 or more: %w", m.Surplus, ErrUnbalanced)
	case m.RentTo != "" && m.RentTo != AccountCooperative && m.RentTo != AccountGridOperator:
		return fmt.Errorf("rent: got account %q, want %q or %q: %w", m.RentTo, AccountCooperative, AccountGridOperator, ErrUnbalanced)
	}
	// Of two non-negative numbers the difference fits.
	if pool.Bought-pool.Sold != m.GridImport-m.GridExport {
		return fmt.Errorf("got %d Wh bought and %d sold, want as many with grid import %d and export %d: %w",
			pool.Bought, pool.Sold, m.GridImport, m.GridExport, ErrUnbalanced)
	}
	for _, f := range m.Flows {
		if f.Fee < 0 || f.Rent < 0 {
			return fmt.Errorf("flow of node %q: got fee %d and rent %d, want 0 or more: %w", f.Node, f.Fee, f.Rent, ErrUnbalanced)
		}
	}
	return nil
}
