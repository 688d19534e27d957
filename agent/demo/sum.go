package demo

import (
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// sum adds up one ledger.
func (s *street) sum(r *Report, st *store.Store) error {
	if err := r.results(st); err != nil {
		return err
	}
	r.Accounts = map[string]int64{}
	for a, m := range st.State().Accounts() {
		var err error
		if r.BalanceSum, err = r.BalanceSum.Add(m); err != nil {
			return err
		}
		if _, ok := a.Household(); !ok {
			r.Accounts[string(a)] = int64(m)
		}
	}
	for _, h := range s.plan.Homes {
		line, wrong, err := s.sumHome(r, h, st)
		if err != nil {
			return fmt.Errorf("adding up %s: %w", h.Name, err)
		}
		for _, w := range wrong {
			r.Errors = append(r.Errors, h.Name+": "+w)
		}
		r.Households = append(r.Households, line)
	}
	return nil
}

// results counts the intervals settled: each of them once.
func (r *Report) results(st *store.Store) error {
	calendar := st.State().Calendar()
	seen := map[market.Interval]bool{}
	var first, last market.Interval
	err := st.Results(0, func(m *ledger.MarketResult) bool {
		if seen[m.Interval] {
			r.Errors = append(r.Errors, fmt.Sprintf("interval %d is settled twice", m.Interval))
		}
		if len(seen) == 0 {
			first, last = m.Interval, m.Interval
		}
		seen[m.Interval] = true
		first, last = min(first, m.Interval), max(last, m.Interval)
		return true
	})
	if err != nil || len(seen) == 0 {
		return err
	}
	from, to := calendar.Start(first), calendar.Start(last)
	r.FirstInterval, r.LastInterval, r.IntervalsSettled = &from, &to, len(seen)
	if n := int(last-first) + 1; n != len(seen) {
		r.Errors = append(r.Errors, fmt.Sprintf("of %d intervals %d are settled", n, len(seen)))
	}
	return nil
}

// sumHome adds up a home's settlements in their newest versions, and computes its account
// anew from what its device says about the same intervals.
func (s *street) sumHome(r *Report, h home, st *store.Store) (line HouseholdLine, wrong []string, err error) {
	keys, err := household.LoadKeys(h.dir(s.opt.Dir))
	if err != nil {
		return line, nil, err
	}
	id := keys.ID()
	line = HouseholdLine{
		ID: id.String(), Name: h.Name, Protocol: h.protocol(), Definition: h.connection().Definition,
		Balance: st.State().Balance(market.HouseholdAccount(id)),
	}
	count := recount{
		calendar: st.State().Calendar(), prices: pricesOf(st.State().Rules()),
		count: remembered(func(at time.Time) (counters, error) { return s.deviceCounters(h, at) }),
	}
	err = st.Settlements(id, 0, func(x *ledger.Settlement) bool {
		count.take(x)
		return true
	})
	if err != nil {
		return line, nil, err
	}
	if line.Recounted, err = count.balance(); err != nil {
		return line, nil, err
	}
	if err := line.add(&count); err != nil {
		return line, nil, err
	}
	wrong = count.wrong
	if r.LastInterval != nil && (count.newest == nil || !count.calendar.Start(count.last).Equal(*r.LastInterval)) {
		wrong = append(wrong, "not all intervals are settled")
	}
	if line.Recounted != line.Balance {
		wrong = append(wrong, fmt.Sprintf("its balance is %d micro-units, computed anew it is %d", line.Balance, line.Recounted))
	}
	if int64(line.ImportWh) != int64(line.DeviceImportWh) || int64(line.ExportWh) != int64(line.DeviceExportWh) { //nolint:gosec // counters of days
		wrong = append(wrong, fmt.Sprintf("metered %d Wh in and %d out, its device counted %d and %d",
			line.ImportWh, line.ExportWh, line.DeviceImportWh, line.DeviceExportWh))
	}
	return line, wrong, nil
}

// add takes the sums; those of the device are over the runs of intervals that it proves.
func (l *HouseholdLine) add(c *recount) error {
	l.Corrections = c.versions - len(c.newest)
	if len(c.newest) == 0 {
		return nil
	}
	begin := c.first
	for k := c.first; k <= c.last+1; k++ {
		x, ok := c.newest[k]
		if ok && x.Quality != ledger.QualitySubstitute {
			l.Intervals++
			l.ImportWh += x.Import
			l.ExportWh += x.Export
			if x.Quality == ledger.QualityEstimated {
				l.Estimated++
			}
		} else {
			d, err := c.between(begin, max(begin, k))
			if err != nil {
				return err
			}
			l.DeviceImportWh += uint64(d.in)  //nolint:gosec // counters only rise
			l.DeviceExportWh += uint64(d.out) //nolint:gosec // counters only rise
			begin = k + 1
		}
		if ok {
			l.BoughtWh += x.Bought
			l.SoldWh += x.Sold
			if x.Quality == ledger.QualitySubstitute {
				l.Substituted++
			}
		}
	}
	return nil
}

// pricesOf are the prices of imbalance.
func pricesOf(r ledger.Rules) gridPrices {
	p := gridPrices{islanded: r.Tariff == nil, fee: int64(r.CommunityFee)}
	if r.Tariff != nil {
		p.retail, p.feedIn = int64(r.Tariff.ImportPrice), int64(r.Tariff.ExportPrice)
	}
	return p
}

// remembered asks once about each instant.
func remembered(ask func(time.Time) (counters, error)) func(time.Time) (counters, error) {
	known := map[int64]counters{}
	return func(at time.Time) (counters, error) {
		if c, ok := known[at.Unix()]; ok {
			return c, nil
		}
		c, err := ask(at)
		if err == nil {
			known[at.Unix()] = c
		}
		return c, err
	}
}
