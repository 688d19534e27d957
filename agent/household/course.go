package household

import (
	"math"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// course is what the connection meter says of the interval that runs. It is under Home.mu.
type course struct {
	interval market.Interval
	proven   bool  // base is the counter at the interval's beginning
	base     int64 // import minus export, Wh
	net      int64
	powerW   *int64
	movedAt  time.Time // when the meter last said something else than before; community time
	meanW    *int64    // of the counters, between the two last times at which it did
	at       time.Time // of the newest sample
}

// note takes an accepted sample of the connection meter. The caller holds mu.
func (c *course) note(s meter.Sample, calendar market.Calendar, tolerance time.Duration) {
	if s.ImportWh == nil || s.ExportWh == nil || *s.ImportWh > math.MaxInt64/2 || *s.ExportWh > math.MaxInt64/2 {
		return
	}
	net := int64(*s.ImportWh) - int64(*s.ExportWh)
	if k := calendar.At(s.At); k != c.interval {
		// The first reading soon after the boundary shows what the counter had at it.
		c.interval, c.base, c.proven = k, net, s.At.Sub(calendar.Start(k)) <= tolerance
	}
	same := c.powerW == s.PowerW || c.powerW != nil && s.PowerW != nil && *c.powerW == *s.PowerW
	if net != c.net || !same || c.movedAt.IsZero() {
		if span := s.At.Sub(c.movedAt); !c.movedAt.IsZero() && span > 0 {
			w := (net - c.net) * int64(time.Hour/time.Millisecond) / max(1, span.Milliseconds())
			c.meanW = &w
		}
		c.movedAt = s.At
	}
	c.net, c.powerW, c.at = net, s.PowerW, s.At
}

// position is what the ledger says of the home in an interval.
type position struct {
	known           bool   // something was bought or sold for it, or at least ordered
	targetWh        int64  // bought minus sold
	importW, export *int64 // limits of the connection
	floorW          int64
}

// positionAt reads the home's position. It is not known while the ledger is away: what it last said may not hold.
func (h *Home) positionAt(k market.Interval) (p position) {
	if h.opt.Ledger.Status().CatchingUp {
		return p
	}
	h.opt.Ledger.Read(func(s *ledger.State) {
		rules := s.RulesAt(k)
		p.floorW = rules.ImportFloorW
		if member, ok := s.Household(h.id); ok {
			for _, node := range s.NetworkAt(k).Path(member.Node) {
				limit := s.LimitAt(k, node)
				p.importW, p.export = tighter(p.importW, limit.ImportW), tighter(p.export, limit.ExportW)
			}
		}
		r, ok := s.Interval(k)
		if !ok || r.Metered || r.State != ledger.IntervalCleared {
			return
		}
		if e, ours := r.Entry(h.id); ours && e.BidSeq+e.OfferSeq > 0 {
			p.known, p.targetWh = true, int64(e.Bought)-int64(e.Sold)
		}
	})
	return p
}

// tighter is the smaller of two limits; nil is none. One of a node with more homes is at least one for each of them.
func tighter(a, b *int64) *int64 {
	if a == nil || b != nil && *b < *a {
		return b
	}
	return a
}

// track is what a battery did, over about an interval.
type track struct {
	marks []mark // oldest first
	w     int64  // since the last mark
}

// mark is the energy that went into the battery up to a time, W·ms since the start.
type mark struct {
	at  time.Time
	sum int64
}

// add notes what the battery does now; between two marks it did what lies between. It returns what it took since the last
// mark; ok is false for the first one, or after a time too long to know.
func (t *track) add(now time.Time, w int64, length time.Duration) (took int64, ok bool) {
	var sum int64
	if n := len(t.marks); n > 0 {
		ms := now.Sub(t.marks[n-1].at).Milliseconds()
		if ms < 0 || ms > 2*length.Milliseconds() {
			t.marks = nil
		} else {
			took, ok = (t.w+w)/2*ms, true
			sum = t.marks[n-1].sum + took
		}
	}
	t.marks = append(t.marks, mark{now, sum})
	for len(t.marks) > 2 && now.Sub(t.marks[1].at) > length {
		t.marks = t.marks[1:]
	}
	t.w = w
	return took, ok
}

// goesOn says what the battery does from now on, after it was told something.
func (t *track) goesOn(now time.Time, w int64) {
	if n := len(t.marks); n > 0 && w != t.w {
		if ms := now.Sub(t.marks[n-1].at).Milliseconds(); ms > 0 {
			t.marks = append(t.marks, mark{now, t.marks[n-1].sum + t.w*ms})
		}
	}
	t.w = w
}

// sumAt is the energy up to a time, on straight lines between the marks.
func (t *track) sumAt(at time.Time) int64 {
	n := len(t.marks)
	if n == 0 {
		return 0
	}
	if last := t.marks[n-1]; !at.Before(last.at) {
		return last.sum + t.w*at.Sub(last.at).Milliseconds()
	}
	for i := n - 1; i > 0; i-- {
		a, b := t.marks[i-1], t.marks[i]
		if span := b.at.Sub(a.at).Milliseconds(); !at.Before(a.at) && span > 0 {
			return a.sum + int64(float64(b.sum-a.sum)*float64(at.Sub(a.at).Milliseconds())/float64(span))
		}
	}
	return t.marks[0].sum
}

// mean is the battery's power between two times, as far back as is known.
func (t *track) mean(from, to time.Time) int64 {
	if len(t.marks) > 0 && from.Before(t.marks[0].at) {
		from = t.marks[0].at
	}
	ms := to.Sub(from).Milliseconds()
	if ms <= 0 {
		return t.w
	}
	return (t.sumAt(to) - t.sumAt(from)) / ms
}

// houseGuess is what the house takes, with its sun and without the battery.
type houseGuess struct {
	w       *int64
	refresh time.Duration // how often the connection meter says something new, at most
	movedAt time.Time
}

// learn compares what the connection meter says with what the battery did in the time that the meter speaks of. Where the
// meter has long said the same, as in a home whose battery covers it wholly, both of this moment are compared; but only if
// the battery is not told anything new: the meter may be late.
func (g *houseGuess) learn(c course, t *track, now time.Time, length time.Duration, settled bool) {
	if g.refresh == 0 {
		g.refresh = length / 3
	}
	connection := c.powerW
	if connection == nil {
		connection = c.meanW
	}
	if c.movedAt.IsZero() || connection == nil {
		return
	}
	var w int64
	switch {
	case !c.movedAt.Equal(g.movedAt):
		if span := c.movedAt.Sub(g.movedAt); !g.movedAt.IsZero() && span > 0 {
			g.refresh = min(g.refresh, span)
		}
		w = *connection - t.mean(c.movedAt.Add(-g.refresh), c.movedAt)
		g.movedAt = c.movedAt
	case settled && now.Sub(c.movedAt) > g.refresh:
		w = *connection - t.w
	default:
		return
	}
	g.w = &w
}
