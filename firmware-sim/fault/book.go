package fault

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Book keeps the rules of a street.
type Book struct {
	devices []Device
	opts    Options

	mu    sync.RWMutex
	rules []*rule // by their place in the table, then by number
	last  int     // number
}

// Options of a Book.
type Options struct {
	Refresh   time.Duration // of the street's counters
	Seed      uint64
	OwnBroker bool // the street has one
}

// maxRules bounds a book, those that are over included: they are part of the past.
const maxRules = 10_000

// ErrFull is returned for a rule too many.
var ErrFull = errors.New("too many rules")

// NewBook makes a book without rules.
func NewBook(devices []Device, o Options) *Book { return &Book{devices: devices, opts: o} }

// Status is a rule as it stands.
type Status struct {
	ID int
	Rule
	// Parameters that were not given are filled in.
	Parameters map[string]string
	Targets    []Key
	Active     bool
	Ended      time.Time // zero: not by hand
	Hits       uint64    // answers that it changed or left out, of a fault of the wire or a power cut
}

// Start adds a rule. Base is the epoch for a scenario, now for one by hand; an
// earlier beginning is refused. Its errors are a Problem or ErrFull.
func (b *Book) Start(r Rule, base time.Time) (Status, error) {
	added := &rule{Rule: r}
	if err := added.check(base, b.opts.Refresh); err != nil {
		return Status{}, err
	}
	if err := b.aim(added); err != nil {
		return Status{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.rules) >= maxRules {
		return Status{}, fmt.Errorf("starting %s: %w, want at most %d", r.Fault, ErrFull, maxRules)
	}
	b.last++
	added.number = b.last
	added.seed = mix(mix(b.opts.Seed^mix(r.Seed)) + uint64(added.number)) //nolint:gosec // G115: positive
	b.rules = append(b.rules, added)
	slices.SortStableFunc(b.rules, func(x, y *rule) int {
		return cmp.Or(cmp.Compare(x.order, y.order), cmp.Compare(x.number, y.number))
	})
	return added.status(base), nil
}

// aim finds the devices that a rule strikes.
func (b *Book) aim(r *rule) error {
	if r.kind.Name == brokerRestart && (r.Home != "" || r.Role != "") {
		return problem("home", "the broker belongs to no home")
	}
	if (r.kind.Name == brokerRestart || r.kind.Name == retainedStale) && !b.opts.OwnBroker {
		return problem("fault", "%s needs a broker of our own: want mqtt: {listen: …} in the configuration", r.kind.Name)
	}
	var homes []string
	named := 0
	r.targets = map[Key]bool{}
	for _, d := range b.devices {
		if !slices.Contains(homes, d.Home) {
			homes = append(homes, d.Home)
		}
		if r.Home != "" && r.Home != d.Home || r.Role != "" && r.Role != d.Role {
			continue
		}
		named++
		if r.suits(d) {
			r.targets[Key{d.Home, d.Role}] = true
		}
	}
	switch {
	case r.Home != "" && !slices.Contains(homes, r.Home):
		return problem("home", "there is no %.60q, want one of %s", r.Home, brief(homes))
	case named == 0:
		return problem("role", "there is no %.60q", r.Role)
	case len(r.targets) == 0 && r.kind.Only != nil:
		return problem("fault", "%s strikes no device here: it wants %s", r.kind.Name, r.kind.OnlySentence)
	case len(r.targets) == 0:
		return problem("fault", "%s strikes no device here: it wants one on %v", r.kind.Name, r.kind.Transports)
	}
	return nil
}

// brief is a list that does not flood a message.
func brief(list []string) string {
	const most = 12
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}

func (r *rule) suits(d Device) bool {
	if r.kind.Only != nil && !r.kind.Only(d) {
		return false
	}
	if len(r.kind.Transports) == 0 {
		return true
	}
	return slices.ContainsFunc(d.Transports, func(t wire.Transport) bool {
		return slices.Contains(r.kind.Transports, t) && (r.Transport == "" || t == wire.Transport(r.Transport))
	})
}

// End ends a rule by hand; false if there is none of that number, or it was ended
// before.
func (b *Book) End(id int, now time.Time) (Status, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, r := range b.rules {
		if r.number != id {
			continue
		}
		r.mu.Lock()
		first := r.ended.IsZero()
		if first {
			r.ended = now
		}
		r.mu.Unlock()
		return r.status(now), first
	}
	return Status{}, false
}

// Rules are all, in the order of their numbers.
func (b *Book) Rules(now time.Time) []Status {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := make([]Status, 0, len(b.rules))
	for _, r := range b.rules {
		list = append(list, r.status(now))
	}
	slices.SortFunc(list, func(x, y Status) int { return cmp.Compare(x.ID, y.ID) })
	return list
}

func (r *rule) status(now time.Time) Status {
	active := r.active(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{ID: r.number, Rule: r.Rule, Parameters: r.values, Active: active, Ended: r.ended, Hits: r.hits}
	for key := range r.targets {
		s.Targets = append(s.Targets, key)
	}
	slices.SortFunc(s.Targets, func(x, y Key) int {
		return cmp.Or(cmp.Compare(x.Home, y.Home), cmp.Compare(x.Role, y.Role))
	})
	return s
}

// of are the rules on a device that a condition holds for, in the table's order.
func (b *Book) of(key Key, which func(*rule) bool) (list []*rule) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, r := range b.rules {
		if r.targets[key] && which(r) {
			list = append(list, r)
		}
	}
	return list
}

// Spoil changes an answer of a device.
func (b *Book) Spoil(key Key, at time.Time, a *wire.Answer) {
	for _, r := range b.of(key, func(r *rule) bool {
		return r.wire != nil && slices.Contains(r.kind.Transports, a.Transport) &&
			(r.Transport == "" || r.Transport == string(a.Transport)) && r.active(at)
	}) {
		if r.strikes(key, a.Transport) {
			r.wire.spoil(a)
		}
	}
	for _, r := range b.cuts(key, at) {
		r.strikes(key, a.Transport)
		a.Silent = true
		a.Close = a.Close || a.Transport == wire.HTTP || a.Transport == wire.P1TCP
	}
}

// Dead says whether a device is without power.
func (b *Book) Dead(key Key, at time.Time) bool { return len(b.cuts(key, at)) > 0 }

func (b *Book) cuts(key Key, at time.Time) []*rule {
	return b.of(key, func(r *rule) bool { return r.kind.Name == powerCut && r.active(at) })
}

// BrokerDown says whether the broker of our own is away.
func (b *Book) BrokerDown(at time.Time) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.ContainsFunc(b.rules, func(r *rule) bool { return r.kind.Name == brokerRestart && r.active(at) })
}

// Stale is the instant whose messages the broker is to keep for a device, if it is.
func (b *Book) Stale(key Key, at time.Time) (of time.Time, ok bool) {
	for _, r := range b.of(key, func(r *rule) bool { return r.kind.Name == retainedStale }) {
		if o, struck := r.occurrence(at); struck && o.active(at) {
			of, ok = o.begin.Add(-r.values.duration("age")), true
		}
	}
	return of, ok
}

// Show is what a meter shows of its honest readings at an instant, of which index
// is the newest refresh.
func (b *Book) Show(ctx context.Context, key Key, honest device.Readings, at time.Time, index int64) (device.Reading, error) {
	return b.lay(ctx, b.of(key, func(r *rule) bool { return r.value != nil }), key, honest, at, index)
}

// Counted is what the device itself has counted: the truth, or what tampering
// left of it.
func (b *Book) Counted(ctx context.Context, key Key, honest device.Readings, at time.Time, index int64) (device.Reading, error) {
	return b.lay(ctx, b.of(key, func(r *rule) bool { return r.kind.Name == "tamper" }), key, honest, at, index)
}

// lay lays rules over an honest reading, one after the other.
func (b *Book) lay(ctx context.Context, rules []*rule, key Key, honest device.Readings, at time.Time, index int64) (device.Reading, error) {
	var reading device.Reading
	if err := honest.Walk(ctx, index, index, func(r device.Reading) { reading = r }); err != nil {
		return device.Reading{}, err
	}
	for i, r := range rules {
		o, ok := r.occurrence(at)
		active := ok && o.active(at)
		if !active && (!ok || !r.kind.Lasting) {
			continue
		}
		v := &view{reading: reading, active: active, wrap: b.wrap(key)}
		v.begin = func(ctx context.Context) (device.Reading, error) {
			return b.earlier(ctx, r, 0, rules[:i], key, honest, o.begin)
		}
		v.end = func(ctx context.Context) (device.Reading, error) {
			if active {
				return v.reading, nil
			}
			return b.earlier(ctx, r, 1, rules[:i], key, honest, o.end)
		}
		if err := r.value.show(ctx, v); err != nil {
			return device.Reading{}, fmt.Errorf("fault %d, %s: %w", r.number, r.kind.Name, err)
		}
		reading = v.reading
	}
	return reading, nil
}

// wrap is where a device's counters begin anew.
func (b *Book) wrap(key Key) home.MilliWattHours {
	for _, d := range b.devices {
		if d.Home == key.Home && d.Role == key.Role {
			return home.MilliWattHours(d.WrapWh) * home.MilliWattHoursPerWattHour //nolint:gosec // G115: a counter's digits
		}
	}
	return maxWh * home.MilliWattHoursPerWattHour
}

// earlier is the reading at an instant that is over, as the rules before one left
// it. It does not change any more, so it is kept.
func (b *Book) earlier(ctx context.Context, r *rule, which int, before []*rule, key Key, honest device.Readings, at time.Time) (device.Reading, error) {
	r.mu.Lock()
	kept := r.memos[which]
	r.mu.Unlock()
	if kept.home == key && kept.at.Equal(at) {
		return kept.reading, nil
	}
	index := max(honest.First(), at.UnixMilli()/b.opts.Refresh.Milliseconds())
	reading, err := b.lay(ctx, before, key, honest, at, index)
	if err != nil {
		return device.Reading{}, err
	}
	r.mu.Lock()
	r.memos[which] = memo{at: at, reading: reading, home: key}
	r.mu.Unlock()
	return reading, nil
}
