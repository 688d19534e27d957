package meter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// maxSilences is how often a unit that is there may not answer before it is given up: some are silent where they have no
// registers, and each time costs a timeout.
const maxSilences = 40

// greetings are what a unit is asked to see whether it is there. Behind an address of its own the first is enough, for
// there a refusal is an answer; on a line some devices are silent instead.
var greetings = []question{{3, sunspec.Bases[0], 2}, {4, 0, 2}, {3, 0, 2}}

// errSilent says that a unit was given up.
var errSilent = errors.New("the unit does not answer")

// detectModbus asks one unit after the other.
func detectModbus(ctx context.Context, c DetectConfig, all []Definition) ([]Match, error) {
	all = slices.DeleteFunc(slices.Clone(all), func(d Definition) bool { return !speaksModbus(d) })
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	// A unit that does not know an address may be silent: that is no reason to leave it alone.
	c.Pool = modbus.NewPool(modbus.Options{Timeout: c.Timeout, BackoffStep: time.Millisecond, BackoffMax: time.Millisecond, Log: c.Log})
	_, a, err := parseAddress(c.Address, all[0])
	if err != nil {
		return nil, err
	}
	units := c.Units
	if len(units) == 0 {
		units = usualUnits(all, a.scheme)
	}
	var matches []Match
	var answered []string
	var last error
	for _, unit := range units {
		c.Progress(fmt.Sprintf("asking unit %d", unit))
		p, err := openProbe(c, all[0], a, unit)
		if err != nil {
			return nil, err
		}
		var found []Match
		if p.greet(ctx, a.scheme) {
			found = p.identify(ctx, c, all)
		}
		err = p.source.Close()
		if p.answered {
			answered = append(answered, fmt.Sprint(unit))
		} else if p.failure != nil && last == nil {
			last = p.failure
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, err
		case !p.answered && unreachable(p.failure):
			return nil, p.failure
		}
		matches = merge(matches, found)
	}
	switch {
	case len(matches) > 0:
		return matches, nil
	case len(answered) > 0:
		return nil, fmt.Errorf("%w: unit %s answers, but is of no kind that can be told by itself", ErrNotDetected, strings.Join(answered, ", "))
	}
	return nil, fmt.Errorf("%w: none of the units %v answers: %w", ErrNotDetected, units, last)
}

// usualUnits are the first ones, and behind an address of its own those that makers use.
func usualUnits(all []Definition, scheme string) []uint8 {
	if scheme == "rtu" || scheme == "rtu+tcp" {
		return []uint8{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	}
	units := []uint8{1, 2, 3}
	for _, d := range all {
		if unit := unitOf(d); !slices.Contains(units, unit) {
			units = append(units, unit)
		}
	}
	slices.Sort(units)
	return units
}

func unitOf(d Definition) uint8 {
	switch {
	case d.Modbus != nil && d.Modbus.Unit != 0:
		return d.Modbus.Unit
	case d.SunSpec != nil && d.SunSpec.Unit != 0:
		return d.SunSpec.Unit
	}
	return 1
}

// probe asks a unit and remembers its answers, so that nothing is asked twice.
type probe struct {
	source   *modbusSource
	heard    map[question]answer
	silences int
	answered bool  // at least once, be it with a refusal
	failure  error // the last that was none
}

type question struct {
	function       uint8
	address, count uint16
}

type answer struct {
	words []uint16
	err   error
}

func openProbe(c DetectConfig, d Definition, a address, unit uint8) (*probe, error) {
	c.Unit = unit
	source, err := openModbus(c.Config, d, a)
	if err != nil {
		return nil, err
	}
	return &probe{source: source.(*modbusSource), heard: map[question]answer{}}, nil //nolint:forcetypeassert // openModbus makes no other
}

// greet reports whether the unit is there.
func (p *probe) greet(ctx context.Context, scheme string) bool {
	questions := greetings
	if scheme == "tcp" || scheme == "tcp+tls" {
		questions = greetings[:1]
	}
	for _, q := range questions {
		_, _ = p.read(ctx, q.function, q.address, q.count) // the probe remembers what came
		if p.answered || unreachable(p.failure) {
			break
		}
	}
	return p.answered
}

func (p *probe) read(ctx context.Context, function uint8, address, count uint16) ([]uint16, error) {
	q := question{function, address, count}
	if known, ok := p.heard[q]; ok {
		return known.words, known.err
	}
	if p.silences >= maxSilences {
		return nil, errSilent
	}
	words, err := p.source.read(ctx, function, address, count)
	if err == nil || errors.Is(err, def.ErrRefused) {
		p.answered = true
	} else {
		p.silences++
		p.failure = err
	}
	p.heard[q] = answer{words, err}
	return words, err
}

// identify tries the definitions that a device can prove by what it says of itself; if none is proven, those by which
// it can be read at all.
func (p *probe) identify(ctx context.Context, c DetectConfig, all []Definition) []Match {
	var proven, plausible []Match
	for _, d := range all {
		if d.Protocol != def.ProtocolSunSpec && !expects(d) {
			continue
		}
		if m, ok := p.try(ctx, c, d); ok {
			proven = append(proven, m)
		}
	}
	if len(proven) > 0 {
		return proven
	}
	for _, d := range all {
		if d.Protocol == def.ProtocolSunSpec || expects(d) {
			continue
		}
		if m, ok := p.try(ctx, c, d); ok {
			plausible = append(plausible, m)
		}
	}
	return plausible
}

// expects reports whether the definition says by which values a device proves that it is of this kind. What it may also
// leave out proves nothing.
func expects(d Definition) bool {
	for _, p := range []*def.IdentityPoint{d.Identify.Maker, d.Identify.Model, d.Identify.Serial, d.Identify.Firmware} {
		if p != nil && len(p.Expect) > 0 && !p.Optional {
			return true
		}
	}
	return false
}

func (p *probe) try(ctx context.Context, c DetectConfig, d Definition) (Match, bool) {
	survey, err := d.Survey(ctx, p.read)
	if err != nil {
		return Match{}, false
	}
	m := Match{Definition: d, Address: c.Address, Unit: p.source.unit, Identity: survey.Identity, Score: scorePlausible}
	switch {
	case expects(d) && !survey.Proven():
		return Match{}, false
	case expects(d):
		m.Score = scoreProven
		m.Evidence = append(m.Evidence, "it says that it is "+who(survey.Identity))
	case d.Protocol == def.ProtocolSunSpec:
		m.Score = scoreSpeaks
	}
	if models := survey.Models(); len(models) > 0 {
		m.Evidence = append(m.Evidence, "SunSpec models "+list(models))
	}
	values, err := d.ReadValues(ctx, p.read, survey)
	if err != nil {
		m.Evidence = append(m.Evidence, "but its values cannot be read: "+err.Error())
		m.Score /= 2
		return m, m.Score > scorePlausible
	}
	sample := sampleOf(values, p.source.arrived, d)
	sample.Identity = survey.Identity
	m.Sample = &sample
	m.Evidence = append(m.Evidence, counters(sample))
	if m.Score > scorePlausible {
		return m, true
	}
	m.Evidence = append(m.Evidence, "nothing in it says what it is: compare with the display")
	return m, canBe(sample, d)
}

// canBe reports whether values look as if they were read by the right definition: a counter that has counted, and no
// more than a connection can have done in a hundred years.
func canBe(s Sample, d Definition) bool {
	if s.Quality != Good || s.PowerW == nil || *s.PowerW > d.MaxPowerW || *s.PowerW < -d.MaxPowerW {
		return false
	}
	most := uint64(d.MaxPowerW) * 24 * 365 * 100 //nolint:gosec // 1 to 1e9
	counted := false
	for _, wh := range []*uint64{s.ImportWh, s.ExportWh} {
		if wh == nil {
			continue
		}
		if *wh > most {
			return false
		}
		counted = counted || *wh >= 100
	}
	return counted
}

func who(i Identity) string {
	parts := slices.DeleteFunc([]string{i.Maker, i.Model, i.Serial}, func(s string) bool { return s == "" })
	if len(parts) == 0 {
		return "of this kind"
	}
	return strings.Join(parts, " ")
}

func list[T any](items []T) string {
	var parts []string
	for _, i := range items {
		parts = append(parts, fmt.Sprint(i))
	}
	return strings.Join(parts, ", ")
}

// merge adds what another unit showed. A device with an address of its own may answer for every unit: it is listed once.
func merge(matches, found []Match) []Match {
	for _, m := range found {
		same := slices.IndexFunc(matches, func(o Match) bool {
			return o.Definition.ID == m.Definition.ID && o.Identity == m.Identity && m.Identity.Serial != ""
		})
		if same < 0 {
			matches = append(matches, m)
			continue
		}
		matches[same].Evidence = append(matches[same].Evidence, fmt.Sprintf("it answers as unit %d too", m.Unit))
	}
	return matches
}
