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
	net := int64(*s.ImportWh) - int64(*s.ExportWh) //nolint:gosec // bounded above
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
			limit := s.LimitAt(k, member.Node)
			p.importW, p.export = limit.ImportW, limit.ExportW
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
