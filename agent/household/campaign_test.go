package household

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

var faultDays = flag.Int("fault-days", 1, "simulated days of faults at random that TestFaultsMixed lives through on each transport")

// meterKind is a meter that firmware-sim can be, on one of its transports.
type meterKind struct {
	name, definition, scheme string
	servers, device          string // lines of the street file
}

const (
	modbusTCP = "modbus: {listen: 127.0.0.1:0}"
	ownBroker = "mqtt: {listen: 127.0.0.1:0}"
)

// meterKinds are every transport, by a different device each.
var meterKinds = []meterKind{
	{"modbus tcp", "eastron-sdm630", "tcp", modbusTCP, "unit: 3"},
	{"modbus rtu", "carlo-gavazzi-em24", "rtu", "rtu: {}", "unit: 4"},
	{"modbus rtu over tcp", "abb-b23", "rtu+tcp", "rtu_tcp: {listen: 127.0.0.1:0}", "unit: 5"},
	{"sunspec", "sunspec-meter", "tcp", modbusTCP, "unit: 6"},
	{"mqtt", "shelly-gen2", "mqtt", ownBroker, "topic: shelly"},
	{"mqtt, another", "zigbee2mqtt", "mqtt", ownBroker, "topic: plug"},
	{"p1", "dsmr-p1", "p1+tcp", "", "listen: 127.0.0.1:0"},
	{"http", "homewizard-p1", "http", "", "listen: 127.0.0.1:0"},
}

const (
	streetOfOne = `clock: {manual: true, epoch: 2026-06-21T06:00:00Z}
interval: 15m
refresh: 180s
seed: 42
%s
homes:
  - id: home-1
    load: {model: household, yearly_kwh: 3500}
    solar: {kwp: 6}
    devices:
      - {role: grid, definition: %s, %s}
`
	// refresh is the meter's, and how often the campaign reads it.
	refresh = 3 * time.Minute
	// On the wall clock: how long a meter is waited for that a fault keeps from answering,
	// that speaks by itself, and that has to be back.
	faultRead   = 60 * time.Millisecond
	pushRead    = 500 * time.Millisecond
	healthyRead = 30 * time.Second
)

// faultKind is a fault as the program lists it, with the parameters of the campaign.
type faultKind struct {
	name       string
	lasting    bool // the counter is another one for good: officers approve it
	parameters map[string]string
}

// faultKinds are all of `firmware-sim --list`; a test holds that.
var faultKinds = []faultKind{
	{name: "tamper", lasting: true},
	{name: "reset", lasting: true},
	{name: "wrap", lasting: true, parameters: map[string]string{"modulus_wh": "100000000", "margin_wh": "500"}},
	{name: "jump"},
	{name: "frozen"},
	{name: "zero-bounce"},
	{name: "nan"},
	{name: "scale-change"},
	{name: "swapped-identity"},
	{name: "clock-skew"},
	{name: "dst-jump"},
	{name: "exception"},
	{name: "busy"},
	{name: "short"},
	{name: "long"},
	{name: "wrong-id"},
	{name: "corrupt"},
	{name: "late", parameters: map[string]string{"by": "90ms"}},
	{name: "duplicate"},
	{name: "reorder"},
	{name: "split", parameters: map[string]string{"pause": "1ms"}},
	{name: "drop"},
	{name: "close"},
	{name: "power-cut"},
	{name: "broker-restart"},
	{name: "retained-stale"},
}

// campaign lives with one meter and its faults.
type campaign struct {
	*rig
	kind    meterKind
	partner *partner
	random  *rand.Rand

	truth     map[market.Interval]counters // at the beginning of each
	faulty    map[market.Interval]string   // by what
	explained map[market.Interval]string   // what the page said at its end
	calm      time.Time                    // no fault strikes later
	hours     time.Duration                // of faults
	begun     map[string]int
	reads     struct{ right, failed int }
	waits     time.Time // since when the page waits for an approval; zero: it does not
}

func newCampaign(t *testing.T, kind meterKind, seed uint64) *campaign {
	t.Helper()
	p := newPartner(t, fmt.Sprintf(streetOfOne, kind.servers, kind.definition, kind.device), kind.scheme)
	clk := &clock{now: dawn}
	o := townOptions{start: dawn, now: clk.Now}
	c := &campaign{
		rig: &rig{t: t, town: found(t, o), clock: clk}, kind: kind, partner: p, random: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // a seed is for repeating
		truth: map[market.Interval]counters{}, faulty: map[market.Interval]string{}, explained: map[market.Interval]string{}, begun: map[string]int{},
	}
	c.opt = c.options(0, config(kind.definition, p.address))
	c.opt.Config.Meters[0].Unit = p.unit
	c.opt.ReadTimeout = faultRead
	c.opt.Modbus = modbus.Options{Timeout: faultRead, DialEvery: time.Millisecond, BackoffStep: time.Nanosecond, BackoffMax: time.Nanosecond}
	c.open()
	t.Cleanup(func() { mustClose(t, c.home) })
	c.register()
	return c
}

// live goes on to a time, reading the meter at each of its refreshes.
func (c *campaign) live(end time.Time) {
	c.t.Helper()
	for now := c.clock.Now().Add(refresh); !now.After(end); now = now.Add(refresh) {
		c.clock.set(now)
		c.partner.move(now)
		struck := !now.After(c.calm)
		c.read(struck)
		k := c.home.calendar.At(now)
		boundary := c.home.calendar.Start(k).Equal(now)
		if boundary {
			c.truth[k] = c.partner.counted()
		}
		c.look()
		c.block()
		if boundary {
			c.note(k-1, struck)
		}
		c.approve(now, struck)
	}
}

// read looks at the meter as poll does: within a fault once more if nothing came, without one
// until it does. What speaks by itself is waited for until it is there again; what it said
// before that is lost, as on the wall clock.
func (c *campaign) read(struck bool) {
	c.t.Helper()
	d := c.home.meters[0]
	limit := faultRead
	if !struck {
		limit = pushRead
	}
	deadline := time.Now().Add(healthyRead)
	for tries := 1; ; tries++ {
		sample, err := c.home.read(c.t.Context(), d, limit)
		if err != nil {
			c.reads.failed++
			c.home.failed(d, err)
			gone := strings.Contains(err.Error(), "cannot be re") // reached, read
			switch {
			case struck && tries == 2, !struck && d.source.Push() && !gone:
				return
			case time.Now().After(deadline):
				c.t.Fatalf("%s: %v: no fault strikes, and the meter was not read within %v: %v", c.kind.name, c.clock.Now(), healthyRead, err)
			}
			continue
		}
		c.reads.right++
		c.offer(sample)
		if !d.source.Push() || !struck || sample.Quality&meter.Retained != 0 {
			return
		}
		limit, tries = 2*time.Millisecond, 1 // what comes by itself may come twice
	}
}

// note keeps what the page says of an Interval that has ended.
func (c *campaign) note(k market.Interval, struck bool) {
	c.t.Helper()
	if struck {
		c.faulty[k] = "struck"
	}
	var why []string
	for _, p := range c.draw().Problems {
		why = append(why, p.Code)
	}
	c.home.mu.Lock()
	v := c.home.meters[0].view
	c.home.mu.Unlock()
	if v.state != api.MeterOK {
		why = append(why, string(v.state))
	}
	if v.unproven != "" {
		why = append(why, v.unproven)
	}
	c.explained[k] = strings.Join(why, "; ")
}

// approve has officers decide, an hour after the page began to wait for them. While a fault
// strikes they wait and see.
func (c *campaign) approve(now time.Time, struck bool) {
	c.t.Helper()
	c.home.mu.Lock()
	waiting := c.home.meters[0].view.waiting
	c.home.mu.Unlock()
	switch {
	case !waiting || struck:
		c.waits = time.Time{}
	case c.waits.IsZero():
		c.waits = now
	case now.Sub(c.waits) >= time.Hour:
		r := c.home.registration()
		c.replace(c.home.calendar.At(now)+1, r.epoch+1, Public(c.home.opt.Keys.Meter), ledger.SignedByAgent)
		c.waits = time.Time{}
	}
}

// strike begins a fault if the meter can have it.
func (c *campaign) strike(f faultKind, lasts time.Duration) bool {
	c.t.Helper()
	if !c.partner.fault(f.name, lasts, f.parameters) {
		return false
	}
	c.hours += lasts
	c.begun[f.name]++
	if end := c.clock.Now().Add(lasts); end.After(c.calm) {
		c.calm = end
	}
	return true
}

// judge compares what was settled, or is waiting for its deadline, with what the meter itself
// counted.
func (c *campaign) judge() {
	c.t.Helper()
	c.look()
	c.block()
	reported := c.reported()
	first, last := slices.Min(slices.Collect(maps.Keys(c.truth))), slices.Max(slices.Collect(maps.Keys(c.truth)))
	count := map[ledger.Quality]int{}
	wrong := 0
	for k := first; k < last; {
		e, ok := reported[k]
		if !ok || !metered(e.Quality) {
			count[e.Quality]++
			if c.explained[k] == "" {
				c.t.Errorf("%s: interval %d is %s, and the page gave no reason", c.kind.name, k, e.Quality)
			}
			k++
			continue
		}
		// A run of metered Intervals comes to what was counted between its ends; an Interval
		// with two boundaries of its own to what was counted in it.
		var sum energy
		begin := k
		for ; k < last && ok && metered(reported[k].Quality); k++ {
			e := reported[k]
			count[e.Quality]++
			sum.Import, sum.Export = sum.Import+e.Import, sum.Export+e.Export
			if e.Quality == ledger.QualityGood && !c.agrees(k, k+1, e) {
				wrong++
			}
			if _, more := reported[k+1]; !more {
				k++
				break
			}
		}
		if !c.agrees(begin, k, sum) {
			wrong++
		}
	}
	c.t.Logf("%-20s %3d faults of %2d kinds, %4.0f fault-hours; %5d intervals: %5d good, %4d estimated, %4d substituted or missing; %6d samples, %5d failed reads; wrong energies booked: %d",
		c.kind.name, total(c.begun), len(c.begun), c.hours.Hours(), int(last-first), count[ledger.QualityGood], count[ledger.QualityEstimated],
		count[ledger.QualityMissing]+count[ledger.QualitySubstitute], c.reads.right, c.reads.failed, wrong)
}

// agrees says whether an energy is what the meter counted from one Interval's beginning to
// another's.
func (c *campaign) agrees(from, to market.Interval, e energy) bool {
	c.t.Helper()
	a, b := c.truth[from], c.truth[to]
	imported, exported := market.WattHours(b.imported-a.imported), market.WattHours(b.exported-a.exported) //nolint:gosec // a fall is as wrong as a rise
	if e.Import == imported && e.Export == exported {
		return true
	}
	c.t.Errorf("%s: intervals %d to %d (%v): booked %d and %d Wh, the meter counted %d and %d (%s)", c.kind.name, from, to-1,
		c.home.calendar.Start(from).Format(time.DateTime), e.Import, e.Export, imported, exported, c.faulty[from])
	return false
}

// reported is what the ledger has been told of each Interval, settled or not.
func (c *campaign) reported() map[market.Interval]energy {
	c.t.Helper()
	all := map[market.Interval]energy{}
	for k, s := range c.settlements(c.home.id) {
		all[k] = energy{Import: s.Import, Export: s.Export, Quality: s.Quality}
	}
	c.Read(func(s *ledger.State) {
		for _, k := range s.Intervals() {
			r, _ := s.Interval(k)
			if e, ok := r.Entry(c.home.id); ok && r.State != ledger.IntervalSettled {
				all[k] = energy{Import: e.Import, Export: e.Export, Quality: e.Quality}
			}
		}
	})
	return all
}

// healthy fails if an Interval without a fault around it was not proven.
func (c *campaign) healthy(first, last market.Interval) {
	c.t.Helper()
	reported := c.reported()
	for k := first; k <= last; k++ {
		if q := reported[k].Quality; q != ledger.QualityGood {
			c.t.Errorf("%s: interval %d (%v), long after the last fault: %s; the page said %q", c.kind.name, k,
				c.home.calendar.Start(k).Format(time.DateTime), q, c.explained[k])
		}
	}
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestFaultsOneByOne has each fault strike each meter that can have it, alone: nothing wrong
// is ever booked, what is missing is explained, and once it is over the home is settled on
// its meter again.
func TestFaultsOneByOne(t *testing.T) {
	t.Parallel()
	for i, kind := range meterKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			c := newCampaign(t, kind, uint64(i)) //nolint:gosec // small
			c.live(c.clock.Now().Add(time.Hour))
			for _, f := range faultKinds {
				lasts := refresh * time.Duration(3+c.random.IntN(22))
				c.live(c.clock.Now().Add(refresh * time.Duration(c.random.IntN(5))))
				if !c.strike(f, lasts) {
					continue
				}
				after := 75 * time.Minute
				if f.lasting {
					after += 2 * time.Hour
				}
				c.live(c.calm.Add(after))
				last := c.home.calendar.At(c.clock.Now()) - 1
				c.healthy(last-1, last)
			}
			c.judge()
		})
	}
}

// TestFaultsMixed has faults strike at random, several at once, for -fault-days days.
func TestFaultsMixed(t *testing.T) {
	t.Parallel()
	for i, kind := range meterKinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			c := newCampaign(t, kind, 100+uint64(i)) //nolint:gosec // small
			end := dawn.Add(time.Duration(*faultDays) * 24 * time.Hour)
			c.live(c.clock.Now().Add(time.Hour))
			for c.clock.Now().Before(end) {
				// Hours with faults, as many as come, then some without.
				for storm := c.clock.Now().Add(time.Duration(2+c.random.IntN(7)) * time.Hour); c.clock.Now().Before(storm); {
					f := faultKinds[c.random.IntN(len(faultKinds))]
					if !f.lasting || c.random.IntN(4) == 0 {
						c.strike(f, refresh*time.Duration(1+c.random.IntN(30)))
					}
					c.live(c.clock.Now().Add(refresh * time.Duration(1+c.random.IntN(15))))
				}
				c.live(c.calm.Add(4 * time.Hour))
				last := c.home.calendar.At(c.clock.Now()) - 1
				c.healthy(last-1, last)
			}
			c.judge()
		})
	}
}
