package bill

import (
	"bufio"
	"fmt"
	"io"

	"github.com/commonwatt/commonwatt/market"
)

// WriteTable writes the Statement for a person: totals first, what was saved, days, and
// with lines every interval.
func (s *Statement) WriteTable(out io.Writer, lines bool) error {
	w := bufio.NewWriter(out)
	s.head(w)
	s.sums(w)
	s.savings(w)
	s.dayTable(w)
	if lines {
		s.lineTable(w)
	}
	return w.Flush()
}

func (s *Statement) head(w io.Writer) {
	state := "provisional: late or corrected meter reports can still change it"
	if s.Final {
		state = "final"
	}
	fmt.Fprintf(w, "Bill for %s %d, %s\n", s.From.Month(), s.From.Year(), state)
	fmt.Fprintf(w, "household %s in %s, as of %s\n", s.Household, s.Community, s.AsOf.Format("2006-01-02 15:04 -07:00"))
	if s.Pruned {
		fmt.Fprintln(w, "its intervals are no longer kept here; the totals are the ledger's")
	}
}

func (s *Statement) sums(w io.Writer) {
	t := &s.Totals
	fmt.Fprintf(w, "\n%-46s %14s %16s\n", "", "kWh", s.Currency)
	energy := map[string]string{"Bought": KWh(t.Bought), "Sold": KWh(t.Sold)}
	if !s.Pruned {
		for _, a := range t.Amounts.each() {
			if *a.amount != 0 || energy[a.leaf] != "" {
				fmt.Fprintf(w, "%-46s %14s %16s\n", a.text, energy[a.leaf], signed(*a.amount))
			}
		}
	}
	words := "you pay"
	if t.Net > 0 {
		words = "you receive"
	}
	fmt.Fprintf(w, "%-46s %14s %16s\n", words, "", signed(t.Net))
	fmt.Fprintf(w, "%-46s %14s %16s\n", "balance before", "", signed(t.Opening))
	fmt.Fprintf(w, "%-46s %14s %16s\n", "balance now", "", signed(t.Closing))
	fmt.Fprintf(w, "\n%-46s %14s\n%-46s %14s\n", "your meter counted: drawn", KWh(t.Import), "your meter counted: fed in", KWh(t.Export))
	switch s.SignedBy {
	case "device":
		fmt.Fprintln(w, "its readings are signed by the meter itself")
	case "agent":
		fmt.Fprintln(w, "its readings are signed by the home's gateway, which reads it")
	}
	if t.NotGood > 0 || t.Corrected > 0 {
		fmt.Fprintf(w, "%d intervals are not known by two readings of their own (see their quality), %d lines are corrections\n", t.NotGood, t.Corrected)
	}
}

// savings says what R9 compares, with its formula.
func (s *Statement) savings(w io.Writer) {
	t := &s.Totals
	fmt.Fprintf(w, "\nWithout the community the energy that your meter counted would have %s:\n"+
		"each interval's import at the retail price, less its export at the feed-in price. With it, it %s.\n",
		cost(t.Alone, s.Currency), cost(t.Actual, s.Currency))
	fmt.Fprintf(w, "saved = cost without - cost with = %s - %s = %s %s\n", bracket(t.Alone), bracket(t.Actual), signed(t.Saved), s.Currency)
	if t.Saved < 0 {
		fmt.Fprintln(w, "It is less than nothing because the home did not draw or feed in what it had bought or sold, or because of the fee.")
	}
}

// cost says a cost in words; a negative one is income.
func cost(m market.Money, currency string) string {
	if m < 0 {
		return "earned " + Exact(-m) + " " + currency
	}
	return "cost " + Exact(m) + " " + currency
}

// bracket keeps a sign from standing beside another one.
func bracket(m market.Money) string {
	if m < 0 {
		return "(" + Exact(m) + ")"
	}
	return Exact(m)
}

func (s *Statement) dayTable(w io.Writer) {
	if s.Pruned {
		return
	}
	fmt.Fprintf(w, "\n%-10s %9s %10s %10s %10s %10s %14s %14s\n",
		"day", "intervals", "drawn", "fed in", "bought", "sold", "money", "saved")
	for i := range s.Days {
		d := &s.Days[i]
		if len(d.Lines) == 0 {
			continue
		}
		fmt.Fprintf(w, "%-10s %9s %10s %10s %10s %10s %14s %14s\n", d.Date, fmt.Sprintf("%d of %d", d.settled(), d.Intervals),
			KWh(d.Import), KWh(d.Export), KWh(d.Bought), KWh(d.Sold), signed(d.Net), signed(d.Saved))
	}
}

// settled is how many intervals of the day have a line.
func (d *Day) settled() int {
	n := 0
	for i := range d.Lines {
		if d.Lines[i].Version == 1 {
			n++
		}
	}
	return n
}

func (s *Statement) lineTable(w io.Writer) {
	for i := range s.Days {
		d := &s.Days[i]
		if len(d.Lines) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s\n%6s %-12s %9s %9s %10s %9s %9s %14s %14s  %s\n", d.Date,
			"line", "begins", "bought", "sold", "price", "drawn", "fed in", "money", "saved", "from")
		for j := range d.Lines {
			l := &d.Lines[j]
			fmt.Fprintf(w, "%6d %-12s %9s %9s %10s %9s %9s %14s %14s  %s\n", l.Number, l.Start.Format("15:04 -07:00"),
				KWh(l.Bought), KWh(l.Sold), perKWh(l.Price), KWh(l.Import), KWh(l.Export), signed(l.Net), signed(l.Saved), l.origin())
		}
	}
}

// origin names what a line follows from: orders, readings, block.
func (l *Line) origin() string {
	text := l.Quality
	if l.Version > 1 {
		text = fmt.Sprintf("correction %d, now %s", l.Version-1, text)
	}
	if l.Metered {
		text += ", cleared by meter"
	}
	if l.Bid > 0 {
		text += fmt.Sprintf(", bid %d", l.Bid)
	}
	if l.Offer > 0 {
		text += fmt.Sprintf(", offer %d", l.Offer)
	}
	if l.ReadingEnd > 0 {
		text += fmt.Sprintf(", readings %d to %d", l.ReadingStart, l.ReadingEnd)
	}
	if l.Block > 0 {
		text += fmt.Sprintf(", block %d", l.Block)
	}
	return text
}
