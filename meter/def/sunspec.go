package def

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// maxSF bounds a scale factor, as SunSpec does.
const maxSF = 10

// modelPlan is what to read of one model of a device: found by a survey, used by every read until the next.
type modelPlan struct {
	block  sunspec.Block
	model  *sunspec.Model
	spans  []sunspec.Span
	points map[string]sunspec.Point // by name of the definition's point
}

func (d *Definition) surveySunSpec(ctx context.Context, read ReadRegisters) (Survey, error) {
	holding := func(ctx context.Context, address, count uint16) ([]uint16, error) {
		return read(ctx, 3, address, count)
	}
	blocks, err := sunspec.Discover(ctx, holding)
	if err != nil {
		return Survey{}, err
	}
	s := Survey{blocks: blocks}
	common, err := sunspec.Lookup(sunspec.Common)
	if err != nil {
		return Survey{}, err
	}
	first, err := sunspec.Find(blocks, common)
	if err != nil {
		return Survey{}, err
	}
	if s.plans, err = d.planSunSpec(blocks); err != nil {
		return Survey{}, err
	}
	whole, err := readCommon(ctx, read, common, first)
	if err != nil {
		return Survey{}, err
	}
	if err := d.expectSunSpec(whole); err != nil {
		return Survey{}, err
	}
	s.Identity = whole
	// A device may show others that are wired to it, each behind a common model of its own.
	if own := lastBefore(blocks, common, s.plans[0].block); own != first {
		s.Identity, err = readCommon(ctx, read, common, own)
	}
	return s, err
}

// lastBefore is the common model that a block belongs to: the nearest before it.
func lastBefore(blocks []sunspec.Block, common *sunspec.Model, of sunspec.Block) (found sunspec.Block) {
	for _, b := range blocks {
		if b.Address >= of.Address {
			break
		}
		if b.Model == common.ID && common.Fits(b.Length) {
			found = b
		}
	}
	return found
}

// expectSunSpec holds the device against the values that the definition expects; those of SunSpec are beginnings,
// since makers put their legal form or a version behind.
func (d *Definition) expectSunSpec(is Identity) error {
	got := map[string]string{"maker": is.Maker, "model": is.Model, "serial": is.Serial, "firmware": is.Firmware}
	for name, p := range d.Identify.all() {
		if p == nil || len(p.Expect) == 0 {
			continue
		}
		begins := func(want string) bool { return strings.HasPrefix(strings.ToLower(got[name]), strings.ToLower(want)) }
		if !slices.ContainsFunc(p.Expect, begins) {
			return fmt.Errorf("identifying the device by %s: got %q, expected %s: %w", name, got[name], strings.Join(p.Expect, " or "), ErrWrongDevice)
		}
	}
	return nil
}

func readCommon(ctx context.Context, read ReadRegisters, common *sunspec.Model, b sunspec.Block) (Identity, error) {
	words, err := readSpan(ctx, read, b, sunspec.Span{Count: b.Length + 2})
	if err != nil {
		return Identity{}, err
	}
	var is Identity
	for part, name := range map[string]string{"maker": "Mn", "model": "Md", "serial": "SN", "firmware": "Vr"} {
		p, _ := common.Point(name)
		is.set(part, text(words[p.Offset:p.Offset+p.Size]))
	}
	return is, nil
}

// planSunSpec picks for each point the first model that the definition names and the device has. A definition's points
// may be spread over models; those of one model are read together, and the counters are of one model.
func (d *Definition) planSunSpec(blocks []sunspec.Block) ([]modelPlan, error) {
	var plans []modelPlan
	names := map[int][]string{}
	taken := map[string]bool{}
	var broken error
	for _, l := range d.SunSpec.Layouts {
		for _, id := range l.Models {
			model, err := sunspec.Lookup(id)
			if err != nil {
				return nil, err
			}
			b, err := sunspec.Find(blocks, model)
			if err != nil {
				if !errors.Is(err, sunspec.ErrNoModel) {
					broken = errors.Join(broken, err)
				}
				continue
			}
			plan := modelPlan{block: b, model: model, points: map[string]sunspec.Point{}}
			counters := taken[PointImport] || taken[PointExport]
			for _, name := range slices.Sorted(maps.Keys(l.Points)) {
				p, _ := model.Point(l.Points[name])
				if counters && (name == PointImport || name == PointExport) {
					continue
				}
				if !taken[name] && p.Offset+p.Size <= b.Length+2 {
					taken[name], plan.points[name] = true, p
					names[len(plans)] = append(names[len(plans)], p.Name)
				}
			}
			if len(plan.points) > 0 {
				plans = append(plans, plan)
			}
			break
		}
	}
	if len(plans) == 0 {
		if broken != nil {
			return nil, broken
		}
		return nil, d.noModel(blocks)
	}
	for i := range plans {
		spans, ok := plans[i].model.Spans(names[i]...)
		if !ok {
			return nil, fmt.Errorf("model %d: %v are further apart than one request reaches: %w", plans[i].model.ID, names[i], ErrInvalid)
		}
		plans[i].spans = spans
	}
	return plans, nil
}

func (d *Definition) noModel(blocks []sunspec.Block) error {
	var want, have []string
	for _, l := range d.SunSpec.Layouts {
		for _, id := range l.Models {
			want = append(want, fmt.Sprint(id))
		}
	}
	for _, b := range blocks {
		have = append(have, fmt.Sprint(b.Model))
	}
	return fmt.Errorf("got models %s, expected one of %s: %w", strings.Join(have, ", "), strings.Join(want, ", "), ErrWrongDevice)
}

// readSpan reads a part of a model; one that begins with the head proves that the model is still where the chain said.
func readSpan(ctx context.Context, read ReadRegisters, b sunspec.Block, s sunspec.Span) ([]uint16, error) {
	words, err := readExactly(ctx, read, 3, b.Address+s.Offset, s.Count)
	if err != nil {
		return nil, fmt.Errorf("reading SunSpec model %d at %d: %w", b.Model, b.Address, err)
	}
	if s.Offset == 0 && (words[0] != b.Model || words[1] != b.Length) {
		return nil, fmt.Errorf("reading SunSpec model %d at %d: got model %d with length %d, expected length %d: %w",
			b.Model, b.Address, words[0], words[1], b.Length, sunspec.ErrBadChain)
	}
	return words, nil
}

// readSunSpec reads the points and their scale factors in one request: a device may change a scale factor between two.
func (d *Definition) readSunSpec(ctx context.Context, read ReadRegisters, s Survey) (Values, error) {
	if len(s.plans) == 0 {
		return Values{}, fmt.Errorf("the device was not surveyed: %w", sunspec.ErrNoModel)
	}
	var v Values
	for _, plan := range s.plans {
		held := make([][]uint16, len(plan.spans))
		for i, span := range plan.spans {
			words, err := readSpan(ctx, read, plan.block, span)
			if err != nil {
				return Values{}, err
			}
			held[i] = words
		}
		for _, name := range slices.Sorted(maps.Keys(plan.points)) {
			v.setSunSpec(name, d.Points[name], plan, held)
		}
	}
	v.dropUnused(s.plans)
	return v, nil
}

// dropUnused makes counters unknown that a device does not keep. An accumulator of 0 may be one that does not
// accumulate; a home that never exported says 0 for one of two. So a 0 beside a counter that counts is a 0, and where
// all accumulators say 0 they are unknown.
func (v *Values) dropUnused(plans []modelPlan) {
	for _, plan := range plans {
		for name, p := range plan.points {
			wh := v.counter(name)
			if wh != nil && (*wh != 0 || !p.Accumulates()) {
				return
			}
		}
	}
	for i, o := range v.Origins {
		if v.counter(o.Point) != nil {
			v.Origins[i].Value, v.Origins[i].Unknown = "", "no counter of the device has begun to count"
		}
	}
	v.ImportWh, v.ExportWh = nil, nil
}

func (v *Values) counter(name string) *uint64 {
	switch name {
	case PointImport:
		return v.ImportWh
	case PointExport:
		return v.ExportWh
	}
	return nil
}

// held finds the words of a point in the span that has all of them.
func (plan *modelPlan) held(held [][]uint16, p sunspec.Point, s *sunspec.Span) []uint16 {
	for i, span := range plan.spans {
		if s != nil && *s != span {
			continue
		}
		if p.Offset >= span.Offset && p.Offset+p.Size <= span.Offset+span.Count {
			at := p.Offset - span.Offset
			return held[i][at : at+p.Size]
		}
	}
	return nil
}

// span is the one that has both the point and its scale factor.
func (plan *modelPlan) span(p, sf sunspec.Point) *sunspec.Span {
	for i, s := range plan.spans {
		end := s.Offset + s.Count
		if p.Offset >= s.Offset && p.Offset+p.Size <= end && (sf.Size == 0 || (sf.Offset >= s.Offset && sf.Offset+sf.Size <= end)) {
			return &plan.spans[i]
		}
	}
	return nil
}

func (v *Values) setSunSpec(name string, p Point, plan modelPlan, held [][]uint16) {
	sp := plan.points[name]
	sf, _ := plan.model.Point(sp.SF)
	span := plan.span(sp, sf)
	words := plan.held(held, sp, span)
	o := Origin{
		Point: name, Model: plan.model.ID, Name: sp.Name, Offset: sp.Offset, Function: 3, Address: new(plan.block.Address + sp.Offset),
		Words: words, Type: sp.Type, Unit: p.Unit,
	}
	defer func() { v.Origins = append(v.Origins, o) }()
	if !sp.Implemented(words) {
		o.Unknown = "not implemented"
		return
	}
	p.Type = sp.RegisterType()
	if sf.Size > 0 {
		factor := plan.held(held, sf, span)
		if !sf.Implemented(factor) {
			o.Unknown = "scale factor " + sf.Name + " is not implemented"
			return
		}
		p.Exponent = int(int16(factor[0])) //nolint:gosec // the sign is in the bits
		o.Scale = &p.Exponent
		if p.Exponent < -maxSF || p.Exponent > maxSF {
			o.Unknown = fmt.Sprintf("scale factor %s is %d, beyond -%d to %d", sf.Name, p.Exponent, maxSF, maxSF)
			v.DeviceError = true
			return
		}
	}
	if sp.Accumulates() {
		p.WrapBits = 16 * int(sp.Size)
	}
	if p.Negative {
		words = p.magnitude(words)
	}
	v.put(name, p, words, &o)
}

// magnitude turns an accumulator that a device writes as a negative number around. Such a counter has one bit less.
func (p *Point) magnitude(words []uint16) []uint16 {
	raw := p.raw(words)
	bits := 16 * len(words)
	if raw>>(bits-1) == 0 {
		return words
	}
	p.WrapBits = bits - 1
	return p.words(-raw)
}
