package bill

import (
	"bufio"
	"fmt"
	"io"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// A Format is how a journal is written.
type Format string

// The formats of journals.
const (
	HLedger   Format = "hledger"
	Beancount Format = "beancount"
)

// Accounts of a household's journal besides those of Amounts.each.
const (
	accountOwn     = "Assets:Commonwatt"
	accountOpening = "Equity:Opening"
	payee          = "Commonwatt"
)

// full is the account of an amount.
func (a *amount) full() string {
	if a.income {
		return "Income:" + a.leaf
	}
	return "Expenses:" + a.leaf
}

// WriteJournal writes the Statement as a journal of a household's own books: the balance
// before, a transaction for each line that came to anything, and the balance after, which
// the program that reads it checks (B5).
func (s *Statement) WriteJournal(out io.Writer, f Format) error {
	j := newJournal(out, f, s.Currency)
	first := s.From.Format(time.DateOnly)
	j.comment(fmt.Sprintf("%s, household %s, %s", s.Community, s.Household, s.Month))
	j.comment("paid is negative on " + accountOwn + ", received is positive")
	j.declare(first, accountOwn, accountOpening)
	for _, a := range s.Totals.Amounts.each() {
		j.declare(first, a.full())
	}
	if s.Totals.Opening != 0 {
		j.transaction(first, "balance before this month", nil)
		j.post(accountOwn, s.Totals.Opening)
		j.post(accountOpening, -s.Totals.Opening)
	}
	if s.Pruned {
		j.transaction(first, "the month as a whole, its lines are no longer kept", nil)
		j.post(accountOwn, s.Totals.Net)
		j.post(accountOpening, -s.Totals.Net)
	}
	last := first
	for i := range s.Days {
		for k := range s.Days[i].Lines {
			last = s.Days[i].Date
			j.line(last, &s.Days[i].Lines[k])
		}
	}
	j.balances(last, []balance{{accountOwn, s.Totals.Closing}})
	return j.w.Flush()
}

// line writes the transaction of a line, if it came to anything.
func (j *journal) line(date string, l *Line) {
	begun := false
	for _, a := range l.Amounts.each() {
		if *a.amount == 0 {
			continue
		}
		if !begun {
			begun = true
			j.transaction(date, fmt.Sprintf("%s line %d", l.Start.Format("15:04 -07:00"), l.Number), []tag{
				{"interval", fmt.Sprint(int64(l.Interval))}, {"from", l.origin()},
			})
		}
		j.post(a.full(), -*a.amount)
	}
	if begun {
		j.post(accountOwn, l.Net)
	}
}

// journal writes the words that both formats have, each in its own spelling. Errors stay
// in w until Flush.
type journal struct {
	w        *bufio.Writer
	format   Format
	currency string
}

type tag struct{ name, value string }

type balance struct {
	account string
	amount  market.Money
}

func newJournal(out io.Writer, f Format, currency string) *journal {
	j := &journal{w: bufio.NewWriterSize(out, 1<<16), format: f, currency: currency}
	if f == Beancount {
		fmt.Fprintf(j.w, "option \"title\" \"Commonwatt\"\noption \"operating_currency\" %q\n", currency)
	} else {
		fmt.Fprintf(j.w, "commodity 1000.000000 %s\npayee %s\n", currency, payee)
	}
	return j
}

func (j *journal) comment(text string) { fmt.Fprintf(j.w, "; %s\n", text) }

func (j *journal) declare(date string, accounts ...string) {
	for _, a := range accounts {
		if j.format == Beancount {
			fmt.Fprintf(j.w, "%s open %s %s\n", date, a, j.currency)
		} else {
			fmt.Fprintf(j.w, "account %s\n", a)
		}
	}
}

func (j *journal) transaction(date, text string, tags []tag) {
	if j.format == Beancount {
		fmt.Fprintf(j.w, "\n%s * %q %q\n", date, payee, text)
		for _, t := range tags {
			fmt.Fprintf(j.w, "  %s: %q\n", t.name, t.value)
		}
		return
	}
	fmt.Fprintf(j.w, "\n%s * %s | %s\n", date, payee, text)
	for _, t := range tags {
		fmt.Fprintf(j.w, "    ; %s: %s\n", t.name, t.value)
	}
}

func (j *journal) post(account string, m market.Money) {
	fmt.Fprintf(j.w, "    %-60s %20s %s\n", account, Exact(m), j.currency)
}

// balances asserts what accounts hold at the end of a day.
func (j *journal) balances(date string, all []balance) {
	if j.format == Beancount { // it asserts the beginning of a day
		if day, err := time.Parse(time.DateOnly, date); err == nil {
			date = day.AddDate(0, 0, 1).Format(time.DateOnly)
		}
		fmt.Fprintln(j.w)
		for _, b := range all {
			fmt.Fprintf(j.w, "%s balance %-60s %20s %s\n", date, b.account, Exact(b.amount), j.currency)
		}
		return
	}
	j.transaction(date, "balances of the ledger", nil)
	for _, b := range all {
		fmt.Fprintf(j.w, "    %-60s %20s %s = %s %s\n", b.account, Exact(0), j.currency, Exact(b.amount), j.currency)
	}
}
