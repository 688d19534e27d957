package market_test

import (
	"math/big"

	"github.com/commonwatt/commonwatt/market"
)

// A certificate proves a clearing right, by the duality of linear programs and
// without a solver: an allocation that balances and keeps its limits has the most
// welfare exactly if there are prices that leave nobody and no edge wanting. The
// prices that do so are an interval at each node, found from the leaves up.
// It is done twice: in prices, for the midpoints; and in keys, 4 × price with 0
// added for an offer, 1 for the grid and 2 for a bid, where such prices exist only
// if the most Wh are traded at that welfare.
type certificate struct {
	m     market.Market
	c     market.Clearing
	flow  map[string]market.WattHours
	price map[string]market.Price
	got   [][]market.WattHours // by order and step
}

// An interval of prices; infinite stands for no end.
type interval struct{ lower, upper int64 }

const infinite = 1 << 61

func (i interval) and(o interval) interval {
	return interval{max(i.lower, o.lower), min(i.upper, o.upper)}
}

// violation returns what is wrong with a clearing, or nothing.
func violation(m market.Market, c market.Clearing) string {
	p := certificate{m: m, c: c, flow: map[string]market.WattHours{}, price: map[string]market.Price{}}
	for _, f := range c.Flows {
		p.flow[f.Node] = f.WattHours
	}
	for _, n := range c.Prices {
		p.price[n.Node] = n.Price
	}
	for _, check := range []func() string{p.orders, p.network, p.welfare, p.largest, p.prices, p.band} {
		if problem := check(); problem != "" {
			return problem
		}
	}
	return ""
}

// orders looks at each allocation, and takes it apart into steps.
func (p *certificate) orders() string {
	for i, o := range p.m.Orders {
		a := p.c.Allocations[i]
		left := a.WattHours
		if a.Order != i || left < 0 || a.Price != p.price[o.Node] {
			return "M4: bad allocation"
		}
		exact := roundDumb(new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(int64(a.Price)), big.NewInt(int64(a.WattHours))), big.NewInt(1000)))
		if exact.IsInt64() && exact.Int64() != int64(a.Amount) || !exact.IsInt64() && p.c.Unpayable == nil {
			return "M1: wrong amount"
		}
		var got []market.WattHours
		for _, s := range o.Steps {
			got = append(got, min(left, s.WattHours))
			left -= got[len(got)-1]
		}
		if left > 0 {
			return "M4: more than the order"
		}
		p.got = append(p.got, got)
	}
	return ""
}

// network looks at limits and balances.
func (p *certificate) network() string {
	c := &p.c
	if c.GridImport < 0 || c.GridExport < 0 || c.GridImport > 0 && c.GridExport > 0 {
		return "M3: the grid imports and exports"
	}
	if p.m.Tariff == nil && c.GridImport+c.GridExport != 0 {
		return "M3: an island with a grid"
	}
	out := map[string]*big.Int{}
	for _, n := range p.m.Network.Nodes {
		out[n.ID] = new(big.Int)
	}
	for i, o := range p.m.Orders {
		sign := int64(1)
		if o.Side == market.Bid {
			sign = -1
		}
		out[o.Node].Add(out[o.Node], big.NewInt(sign*int64(c.Allocations[i].WattHours)))
	}
	for _, n := range p.m.Network.Nodes {
		f := int64(c.GridExport - c.GridImport)
		if n.Parent != "" {
			f = int64(p.flow[n.ID])
			out[n.Parent].Add(out[n.Parent], big.NewInt(f))
			if n.ExportLimit != nil && f > int64(*n.ExportLimit) || n.ImportLimit != nil && -f > int64(*n.ImportLimit) {
				return "R1: beyond a limit"
			}
		}
		out[n.ID].Sub(out[n.ID], big.NewInt(f))
	}
	for _, left := range out {
		if left.Sign() != 0 {
			return "M3: unbalanced"
		}
	}
	return ""
}

func (p *certificate) welfare() string {
	value := new(big.Int)
	add := func(price market.Price, wh market.WattHours) {
		value.Add(value, new(big.Int).Mul(big.NewInt(int64(price)), big.NewInt(int64(wh))))
	}
	for i, o := range p.m.Orders {
		for k, s := range o.Steps {
			if o.Side == market.Bid {
				add(s.Price, p.got[i][k])
			} else {
				add(-s.Price, p.got[i][k])
			}
		}
	}
	for _, n := range p.m.Network.Nodes {
		f := p.flow[n.ID]
		add(-n.ExportFee, max(f, 0))
		add(-n.ImportFee, max(-f, 0))
	}
	if t := p.m.Tariff; t != nil {
		add(t.ExportPrice, p.c.GridExport)
		add(-t.ImportPrice, p.c.GridImport)
	}
	if exact := roundDumb(new(big.Rat).SetFrac(value, big.NewInt(1000))); !exact.IsInt64() || exact.Int64() != int64(p.c.Welfare) {
		return "M1: wrong welfare"
	}
	return ""
}

// supports returns the prices (× scale) at a node that support what is allocated
// at it and below. Sides are added to prices where they count.
func (p *certificate) supports(node string, scale int64) interval {
	s := interval{-infinite, infinite}
	for i, o := range p.m.Orders {
		if o.Node != node {
			continue
		}
		for k, step := range o.Steps {
			key, got := int64(step.Price)*scale, p.got[i][k]
			if o.Side == market.Bid && scale > 1 {
				key += 2
			}
			if o.Side == market.Bid && got > 0 || o.Side == market.Offer && got < step.WattHours {
				s.upper = min(s.upper, key)
			}
			if o.Side == market.Offer && got > 0 || o.Side == market.Bid && got < step.WattHours {
				s.lower = max(s.lower, key)
			}
		}
	}
	for _, n := range p.m.Network.Nodes {
		if n.Parent == node {
			s = s.and(p.through(n, p.supports(n.ID, scale), scale))
		}
	}
	return s
}

// through returns for which prices at its parent a node can have one of own.
func (p *certificate) through(n market.Node, own interval, scale int64) interval {
	if own.lower > own.upper {
		return own
	}
	out, in := int64(n.ExportFee)*scale, int64(n.ImportFee)*scale
	s := interval{-infinite, infinite}
	more, less := p.more(n), p.less(n)
	// own ≥ parent − export fee if more could leave; ≤ if less could.
	if more && p.flow[n.ID] >= 0 && own.upper < infinite {
		s.upper = min(s.upper, own.upper+out)
	}
	if p.flow[n.ID] > 0 && own.lower > -infinite {
		s.lower = max(s.lower, own.lower+out)
	}
	if less && p.flow[n.ID] <= 0 && own.lower > -infinite {
		s.lower = max(s.lower, own.lower-in)
	}
	if p.flow[n.ID] < 0 && own.upper < infinite {
		s.upper = min(s.upper, own.upper-in)
	}
	return s
}

// more says whether more could leave a node, less whether more could reach it.
func (p *certificate) more(n market.Node) bool {
	return n.ExportLimit == nil || p.flow[n.ID] < *n.ExportLimit
}

func (p *certificate) less(n market.Node) bool {
	return n.ImportLimit == nil || -p.flow[n.ID] < *n.ImportLimit
}

// grid returns the prices that the grid allows at the root.
func (p *certificate) grid(scale int64) interval {
	t := p.m.Tariff
	if t == nil {
		return interval{-infinite, infinite}
	}
	s := interval{int64(t.ExportPrice) * scale, int64(t.ImportPrice) * scale}
	if scale > 1 {
		s = interval{s.lower + 1, s.upper + 1}
	}
	switch {
	case p.c.GridImport > 0:
		s.lower = s.upper
	case p.c.GridExport > 0:
		s.upper = s.lower
	}
	return s
}

func (p *certificate) root() market.Node {
	for _, n := range p.m.Network.Nodes {
		if n.Parent == "" {
			return n
		}
	}
	return market.Node{}
}

func (p *certificate) largest() string {
	for scale, problem := range map[int64]string{1: "M5: not the most welfare", 4: "M5: as much welfare with more energy"} {
		if s := p.supports(p.root().ID, scale).and(p.grid(scale)); s.lower > s.upper {
			return problem
		}
	}
	return ""
}

// prices checks that each is the midpoint of what supports the allocation.
func (p *certificate) prices() string {
	root := p.root().ID
	if p.price[root] != middle(p.supports(root, 1).and(p.grid(1)), 0) {
		return "M6: not the midpoint at the root"
	}
	for _, n := range p.m.Network.Nodes {
		if n.Parent == "" {
			continue
		}
		parent, flow := p.price[n.Parent], p.flow[n.ID]
		out, in := parent-n.ExportFee, parent+n.ImportFee
		edge := interval{-infinite, infinite}
		if flow >= 0 && p.more(n) {
			edge.lower = max(edge.lower, int64(out))
		}
		if flow > 0 {
			edge.upper = min(edge.upper, int64(out))
		}
		if flow <= 0 && p.less(n) {
			edge.upper = min(edge.upper, int64(in))
		}
		if flow < 0 {
			edge.lower = max(edge.lower, int64(in))
		}
		s := p.supports(n.ID, 1).and(edge)
		if s.lower > s.upper || p.price[n.ID] != middle(s, parent) {
			return "M6: not the midpoint at " + n.ID
		}
	}
	for _, f := range p.c.Flows {
		for _, n := range p.m.Network.Nodes {
			if n.ID != f.Node {
				continue
			}
			own, parent := p.price[n.ID], p.price[n.Parent]
			full := f.WattHours > 0 && !p.more(n) || f.WattHours < 0 && !p.less(n)
			if f.Rent < 0 || f.Rent > 0 && !full ||
				f.WattHours > 0 && (f.Fee != n.ExportFee || own+f.Fee+f.Rent != parent) ||
				f.WattHours < 0 && (f.Fee != n.ImportFee || parent+f.Fee+f.Rent != own) ||
				f.WattHours == 0 && (f.Fee != 0 || f.Rent != 0) {
				return "R3: fee and rent are not what the prices differ at " + n.ID
			}
		}
	}
	return ""
}

func middle(s interval, neither market.Price) market.Price {
	switch {
	case s.lower == -infinite && s.upper == infinite:
		return neither
	case s.lower == -infinite:
		return market.Price(s.upper)
	case s.upper == infinite:
		return market.Price(s.lower)
	default:
		return market.Price(roundDumb(big.NewRat(s.lower+s.upper, 2)).Int64())
	}
}

// band checks R10: no price below feed-in where there is room to export all the
// way, none above retail where there is room to import.
func (p *certificate) band() string {
	if p.m.Tariff == nil {
		return ""
	}
	byID := map[string]market.Node{}
	for _, n := range p.m.Network.Nodes {
		byID[n.ID] = n
	}
	for id, price := range p.price {
		at, err := p.m.Network.TariffAt(*p.m.Tariff, id)
		if err != nil {
			return err.Error()
		}
		out, in := true, true
		for n := byID[id]; n.Parent != ""; n = byID[n.Parent] {
			out, in = out && p.more(n), in && p.less(n)
		}
		if out && price < at.FeedIn() || in && price > at.Retail() {
			return "R10: outside feed-in and retail at " + id
		}
	}
	return ""
}
