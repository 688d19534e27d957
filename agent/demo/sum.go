package demo

import (
	"fmt"
	"slices"
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
	fees := int64(0) // to the cooperative, for what was bought
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
		fees += line.communityFees
		r.Households = append(r.Households, line)
	}
	r.checkOffice(market.AccountGridOperator, r.fees)
	r.checkOffice(market.AccountCooperative, r.rents+fees)
	return nil
}

func (r *Report) checkOffice(a market.Account, want int64) {
	if got := r.Accounts[string(a)]; got != want {
		r.Errors = append(r.Errors, fmt.Sprintf("the account %s has %d micro-units, computed anew %d", a, got, want))
	}
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
		r.take(st.State().Genesis(), m)
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

// take adds up what is of the whole street.
func (r *Report) take(g ledger.Genesis, m *ledger.MarketResult) {
	fees, rents := offices(g, m)
	r.fees, r.rents = r.fees+fees, r.rents+rents
	if m.Metered {
		r.IntervalsMetered++
	}
	prices := map[string]market.Price{}
	for _, n := range m.Nodes {
		prices[n.Node] = n.Price
	}
	if prices[feederSun] != prices[feederTown] {
		r.IntervalsSplit++
	}
	if m.Bought-m.Sold != m.GridImport-m.GridExport {
		r.Errors = append(r.Errors, fmt.Sprintf("interval %d: bought %d Wh, sold %d, the grid has %d and %d",
			m.Interval, m.Bought, m.Sold, m.GridImport, m.GridExport))
	}
}

// sumHome adds up a home's settlements in their newest versions, and computes its account
// anew from what its device says about the same intervals.
func (s *street) sumHome(r *Report, h home, st *store.Store) (line HouseholdLine, wrong []string, err error) {
	keys, err := household.LoadKeys(h.dir(s.opt.Dir))
	if err != nil {
		return line, nil, err
	}
	id := keys.ID()
	balance, _ := st.State().Balance(market.HouseholdAccount(id)) // the store's state is whole
	line = HouseholdLine{
		ID: id.String(), Name: h.Name, Node: h.Node, Protocol: h.protocol(), Definition: h.connection().Definition,
		Balance: balance, Battery: h.BatteryKWh > 0,
	}
	count := recount{
		calendar: st.State().Calendar(), prices: pricesOf(st.State().Genesis(), h.Node),
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
			l.imbalance(&x, c.prices)
			l.communityFees += times(c.prices.fee, int64(x.Bought))
			l.BoughtWh += x.Bought
			l.SoldWh += x.Sold
			if x.Quality == ledger.QualitySubstitute {
				l.Substituted++
			}
		}
	}
	return nil
}

// pricesOf are the prices of imbalance at a node: the grid's, and the fees on the way (R1).
func pricesOf(g ledger.Genesis, node string) gridPrices {
	p := gridPrices{islanded: g.Rules.Tariff == nil, fee: int64(g.Rules.CommunityFee)}
	if p.islanded {
		return p
	}
	p.retail, p.feedIn = int64(g.Rules.Tariff.ImportPrice), int64(g.Rules.Tariff.ExportPrice)
	for node != "" {
		i := slices.IndexFunc(g.Network, func(n ledger.Node) bool { return n.ID == node })
		if i < 0 {
			break
		}
		p.retail += int64(g.Network[i].ImportFee)
		p.feedIn -= int64(g.Network[i].ExportFee)
		node = g.Network[i].Parent
	}
	return p
}

// offices is what the interval brings the grid operator and the cooperative by R3 and R7:
// every edge's fee, and what is left of the difference of prices along it.
func offices(g ledger.Genesis, m *ledger.MarketResult) (fees, rents int64) {
	prices := map[string]int64{}
	for _, n := range m.Nodes {
		prices[n.Node] = int64(n.Price)
	}
	feeWh, rentWh := int64(0), int64(0)
	for _, n := range m.Nodes {
		i := slices.IndexFunc(g.Network, func(x ledger.Node) bool { return x.ID == n.Node })
		if i < 0 || g.Network[i].Parent == "" {
			continue
		}
		away := prices[g.Network[i].Parent] - int64(n.Price)
		flow, fee := int64(n.Flow), int64(g.Network[i].ExportFee)
		if flow < 0 {
			away, flow, fee = -away, -flow, int64(g.Network[i].ImportFee)
		}
		feeWh += fee * flow
		rentWh += (away - fee) * flow
	}
	return perKWh(feeWh), perKWh(rentWh)
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
