package ledger

import (
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// metered is what a household's meter counted in an Interval, and how that is known.
type metered struct {
	imported, exported market.WattHours // of the whole meter
	quality            Quality
	start, end         uint64 // numbers of the readings
}

// report writes a metered energy into its entry, the part that takes part in this
// community; if the Interval has been settled with a substitute, it corrects that at once.
func (d *draft) report(k market.Interval, id market.HouseholdID, m metered) error {
	r := d.editInterval(k)
	i, ok := r.find(id)
	if !ok {
		return fmt.Errorf("reporting interval %d: household %s has no entry", k, id)
	}
	e := &r.Entries[i]
	old := *e
	from, to := int64(e.ShareFrom), int64(e.ShareTo)
	e.Import, e.Export = market.ShareOf(m.imported, from, to), market.ShareOf(m.exported, from, to)
	e.Quality, e.StartSeq, e.EndSeq = m.quality, m.start, m.end
	if r.State != IntervalSettled {
		return nil
	}
	return d.correct(k, r, old, e)
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
		if r.State == IntervalSettled {
			continue
		}
		if !slices.ContainsFunc(r.Entries, func(e Entry) bool { return e.Quality == QualityMissing }) {
			if err := d.settle(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle pays for an Interval by R7, after clearing it if it is cleared by metered
// energy (R6). What is missing is substituted by R8. The record stays until the
// correction window closes, but of the entries only those that a report is still
// awaited for: the rest is in the history, and under the record's Root. A home that is
// away for a month must not make all others keep the whole street's entries for a month.
func (d *draft) settle(k market.Interval) error {
	r := d.editInterval(k)
	if r.State == IntervalDelivered {
		if err := d.clear(k, r); err != nil {
			return err
		}
	}
	result := MarketResult{Interval: k, Metered: r.Metered, Rule: r.Rule}
	var pool market.Pool
	leaves := make([][]byte, len(r.Entries))
	for i := range r.Entries {
		e := &r.Entries[i]
		if e.Quality == QualityMissing {
			e.Import, e.Export, e.Quality = e.Bought, e.Sold, QualitySubstitute
		}
		ts, err := market.SettleHousehold(k, e.position(), d.termsOf(k, r, e))
		if err != nil {
			return fmt.Errorf("settling interval %d, household %s: %w", k, e.Household, err)
		}
		if leaves[i], err = d.record(k, r, e, ts, nil); err != nil {
			return fmt.Errorf("settling interval %d, household %s: %w", k, e.Household, err)
		}
		if err := pool.Add(e.position()); err != nil {
			return fmt.Errorf("settling interval %d: %w", k, err)
		}
		result.Import, result.Export = result.Import+e.Import, result.Export+e.Export // bounded by the rules
	}
	r.Root = settlementRoot(leaves)
	result.Bought, result.Sold = pool.Bought, pool.Sold
	if err := d.recordResult(k, r, &result, pool); err != nil {
		return fmt.Errorf("settling interval %d: %w", k, err)
	}
	r.State = IntervalSettled
	r.Entries = slices.DeleteFunc(r.Entries, func(e Entry) bool { return e.Quality != QualitySubstitute })
	return nil
}

// correct books the difference between what an entry was settled on and what it
// is now, as new Transfers (R5).
func (d *draft) correct(k market.Interval, r *IntervalRecord, old Entry, e *Entry) error {
	terms := d.termsOf(k, r, e)
	before, err := market.SettleHousehold(k, old.position(), terms)
	if err != nil {
		return fmt.Errorf("correcting interval %d: %w", k, err)
	}
	after, err := market.SettleHousehold(k, e.position(), terms)
	if err != nil {
		return fmt.Errorf("correcting interval %d: %w", k, err)
	}
	corrections, err := market.Correct(k, before, after)
	if err != nil {
		return fmt.Errorf("correcting interval %d: %w", k, err)
	}
	if _, err := d.record(k, r, e, corrections, &old); err != nil {
		return fmt.Errorf("correcting interval %d: %w", k, err)
	}
	return nil
}

func (e *Entry) position() market.Position {
	return market.Position{
		Household: e.Household, Bought: e.Bought, Sold: e.Sold, Buy: e.Buy, Sell: e.Sell,
		MeteredImport: e.Import, MeteredExport: e.Export,
	}
}

func (d *draft) termsOf(k market.Interval, r *IntervalRecord, e *Entry) market.Terms {
	price, _ := r.PriceAt(e.Node)
	return d.termsAt(k, e.Node, price)
}

// record books a household's Transfers and chains the Settlement to its month; old is
// the entry before a correction, nil if it is the first Settlement. It returns the leaf
// of the Settlement in the Interval's tree.
func (d *draft) record(k market.Interval, r *IntervalRecord, e *Entry, ts []market.Transfer, old *Entry) ([]byte, error) {
	if err := d.book(ts); err != nil {
		return nil, err
	}
	h, err := d.editHousehold(e.Household)
	if err != nil {
		return nil, err
	}
	e.Version++
	h.Settled++
	s, err := d.settlement(k, r, e)
	if err != nil {
		return nil, err
	}
	if s.Moves, err = movesOf(ts, market.HouseholdAccount(e.Household)); err != nil {
		return nil, err
	}
	var before *Settlement
	if old != nil {
		if before, err = d.settlement(k, r, old); err != nil {
			return nil, err
		}
	}
	m := h.month(e.Household, d.month(k))
	s.Number = m.Lines + 1
	if err := m.Add(s, before); err != nil {
		return nil, err
	}
	d.history = append(d.history, Event{Settlement: s})
	return SettlementLeaf(e.Household, s.Encode()), nil
}

// settlement is what an entry comes to, without number and moves.
func (d *draft) settlement(k market.Interval, r *IntervalRecord, e *Entry) (*Settlement, error) {
	terms := d.termsOf(k, r, e)
	alone, err := market.Alone(e.position(), terms)
	if err != nil {
		return nil, err
	}
	price, _ := r.PriceAt(e.Node)
	return &Settlement{
		Interval: k, Household: e.Household, Version: e.Version, Node: e.Node, Metered: r.Metered, Rule: r.Rule,
		BidSeq: e.BidSeq, OfferSeq: e.OfferSeq, StartSeq: e.StartSeq, EndSeq: e.EndSeq,
		Bought: e.Bought, Sold: e.Sold, Price: price, Import: e.Import, Export: e.Export, Quality: e.Quality,
		Retail: terms.Retail, FeedIn: terms.FeedIn, Fee: terms.CommunityFee, Alone: alone,
	}, nil
}

// month is that of an Interval, in the community's time.
func (d *draft) month(k market.Interval) market.Month {
	if d.monthOf == nil {
		d.monthOf = map[market.Interval]market.Month{}
	}
	m, ok := d.monthOf[k]
	if !ok {
		m = d.calendar().MonthOf(k, d.base.Zone())
		d.monthOf[k] = m
	}
	return m
}

// month returns a household's month to write to, made if there is none.
func (h *Household) month(id market.HouseholdID, m market.Month) *Month {
	i, ok := slices.BinarySearchFunc(h.Months, m, func(x Month, m market.Month) int { return int(x.Month - m) })
	if !ok {
		h.Months = slices.Insert(h.Months, i, NewMonth(id, m))
	}
	return &h.Months[i]
}

// recordResult settles the market's own account and keeps the Interval's result.
func (d *draft) recordResult(k market.Interval, r *IntervalRecord, result *MarketResult, pool market.Pool) error {
	rules, network := d.rulesAt(k), d.networkAt(k)
	ts, err := market.SettleMarket(k, market.Totals{
		GridImport: r.GridImport, GridExport: r.GridExport, Tariff: rules.GridTariff(),
		Flows: network.flows(r), Surplus: r.Surplus, RentTo: rules.rentAccount(),
	}, pool)
	if err != nil {
		return err
	}
	if err := d.book(ts); err != nil {
		return err
	}
	c := d.editClock()
	c.Settled++
	result.Number, result.Price, result.GridImport, result.GridExport = c.Settled, r.Prices[network.root], r.GridImport, r.GridExport
	result.Welfare, result.Households, result.Root = r.Welfare, uint64(len(r.Entries)), r.Root
	if result.Moves, err = movesOf(ts, ""); err != nil {
		return err
	}
	for i := range network.Nodes {
		result.Nodes = append(result.Nodes, NodeResult{Node: network.Nodes[i].ID, Price: r.Prices[i], Flow: r.Flows[i]})
	}
	c.Chain = NextChain(c.Chain, result.Encode())
	d.history = append(d.history, Event{Result: result})
	return nil
}

// flows gives an Interval's flows with the fee and the rent of each edge.
func (n *Network) flows(r *IntervalRecord) []market.Flow {
	out := make([]market.Flow, 0, len(n.Nodes)-1)
	for i := range n.Nodes {
		if uint32(i) == n.root {
			continue
		}
		f := market.Flow{Node: n.Nodes[i].ID, WattHours: r.Flows[i]}
		difference := r.Prices[n.parent[i]] - r.Prices[i]
		switch {
		case f.WattHours > 0:
			f.Fee = n.Nodes[i].ExportFee
			f.Rent = difference - f.Fee
		case f.WattHours < 0:
			f.Fee = n.Nodes[i].ImportFee
			f.Rent = -difference - f.Fee
		}
		out = append(out, f)
	}
	return out
}
