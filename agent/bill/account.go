package bill

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// History is what has been settled, as the store and the node have it.
type History interface {
	// Months are those that are closed, oldest first.
	Months(h market.HouseholdID) ([]ledger.Month, error)
	Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error
}

// Account is what a ledger says of one household at one moment. Its record is the
// ledger's own and must not be written to.
type Account struct {
	ChainID   string
	Household market.HouseholdID
	Record    *ledger.Household
	Next      market.Interval // whose gate closes next: the ledger's time
	Window    time.Duration   // for corrections, after the end of the interval
	Calendar  market.Calendar
	Zone      *time.Location
	SignedBy  ledger.SignedBy // who signs the meter's readings now; 0: not known, as in a proof
}

// AccountOf takes a household's account from a state. It does not wait for anything.
func AccountOf(s *ledger.State, h market.HouseholdID) (Account, error) {
	record, ok := s.Household(h)
	if s.Missing(ledger.HouseholdKey(h)) {
		return Account{}, fmt.Errorf("%w: household %s: a light home holds its own account only; ask the home of a validator or a replica", ErrInput, h)
	}
	if !ok {
		return Account{}, fmt.Errorf("household %s: %w", h, ErrUnknown)
	}
	rules := s.Rules()
	return Account{
		ChainID: s.ChainID(), Household: h, Record: record, Next: s.Next(),
		Window:   time.Duration(rules.CorrectionWindowS) * time.Second,
		Calendar: s.Calendar(), Zone: s.Zone(),
	}, nil
}

// signer returns who signs the readings of the household's meter now. A proof does not
// have it: the meter is a leaf of its own.
func signer(s *ledger.State, record *ledger.Household) ledger.SignedBy {
	if m, known := s.Meter(record.Meter); known && record.HasMeter {
		return m.SignedBy
	}
	return 0
}

// A Ledger is one household's month as the ledger has it: the record of the month, and
// the Settlements that it is the sum of.
type Ledger struct {
	Account
	Month ledger.Month
	// Closed has the month and those closed after it if the correction window is over,
	// and Before the hash chain over those closed before. Nil: the record has the month.
	Closed []ledger.Month
	Before [32]byte
	// Lines are in the order of their numbers. Pruned: they are no longer kept, and the
	// month is known by its record alone.
	Lines  []*ledger.Settlement
	Pruned bool
	// Opening is the balance that the months before come to.
	Opening market.Money
}

// Newest returns the newest month in which the household has a settlement.
func (a Account) Newest(history History) (market.Month, error) {
	if n := len(a.Record.Months); n > 0 {
		return a.Record.Months[n-1].Month, nil
	}
	closed, err := a.closed(history)
	if err != nil {
		return 0, err
	}
	if len(closed) == 0 {
		return 0, fmt.Errorf("household %s: %w yet", a.Household, ErrNothing)
	}
	return closed[len(closed)-1].Month, nil
}

// Read reads a month. history may know more than the account, but not less.
func (a Account) Read(history History, m market.Month) (*Ledger, error) {
	l := &Ledger{Account: a}
	closed, err := a.closed(history)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(closed, a.Record.Months)
	at, ok := slices.BinarySearchFunc(all, m, func(x ledger.Month, m market.Month) int { return cmp.Compare(x.Month, m) })
	if !ok {
		return nil, fmt.Errorf("household %s, month %s: %w", a.Household, m, ErrNothing)
	}
	l.Month = all[at]
	l.Opening = a.Record.Balance
	for i := range all[at:] {
		net, err := all[at+i].Net()
		if err == nil {
			l.Opening, err = l.Opening.Sub(net)
		}
		if err != nil {
			return nil, fmt.Errorf("household %s, balance before %s: %w", a.Household, m, err)
		}
	}
	if at < len(closed) {
		for i := range closed[:at] {
			l.Before = ledger.NextChain(l.Before, closed[i].Encode())
		}
		l.Closed = closed[at:]
	}
	return l, l.readLines(history)
}

// closed reads the months that are final, as many as the record says.
func (a Account) closed(history History) ([]ledger.Month, error) {
	if a.Record.Closed == 0 {
		return nil, nil
	}
	months, err := history.Months(a.Household)
	if err != nil {
		return nil, err
	}
	if uint64(len(months)) > a.Record.Closed { // the others have been closed since
		months = months[:a.Record.Closed]
	}
	var chain [32]byte
	for i := range months {
		chain = ledger.NextChain(chain, months[i].Encode())
	}
	if uint64(len(months)) != a.Record.Closed || chain != a.Record.ClosedChain {
		return nil, fmt.Errorf("%w: household %s: %d closed months that hash to %x, want %d and %x",
			ErrLedger, a.Household, len(months), chain, a.Record.Closed, a.Record.ClosedChain)
	}
	return months, nil
}

// readLines reads the Settlements and holds them against the month's record (B1).
func (l *Ledger) readLines(history History) error {
	first, end := l.Calendar.OfMonth(l.Month.Month, l.Zone)
	err := history.Settlements(l.Household, first, func(s *ledger.Settlement) bool {
		if s.Interval >= end {
			return false
		}
		if s.Number <= l.Month.Lines { // later ones are newer than the account
			l.Lines = append(l.Lines, s)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("household %s, month %s: %w", l.Household, l.Month.Month, err)
	}
	slices.SortFunc(l.Lines, func(a, b *ledger.Settlement) int { return cmp.Compare(a.Number, b.Number) })
	if len(l.Lines) == 0 && l.Month.Lines > 0 && l.Closed != nil {
		l.Pruned = true
		return nil
	}
	sum, err := sumOf(l.Household, l.Month.Month, l.Lines)
	if err != nil {
		return fmt.Errorf("%w: household %s, month %s: %w", ErrLedger, l.Household, l.Month.Month, err)
	}
	if sum != l.Month {
		return fmt.Errorf("%w: household %s, month %s: %d lines come to %+v, want %+v",
			ErrLedger, l.Household, l.Month.Month, len(l.Lines), sum, l.Month)
	}
	return nil
}

// sumOf adds up the lines of a month, in the order of their numbers.
func sumOf(h market.HouseholdID, m market.Month, lines []*ledger.Settlement) (ledger.Month, error) {
	sum := ledger.NewMonth(h, m)
	latest := map[market.Interval]*ledger.Settlement{}
	for _, s := range lines {
		if err := sum.Add(s, latest[s.Interval]); err != nil {
			return sum, err
		}
		latest[s.Interval] = s
	}
	return sum, nil
}
