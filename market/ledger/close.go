package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// closeGate ends the taking of orders for k and clears it (R3): every household
// with a meter gets an entry, because it will be settled on what it metered,
// whether or not it ordered.
func (d *draft) closeGate(k market.Interval, awaited []market.HouseholdID) error {
	d.editClock().Next = k + 1
	if len(awaited) == 0 {
		return nil
	}
	r := d.editInterval(k)
	r.State = IntervalCleared
	r.Entries = mergeEntries(r.Entries, awaited)
	orders, owner := r.orders()
	result, err := market.Clear(market.Market{
		Rule: d.rules().Rule, Tariff: d.rules().GridTariff(),
		Network: market.Network{Nodes: []market.Node{{ID: RootNode}}},
		Orders:  orders, Seed: intervalSeed(d.seed, k),
	})
	if err != nil {
		return fmt.Errorf("clearing interval %d: %w", k, err)
	}
	price, ok := result.PriceAt(RootNode)
	if !ok {
		return fmt.Errorf("clearing interval %d: no price at the root", k)
	}
	r.Price, r.GridImport, r.GridExport, r.Welfare = price, result.GridImport, result.GridExport, result.Welfare
	for i := range r.Entries {
		r.Entries[i].Price = price
	}
	for _, a := range result.Allocations {
		e := &r.Entries[owner[a.Order]]
		if orders[a.Order].Side == market.Bid {
			e.Bought = a.WattHours
		} else {
			e.Sold = a.WattHours
		}
		e.Price = a.Price
	}
	return nil
}

// intervalSeed is the seed of one Interval's tie order (R3): nobody can choose it.
func intervalSeed(block [32]byte, k market.Interval) []byte {
	b := append([]byte("commonwatt/seed/1"), block[:]...)
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(k))) //nolint:gosec // never negative
	return sum[:]
}

// awaited returns the households with a meter, sorted. All of them report every
// Interval that is still to close: a meter begins with the next one (see
// RegisterMeter) and never ends in this version.
func (d *draft) awaited() []market.HouseholdID {
	var ids []market.HouseholdID
	for id, h := range d.base.households {
		if _, changed := d.households[id]; !changed && h.HasMeter {
			ids = append(ids, id)
		}
	}
	for id, h := range d.households {
		if h.HasMeter {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareHouseholds)
	return ids
}

// mergeEntries adds empty entries for the awaited; both lists are sorted, and
// only awaited households can have ordered.
func mergeEntries(entries []Entry, awaited []market.HouseholdID) []Entry {
	merged := make([]Entry, len(awaited))
	i := 0
	for j, id := range awaited {
		if i < len(entries) && entries[i].Household == id {
			merged[j] = entries[i]
			i++
			continue
		}
		merged[j] = Entry{Household: id}
	}
	return merged
}

// orders returns the book, and for each order the index of its entry.
func (r *IntervalRecord) orders() ([]market.Order, []int) {
	var orders []market.Order
	var owner []int
	for i := range r.Entries {
		e := &r.Entries[i]
		for _, side := range []market.Side{market.Bid, market.Offer} {
			if steps := *e.steps(side); len(steps) > 0 {
				orders = append(orders, market.Order{Household: e.Household, Node: RootNode, Side: side, Steps: marketSteps(steps)})
				owner = append(owner, i)
			}
		}
	}
	return orders, owner
}

// ended says whether the ledger's time, the newest closed gate, is s seconds or
// more past the end of k.
func (d *draft) ended(k market.Interval, s int64) bool {
	now := d.calendar().GateClosure(d.next() - 1)
	return !now.Before(d.calendar().End(k).Add(time.Duration(s) * time.Second))
}

// passDeadlines settles what has waited too long for reports (R8) and forgets
// what can no longer be corrected (R5).
func (d *draft) passDeadlines() error {
	for _, k := range d.openIntervals(d.next()) {
		r, _ := d.interval(k)
		if r.State == IntervalCleared && d.ended(k, d.rules().ReportDeadlineS) {
			if err := d.settle(k); err != nil {
				return err
			}
		}
		if r, ok := d.interval(k); ok && r.State == IntervalSettled && d.ended(k, d.rules().CorrectionWindowS) {
			d.dropInterval(k)
		}
	}
	return nil
}
