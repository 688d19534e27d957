package ledger

import (
	"fmt"
	"iter"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// draft is a state with changes laid over it. Reading falls through to the base;
// edit methods copy a record before it may be written to. The base never changes.
type draft struct {
	charter
	base       *State
	clock      *clockRecord
	accounts   map[market.Account]market.Money
	households map[market.HouseholdID]*Household
	founders   map[Key]market.HouseholdID // claimed in this block
	validators map[Key]*validatorRecord   // nil value: deleted
	meters     map[MeterID]*Meter
	intervals  map[market.Interval]*draftInterval // nil value: deleted
	history    []Event

	seed    [32]byte // of the block
	batch   *batch   // not nil: signatures are collected for CheckTxs
	last    bool     // the transaction at hand is the last of its block
	clearer *market.Clearer
	monthOf map[market.Interval]market.Month
}

// draftInterval is an IntervalRecord being changed. New entries wait in fresh,
// because to insert each where it belongs is quadratic in a street's orders.
type draftInterval struct {
	record IntervalRecord
	fresh  map[market.HouseholdID]*Entry
}

// tidy puts the new entries where they belong and returns the record.
func (di *draftInterval) tidy() *IntervalRecord {
	if len(di.fresh) == 0 {
		return &di.record
	}
	entries := make([]Entry, 0, len(di.record.Entries)+len(di.fresh))
	entries = append(entries, di.record.Entries...)
	for _, e := range di.fresh {
		entries = append(entries, *e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return compareHouseholds(a.Household, b.Household) })
	di.record.Entries, di.fresh = entries, nil
	return &di.record
}

// Event is one line of history: a household's Settlement, an Interval's result, or a
// household's month that is closed.
type Event struct {
	Settlement *Settlement
	Result     *MarketResult
	Month      *ClosedMonth
}

// ClosedMonth is a household's Month that is final.
type ClosedMonth struct {
	Household market.HouseholdID
	Number    uint64 // of the household's, from 1 on: the order in which its chain covers them
	Month     Month
}

func newDraft(s *State) *draft {
	return &draft{
		charter:    s.charter,
		base:       s,
		accounts:   map[market.Account]market.Money{},
		households: map[market.HouseholdID]*Household{},
		founders:   map[Key]market.HouseholdID{},
		validators: map[Key]*validatorRecord{},
		meters:     map[MeterID]*Meter{},
		intervals:  map[market.Interval]*draftInterval{},
	}
}

func (d *draft) calendar() market.Calendar { return d.base.genesis.Calendar() }

func (d *draft) next() market.Interval { return d.clockNow().Next }

func (d *draft) clockNow() clockRecord {
	if d.clock != nil {
		return *d.clock
	}
	return d.base.clock
}

func (d *draft) editClock() *clockRecord {
	if d.clock == nil {
		c := d.base.clock
		d.clock = &c
	}
	return d.clock
}

func (d *draft) household(id market.HouseholdID) (*Household, bool) {
	if h, ok := d.households[id]; ok {
		return h, true
	}
	return d.base.Household(id)
}

// allHouseholds yields all members, in no order: for questions whose answer, and changes
// whose outcome, is the same in any.
func (d *draft) allHouseholds() iter.Seq2[market.HouseholdID, *Household] {
	return func(yield func(market.HouseholdID, *Household) bool) {
		for id, h := range d.base.households {
			if changed, ok := d.households[id]; ok {
				h = changed
			}
			if !yield(id, h) {
				return
			}
		}
		for id, h := range d.households {
			if _, ok := d.base.households[id]; !ok && !yield(id, h) {
				return
			}
		}
	}
}

// claim returns the household that brought a founder's network key.
func (d *draft) claim(network Key) (market.HouseholdID, bool) {
	if id, ok := d.founders[network]; ok {
		return id, true
	}
	id, ok := d.base.founders[network]
	return id, ok
}

func (d *draft) editHousehold(id market.HouseholdID) (*Household, error) {
	if h, ok := d.households[id]; ok {
		return h, nil
	}
	h, ok := d.base.Household(id)
	if !ok {
		return nil, fmt.Errorf("household %s: not registered", id)
	}
	c := *h
	c.Months = slices.Clone(h.Months)
	d.households[id] = &c
	return &c, nil
}

func (d *draft) meter(id MeterID) (*Meter, bool) {
	if m, ok := d.meters[id]; ok {
		return m, true
	}
	return d.base.Meter(id)
}

func (d *draft) editMeter(id MeterID) (*Meter, error) {
	if m, ok := d.meters[id]; ok {
		return m, nil
	}
	m, ok := d.base.Meter(id)
	if !ok {
		return nil, fmt.Errorf("meter %s: not registered", id)
	}
	c := *m
	d.meters[id] = &c
	return &c, nil
}

func (d *draft) interval(k market.Interval) (*IntervalRecord, bool) {
	if di, ok := d.intervals[k]; ok {
		if di == nil {
			return nil, false
		}
		return di.tidy(), true
	}
	return d.base.Interval(k)
}

// entry returns a household's part in an Interval. Unlike interval it leaves new
// entries where they are, so that it may be called for each order.
func (d *draft) entry(k market.Interval, h market.HouseholdID) (Entry, bool) {
	di, ok := d.intervals[k]
	if !ok {
		if r, found := d.base.Interval(k); found {
			return r.Entry(h)
		}
		return Entry{}, false
	}
	if di == nil {
		return Entry{}, false
	}
	if e := di.fresh[h]; e != nil {
		return *e, true
	}
	return di.record.Entry(h)
}

// editInterval returns a record that may be written to; an unknown Interval
// begins open and empty.
func (d *draft) editInterval(k market.Interval) *IntervalRecord { return d.openDraft(k).tidy() }

// editEntry returns the household's entry to write to, made if there is none. It
// is valid until the next call for another household.
func (d *draft) editEntry(k market.Interval, h market.HouseholdID) *Entry {
	di := d.openDraft(k)
	if i, ok := di.record.find(h); ok {
		return &di.record.Entries[i]
	}
	e := di.fresh[h]
	if e == nil {
		e = &Entry{Household: h}
		if di.fresh == nil {
			di.fresh = map[market.HouseholdID]*Entry{}
		}
		di.fresh[h] = e
	}
	return e
}

func (d *draft) openDraft(k market.Interval) *draftInterval {
	if di := d.intervals[k]; di != nil {
		return di
	}
	di := &draftInterval{}
	if r, ok := d.interval(k); ok {
		di.record = *r
		di.record.Entries = slices.Clone(r.Entries) // steps inside are replaced, never written to
	}
	d.intervals[k] = di
	return di
}

func (d *draft) dropInterval(k market.Interval) { d.intervals[k] = nil }

// openIntervals returns the unfinished Intervals below limit, oldest first.
func (d *draft) openIntervals(limit market.Interval) []market.Interval {
	var ks []market.Interval
	for k := range d.base.intervals {
		if _, changed := d.intervals[k]; !changed && k < limit {
			ks = append(ks, k)
		}
	}
	for k, di := range d.intervals {
		if di != nil && k < limit {
			ks = append(ks, k)
		}
	}
	slices.Sort(ks)
	return ks
}

// book moves the money of the transfers, which keeps the sum of all accounts (L1).
func (d *draft) book(ts []market.Transfer) error {
	for _, t := range ts {
		if t.Amount <= 0 {
			return fmt.Errorf("transfer %s of %d: amount must be above 0", t.Kind, t.Amount)
		}
		if err := d.post(t.Debit, -t.Amount); err != nil {
			return err
		}
		if err := d.post(t.Credit, t.Amount); err != nil {
			return err
		}
	}
	return nil
}

func (d *draft) post(a market.Account, m market.Money) error {
	if id, ok := a.Household(); ok {
		h, err := d.editHousehold(id)
		if err != nil {
			return err
		}
		if h.Balance, err = h.Balance.Add(m); err != nil {
			return fmt.Errorf("balance of %s: %w", a, err)
		}
		return nil
	}
	now, ok := d.accounts[a]
	if !ok {
		now = d.base.accounts[a]
	}
	sum, err := now.Add(m)
	if err != nil {
		return fmt.Errorf("balance of %s: %w", a, err)
	}
	d.accounts[a] = sum
	return nil
}
