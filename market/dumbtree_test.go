package market_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"math/big"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// A dumbTree shares by R3 on a tree with fees and limits, Wh by Wh: the curve of
// each node is written out, one key for each Wh.
type dumbTree struct {
	market.Market
	curves map[string]dumbCurve
	got    []market.WattHours
	flow   map[string]market.WattHours
}

// A dumbCurve has a key for each Wh that could reach a node (in) or leave it
// (out), both rising; those of in end at flow 0, those of out begin there.
type dumbCurve struct{ in, out []int64 }

// dumbQuantities are the energy of a clearing.
type dumbQuantities struct {
	Got  []market.WattHours
	Flow map[string]market.WattHours
}

func quantities(c market.Clearing) dumbQuantities {
	q := dumbQuantities{Flow: map[string]market.WattHours{}}
	for _, a := range c.Allocations {
		q.Got = append(q.Got, a.WattHours)
	}
	for _, f := range c.Flows {
		q.Flow[f.Node] = f.WattHours
	}
	return q
}

func newDumbTree(m market.Market) *dumbTree {
	return &dumbTree{
		Market: m, curves: map[string]dumbCurve{},
		got: make([]market.WattHours, len(m.Orders)), flow: map[string]market.WattHours{},
	}
}

func dumbKey(s market.Step, side market.Side) int64 {
	return int64(s.Price)*4 + map[market.Side]int64{market.Offer: 0, market.Bid: 2}[side]
}

func (d *dumbTree) clear() dumbQuantities {
	root := market.Node{}
	for _, n := range d.Network.Nodes {
		if n.Parent == "" {
			root = n
		}
	}
	v := d.curve(root)
	f, key := 0, v.last(0)
	if t := d.Tariff; t != nil {
		in, out := int64(t.ImportPrice)*4+1, int64(t.ExportPrice)*4+1
		for f < len(v.out) && v.out[f] < out {
			f, key = f+1, out
		}
		for f <= 0 && -f < len(v.in) && v.in[len(v.in)+f-1] > in {
			f, key = f-1, in
		}
	}
	d.share(root, int64(f), key)
	return dumbQuantities{d.got, d.flow}
}

// last returns the key of the last Wh filled at a flow, or of the first at all.
func (v dumbCurve) last(flow int) int64 {
	all := slices.Concat(v.in, v.out)
	if len(all) == 0 {
		return 0
	}
	return all[max(len(v.in)+flow-1, 0)]
}

// curve writes out the curve of a node, before its own edge.
func (d *dumbTree) curve(n market.Node) dumbCurve {
	if v, ok := d.curves[n.ID]; ok {
		return v
	}
	var all []int64
	demand := 0
	for _, o := range d.Orders {
		for _, s := range o.Steps {
			for range s.WattHours {
				if o.Node != n.ID {
					continue
				}
				all = append(all, dumbKey(s, o.Side))
				if o.Side == market.Bid {
					demand++
				}
			}
		}
	}
	for _, child := range d.Network.Nodes {
		if child.Parent == n.ID {
			v := d.passed(child)
			all = append(all, slices.Concat(v.in, v.out)...)
			demand += len(v.in)
		}
	}
	slices.Sort(all)
	v := dumbCurve{all[:demand], all[demand:]}
	d.curves[n.ID] = v
	return v
}

// passed writes out a node's curve as its parent sees it.
func (d *dumbTree) passed(n market.Node) dumbCurve {
	v := d.curve(n)
	p := dumbCurve{slices.Clone(v.in), slices.Clone(v.out)}
	if n.ImportLimit != nil && int(*n.ImportLimit) < len(p.in) {
		p.in = p.in[len(p.in)-int(*n.ImportLimit):]
	}
	if n.ExportLimit != nil && int(*n.ExportLimit) < len(p.out) {
		p.out = p.out[:*n.ExportLimit]
	}
	for i := range p.in {
		p.in[i] -= int64(n.ImportFee) * 4
	}
	for i := range p.out {
		p.out[i] += int64(n.ExportFee) * 4
	}
	return p
}

// share fills a node's Wh below key, and of those at it as many as the flow needs.
func (d *dumbTree) share(n market.Node, flow, key int64) {
	if n.Parent != "" {
		d.flow[n.ID] = market.WattHours(flow)
	}
	var rivals []dumbRival
	var certain, total int64
	for i, o := range d.Orders {
		if o.Node != n.ID {
			continue
		}
		var has int64
		for _, s := range o.Steps {
			wh := int64(s.WattHours)
			switch k := dumbKey(s, o.Side); {
			case k == key:
				has += wh
				if o.Side == market.Bid {
					certain -= wh // unless filled
				}
			case o.Side == market.Offer && k < key:
				d.got[i] += s.WattHours
				certain += wh
			case o.Side == market.Bid && k > key:
				d.got[i] += s.WattHours
				certain -= wh
			}
		}
		name := []byte(o.ID)
		if o.ID == "" {
			name = append(slices.Clone(o.Household[:]), map[market.Side]byte{market.Bid: 1, market.Offer: 2}[o.Side])
		}
		rivals = append(rivals, dumbRival{order: i, has: has, hash: sha256.Sum256(slices.Concat(d.Seed, []byte{0}, name))})
		total += has
	}
	bids := ((key%4)+4)%4 == 2
	low := map[string]int64{}
	for _, child := range d.Network.Nodes {
		if child.Parent != n.ID {
			continue
		}
		v := d.passed(child)
		var has int64
		low[child.ID] = -int64(len(v.in))
		for _, k := range slices.Concat(v.in, v.out) {
			if k < key {
				low[child.ID]++
			} else if k == key {
				has++
			}
		}
		certain += low[child.ID]
		total += has
		rivals = append(rivals, dumbRival{child: child.ID, has: has, hash: sha256.Sum256(slices.Concat(d.Seed, []byte{1}, []byte(child.ID)))})
	}
	accepted := flow - certain
	if bids {
		accepted = total - accepted
	}
	dumbDivide(rivals, accepted, total)
	for _, r := range rivals {
		if r.child == "" {
			d.got[r.order] += market.WattHours(r.gets)
			continue
		}
		filled := r.gets
		if bids {
			filled = r.has - r.gets
		}
		d.descend(r.child, low[r.child]+filled, key, r.has > 0)
	}
}

// descend goes on with a child, whose key follows from its parent's if it has Wh
// there, and else from its own flow.
func (d *dumbTree) descend(id string, flow, key int64, shares bool) {
	for _, n := range d.Network.Nodes {
		if n.ID != id {
			continue
		}
		own := d.curve(n).last(int(flow))
		if shares {
			own = key - int64(n.ExportFee)*4
			if slices.Contains(d.passed(n).in, key) {
				own = key + int64(n.ImportFee)*4
			}
		}
		d.share(n, flow, own)
	}
}

// dumbDivide divides accepted Wh pro rata, the rest by largest remainder and hash.
func dumbDivide(rivals []dumbRival, accepted, total int64) {
	if total == 0 {
		return
	}
	left := accepted
	for i := range rivals {
		r := &rivals[i]
		exact := big.NewRat(accepted*r.has, total)
		r.gets = new(big.Int).Quo(exact.Num(), exact.Denom()).Int64()
		r.rest = exact.Sub(exact, new(big.Rat).SetInt64(r.gets))
		left -= r.gets
	}
	slices.SortFunc(rivals, func(a, b dumbRival) int {
		return cmp.Or(b.rest.Cmp(a.rest), bytes.Compare(a.hash[:], b.hash[:]))
	})
	for i := range rivals[:left] {
		rivals[i].gets++
	}
}
