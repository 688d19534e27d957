package household

import (
	"context"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// rig drives one home step by step, in the test's goroutine: the same calls as those of
// poll, trade and follow, at times that the test chooses. Its rate is 1, and wall and
// community time are the same.
type rig struct {
	*town
	t       *testing.T
	clock   *clock
	opt     Options
	home    *Home
	trading *trading
	counter counters
	off     func(t time.Time) bool                  // the meter says nothing then
	mend    func(t time.Time, s *meter.Sample)      // what the meter says instead
	after   func(t time.Time, s api.Snapshot) error // called after each step
}

// counters count both ways, unevenly, and never back: from half past seven to one there is sun.
type counters struct{ imported, exported uint64 }

func (c *counters) step(minute int) {
	switch m := uint64(minute); {
	case m%1440 >= 90 && m%1440 < 7*60:
		c.exported += 3 + m*m%17
		c.imported += m % 2
	default:
		c.imported += 5 + m*7%23
	}
}

func newRig(t *testing.T, change func(*townOptions)) *rig {
	t.Helper()
	c := &clock{now: dawn}
	o := townOptions{start: dawn, now: c.Now}
	if change != nil {
		change(&o)
	}
	r := &rig{t: t, town: found(t, o), clock: c, counter: counters{imported: 1_000_000, exported: 500}}
	r.opt = r.options(0, config("eastron-sdm630", nowhere))
	r.open()
	t.Cleanup(func() { mustClose(t, r.home) })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	r.home = mustOpen(r.t, r.opt)
	r.trading = r.home.newTrading()
}

// restart ends the home as a kill would, save that the file's lock is given back: nothing
// is written when it ends.
func (r *rig) restart() {
	r.t.Helper()
	mustClose(r.t, r.home)
	r.open()
}

// sample is what the meter says at t.
func (r *rig) sample(t time.Time) meter.Sample {
	imported, exported := r.counter.imported, r.counter.exported
	power := int64(exported%4000) - 2000
	return meter.Sample{
		At: t, ImportWh: &imported, ExportWh: &exported, PowerW: &power, Source: "eastron-sdm630@1",
		Identity:     meter.Identity{Maker: "Eastron", Model: "SDM630", Serial: "20000001"},
		ImportTraits: def.Traits{ResolutionWh: 1}, ExportTraits: def.Traits{ResolutionWh: 1},
	}
}

// until lives minute by minute to a time: the meter counts, the home reads it, brings
// what it has to the ledger, and a block is made.
func (r *rig) until(end time.Time) {
	r.t.Helper()
	for now := r.clock.Now().Add(time.Minute); !now.After(end); now = now.Add(time.Minute) {
		r.clock.set(now)
		r.counter.step(int(now.Sub(dawn) / time.Minute))
		r.observe(now)
		r.look()
		r.block()
		if r.after == nil {
			continue
		}
		if err := r.after(now, r.draw()); err != nil {
			r.t.Fatalf("%v: %v", now, err)
		}
	}
}

func (r *rig) observe(now time.Time) {
	r.t.Helper()
	if r.off != nil && r.off(now) {
		r.home.failed(r.home.meters[0], meter.ErrNoMessage)
		return
	}
	s := r.sample(now)
	if r.mend != nil {
		r.mend(now, &s)
	}
	r.offer(s)
}

func (r *rig) offer(s meter.Sample) {
	r.t.Helper()
	if err := r.home.observe(r.home.meters[0], s); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) look() {
	r.t.Helper()
	if err := r.trading.look(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// draw makes a new picture.
func (r *rig) draw() api.Snapshot {
	r.t.Helper()
	if err := r.home.book.refresh(); err != nil {
		r.t.Fatal(err)
	}
	r.home.rebuild()
	return r.home.Snapshot()
}

// at is the Interval that begins at a time of the first day.
func (r *rig) at(hour, minute int) market.Interval {
	return r.home.calendar.At(on(hour, minute))
}

func on(hour, minute int) time.Time {
	return time.Date(2026, 6, 21, hour, minute, 0, 0, time.UTC)
}

// register waits until the home and its meter are on the ledger.
func (r *rig) register() {
	r.t.Helper()
	for range 4 {
		r.look()
		r.block()
	}
	if !r.home.registration().metered {
		r.t.Fatal("the home was not admitted")
	}
}

// qualities lists how the Intervals from first to last were settled.
func (r *rig) qualities(first, last market.Interval) []ledger.Quality {
	r.t.Helper()
	all := r.settlements(r.home.id)
	var list []ledger.Quality
	for k := first; k <= last; k++ {
		list = append(list, all[k].Quality)
	}
	return list
}

// problem looks for a problem on the page.
func problem(s api.Snapshot, code string) (api.Problem, bool) {
	for _, p := range s.Problems {
		if p.Code == code {
			return p, true
		}
	}
	return api.Problem{}, false
}

// shown looks for an Interval on the page.
func shown(t testing.TB, s api.Snapshot, k market.Interval) api.Interval {
	t.Helper()
	for _, i := range s.Intervals {
		if i.Interval == int64(k) {
			return i
		}
	}
	t.Fatalf("interval %d is not on the page", k)
	return api.Interval{}
}
