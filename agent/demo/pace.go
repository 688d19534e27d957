package demo

import (
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// pace is how fast the community's time runs, and what follows from it: people and
// processes need the same seconds of the wall clock at every pace.
type pace struct {
	rate int64 // community seconds per wall second
}

const (
	intervalLength = 15 * time.Minute

	defaultPace = 10 * time.Second // of the wall clock, for one interval
	fastestPace = 2 * time.Second  // below that the homes have no time to order between two gates

	slowestPace = time.Minute // whole rates are close enough together up to there

	// shortestRefresh is how long a counter of a simulated meter stays as it is, on the
	// wall clock, at least: whoever reads it that soon after a boundary reads the boundary's.
	shortestRefresh = 1500 * time.Millisecond
	longestProof    = 2 * time.Second  // after a boundary, on the wall clock, for a reading to prove it
	reportPatience  = 20 * time.Second // after an interval, on the wall clock: then a missing report is substituted
	leastDeadline   = 30 * time.Minute // the same in community time, at least
)

// paceOf is the pace at which an interval takes that long.
func paceOf(interval time.Duration) pace {
	return pace{rate: int64((intervalLength + interval/2) / interval)}
}

// wall is how long a span of community time takes.
func (p pace) wall(d time.Duration) time.Duration { return d / time.Duration(p.rate) }

// community is how much community time passes in a span of the wall clock.
func (p pace) community(d time.Duration) time.Duration { return d * time.Duration(p.rate) }

// refresh is the period at which the simulated counters go on: a part of the interval, so
// that every boundary is one of its multiples.
func (p pace) refresh() time.Duration {
	for _, parts := range []time.Duration{5, 3, 2} {
		if d := intervalLength / parts; p.wall(d) >= shortestRefresh {
			return d
		}
	}
	return intervalLength
}

// tolerance is how late a reading may prove a boundary: always sooner than the counter goes
// on, so that what is settled is the device's own count to the Wh.
func (p pace) tolerance() time.Duration {
	return min(p.refresh()-time.Second, p.community(longestProof))
}

// deadline is when a missing report is substituted. What an outage keeps from being
// reported is not missing, so it comes on top.
func (p pace) deadline(outage time.Duration) time.Duration {
	return max(leastDeadline, p.community(reportPatience)) + outage
}

// rules are those of an ordinary community, but for what the faster clock needs: seconds
// of the wall clock to prove a boundary in, a deadline that a person can wait for, and
// time enough to correct after a night.
func (p pace) rules(outage time.Duration) ledger.Rules {
	r := ledger.DefaultRules()
	r.ReadingToleranceS = int64(p.tolerance() / time.Second)
	r.ReportDeadlineS = int64(p.deadline(outage) / time.Second)
	r.CorrectionWindowS = int64(2 * longestAbsence / time.Second)
	return r
}

// String tells a person.
func (p pace) String() string {
	return fmt.Sprintf("15 minutes pass in %v", p.wall(intervalLength).Round(100*time.Millisecond))
}
