package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// closeGate ends the taking of orders for k: every household with a meter gets an entry,
// because it will be settled on what it metered, whether or not it ordered. The Interval
// is cleared now (R3), or, where the rules want it or delivery has begun, by metered
// energy once that is known (R6).
func (d *draft) closeGate(k market.Interval, awaited []market.HouseholdID, t *Tick) error {
	d.editClock().Next = k + 1
	if len(awaited) == 0 {
		if _, ok := d.interval(k); ok {
			d.dropInterval(k) // orders of those who have left since
		}
		return nil
	}
	r := d.editInterval(k)
	r.Seed = intervalSeed(d.seed, k)
	r.Gate = t.To
	r.Metered = k < t.Begun || d.rulesAt(k).Clearing == ClearingMetered
	r.Entries = mergeEntries(r.Entries, awaited)
	network := d.networkAt(k)
	for i := range r.Entries {
		e := &r.Entries[i]
		h, ok := d.household(e.Household)
		if !ok {
			return fmt.Errorf("closing the gate of %d: household %s is not registered", k, e.Household)
		}
		if e.Node, ok = network.Index(h.Node); !ok {
			return fmt.Errorf("closing the gate of %d: household %s is at node %q, which is not in the network", k, e.Household, h.Node)
		}
		e.ShareFrom, e.ShareTo = h.span(d.base.genesis.Name)
		e.ShareKey = h.ShareKey
		if r.Metered {
			p := d.preferenceAt(k, h, e.Node)
			e.MinSell, e.MaxBuy = p.MinSell, p.MaxBuy
		}
	}
	if r.Metered {
		r.State = IntervalDelivered
		return nil
	}
	r.State = IntervalCleared
	return d.clear(k, r)
}

// clear decides the auction of an Interval by its rule, on orders or on what was metered.
func (d *draft) clear(k market.Interval, r *IntervalRecord) error {
	rules, network := d.rulesAt(k), d.networkAt(k)
	orders, owner := d.orders(k, r)
	m := market.Market{
		Rule: d.ruleAt(k), Tariff: rules.GridTariff(), Network: d.marketNetwork(k), Orders: orders, Seed: r.Seed[:],
	}
	if m.Rule == market.RuleSharing {
		m.Sharing = market.Sharing{Price: rules.SharingPrice}
		for i := range r.Entries {
			m.Sharing.Keys += r.Entries[i].ShareKey // bounded by maxShareKey each
		}
	}
	if d.clearer == nil {
		d.clearer = market.NewClearer()
	}
	result, err := d.clearer.Clear(m)
	if err == nil {
		err = result.Unpayable // the rules bound every amount, so it is never set (L8)
	}
	if err != nil {
		return fmt.Errorf("clearing interval %d: %w", k, err)
	}
	r.Rule = ruleCode(m.Rule)
	r.GridImport, r.GridExport, r.Welfare, r.Surplus = result.GridImport, result.GridExport, result.Welfare, result.Surplus
	r.Prices = make([]market.Price, len(result.Prices))
	for i, p := range result.Prices {
		r.Prices[i] = p.Price
	}
	r.Flows = make([]market.WattHours, len(result.Prices))
	for i, f := range result.Flows { // of every node but the root, in the nodes' order
		if uint32(i) >= network.root {
			i++
		}
		r.Flows[i] = f.WattHours
	}
	for _, a := range result.Allocations {
		e := &r.Entries[owner[a.Order]]
		wh, amount := &e.Bought, &e.Buy
		if orders[a.Order].Side == market.Offer {
			wh, amount = &e.Sold, &e.Sell
		}
		*wh += a.WattHours // together at most what it asked for
		if *amount, err = amount.Add(a.Amount); err != nil {
			return fmt.Errorf("clearing interval %d, household %s: %w", k, e.Household, err)
		}
	}
	return nil
}

// orders returns the book of an Interval, and for each order the index of its entry.
func (d *draft) orders(k market.Interval, r *IntervalRecord) ([]market.Order, []int) {
	var orders []market.Order
	var owner []int
	network := d.networkAt(k)
	// mcafee knows orders of one step only: PlaceOrder refuses others, but may have
	// taken one before the rule was decided.
	single := d.ruleAt(k) == market.RuleMcAfee
	for i := range r.Entries {
		e := &r.Entries[i]
		node := network.Nodes[e.Node].ID
		switch {
		case !r.Metered:
			for _, side := range []market.Side{market.Bid, market.Offer} {
				if steps := *e.steps(side); len(steps) == 1 || len(steps) > 0 && !single {
					o := market.Order{Household: e.Household, Node: node, Side: side, Steps: marketSteps(steps)}
					if side == market.Bid {
						o.Key = e.ShareKey
					}
					orders = append(orders, o)
				}
			}
		case e.Quality != QualityMissing:
			m := market.Metered{
				Household: e.Household, Node: node, Import: e.Import, Export: e.Export,
				Preference: market.Preference{MinSell: e.MinSell, MaxBuy: e.MaxBuy}, Key: e.ShareKey,
			}
			if !single {
				m.Bid, m.Offer = marketSteps(e.Bid), marketSteps(e.Offer)
			}
			orders = m.Orders(orders)
		}
		for len(owner) < len(orders) {
			owner = append(owner, i)
		}
	}
	return orders, owner
}

// intervalSeed is the seed of one Interval's tie order (R3): nobody can choose it.
func intervalSeed(block [32]byte, k market.Interval) [32]byte {
	b := append([]byte("commonwatt/seed/1"), block[:]...)
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(k))) //nolint:gosec // never negative
}

// metered returns the households that have or had a meter, sorted. All of them report
// every Interval that is still to close, up to the one with which they leave: a meter
// begins with the next one (see RegisterMeter).
func (d *draft) metered() []market.HouseholdID {
	var ids []market.HouseholdID
	for id, h := range d.allHouseholds() {
		if h.HasMeter {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareHouseholds)
	return ids
}

// awaited returns those of the metered that take part in k.
func (d *draft) awaited(k market.Interval, metered []market.HouseholdID) []market.HouseholdID {
	ids := make([]market.HouseholdID, 0, len(metered))
	for _, id := range metered {
		if h, ok := d.household(id); ok && h.Takes(k) {
			ids = append(ids, id)
		}
	}
	return ids
}

// mergeEntries adds empty entries for the awaited, and leaves out those of households
// that ordered and then left; both lists are sorted.
func mergeEntries(entries []Entry, awaited []market.HouseholdID) []Entry {
	merged := make([]Entry, len(awaited))
	i := 0
	for j, id := range awaited {
		for i < len(entries) && compareHouseholds(entries[i].Household, id) < 0 {
			i++
		}
		if i < len(entries) && entries[i].Household == id {
			merged[j] = entries[i]
			i++
			continue
		}
		merged[j] = Entry{Household: id}
	}
	return merged
}

// ended says whether the ledger's time, the newest closed gate, is s seconds or
// more past the end of k.
func (d *draft) ended(k market.Interval, s int64) bool {
	now := d.calendar().GateClosure(d.next() - 1)
	return !now.Before(d.calendar().End(k).Add(time.Duration(s) * time.Second))
}

// waited says whether the ledger's time is s seconds or more past the end of k, and past the
// tick that closed its gate: after a long outage there must be time for the reports, too.
func (d *draft) waited(k market.Interval, r *IntervalRecord, s int64) bool {
	now, span := d.calendar().GateClosure(d.next()-1), time.Duration(s)*time.Second
	return d.ended(k, s) && !now.Before(d.calendar().GateClosure(r.Gate).Add(span))
}

// passDeadlines settles what has waited too long for reports (R8), and closes what can no
// longer be corrected (R5): the Intervals, then the months and the decisions that only
// they needed.
func (d *draft) passDeadlines() error {
	// Before months are closed: who has left gets the block that closes its last one.
	if err := d.part(); err != nil {
		return err
	}
	oldest, unsettled := d.next(), d.next()
	for _, k := range d.openIntervals(d.next()) {
		r, _ := d.interval(k)
		waits := r.State == IntervalCleared || r.State == IntervalDelivered
		if waits && d.waited(k, r, d.rulesAt(k).ReportDeadlineS) {
			if err := d.settle(k); err != nil {
				return err
			}
		}
		r, _ = d.interval(k)
		if r.State == IntervalSettled && d.waited(k, r, d.rulesAt(k).CorrectionWindowS) {
			d.dropInterval(k)
			continue
		}
		oldest = min(oldest, k)
		if r.State != IntervalSettled {
			unsettled = min(unsettled, k)
		}
	}
	d.forget(oldest, unsettled)
	return d.closeMonths(oldest)
}

// closeMonths closes, for every household, the months before that of the oldest Interval
// that may still change.
func (d *draft) closeMonths(oldest market.Interval) error {
	zone := d.base.Zone()
	for d.clockNow().Month < d.calendar().MonthOf(oldest, zone) {
		m := d.clockNow().Month
		if _, end := d.calendar().OfMonth(m, zone); !d.ended(end-1, d.rulesAt(end-1).CorrectionWindowS) {
			return nil
		}
		d.editClock().Month = m + 1
		for _, id := range d.metered() {
			h, _ := d.household(id)
			if len(h.Months) == 0 || h.Months[0].Month > m {
				continue
			}
			edit, err := d.editHousehold(id)
			if err != nil {
				return err
			}
			closed := edit.Months[0]
			edit.Months = edit.Months[1:]
			if len(edit.Months) == 0 {
				edit.Months = nil // one encoding of none
			}
			edit.Closed++
			edit.ClosedChain = NextChain(edit.ClosedChain, closed.Encode())
			d.history = append(d.history, Event{Month: &ClosedMonth{Household: id, Number: edit.Closed, Month: closed}})
		}
	}
	return nil
}
