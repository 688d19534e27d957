package fault

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Problem is a mistake in a rule, at a key of it.
type Problem struct{ Key, Message string }

// Error names the key first.
func (p Problem) Error() string { return p.Key + ": " + p.Message }

func problem(key, format string, args ...any) error {
	return Problem{Key: key, Message: fmt.Sprintf(format, args...)}
}

// Rule says when, where and how strongly a fault strikes.
type Rule struct {
	Fault string `yaml:"fault"`
	// Home, Role and Transport narrow it; "" is every one that it can strike.
	Home      string `yaml:"home"`
	Role      string `yaml:"role"`
	Transport string `yaml:"transport"`
	// At is when it begins; After, instead, how long after the epoch (in a scenario)
	// or from now (by hand). Neither: at the epoch, or now.
	At    time.Time     `yaml:"at"`
	After time.Duration `yaml:"after"`
	// For is how long it lasts each time; 0: until it is ended.
	For time.Duration `yaml:"for"`
	// Every begins it anew again and again, until Until if that is given.
	Every time.Duration `yaml:"every"`
	Until time.Time     `yaml:"until"`
	// Probability is that of each beginning, Share that of each answer to be hit
	// meanwhile (faults of the wire); 0 stands for 1.
	Probability float64 `yaml:"probability"`
	Share       float64 `yaml:"share"`
	Seed        uint64  `yaml:"seed"`
	// Parameters are those of the fault.
	Parameters map[string]string `yaml:"parameters"`
}

// Limits of a Rule.
const (
	maxFor   = 100 * 365 * 24 * time.Hour
	minEvery = time.Second
)

// Device is what can be struck.
type Device struct {
	Home, Role, Definition string
	Transports             []wire.Transport
	// Unknowns: it has a way to say that it does not know. Scales: its scale factor is
	// a register. Clock: it says what time it is. Obeys: it is an inverter.
	Unknowns, Scales, Clock, Obeys bool
	// WrapWh is where its counters begin anew.
	WrapWh uint64
}

// Key names a device.
type Key struct{ Home, Role string }

// rule is a Rule that was checked, with what it strikes.
type rule struct {
	Rule
	number  int
	seed    uint64
	kind    Kind
	order   int // in the table
	values  values
	targets map[Key]bool
	value   valueFault
	wire    wireFault

	mu      sync.Mutex
	ended   time.Time         // by hand; zero: not
	answers map[teller]uint64 // that it was asked about; bounded by the street's devices
	hits    uint64            // of them, that it changed
	memos   [2]memo           // of the beginning and of the end
}

// memo keeps a reading that does not change any more.
type memo struct {
	at      time.Time
	reading device.Reading
	home    Key
}

// occurrence is one time that a rule strikes.
type occurrence struct {
	begin, end time.Time // end zero: not known yet
}

func (o occurrence) active(at time.Time) bool { return o.end.IsZero() || at.Before(o.end) }

// occurrence is the newest one that has begun at an instant, if any.
func (r *rule) occurrence(at time.Time) (o occurrence, ok bool) {
	if at.Before(r.At) {
		return o, false
	}
	k := int64(0)
	o.begin = r.At
	if r.Every > 0 {
		if !r.Until.IsZero() && !at.Before(r.Until) {
			at = r.Until.Add(-1)
		}
		k = int64(at.Sub(r.At) / r.Every)
		o.begin = r.At.Add(time.Duration(k) * r.Every)
	}
	if r.For > 0 {
		o.end = o.begin.Add(r.For)
	}
	r.mu.Lock()
	ended := r.ended
	r.mu.Unlock()
	if !ended.IsZero() && (o.end.IsZero() || ended.Before(o.end)) {
		o.end = ended
	}
	if !ended.IsZero() && ended.Before(o.begin) {
		return o, false
	}
	return o, chance(r.seed, uint64(k), r.Probability)
}

// active says whether it strikes at an instant.
func (r *rule) active(at time.Time) bool {
	o, ok := r.occurrence(at)
	return ok && o.active(at)
}

// teller is a device on a transport. Answers are counted for each alone: what one
// says at a moment of its own changes nothing for the others.
type teller struct {
	key       Key
	transport wire.Transport
}

// strikes decides for one answer.
func (r *rule) strikes(key Key, transport wire.Transport) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := teller{key, transport}
	if r.answers == nil {
		r.answers = map[teller]uint64{}
	}
	r.answers[t]++
	h := fnv.New64a()
	_, _ = h.Write([]byte(key.Home + " " + key.Role + " " + string(transport))) // a hash never fails
	hit := chance(^r.seed^h.Sum64(), r.answers[t], r.Share)
	if hit {
		r.hits++
	}
	return hit
}

// chance is the same each time for the same numbers.
func chance(seed, n uint64, p float64) bool {
	if p >= 1 {
		return true
	}
	return float64(mix(seed^mix(n))>>11)/(1<<53) < p
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

// check fills in what was left out and refuses what cannot be. base is the epoch
// or now.
func (r *rule) check(base time.Time, refresh time.Duration) error {
	kind, order, ok := lookup(r.Fault)
	if !ok {
		return problem("fault", "got %.60q, want one of %s", r.Fault, names())
	}
	r.kind, r.order = kind, order
	if err := r.checkTimes(base); err != nil {
		return err
	}
	for _, p := range []struct {
		key   string
		value *float64
	}{{"probability", &r.Probability}, {"share", &r.Share}} {
		if *p.value == 0 {
			*p.value = 1
		}
		if !(*p.value > 0 && *p.value <= 1) { // also a NaN
			return problem(p.key, "got %v, want more than 0, at most 1", *p.value)
		}
	}
	switch {
	case r.Share != 1 && kind.wire == nil:
		return problem("share", "belongs to a fault of the wire, %s is none", kind.Name)
	case r.Every > 0 && kind.Lasting:
		return problem("every", "%s changes the counters for good: give at or after", kind.Name)
	case kind.pushedOnly() && r.For > 0 && r.For < refresh:
		return problem("for", "got %v, want at least a refresh, %v: %s begins and ends at one", r.For, refresh, kind.Name)
	case r.Transport != "" && len(kind.Transports) == 0:
		return problem("transport", "%s is in the device and strikes all of them", kind.Name)
	case r.Transport != "" && !slices.Contains(kind.Transports, wire.Transport(r.Transport)):
		return problem("transport", "got %.60q, want one of %v", r.Transport, kind.Transports)
	}
	v, err := kind.valuesOf(r.Parameters)
	if err != nil {
		return err
	}
	r.values = v
	if kind.value != nil {
		r.value = kind.value(v)
	}
	if kind.wire != nil {
		r.wire = kind.wire(v)
	}
	return nil
}

func (r *rule) checkTimes(base time.Time) error {
	switch {
	case r.After < 0 || r.After > maxFor:
		return problem("after", "got %v, want 0s to %v", r.After, maxFor)
	case r.After > 0 && !r.At.IsZero():
		return problem("after", "give either at or after")
	case r.At.IsZero():
		r.At = base.Add(r.After)
	case r.At.Before(base):
		return problem("at", "%s is over, it is %s", r.At.Format(time.RFC3339), base.Format(time.RFC3339))
	case r.At.Year() > 2200:
		return problem("at", "got %s, want a time before 2201", r.At.Format(time.RFC3339))
	}
	switch {
	case r.For < 0 || r.For > maxFor:
		return problem("for", "got %v, want 0s (until it is ended) to %v", r.For, maxFor)
	case r.Every == 0 && !r.Until.IsZero():
		return problem("until", "belongs to every")
	case r.Every == 0:
		return nil
	case r.Every < minEvery || r.Every > maxFor:
		return problem("every", "got %v, want %v to %v", r.Every, minEvery, maxFor)
	case r.For == 0 || r.For > r.Every:
		return problem("for", "got %v, want more than 0s and at most every, %v", r.For, r.Every)
	case !r.Until.IsZero() && !r.Until.After(r.At):
		return problem("until", "%s is not after the beginning, %s", r.Until.Format(time.RFC3339), r.At.Format(time.RFC3339))
	}
	return nil
}
