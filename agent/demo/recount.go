package demo

import (
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// recount checks one household's whole account without any of the market's code: what
// its settlements are over, from the device's own counters, and what they come to, by
// rule R7 alone, from the published allocations and prices. A mistake of the ledger's
// arithmetic, an interval settled twice and one left out all show here.
type recount struct {
	calendar market.Calendar
	prices   gridPrices
	count    func(at time.Time) (counters, error) // what the device counted up to an instant

	newest   map[market.Interval]ledger.Settlement
	versions int             // of all settlements
	first    market.Interval // with last: the intervals settled
	last     market.Interval
	wrong    []string
}

// gridPrices are what imbalance costs at the household's node, and the community's fee.
type gridPrices struct {
	islanded       bool
	retail, feedIn int64
	fee            int64
}

// maxWrong is how many mistakes of one account are told.
const maxWrong = 5

func (r *recount) bad(format string, args ...any) {
	if len(r.wrong) < maxWrong {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// take reads the next settlement; they come by interval and version.
func (r *recount) take(s *ledger.Settlement) {
	if r.newest == nil {
		r.newest = map[market.Interval]ledger.Settlement{}
		r.first = s.Interval
	}
	old, again := r.newest[s.Interval]
	switch {
	case !again && s.Version != 1, again && s.Version != old.Version+1:
		r.bad("interval %d: version %d comes after %d", s.Interval, s.Version, old.Version)
	case !again && s.Interval != r.first && s.Interval != r.last+1:
		r.bad("intervals %d to %d are not settled", r.last+1, s.Interval-1)
	}
	if p := r.prices; !p.islanded && (int64(s.Retail) != p.retail || int64(s.FeedIn) != p.feedIn) || int64(s.Fee) != p.fee {
		r.bad("interval %d: settled at %d, %d and a fee of %d, at its node they are %d, %d and %d",
			s.Interval, s.Retail, s.FeedIn, s.Fee, p.retail, p.feedIn, p.fee)
	}
	if alone := r.prices.alone(s); !r.prices.islanded && int64(s.Alone) != alone {
		r.bad("interval %d: without the community %d micro-units, computed anew %d", s.Interval, s.Alone, alone)
	}
	r.newest[s.Interval], r.last = *s, s.Interval
	r.versions++
}

// alone is what the metered energy costs without the community.
func (p gridPrices) alone(s *ledger.Settlement) int64 {
	return times(p.retail, int64(s.Import)) - times(p.feedIn, int64(s.Export))
}

// balance computes the account anew.
func (r *recount) balance() (sum market.Money, err error) {
	if r.newest == nil {
		return 0, nil
	}
	if err := r.meter(); err != nil {
		return 0, err
	}
	for _, s := range r.newest {
		sum += market.Money(r.prices.net(&s))
	}
	return sum, nil
}

// net is R7 for one interval, received minus paid.
func (p gridPrices) net(s *ledger.Settlement) int64 {
	price, retail, feedIn := int64(s.Price), p.retail, p.feedIn
	if p.islanded {
		retail, feedIn = price, price
	}
	bought, sold, in, out := int64(s.Bought), int64(s.Sold), int64(s.Import), int64(s.Export)
	net := times(price, sold) - times(price, bought) - times(p.fee, bought)
	if in > bought {
		net -= times(retail, in-bought)
	} else {
		net += times(feedIn, bought-in)
	}
	if out > sold {
		net += times(feedIn, out-sold)
	} else {
		net -= times(retail, sold-out)
	}
	return net
}

// times is price × energy in whole micro-units, half to even. A demonstration's numbers
// are small.
func times(price, wh int64) int64 { return perKWh(price * wh) }

// perKWh divides what was multiplied with Wh by the 1000 of a kWh.
func perKWh(product int64) int64 {
	whole, rest := product/1000, product%1000
	if rest < 0 {
		whole, rest = whole-1, rest+1000
	}
	if rest > 500 || rest == 500 && whole%2 != 0 {
		whole++
	}
	return whole
}

// meter compares the metered energy of every interval with the device.
func (r *recount) meter() error {
	for k := r.first; k <= r.last; {
		s := r.newest[k]
		end := k + 1
		switch s.Quality {
		case ledger.QualityGood, ledger.QualityDoubtful:
			d, err := r.between(k, end)
			if err != nil {
				return err
			}
			if s.Import != d.in || s.Export != d.out {
				r.bad("interval %d: metered %d Wh in and %d out, its device counted %d and %d", k, s.Import, s.Export, d.in, d.out)
			}
		case ledger.QualityEstimated:
			for end <= r.last && r.newest[end].Quality == ledger.QualityEstimated {
				end++
			}
			ok, err := r.shares(k, end)
			if err != nil {
				return err
			}
			if !ok {
				r.bad("intervals %d to %d are no even shares of what the device counted", k, end-1)
			}
		case ledger.QualitySubstitute:
			if s.Import != s.Bought || s.Export != s.Sold {
				r.bad("interval %d: the substitute has %d Wh in and %d out, allocated were %d and %d", k, s.Import, s.Export, s.Bought, s.Sold)
			}
		case ledger.QualityMissing, ledger.QualityCorrected: // nobody corrects anything in a demonstration
			r.bad("interval %d: settled on a report of quality %v", k, s.Quality)
		}
		k = end
	}
	return nil
}

// energy is what was counted in a span.
type energy struct{ in, out market.WattHours }

func (r *recount) between(from, end market.Interval) (e energy, err error) {
	a, err := r.count(r.calendar.Start(from))
	if err != nil {
		return e, err
	}
	b, err := r.count(r.calendar.Start(end))
	if err != nil {
		return e, err
	}
	return energy{in: market.WattHours(b.ImportWh - a.ImportWh), out: market.WattHours(b.ExportWh - a.ExportWh)}, nil //nolint:gosec // counters of days
}

// shares says whether the intervals from..end-1 can be cut into spans in each of which
// every interval has its even share of what the device counted: that is what a report
// over a gap proves.
func (r *recount) shares(from, end market.Interval) (bool, error) {
	cut := []market.Interval{from} // where a span may begin
	for k := from + 1; k <= end; k++ {
		for _, begin := range slices.Backward(cut) {
			ok, err := r.even(begin, k)
			if err != nil {
				return false, err
			}
			if ok {
				cut = append(cut, k)
				break
			}
		}
	}
	return cut[len(cut)-1] == end, nil
}

// even says whether from..end-1 are the shares of one span.
func (r *recount) even(from, end market.Interval) (bool, error) {
	d, err := r.between(from, end)
	if err != nil {
		return false, err
	}
	n := market.WattHours(end - from)
	for i := range n {
		s := r.newest[from+market.Interval(i)]
		if s.Import != d.in*(i+1)/n-d.in*i/n || s.Export != d.out*(i+1)/n-d.out*i/n {
			return false, nil
		}
	}
	return true, nil
}
