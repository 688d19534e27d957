package def

import (
	"math"
	"math/big"
	"slices"
	"time"
)

// maxPowerAge is how long a power, or a state of charge, that comes in messages of its own is believed.
const maxPowerAge = 2 * time.Minute

// overtaken is how often the rest must have come again before a counter that never came is done without.
const overtaken = 1

// look is one look at a device: what its last messages said of each point.
//
// A counter may be in several messages: one for import and one for export, or one for each tariff. A sample is made when
// every part of every counter has come since the sample before, and no two parts are further apart than together; parts
// that are older have to come again. As each part only rises, a sum of parts that came between two moments is the true
// sum of some moment between these: what is made of them is not wrong, only less exactly timed, and says so.
type look struct {
	def      *Definition
	together time.Duration
	points   map[string]*pointLook // by name of the point
	heard    map[string]bool       // kinds of messages that carried a counter
	where    map[string]string     // what a person knows the kinds by: a topic or a path

	deviceAt *time.Time // what the device said last of its time
	toldAt   time.Time  // and when
}

// pointLook is where a point is, and its parts.
type pointLook struct {
	point  Point
	places [][]part
	chosen int  // index of the place that was complete first; -1 before
	missed int  // how often the other counters came again without it
	lapped bool // a part came again before there was a sample
}

// part is one of the values that make up a point.
type part struct {
	place    Place
	negative bool

	value decimal
	text  string // as the device wrote it
	known bool   // it is a number
	bad   error  // it is something else
	came  bool
	fresh bool // since the last sample
	at    time.Time
}

// newLook makes a look at what comes in messages of these names.
func newLook(d *Definition, names []string, together time.Duration) look {
	l := look{def: d, together: together, points: map[string]*pointLook{}, heard: map[string]bool{}, where: map[string]string{}}
	for name, p := range d.Points {
		pl := &pointLook{point: p, chosen: -1}
		for _, place := range p.From {
			parts := place.parts()
			if !slices.ContainsFunc(parts, func(q part) bool { return !slices.Contains(names, q.place.kind()) }) {
				pl.places = append(pl.places, parts)
			}
		}
		if len(pl.places) > 0 {
			l.points[name] = pl
		}
	}
	return l
}

// kind is the name of the message that a place is in.
func (p Place) kind() string {
	if p.OBIS != "" {
		return telegramKind
	}
	return p.Message
}

// parts are the values that a place adds up.
func (p Place) parts() []part {
	if len(p.Add) == 0 && len(p.Subtract) == 0 {
		return []part{{place: p}}
	}
	var parts []part
	for _, a := range p.Add {
		parts = append(parts, part{place: a})
	}
	for _, s := range p.Subtract {
		parts = append(parts, part{place: s, negative: true})
	}
	return parts
}

// follow takes over where another look found the points.
func (l *look) follow(o *look) {
	for name, p := range l.points {
		if chosen := o.points[name].chosen; chosen >= 0 {
			p.chosen = chosen
		}
	}
}

// hear notes what a message says.
func (l *look) hear(kind string, find func(Place) (any, bool), at time.Time) {
	l.hearTime(kind, find, at)
	counted := false
	for name, p := range l.points {
		counted = p.hear(kind, find, at) && counts(name) || counted
	}
	if !counted {
		return
	}
	l.heard[kind] = true
	// A message that carries counters and leaves one out says that it is unknown.
	for name, p := range l.points {
		if !counts(name) || p.chosen < 0 {
			continue
		}
		for i := range p.places[p.chosen] {
			q := &p.places[p.chosen][i]
			if _, found := find(q.place); q.place.kind() == kind && !found {
				*q = part{place: q.place, negative: q.negative, came: true, fresh: true, at: at}
			}
		}
	}
}

// hearTime notes when the device says that it is.
func (l *look) hearTime(kind string, find func(Place) (any, bool), at time.Time) {
	if l.def.Time == nil {
		return
	}
	for _, place := range l.def.Time.From {
		if place.kind() != kind {
			continue
		}
		if value, found := find(place); found {
			l.deviceAt, l.toldAt = l.def.Time.read(value), at
			return
		}
	}
}

// hear reports whether the message had something of the point.
func (p *pointLook) hear(kind string, find func(Place) (any, bool), at time.Time) bool {
	counted := false
	for i := range p.places {
		if p.chosen >= 0 && i != p.chosen {
			continue
		}
		for j := range p.places[i] {
			q := &p.places[i][j]
			if q.place.kind() != kind {
				continue
			}
			value, found := find(q.place)
			if !found {
				continue
			}
			n, known, err := p.point.number(value)
			p.lapped = p.lapped || q.fresh
			*q = part{place: q.place, negative: q.negative, value: n, text: written(value), known: known, bad: err, came: true, fresh: true, at: at}
			counted = true
		}
	}
	if p.chosen < 0 {
		p.chosen = slices.IndexFunc(p.places, func(parts []part) bool {
			return !slices.ContainsFunc(parts, func(q part) bool { return !q.came })
		})
	}
	return counted
}

// sample returns the values if the counters are complete.
func (l *look) sample(at time.Time) (Values, bool) {
	if !l.complete() {
		return Values{}, false
	}
	oldest := l.oldest()
	if at.Sub(oldest) > l.together {
		l.forget(at.Add(-l.together))
		return Values{}, false
	}
	v := l.values(at)
	if !oldest.Equal(at) {
		v.Since = oldest
	}
	l.forget(at)
	return v, true
}

// finish returns the values of a look that has ended: what did not come is unknown.
func (l *look) finish(at time.Time) Values {
	v := l.values(at)
	for _, p := range l.points {
		for i := range p.places {
			for j := range p.places[i] {
				q := &p.places[i][j]
				*q = part{place: q.place, negative: q.negative}
			}
		}
	}
	return v
}

// counts reports whether a point is a counter; the others are for control and display, and make no sample.
func counts(name string) bool { return name == PointImport || name == PointExport }

// counters calls do with the counters that are part of the device, as far as is known.
func (l *look) counters(do func(p *pointLook)) {
	for _, name := range []string{PointImport, PointExport} {
		if p := l.points[name]; p != nil {
			do(p)
		}
	}
}

// complete reports whether every counter has come since the last sample.
func (l *look) complete() bool {
	whole, some, lapped := true, false, false
	l.counters(func(p *pointLook) {
		if p.chosen < 0 {
			return
		}
		some = true
		whole = whole && !slices.ContainsFunc(p.places[p.chosen], func(q part) bool { return !q.fresh })
		lapped = lapped || p.lapped
		p.lapped = false
	})
	if !whole || !some {
		return false
	}
	l.counters(func(p *pointLook) {
		if p.chosen >= 0 || l.absent(p) {
			return
		}
		if lapped {
			p.missed++
		}
		whole = whole && p.missed >= overtaken
	})
	return whole
}

// absent reports whether a message that should have carried a counter came without it.
func (l *look) absent(p *pointLook) bool {
	return slices.ContainsFunc(p.places, func(parts []part) bool {
		return slices.ContainsFunc(parts, func(q part) bool { return l.heard[q.place.kind()] && !q.came })
	})
}

// oldest is when the oldest part of the counters came.
func (l *look) oldest() time.Time {
	var oldest time.Time
	l.counters(func(p *pointLook) {
		if p.chosen < 0 {
			return
		}
		for _, q := range p.places[p.chosen] {
			if oldest.IsZero() || q.at.Before(oldest) {
				oldest = q.at
			}
		}
	})
	return oldest
}

// forget marks what came until then as used.
func (l *look) forget(until time.Time) {
	l.counters(func(p *pointLook) {
		for i := range p.places {
			for j := range p.places[i] {
				if q := &p.places[i][j]; !q.at.After(until) {
					q.fresh = false
				}
			}
		}
	})
}

// values adds up the parts.
func (l *look) values(at time.Time) Values {
	var v Values
	if at.Sub(l.toldAt) <= l.together {
		v.DeviceAt = l.deviceAt
	}
	for _, name := range pointNames { // in this order, so that Origins have one
		p := l.points[name]
		if p == nil {
			continue
		}
		if p.chosen < 0 {
			p.settle(&v)
			continue
		}
		parts := p.places[p.chosen]
		if !counts(name) && slices.ContainsFunc(parts, func(q part) bool { return at.Sub(q.at) > maxPowerAge }) {
			continue
		}
		if !counts(name) && !l.near(parts) {
			continue
		}
		v.add(name, p.point, parts)
		for _, q := range parts {
			v.Origins = append(v.Origins, q.origin(name, p.point, l.where[q.place.kind()]))
		}
	}
	return v
}

// settle notes what is wrong with a point that was never found whole.
func (p *pointLook) settle(v *Values) {
	for _, parts := range p.places {
		for _, q := range parts {
			v.DeviceError = v.DeviceError || q.bad != nil
		}
	}
}

// near reports whether parts came together.
func (l *look) near(parts []part) bool {
	for _, q := range parts {
		if q.at.Sub(parts[0].at).Abs() > l.together {
			return false
		}
	}
	return true
}

// add gives a point the sum of its parts, if all are known.
func (v *Values) add(name string, p Point, parts []part) {
	var total decimal
	traits := Traits{ResolutionWh: max(1, p.ResolutionWh)}
	known, step := true, uint64(0)
	for i, q := range parts {
		v.DeviceError = v.DeviceError || q.bad != nil
		if !q.known {
			known = false
			continue
		}
		if counts(name) && q.value.neg && q.value.mantissa.Sign() != 0 {
			v.OutOfRange = true
			known = false
			continue
		}
		step += p.step(q.value)
		n := q.value
		if q.negative {
			n.neg = !n.neg
		}
		if i == 0 {
			total = n
		} else if known {
			total = total.plus(n)
		}
	}
	if known {
		traits.ResolutionWh = max(traits.ResolutionWh, step)
		v.set(name, p, total, traits, p.Type == "float32")
	}
}

// step is how finely a number that came as text counts, in Wh: devices that hold it as a float32 write more digits than
// it has. 0 if it has all its digits.
func (p Point) step(n decimal) uint64 {
	if p.Type != "float32" {
		return 0
	}
	num, den := n.ratio(0)
	f, _ := new(big.Rat).SetFrac(num, den).Float32()
	return floatStepWh(float64(math.Nextafter32(f, math.MaxFloat32))-float64(f), p.shift())
}
