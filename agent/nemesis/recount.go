package main

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// prices are what the street's rules say, for the recomputation.
type prices struct {
	retail, feedIn int64 // at the homes' node, micro-units per kWh
	fee            int64 // per kWh bought in the market
}

// energy is what a meter counted, Wh.
type energy struct{ in, out int64 }

// times is price × energy in whole micro-units, half to even.
func times(price, wh int64) int64 {
	whole, rest := price*wh/1000, price*wh%1000
	if rest < 0 {
		whole, rest = whole-1, rest+1000
	}
	if rest > 500 || rest == 500 && whole%2 != 0 {
		whole++
	}
	return whole
}

// net is what an interval comes to for its household, received minus paid: rule R7.
func (p prices) net(l *billLine) int64 {
	net := times(l.Price, l.Sold) - times(l.Price, l.Bought) - times(p.fee, l.Bought)
	if l.Import > l.Bought {
		net -= times(p.retail, l.Import-l.Bought)
	} else {
		net += times(p.feedIn, l.Bought-l.Import)
	}
	if l.Export > l.Sold {
		net += times(p.feedIn, l.Export-l.Sold)
	} else {
		net -= times(p.retail, l.Sold-l.Export)
	}
	return net
}

// recount computes every account anew from the published allocations and prices, and from
// what the household's own meter counted (N6).
func (v *verdict) recount(b *books, c conditions) {
	best := map[string]account{} // as the home with most lines has it
	for i := range b.homes {
		h := &b.homes[i]
		for name, a := range h.accounts {
			var sum int64
			for _, l := range newest(a.lines) {
				sum += c.prices.net(&l)
				if l.Retail != c.prices.retail || l.FeedIn != c.prices.feedIn || l.Fee != c.prices.fee {
					v.bad("%s: interval %d of %s is settled at %d, %d and a fee of %d", h.name, l.Interval, name, l.Retail, l.FeedIn, l.Fee)
				}
			}
			if sum != a.closing {
				v.bad("%s: the balance of %s is %d micro-units, computed anew it is %d", h.name, name, a.closing, sum)
			}
			if len(a.lines) > len(best[name].lines) {
				best[name] = a
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(best)) {
		if err := v.metered(name, best[name].lines, c.meters[name]); err != nil {
			v.bad("what the meter of %s counted is not known: %v", name, err)
		}
	}
}

// offices checks that all accounts together come to nothing, and the cooperative's anew (N6).
func (v *verdict) offices(h *homeBooks, p prices) {
	var sum, homes, fees int64
	for _, balance := range h.offices {
		sum += balance
	}
	for _, a := range h.accounts {
		homes += a.closing
		for _, l := range newest(a.lines) {
			fees += times(p.fee, l.Bought)
		}
	}
	if sum += homes; sum != 0 {
		v.bad("%s: all accounts together come to %d micro-units, want 0", h.name, sum)
	}
	if got := h.offices["cooperative"]; got != fees {
		v.bad("%s: the cooperative has %d micro-units, computed anew %d", h.name, got, fees)
	}
}

// metered compares the energy of every interval with the meter. An interval that the home
// could not read at its ends is an even share of a longer span.
func (v *verdict) metered(name string, lines []billLine, count func(time.Time) (energy, error)) error {
	settled := newest(lines)
	for _, k := range slices.Sorted(maps.Keys(settled)) {
		l := settled[k]
		if l.Quality != "good" {
			continue
		}
		d, err := between(count, k, k+1)
		if err != nil {
			return err
		}
		if d != (energy{l.Import, l.Export}) {
			v.lose(fmt.Sprintf("interval %d of %s", k, name), "interval %d of %s: settled are %d Wh in and %d out, its meter counted %d and %d",
				k, name, l.Import, l.Export, d.in, d.out)
		}
	}
	for k := range settled {
		if before, ok := settled[k-1]; settled[k].Quality != "estimated" || ok && before.Quality == "estimated" {
			continue // not the first of a run
		}
		end := k + 1
		for settled[end].Quality == "estimated" {
			end++
		}
		if ok, err := shares(settled, count, k, end); err != nil {
			return err
		} else if !ok {
			v.lose(fmt.Sprintf("interval %d of %s", k, name), "intervals %d to %d of %s are no even shares of what its meter counted", k, end-1, name)
		}
	}
	return nil
}

func between(count func(time.Time) (energy, error), from, end int64) (energy, error) {
	a, err := count(startOf(from))
	if err != nil {
		return energy{}, err
	}
	z, err := count(startOf(end))
	return energy{z.in - a.in, z.out - a.out}, err
}

// shares says whether the intervals from..end-1 can be cut into spans in each of which every
// interval has its even share of what the meter counted.
func shares(settled map[int64]billLine, count func(time.Time) (energy, error), from, end int64) (bool, error) {
	cuts := []int64{from} // where a span may begin
	for k := from + 1; k <= end; k++ {
		for _, begin := range slices.Backward(cuts) {
			d, err := between(count, begin, k)
			if err != nil {
				return false, err
			}
			if even(settled, d, begin, k) {
				cuts = append(cuts, k)
				break
			}
		}
	}
	return cuts[len(cuts)-1] == end, nil
}

// even says whether from..end-1 are the even shares of d.
func even(settled map[int64]billLine, d energy, from, end int64) bool {
	n := end - from
	for i := range n {
		l := settled[from+i]
		if l.Import != d.in*(i+1)/n-d.in*i/n || l.Export != d.out*(i+1)/n-d.out*i/n {
			return false
		}
	}
	return true
}
