package bill

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Statement is a household's month for people and their programs.
type Statement struct {
	Community string             `json:"community"`
	Household market.HouseholdID `json:"household"`
	Month     market.Month       `json:"month"`
	Zone      string             `json:"zone" doc:"Offset from UTC of the month's first instant; the days are the community's"`
	From      time.Time          `json:"from"`
	To        time.Time          `json:"to"`
	IntervalS int64              `json:"interval_s"`
	Currency  string             `json:"currency"`
	AsOf      time.Time          `json:"as_of" doc:"Community time of the ledger"`
	Final     bool               `json:"final" doc:"No report can change it any more"`
	Pruned    bool               `json:"pruned" doc:"Its lines are no longer kept; the totals are the ledger's"`
	SignedBy  string             `json:"readings_signed_by,omitempty" enum:"agent,device" doc:"Who signs the meter's readings now, as the ledger has it: the home's gateway, or the meter itself"`
	Totals    Totals             `json:"totals"`
	Days      []Day              `json:"days" nullable:"false"`
}

// Totals are sums. Money is positive where the household receives it; Alone, Actual are
// costs.
type Totals struct {
	Lines     int              `json:"lines"`
	Bought    market.WattHours `json:"bought_wh"`
	Sold      market.WattHours `json:"sold_wh"`
	Import    market.WattHours `json:"import_wh"`
	Export    market.WattHours `json:"export_wh"`
	Amounts   Amounts          `json:"amounts"`
	Net       market.Money     `json:"net" doc:"Micro-units; positive: received"`
	Opening   market.Money     `json:"opening" doc:"Balance that the months before come to"`
	Closing   market.Money     `json:"closing" doc:"Balance with this month"`
	Alone     market.Money     `json:"alone" doc:"What the metered energy costs without the community"`
	Actual    market.Money     `json:"actual" doc:"What it did cost"`
	Saved     market.Money     `json:"saved" doc:"alone - actual"`
	NotGood   int              `json:"not_good" doc:"Intervals that are not known by two readings at their own boundaries"`
	Corrected int              `json:"corrections"`
}

// Amounts are what the kinds of transfers come to, positive where received.
type Amounts struct {
	Buy        market.Money `json:"buy"`
	Sell       market.Money `json:"sell"`
	Import     market.Money `json:"imbalance_import"`
	Surplus    market.Money `json:"imbalance_surplus"`
	Export     market.Money `json:"imbalance_export"`
	Shortfall  market.Money `json:"imbalance_shortfall"`
	Fee        market.Money `json:"community_fee"`
	Correction market.Money `json:"correction"`
}

// Day is one day of the community's time.
type Day struct {
	Date      string           `json:"date"`
	Intervals int              `json:"intervals" doc:"That begin on it: 96 quarter hours, 92 or 100 when clocks change"`
	Bought    market.WattHours `json:"bought_wh"`
	Sold      market.WattHours `json:"sold_wh"`
	Import    market.WattHours `json:"import_wh"`
	Export    market.WattHours `json:"export_wh"`
	Net       market.Money     `json:"net"`
	Saved     market.Money     `json:"saved"`
	Lines     []Line           `json:"lines" nullable:"false"`
}

// Line is one settlement or correction, with what it refers to.
type Line struct {
	Number       uint64           `json:"number" doc:"The order in which the ledger has it"`
	Interval     market.Interval  `json:"interval"`
	Start        time.Time        `json:"start"`
	Version      uint32           `json:"version" doc:"1 is the first; a correction has the difference as its amounts"`
	Metered      bool             `json:"metered" doc:"Cleared after delivery, by metered energy"`
	Rule         string           `json:"rule"`
	Quality      string           `json:"quality"`
	Bought       market.WattHours `json:"bought_wh"`
	Sold         market.WattHours `json:"sold_wh"`
	Price        market.Price     `json:"price" doc:"Micro-units per kWh"`
	Import       market.WattHours `json:"import_wh"`
	Export       market.WattHours `json:"export_wh"`
	Retail       market.Price     `json:"retail"`
	FeedIn       market.Price     `json:"feed_in"`
	Fee          market.Price     `json:"fee"`
	Amounts      Amounts          `json:"amounts"`
	Net          market.Money     `json:"net"`
	Alone        market.Money     `json:"alone" doc:"Of a correction: what it is now"`
	Saved        market.Money     `json:"saved" doc:"What this line adds to the month's"`
	Bid          uint64           `json:"bid" doc:"Sequence number of the order; 0: none"`
	Offer        uint64           `json:"offer"`
	ReadingStart uint64           `json:"reading_start" doc:"Number of the reading; 0: none"`
	ReadingEnd   uint64           `json:"reading_end"`
	Block        int64            `json:"block" doc:"Height at which it was settled; 0: not known"`
}

// NewStatement makes the Statement of what the ledger has.
func NewStatement(l *Ledger) (*Statement, error) {
	first, end := l.Calendar.OfMonth(l.Month.Month, l.Zone)
	from := l.Calendar.Start(first).In(l.Zone)
	s := &Statement{
		Community: l.ChainID, Household: l.Household, Month: l.Month.Month, Zone: from.Format("-07:00"),
		From: from, To: l.Calendar.Start(end).In(l.Zone), IntervalS: int64(l.Calendar.Length / time.Second), Currency: Currency,
		AsOf:  l.Calendar.GateClosure(l.Next - 1).In(l.Zone),
		Final: l.Closed != nil, Pruned: l.Pruned,
	}
	if l.SignedBy != 0 {
		s.SignedBy = l.SignedBy.String()
	}
	w := writer{ledger: l, latest: map[market.Interval]*ledger.Settlement{}, day: map[string]int{}, not: map[market.Interval]bool{}}
	s.Days = w.days(first, end)
	for _, line := range l.Lines {
		if err := w.add(s, line); err != nil {
			return nil, fmt.Errorf("statement of %s: line %d: %w", l.Month.Month, line.Number, err)
		}
	}
	for i := range s.Days { // late lines to where they belong
		slices.SortFunc(s.Days[i].Lines, func(a, b Line) int {
			return cmp.Or(cmp.Compare(a.Interval, b.Interval), cmp.Compare(a.Version, b.Version))
		})
	}
	return s, s.total(l, len(w.not))
}

// total fills in the totals. Those that the ledger keeps are the ledger's, which Read has
// held against the lines.
func (s *Statement) total(l *Ledger, notGood int) error {
	t, m := &s.Totals, &l.Month
	t.Lines, t.NotGood = len(l.Lines), notGood
	t.Bought, t.Sold, t.Import, t.Export, t.Alone = m.Bought, m.Sold, m.Import, m.Export, m.Alone
	var err error
	if t.Net, err = m.Net(); err != nil {
		return err
	}
	t.Opening, t.Actual = l.Opening, -t.Net
	if t.Closing, err = t.Opening.Add(t.Net); err != nil {
		return err
	}
	if t.Saved, err = t.Alone.Sub(t.Actual); err != nil {
		return err
	}
	if net, err := t.Amounts.net(); err != nil || !s.Pruned && net != t.Net {
		return fmt.Errorf("%w: the amounts come to %d, want %d", ErrLedger, net, t.Net)
	}
	return nil
}

// writer makes lines out of settlements.
type writer struct {
	ledger *Ledger
	latest map[market.Interval]*ledger.Settlement
	day    map[string]int // date -> index in Statement.Days
	not    map[market.Interval]bool
}

// days makes the table of days (B3), empty but for how many intervals begin on each.
func (w *writer) days(first, end market.Interval) []Day {
	days := []Day{}
	for k := first; k < end; {
		start := w.ledger.Calendar.Start(k).In(w.ledger.Zone)
		_, next := w.ledger.Calendar.OfDay(start, w.ledger.Zone)
		next = min(next, end)
		date := start.Format(time.DateOnly)
		w.day[date] = len(days)
		days = append(days, Day{Date: date, Intervals: int(next - k), Lines: []Line{}})
		k = max(next, k+1)
	}
	return days
}

func (w *writer) add(s *Statement, from *ledger.Settlement) error {
	start := w.ledger.Calendar.Start(from.Interval).In(w.ledger.Zone)
	line := Line{
		Number: from.Number, Interval: from.Interval, Start: start, Version: from.Version, Metered: from.Metered, Rule: from.Rule.String(),
		Quality: from.Quality.String(), Bought: from.Bought, Sold: from.Sold, Price: from.Price,
		Import: from.Import, Export: from.Export, Retail: from.Retail, FeedIn: from.FeedIn, Fee: from.Fee, Alone: from.Alone,
		Bid: from.BidSeq, Offer: from.OfferSeq, ReadingStart: from.StartSeq, ReadingEnd: from.EndSeq, Block: from.Height,
	}
	var err error
	if line.Amounts, err = amountsOf(from.Moves); err != nil {
		return err
	}
	if line.Net, err = line.Amounts.net(); err != nil {
		return err
	}
	before := w.latest[from.Interval]
	w.latest[from.Interval] = from
	delete(w.not, from.Interval)
	if from.Quality != ledger.QualityGood {
		w.not[from.Interval] = true
	}
	if before == nil {
		before = &ledger.Settlement{}
	} else {
		s.Totals.Corrected++
	}
	if line.Saved, err = (from.Alone - before.Alone).Add(line.Net); err != nil {
		return err
	}
	at, ok := w.day[start.Format(time.DateOnly)]
	if !ok {
		return fmt.Errorf("%w: interval %d is not of this month", ErrLedger, from.Interval)
	}
	d := &s.Days[at]
	d.Lines = append(d.Lines, line)
	d.Bought += from.Bought - before.Bought // within the month's, which is checked
	d.Sold += from.Sold - before.Sold
	d.Import += from.Import - before.Import
	d.Export += from.Export - before.Export
	d.Net += line.Net
	d.Saved += line.Saved
	return s.Totals.Amounts.add(line.Amounts)
}

// amountsOf sorts a settlement's moves by kind, as the household sees them.
func amountsOf(moves []ledger.Move) (a Amounts, err error) {
	for _, m := range moves {
		sum := a.of(m.Kind)
		if sum == nil || (m.Debit == 0) == (m.Credit == 0) {
			return a, fmt.Errorf("%w: a household has no transfer of kind %s from account %d to %d", ErrLedger, m.Kind, m.Debit, m.Credit)
		}
		amount := m.Amount
		if m.Debit == 0 {
			amount = -amount
		}
		if *sum, err = sum.Add(amount); err != nil {
			return a, err
		}
	}
	return a, nil
}

// of is the amount of a kind, nil for one that no household deals with.
func (a *Amounts) of(k market.TransferKind) *market.Money {
	for _, e := range a.each() {
		if e.kind == k {
			return e.amount
		}
	}
	return nil
}

// amount is one of Amounts, with its names.
type amount struct {
	kind   market.TransferKind
	amount *market.Money
	text   string // for a homeowner
	leaf   string // of its account in a journal
	income bool
}

// each is the one table of what a household's transfers are, in the order of a bill.
func (a *Amounts) each() [8]amount {
	return [8]amount{
		{market.KindBuy, &a.Buy, "bought in the community", "Bought", false},
		{market.KindSell, &a.Sell, "sold in the community", "Sold", true},
		{market.KindImbalanceImport, &a.Import, "drawn beyond that, from the supplier", "Supplier", false},
		{market.KindImbalanceExport, &a.Export, "fed in beyond that, to the supplier", "Feed-In", true},
		{market.KindImbalanceSurplus, &a.Surplus, "bought but not used, back to the supplier", "Surplus", true},
		{market.KindImbalanceShortfall, &a.Shortfall, "sold but not delivered, from the supplier", "Shortfall", false},
		{market.KindCommunityFee, &a.Fee, "community fee", "Community-Fee", false},
		{market.KindCorrection, &a.Correction, "corrections of earlier lines", "Corrections", false},
	}
}

func (a *Amounts) net() (net market.Money, err error) {
	for _, e := range a.each() {
		if net, err = net.Add(*e.amount); err != nil {
			return 0, err
		}
	}
	return net, nil
}

func (a *Amounts) add(b Amounts) (err error) {
	others := b.each()
	for i, e := range a.each() {
		if *e.amount, err = e.amount.Add(*others[i].amount); err != nil {
			return err
		}
	}
	return nil
}

// TakeBlocks copies the blocks of the lines that other has too.
func (s *Statement) TakeBlocks(other *Statement) {
	blocks := map[uint64]int64{}
	for i := range other.Days {
		for j := range other.Days[i].Lines {
			blocks[other.Days[i].Lines[j].Number] = other.Days[i].Lines[j].Block
		}
	}
	for i := range s.Days {
		for j := range s.Days[i].Lines {
			s.Days[i].Lines[j].Block = blocks[s.Days[i].Lines[j].Number]
		}
	}
}
