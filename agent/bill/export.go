package bill

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Results is the history of the market as a whole.
type Results interface {
	Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error
	Results(from market.Interval, f func(*ledger.MarketResult) bool) error
}

// CSV is a table of transfers.
const CSV Format = "csv"

// Formats are those of Export.
func Formats() []string { return []string{string(CSV), string(HLedger), string(Beancount)} }

// Export writes every transfer of every account of a ledger that nobody writes to, in the
// order of intervals, for the books of the cooperative. A journal begins with what is no
// longer kept, if anything, and ends with the balances that the ledger has; they add up to
// zero (B5). It returns how many transfers it wrote.
func Export(out io.Writer, f Format, s *ledger.State, history Results, progress func(transfers int)) (int, error) {
	e := &exporter{state: s, history: history, zone: s.Zone(), calendar: s.Calendar(), sums: map[market.Account]market.Money{}, progress: progress}
	e.households = s.Households()
	// Twice through the history: a journal begins with the balances before it.
	if err := e.walk(e.count); err != nil {
		return 0, err
	}
	if f == CSV {
		return e.n, e.csv(out)
	}
	return e.n, e.journal(newJournal(out, f, Currency))
}

// exporter walks the history of all accounts. One day of it is in memory at a time.
type exporter struct {
	state      *ledger.State
	history    Results
	zone       *time.Location
	calendar   market.Calendar
	households []market.HouseholdID
	progress   func(int)

	n           int
	sums        map[market.Account]market.Money // of all transfers
	first, last market.Interval
}

// movement is a transfer with where it comes from.
type movement struct {
	market.Transfer
	owner   market.Account // whose settlement; of the market as a whole: market
	version uint32
	block   int64
}

func (e *exporter) count(m movement) error {
	if e.n == 0 {
		e.first = m.Interval
	}
	e.n++
	e.last = m.Interval
	for _, side := range []struct {
		account market.Account
		amount  market.Money
	}{{m.Debit, -m.Amount}, {m.Credit, m.Amount}} {
		sum, err := e.sums[side.account].Add(side.amount)
		if err != nil {
			return fmt.Errorf("account %s: %w", side.account, err)
		}
		e.sums[side.account] = sum
	}
	return nil
}

// walk yields every transfer, day by day: the market's own, then each household's.
func (e *exporter) walk(f func(movement) error) error {
	var from market.Interval
	for {
		next, ok, err := e.nextResult(from)
		if err != nil || !ok {
			return err
		}
		_, end := e.calendar.OfDay(e.calendar.Start(next), e.zone)
		end = max(end, next+1)
		moves, err := e.between(next, end)
		if err != nil {
			return err
		}
		for _, m := range moves {
			if err := f(m); err != nil {
				return err
			}
		}
		from = end
	}
}

// nextResult finds the first settled interval from one on.
func (e *exporter) nextResult(from market.Interval) (k market.Interval, ok bool, err error) {
	err = e.history.Results(from, func(r *ledger.MarketResult) bool {
		k, ok = r.Interval, true
		return false
	})
	return k, ok, err
}

func (e *exporter) between(from, end market.Interval) ([]movement, error) {
	var all []movement
	take := func(k market.Interval, moves []ledger.Move, owner market.Account, version uint32, block int64) {
		for _, t := range ledger.Transfers(k, moves, owner) {
			all = append(all, movement{t, owner, version, block})
		}
	}
	err := e.history.Results(from, func(r *ledger.MarketResult) bool {
		if r.Interval < end {
			take(r.Interval, r.Moves, market.AccountMarket, 1, r.Height)
		}
		return r.Interval < end
	})
	if err != nil {
		return nil, err
	}
	for _, h := range e.households {
		err := e.history.Settlements(h, from, func(s *ledger.Settlement) bool {
			if s.Interval < end {
				take(s.Interval, s.Moves, market.HouseholdAccount(h), s.Version, s.Height)
			}
			return s.Interval < end
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b movement) int { return int(a.Interval - b.Interval) })
	return all, nil
}

func (e *exporter) csv(out io.Writer) error {
	buffered := bufio.NewWriterSize(out, 1<<16)
	w := csv.NewWriter(buffered)
	if err := w.Write([]string{"date", "start", "interval", "settlement", "version", "block", "kind", "debit", "credit", "amount", "currency"}); err != nil {
		return err
	}
	written := 0
	err := e.walk(func(m movement) error {
		written++
		e.progress(written)
		start := e.calendar.Start(m.Interval).In(e.zone)
		return w.Write([]string{
			start.Format(time.DateOnly), start.Format(time.RFC3339), strconv.FormatInt(int64(m.Interval), 10), string(m.owner),
			fmt.Sprint(m.version), fmt.Sprint(m.block), m.Kind.String(), string(m.Debit), string(m.Credit), Exact(m.Amount), Currency,
		})
	})
	if err != nil {
		return err
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return buffered.Flush()
}

func (e *exporter) journal(j *journal) error {
	balances := e.state.Accounts()
	names := slices.Sorted(maps.Keys(balances))
	date := func(k market.Interval) string { return e.calendar.Start(k).In(e.zone).Format(time.DateOnly) }
	first := date(e.first)
	j.comment(fmt.Sprintf("%s: every transfer of every account; a debit pays a credit", e.state.ChainID()))
	for _, a := range names {
		j.declare(first, journalAccount(a))
	}
	j.declare(first, accountOpening)
	begun := false
	for _, a := range names {
		opening, err := balances[a].Sub(e.sums[a])
		if err != nil {
			return fmt.Errorf("account %s: %w", a, err)
		}
		if opening == 0 {
			continue
		}
		if !begun {
			j.transaction(first, "what is no longer kept", nil)
			begun = true
		}
		j.post(journalAccount(a), opening)
	}
	written := 0
	err := e.walk(func(m movement) error {
		written++
		e.progress(written)
		start := e.calendar.Start(m.Interval).In(e.zone)
		tags := []tag{{"interval", strconv.FormatInt(int64(m.Interval), 10)}}
		if m.version > 1 {
			tags = append(tags, tag{"version", fmt.Sprint(m.version)})
		}
		if m.block > 0 {
			tags = append(tags, tag{"block", fmt.Sprint(m.block)})
		}
		j.transaction(start.Format(time.DateOnly), start.Format("15:04 -07:00 ")+m.Kind.String(), tags)
		j.post(journalAccount(m.Debit), -m.Amount)
		j.post(journalAccount(m.Credit), m.Amount)
		return nil
	})
	if err != nil {
		return err
	}
	all := make([]balance, len(names))
	for i, a := range names {
		all[i] = balance{journalAccount(a), balances[a]}
	}
	j.balances(date(e.last), all)
	return j.w.Flush()
}

// journalAccount names a ledger's account as both formats can have it.
func journalAccount(a market.Account) string {
	if h, ok := a.Household(); ok {
		return "Assets:Households:H-" + h.String()
	}
	words := strings.Split(string(a), "-")
	for i, w := range words {
		words[i] = strings.ToUpper(w[:1]) + w[1:]
	}
	return "Assets:" + strings.Join(words, "-")
}
