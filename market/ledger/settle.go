package ledger

import (
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// report writes a metered energy into its entry; if the Interval has been settled
// with a substitute, it corrects that at once.
func (d *draft) report(k market.Interval, id market.HouseholdID, imported, exported market.WattHours, q Quality) error {
	r := d.editInterval(k)
	i, ok := r.find(id)
	if !ok {
		return fmt.Errorf("reporting interval %d: household %s has no entry", k, id)
	}
	e := &r.Entries[i]
	old := *e
	e.Import, e.Export, e.Quality = imported, exported, q
	if r.State != IntervalSettled {
		return nil
	}
	if err := d.correct(k, old, e); err != nil {
		return fmt.Errorf("correcting interval %d: %w", k, err)
	}
	return nil
}

// finish settles every Interval for which the last report has come in this block,
// and forgets what has been corrected in it. Once a block, because each looks at
// all entries.
func (d *draft) finish() error {
	for _, k := range d.openIntervals(d.next()) {
		if _, touched := d.intervals[k]; !touched {
			continue
		}
		r, _ := d.interval(k)
		switch {
		case r.State == IntervalSettled:
			d.forgetFinal(k)
		case !slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Quality == QualityMissing }):
			if err := d.settle(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetFinal keeps of a settled Interval only what may still be corrected: a
// home that is away for a month must not make all others keep the whole street's
// entries for a month. The rest is in the history.
func (d *draft) forgetFinal(k market.Interval) {
	r := d.editInterval(k)
	r.Entries = slices.DeleteFunc(r.Entries, func(e Entry) bool { return e.Quality != QualitySubstitute })
	if len(r.Entries) == 0 {
		d.dropInterval(k)
	}
}

// settle pays for an Interval by R7. What is missing is substituted by R8; then
// the record stays until the last substitute is corrected or the window closes.
func (d *draft) settle(k market.Interval) error {
	r := d.editInterval(k)
	var pool market.Pool
	for i := range r.Entries {
		e := &r.Entries[i]
		if e.Quality == QualityMissing {
			e.Import, e.Export, e.Quality = e.Bought, e.Sold, QualitySubstitute
		}
		p, err := e.position()
		if err != nil {
			return fmt.Errorf("settling interval %d, household %s: %w", k, e.Household, err)
		}
		ts, err := market.SettleHousehold(k, p, d.terms(e.Price))
		if err != nil {
			return fmt.Errorf("settling interval %d, household %s: %w", k, e.Household, err)
		}
		if err := d.record(k, e, ts); err != nil {
			return err
		}
		if err := pool.Add(p); err != nil {
			return fmt.Errorf("settling interval %d: %w", k, err)
		}
	}
	ts, err := market.SettleMarket(k, market.Totals{
		GridImport: r.GridImport, GridExport: r.GridExport, Tariff: d.rules().GridTariff(), RentTo: market.AccountCooperative,
	}, pool)
	if err != nil {
		return fmt.Errorf("settling interval %d: %w", k, err)
	}
	if err := d.recordResult(k, r, pool.Bought, ts); err != nil {
		return err
	}
	r.State = IntervalSettled
	d.forgetFinal(k)
	return nil
}

// correct books the difference between what an entry was settled on and what it
// is now, as new Transfers (R5).
func (d *draft) correct(k market.Interval, old Entry, e *Entry) error {
	was, err := old.position()
	if err != nil {
		return err
	}
	is, err := e.position()
	if err != nil {
		return err
	}
	before, err := market.SettleHousehold(k, was, d.terms(old.Price))
	if err != nil {
		return err
	}
	after, err := market.SettleHousehold(k, is, d.terms(e.Price))
	if err != nil {
		return err
	}
	corrections, err := market.Correct(k, before, after)
	if err != nil {
		return err
	}
	return d.record(k, e, corrections)
}

func (e *Entry) position() (market.Position, error) {
	buy, err := market.Amount(e.Price, e.Bought)
	if err != nil {
		return market.Position{}, err
	}
	sell, err := market.Amount(e.Price, e.Sold)
	if err != nil {
		return market.Position{}, err
	}
	return market.Position{
		Household: e.Household, Bought: e.Bought, Sold: e.Sold, Buy: buy, Sell: sell,
		MeteredImport: e.Import, MeteredExport: e.Export,
	}, nil
}

// terms are the prices of imbalance: the tariff's, or islanded the node's own.
func (d *draft) terms(own market.Price) market.Terms {
	fee := d.rules().CommunityFee
	if t := d.rules().GridTariff(); t != nil {
		return market.Terms{Retail: t.Retail(), FeedIn: t.FeedIn(), CommunityFee: fee}
	}
	return market.Terms{Retail: own, FeedIn: own, Islanded: true, CommunityFee: fee}
}

// record books a household's Transfers and chains the Settlement to its record.
func (d *draft) record(k market.Interval, e *Entry, ts []market.Transfer) error {
	if err := d.book(ts); err != nil {
		return fmt.Errorf("settling interval %d, household %s: %w", k, e.Household, err)
	}
	h, err := d.editHousehold(e.Household)
	if err != nil {
		return err
	}
	e.Version++
	h.Settled++
	s := &Settlement{
		Number: h.Settled, Interval: k, Household: e.Household, Version: e.Version,
		Bought: e.Bought, Sold: e.Sold, Price: e.Price,
		Import: e.Import, Export: e.Export, Quality: e.Quality,
		Moves: movesOf(ts, market.HouseholdAccount(e.Household)),
	}
	h.Chain = NextChain(h.Chain, s.Encode())
	d.history = append(d.history, Event{Settlement: s})
	return nil
}

func (d *draft) recordResult(k market.Interval, r *IntervalRecord, bought market.WattHours, ts []market.Transfer) error {
	if err := d.book(ts); err != nil {
		return fmt.Errorf("settling interval %d: %w", k, err)
	}
	c := d.editClock()
	c.Settled++
	result := &MarketResult{
		Number: c.Settled, Interval: k, Price: r.Price, Bought: bought, GridImport: r.GridImport, GridExport: r.GridExport,
		Welfare: r.Welfare, Households: uint64(len(r.Entries)), Moves: movesOf(ts, ""),
	}
	c.Chain = NextChain(c.Chain, result.Encode())
	d.history = append(d.history, Event{Result: result})
	return nil
}
