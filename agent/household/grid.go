package household

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Grid implements api.Network.
func (h *Home) Grid(interval int64) (g api.Grid, ok bool, err error) {
	k := market.Interval(interval)
	result, err := resultOf(h.opt.Ledger, k)
	if err != nil {
		return g, false, err
	}
	h.opt.Ledger.Read(func(s *ledger.State) { g, ok, err = GridOf(s, h.id, k, result) })
	return g, ok, err
}

// Results is what GridOf's callers read an Interval's result from.
type Results interface {
	Results(from market.Interval, f func(*ledger.MarketResult) bool) error
}

// resultOf reads the result of an Interval; nil if it is not settled.
func resultOf(h Results, k market.Interval) (found *ledger.MarketResult, err error) {
	err = h.Results(k, func(r *ledger.MarketResult) bool {
		if r.Interval == k {
			found = r
		}
		return false
	})
	return found, err
}

// newestGrid is the network in the Interval that is delivered now, or else in the newest
// one that is decided; nil if none is.
func (v *view) newestGrid(s *ledger.State) *api.Grid {
	newest, result := market.Interval(-1), (*ledger.MarketResult)(nil)
	for k, r := range v.home.book.results {
		if k > newest && k <= v.current {
			newest, result = k, &r
		}
	}
	for _, k := range s.Intervals() {
		if r, ok := s.Interval(k); ok && k > newest && k <= v.current && len(r.Prices) > 0 {
			newest, result = k, nil
		}
	}
	if newest < 0 {
		return nil
	}
	g, ok, err := GridOf(s, v.home.id, newest, result)
	if err != nil || !ok {
		return nil
	}
	return &g
}

// GridOf tells of the network in an Interval, by the ledger's state and, once the
// Interval is settled, its result in the history. ok is false if neither knows it. id is
// the household to mark.
//
// The state forgets the envelopes of an Interval when it is settled, and the network when
// it is final. Then the limits are those of the connections as they are built, but where
// the prices say that a tighter one bound.
func GridOf(s *ledger.State, id market.HouseholdID, k market.Interval, result *ledger.MarketResult) (api.Grid, bool, error) {
	record, open := s.Interval(k)
	if result == nil && !open {
		return api.Grid{}, false, nil
	}
	b := gridBuilder{state: s, k: k, network: s.NetworkAt(k), result: result, seconds: s.Rules().IntervalS}
	b.grid = api.Grid{Interval: int64(k), Start: s.Calendar().Start(k), State: api.StateOpen, Clearing: s.RulesAt(k).Clearing}
	if result != nil {
		b.settled(result)
	} else {
		b.pending(record)
	}
	b.nodes(id)
	if err := b.accounts(); err != nil {
		return api.Grid{}, false, fmt.Errorf("adding up the accounts: %w", err)
	}
	b.envelopes()
	return b.grid, true, nil
}

// gridBuilder makes one Grid.
type gridBuilder struct {
	state   *ledger.State
	k       market.Interval
	network *ledger.Network
	result  *ledger.MarketResult
	seconds int64
	prices  map[string]market.Price
	flows   map[string]market.WattHours // towards the parent
	grid    api.Grid

	feeWh, rentWh market.Int128 // of the edge filled in last
}

// settled takes what the history says.
func (b *gridBuilder) settled(r *ledger.MarketResult) {
	g := &b.grid
	g.State, g.Clearing = api.StateSettled, clearingOf(r.Metered)
	b.prices, b.flows = map[string]market.Price{}, map[string]market.WattHours{}
	for _, n := range r.Nodes {
		b.prices[n.Node], b.flows[n.Node] = n.Price, n.Flow
	}
	g.BoughtWh, g.SoldWh, g.GridImportWh, g.GridExportWh = number(r.Bought), number(r.Sold), number(r.GridImport), number(r.GridExport)
	g.ImportWh, g.ExportWh = number(r.Import), number(r.Export)
	// R7: what the market took from the grid, and the imbalance of all households.
	supplier := r.GridImport - r.GridExport + (r.Import - r.Bought) - (r.Export - r.Sold)
	ok := supplier == r.Import-r.Export
	g.SupplierWh, g.PhysicalOK = number(supplier), &ok
}

// pending takes what the state says of an Interval that is not settled.
func (b *gridBuilder) pending(r *ledger.IntervalRecord) {
	g := &b.grid
	switch r.State {
	case ledger.IntervalOpen:
		return
	case ledger.IntervalDelivered:
		g.State, g.Clearing = api.StateGateClosed, clearingOf(r.Metered)
		return
	case ledger.IntervalCleared, ledger.IntervalSettled:
		g.State, g.Clearing = api.StateCleared, clearingOf(r.Metered)
	}
	b.prices, b.flows = map[string]market.Price{}, map[string]market.WattHours{}
	for i := range r.Prices {
		b.prices[b.network.Nodes[i].ID], b.flows[b.network.Nodes[i].ID] = r.Prices[i], r.Flows[i]
	}
	g.GridImportWh, g.GridExportWh = number(r.GridImport), number(r.GridExport)
	if r.State == ledger.IntervalCleared { // a settled record has not all entries any more
		bought, sold := totals(r)
		g.BoughtWh, g.SoldWh = number(bought), number(sold)
	}
}

func clearingOf(metered bool) string {
	if metered {
		return ledger.ClearingMetered
	}
	return ledger.ClearingForward
}

// nodes lists the tree from the root down.
func (b *gridBuilder) nodes(id market.HouseholdID) {
	own, homes := b.households(id)
	below := map[string][]*ledger.Node{}
	for i := range b.network.Nodes {
		n := &b.network.Nodes[i]
		below[n.Parent] = append(below[n.Parent], n)
	}
	var fees, rents market.Int128 // per kWh times Wh, rounded once as in the settlement
	queue := slices.Clone(below[""])
	for len(queue) > 0 {
		n := queue[0]
		queue = append(slices.Clone(below[n.ID]), queue[1:]...)
		x := b.node(n)
		if x.FeesMicro != nil {
			fees, rents = fees.Add(b.feeWh), rents.Add(b.rentWh)
		}
		x.Home, x.Homes = n.ID == own, homes[n.ID]
		b.grid.Nodes = append(b.grid.Nodes, x)
	}
	if b.prices != nil {
		b.grid.FeesMicro, b.grid.RentMicro = money(fees), money(rents)
	}
}

// money divides by the Wh of a kWh; unknown if it is more than there is.
func money(perKWh market.Int128) *int64 {
	m, err := market.RoundHalfEven(perKWh, 1000)
	if err != nil {
		return nil
	}
	return &m
}

// households counts them at each node and below, and finds the node of one.
func (b *gridBuilder) households(id market.HouseholdID) (own string, homes map[string]int64) {
	homes = map[string]int64{}
	at := map[string]int64{}
	for _, h := range b.state.Households() {
		if r, ok := b.state.Household(h); ok {
			at[r.Node]++
			if h == id {
				own = r.Node
			}
		}
	}
	for node, n := range at {
		for _, x := range b.network.Path(node) {
			homes[x] += n
		}
	}
	return own, homes
}

func (b *gridBuilder) node(n *ledger.Node) api.GridNode {
	x := api.GridNode{ID: n.ID, Parent: n.Parent, ImportFee: int64(n.ImportFee), ExportFee: int64(n.ExportFee)}
	if t := b.state.TariffAt(b.k, n.ID); t != nil {
		x.ImportPrice, x.ExportPrice = number(t.ImportPrice), number(t.ExportPrice)
	}
	limit := b.state.LimitAt(b.k, n.ID)
	x.ImportLimitW, x.ImportLimitBy = limit.ImportW, setBy(limit.ImportW, limit.ImportBy)
	x.ExportLimitW, x.ExportLimitBy = limit.ExportW, setBy(limit.ExportW, limit.ExportBy)
	for _, e := range []*ledger.Envelope{limit.ImportBy, limit.ExportBy} {
		if e != nil {
			x.Reason = e.Reason
		}
	}
	price, known := b.prices[n.ID]
	if !known {
		return x
	}
	x.Price = number(price)
	imported, exported := max(-b.flows[n.ID], 0), max(b.flows[n.ID], 0)
	if n.Parent == "" {
		imported, exported = market.WattHours(*b.grid.GridImportWh), market.WattHours(*b.grid.GridExportWh)
	}
	x.ImportWh, x.ExportWh = number(imported), number(exported)
	x.ImportW, x.ExportW = b.watts(imported), b.watts(exported)
	b.edge(&x, price, imported, exported)
	return x
}

// edge fills in what depends on the energy that crosses the edge to the parent.
func (b *gridBuilder) edge(x *api.GridNode, price market.Price, imported, exported market.WattHours) {
	b.feeWh, b.rentWh = market.Int128{}, market.Int128{}
	parent, ok := b.prices[x.Parent]
	if x.Parent == "" || !ok {
		x.FeesMicro, x.RentMicro = number[int64](0), number[int64](0)
		return
	}
	wh, limit := imported, x.ImportLimitW
	fee, rent := market.Price(x.ImportFee), price-parent-market.Price(x.ImportFee)
	if exported > 0 {
		wh, limit = exported, x.ExportLimitW
		fee, rent = market.Price(x.ExportFee), parent-price-market.Price(x.ExportFee)
	}
	if wh == 0 {
		rent = 0
	}
	b.feeWh, b.rentWh = market.Mul128(int64(fee), int64(wh)), market.Mul128(int64(rent), int64(wh))
	x.FeesMicro, x.RentMicro = money(b.feeWh), money(b.rentWh)
	if b.result != nil && rent > 0 && wh > 0 && (limit == nil || int64(wh) < *limit*b.seconds/3600) {
		limit = b.watts(wh)
		if exported > 0 {
			x.ExportLimitW, x.ExportLimitBy = limit, api.LimitByEnvelope
		} else {
			x.ImportLimitW, x.ImportLimitBy = limit, api.LimitByEnvelope
		}
	}
	if limit != nil {
		x.LoadingBp = loading(int64(wh), *limit*b.seconds/3600)
	}
}

// loading is a flow over its limit, in hundredths of a per cent; a limit of nothing is
// always full.
func loading(wh, limit int64) *int64 {
	if limit <= 0 {
		return number[int64](10_000)
	}
	return number(int64(scale(10_000, market.WattHours(wh), market.WattHours(limit))))
}

func (b *gridBuilder) watts(wh market.WattHours) *int64 { return number(int64(wh) * 3600 / b.seconds) }

func setBy(limit *int64, e *ledger.Envelope) string {
	switch {
	case limit == nil:
		return ""
	case e != nil:
		return api.LimitByEnvelope
	default:
		return api.LimitByNetwork
	}
}

// accounts lists the balances as they stand; those of the households in one sum.
func (b *gridBuilder) accounts() (err error) {
	all := b.state.Accounts()
	var homes, sum market.Money
	for _, a := range slices.Sorted(maps.Keys(all)) {
		if sum, err = sum.Add(all[a]); err != nil {
			return err
		}
		if _, ok := a.Household(); !ok {
			b.grid.Accounts = append(b.grid.Accounts, api.GridAccount{Account: string(a), Balance: int64(all[a])})
		} else if homes, err = homes.Add(all[a]); err != nil {
			return err
		}
	}
	b.grid.Accounts = append(b.grid.Accounts, api.GridAccount{Account: "households", Balance: int64(homes)})
	b.grid.AccountsSum = int64(sum)
	return nil
}

// envelopes lists those that bind at the Interval or later.
func (b *gridBuilder) envelopes() {
	calendar := b.state.Calendar()
	for i := range b.state.Genesis().Operators {
		o, ok := b.state.Operator(uint64(i))
		if !ok {
			continue
		}
		for _, e := range o.Envelopes {
			if e.Until <= b.k {
				continue
			}
			b.grid.Envelopes = append(b.grid.Envelopes, api.GridEnvelope{
				Node: e.Node, ImportW: e.ImportW, ExportW: e.ExportW, Lift: e.Lift, From: moment(calendar, e.From), Until: moment(calendar, e.Until),
				Reason: e.Reason, Operator: int64(i), Seq: int64(e.Seq), InForce: e.From <= b.k, //nolint:gosec // shown only
			})
		}
	}
}

// moment is an Interval's start, within the years that JSON has.
func moment(c market.Calendar, k market.Interval) time.Time {
	const last = 9999
	if t := c.Start(k); t.Year() <= last {
		return t
	}
	return time.Date(last, time.December, 31, 0, 0, 0, 0, time.UTC)
}
