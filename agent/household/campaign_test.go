package household

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/httpjson"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

var faultDays = flag.Int("fault-days", 1, "simulated days of faults at random that TestFaultsMixed lives through on each transport")

// meterKind is a meter that firmware-sim can be, on one of its transports.
type meterKind struct {
	name, definition, scheme string
	servers, device          string // lines of the street file
	step                     int64  // Wh, of its counters
}

const (
	modbusTCP = "modbus: {listen: 127.0.0.1:0}"
	ownBroker = "mqtt: {listen: 127.0.0.1:0}"
)

// meterKinds are every transport, by a different device each.
var meterKinds = []meterKind{
	{"modbus tcp", "eastron-sdm630", "tcp", modbusTCP, "unit: 3", 1},
	{"modbus rtu", "carlo-gavazzi-em24-e1", "rtu", "rtu: {}", "unit: 4", 100},
	{"modbus rtu over tcp", "abb-b23", "rtu+tcp", "rtu_tcp: {listen: 127.0.0.1:0}", "unit: 5", 10},
	{"sunspec", "sunspec-meter", "tcp", modbusTCP, "unit: 6", 1},
	{"mqtt", "shelly-gen2", "mqtt", ownBroker, "topic: shelly", 1},
	{"mqtt, another", "zigbee2mqtt", "mqtt", ownBroker, "topic: plug", 10},
	{"p1", "dsmr-p1", "p1+tcp", "", "listen: 127.0.0.1:0", 1},
	{"http", "homewizard-p1", "http", "", "listen: 127.0.0.1:0", 1},
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
	// oldest is how old a counter may be that nothing shows to be old: of a message that was
	// late and tells no time, or a register that stood still.
	oldest = 45 * time.Minute
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
	{name: "wrap", lasting: true, parameters: map[string]string{"margin_wh": "20", "counter": "import"}},
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

	truth     map[time.Time]counters     // at each refresh
	faulty    map[market.Interval]string // by what
	explained map[market.Interval]string // what the page said at its end
	calm      time.Time                  // no fault strikes later
	struck    map[string]time.Time       // until when each does
	hours     time.Duration              // of faults
	begun     map[string]int
	last      string
	reads     struct{ right, failed int }
	waits     time.Time // since when the page waits for an approval; zero: it does not
	waited    time.Time // until when it did: a counter may pass its end hours after a fault
}

func newCampaign(t *testing.T, kind meterKind, seed uint64) *campaign {
	t.Helper()
	p := newPartner(t, fmt.Sprintf(streetOfOne, kind.servers, kind.definition, kind.device), kind.scheme)
	clk := &clock{now: dawn}
	o := townOptions{start: dawn, now: clk.Now}
	c := &campaign{
		rig: &rig{t: t, town: found(t, o), clock: clk}, kind: kind, partner: p, random: rand.New(rand.NewPCG(seed, 1)),
		truth: map[time.Time]counters{}, faulty: map[market.Interval]string{}, explained: map[market.Interval]string{}, begun: map[string]int{}, struck: map[string]time.Time{},
	}
	c.opt = c.options(0, config(kind.definition, p.address))
	c.opt.Config.Meters[0].Unit = p.unit
	c.opt.ReadTimeout = faultRead
	c.opt.Modbus = modbus.Options{Timeout: faultRead, DialEvery: time.Millisecond, BackoffStep: time.Nanosecond, BackoffMax: time.Nanosecond}
	c.opt.HTTP = httpjson.Options{Timeout: faultRead, DialEvery: time.Millisecond, BackoffStep: time.Nanosecond, BackoffMax: time.Nanosecond}
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
		c.truth[now] = c.partner.counted()
		c.look()
		c.block()
		if boundary {
			c.note(k - 1)
		}
		c.approve(now, struck)
	}
}

// read looks at the meter as poll does: within a fault once more if nothing came, without one
// until it does. What speaks by itself is waited for until it is there again; what it said
// before that is lost, as on the wall clock. What waited since a fault comes before what it
// says now, and that is waited for: it bears the time at which it comes, so the clock must
// not go on before.
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
		switch {
		case !d.source.Push(), sample.Quality&meter.Retained != 0:
			return
		case struck:
			limit, tries = 2*time.Millisecond, 1 // what comes by itself may come twice
		case !sample.At.Before(c.clock.Now()):
			return
		}
	}
}

// note keeps what the page says of an Interval that has ended.
func (c *campaign) note(k market.Interval) {
	c.t.Helper()
	var names []string
	for name, end := range c.struck {
		if !end.Before(c.home.calendar.Start(k)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	c.faulty[k] = strings.Join(names, "+")
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
	for _, text := range []string{v.note, v.unproven} {
		if text != "" {
			why = append(why, text)
		}
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
	if waiting {
		c.waited = now
	}
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
	parameters := maps.Clone(f.parameters)
	if f.name == "wrap" {
		// Never twice the same, lest a jump to its end be as small as what may have flowed.
		parameters["modulus_wh"] = fmt.Sprint(3_000_000 + 900_000*(c.begun[f.name]%6))
	}
	if !c.partner.fault(f.name, lasts, parameters) {
		return false
	}
	c.hours += lasts
	c.last = f.name
	c.begun[f.name]++
	end := c.clock.Now().Add(lasts)
	if end.After(c.calm) {
		c.calm = end
	}
	if end.After(c.struck[f.name]) {
		c.struck[f.name] = end
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
	first, last := c.home.calendar.At(dawn.Add(time.Hour)), c.home.calendar.At(c.clock.Now())
	count := map[ledger.Quality]int{}
	wrong, shifted := 0, 0
	for k := first; k < last; {
		e, ok := reported[k]
		if !ok || !metered(e.Quality) {
			count[e.Quality]++
			// The page said why at its end, or at its beginning if that is what was not proven.
			if c.explained[k] == "" && c.explained[k-1] == "" {
				c.t.Errorf("%s: interval %d (%v) is %s between %s and %s, and the page gave no reason (%s); registered %+v", c.kind.name, k,
					c.home.calendar.Start(k).Format(time.DateTime), e.Quality, reported[k-1].Quality, reported[k+1].Quality, c.faulty[k], c.home.registration())
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
			if e.Quality == ledger.QualityGood && !c.agrees(k, k+1, e, 0) {
				shifted++
				if !c.agrees(k, k+1, e, oldest) {
					wrong++
					c.complain(k, k+1, e)
				}
			}
			if _, more := reported[k+1]; !more {
				k++
				break
			}
		}
		if !c.agrees(begin, k, sum, 0) && (!c.faultyEnds(begin, k) || !c.agrees(begin, k, sum, oldest)) {
			wrong++
			c.complain(begin, k, sum)
		}
	}
	c.t.Logf("%-20s %3d faults of %2d kinds, %4.0f fault-hours; %5d intervals: %5d good, %4d estimated, %4d substituted or missing; %4d good ones begin or end with an older counter (at most %v); %6d samples, %5d failed reads; wrong energies booked: %d",
		c.kind.name, total(c.begun), len(c.begun), c.hours.Hours(), int(last-first), count[ledger.QualityGood], count[ledger.QualityEstimated],
		count[ledger.QualityMissing]+count[ledger.QualitySubstitute], shifted, oldest, c.reads.right, c.reads.failed, wrong)
}

// agrees says whether an energy is what the meter counted from one Interval's beginning to
// another's, where either may be the counter of up to age before.
func (c *campaign) agrees(from, to market.Interval, e energy, age time.Duration) bool {
	begin, end := c.home.calendar.Start(from), c.home.calendar.Start(to)
	for a := time.Duration(0); a <= age; a += refresh {
		for b := time.Duration(0); b <= age; b += refresh {
			x, y := c.truth[begin.Add(-a)], c.truth[end.Add(-b)]
			imported, exported := market.WattHours(y.imported-x.imported), market.WattHours(y.exported-x.exported)
			if slack := c.slack(c.faulty[from-1] + c.faulty[to]); off(e.Import-imported) <= slack && off(e.Export-exported) <= slack {
				return true
			}
		}
	}
	return false
}

// faultyEnds says whether a fault that makes old counters look new struck at either end.
func (c *campaign) faultyEnds(from, to market.Interval) bool {
	return c.faulty[from-1]+c.faulty[from]+c.faulty[to-1] != ""
}

func (c *campaign) complain(from, to market.Interval, e energy) {
	c.t.Helper()
	x, y := c.truth[c.home.calendar.Start(from)], c.truth[c.home.calendar.Start(to)]
	c.t.Errorf("%s: intervals %d to %d (%v): booked %d and %d Wh, the meter counted %d and %d (%s)", c.kind.name, from, to-1,
		c.home.calendar.Start(from).Format(time.DateTime), e.Import, e.Export, int64(y.imported-x.imported), int64(y.exported-x.exported), c.faulty[from])
}

func off(wh market.WattHours) int64 { return max(int64(wh), -int64(wh)) }

// slack is by how much what a register tells of an energy may be off what the meter counted,
// however long the span: by its step, once it began anew at a number of its own, because the
// two are then rounded down at different moments; and by ten of its steps, while it counts in
// those.
func (c *campaign) slack(faults string) int64 {
	if strings.Contains(faults, "scale-change") {
		return 10 * c.kind.step
	}
	if c.begun["reset"]+c.begun["wrap"]+c.begun["tamper"] > 0 {
		return c.kind.step
	}
	return 0
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
	if reported[last].Quality != ledger.QualityGood {
		c.live(c.clock.Now().Add(3 * refresh)) // of a counter that passes its end just now the page knows in three samples
	}
	if c.waited.After(c.home.calendar.Start(first - 2)) {
		return
	}
	for k := first; k <= last; k++ {
		if q := reported[k].Quality; q != ledger.QualityGood {
			c.t.Errorf("%s: interval %d (%v), long after the last fault (%s): %s; the page said %q", c.kind.name, k,
				c.home.calendar.Start(k).Format(time.DateTime), c.last, q, c.explained[k])
		}
	}
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestFaultsAreAll holds the table against what the program can do.
func TestFaultsAreAll(t *testing.T) {
	t.Parallel()
	program, err := simulator()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "--list", "--output", "json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Faults []struct{ Name string } }
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, f := range list.Faults {
		want = append(want, f.Name)
	}
	for _, f := range faultKinds {
		got = append(got, f.name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("the campaign has %v, firmware-sim %v", got, want)
	}
}

// campaigns runs one on each transport, and adds up what they tried.
func campaigns(t *testing.T, seed uint64, live func(*campaign)) {
	t.Parallel()
	var mu sync.Mutex
	begun, hours, ran := map[string]int{}, time.Duration(0), 0
	t.Run("on", func(t *testing.T) {
		for i, kind := range meterKinds {
			t.Run(strings.ReplaceAll(kind.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				c := newCampaign(t, kind, seed+uint64(i))
				c.live(c.clock.Now().Add(time.Hour))
				live(c)
				c.judge()
				mu.Lock()
				defer mu.Unlock()
				hours += c.hours
				ran++
				for name, n := range c.begun {
					begun[name] += n
				}
			})
		}
	})
	t.Logf("%d faults of %d kinds on %d kinds of meters: %.0f fault-hours tried", total(begun), len(begun), ran, hours.Hours())
	if seed == oneByOne && ran == len(meterKinds) && len(begun) != len(faultKinds) {
		t.Errorf("%d of %d faults struck: %v", len(begun), len(faultKinds), begun)
	}
}

const (
	oneByOne = 0
	mixed    = 100
)

// TestFaultsOneByOne has each fault strike each meter that can have it, alone: nothing wrong
// is ever booked, what is missing is explained, and once it is over the home is settled on
// its meter again.
func TestFaultsOneByOne(t *testing.T) {
	campaigns(t, oneByOne, func(c *campaign) {
		for _, f := range faultKinds {
			lasts := refresh * time.Duration(3+c.random.IntN(22))
			c.live(c.clock.Now().Add(refresh * time.Duration(c.random.IntN(5))))
			if !c.strike(f, lasts) {
				continue
			}
			after := 75 * time.Minute
			if f.lasting {
				after = 7 * time.Hour // officers decide, and a counter may pass its end
			}
			c.live(c.calm.Add(after))
			last := c.home.calendar.At(c.clock.Now()) - 1
			c.healthy(last-1, last)
		}
	})
}

// TestFaultsMixed has faults strike at random, several at once, for -fault-days days.
func TestFaultsMixed(t *testing.T) {
	campaigns(t, mixed, func(c *campaign) {
		for end := dawn.Add(time.Duration(*faultDays) * 24 * time.Hour); c.clock.Now().Before(end); {
			// Hours with faults, as many as come, then some without.
			for storm := c.clock.Now().Add(time.Duration(2+c.random.IntN(7)) * time.Hour); c.clock.Now().Before(storm); {
				f := faultKinds[c.random.IntN(len(faultKinds))]
				if !f.lasting || c.random.IntN(4) == 0 {
					c.strike(f, refresh*time.Duration(1+c.random.IntN(30)))
				}
				c.live(c.clock.Now().Add(refresh * time.Duration(1+c.random.IntN(15))))
			}
			c.live(c.calm.Add(6 * time.Hour))
			last := c.home.calendar.At(c.clock.Now()) - 1
			c.healthy(last-1, last)
		}
	})
}
