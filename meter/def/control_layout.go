package def

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// ErrNotReady is wrapped where a device is of the right kind, but not set up to obey.
var ErrNotReady = errors.New("the device is not set up to be led")

// ControlLayout is where the control points of one device are. It holds as long as the Survey that it was made of.
type ControlLayout struct {
	control *Control
	points  map[string]placed
	models  []placedModel
	runs    []run
}

// placed is a control point at its address.
type placed struct {
	ControlPoint
	at    register
	words uint16
	typ   string // as for a meter's point
	sf    *register
}

type register struct {
	function uint8
	address  uint16
}

// placedModel is a SunSpec model with as much of it as is needed, its scale factors included, in one request.
type placedModel struct {
	block sunspec.Block
	end   uint16
}

// run is a row of plain registers that are read in one request.
type run struct {
	register
	count uint16
}

// LayOutControl lays the control points out in the device that s is the survey of, and checks that it is set up to be led.
func (d *Definition) LayOutControl(ctx context.Context, read ReadRegisters, s Survey) (*ControlLayout, error) {
	if d.Control == nil {
		return nil, fmt.Errorf("definition %s has no part control: %w", d.ID, ErrInvalid)
	}
	l := &ControlLayout{control: d.Control, points: map[string]placed{}}
	lay := l.layModbus
	if d.Protocol == ProtocolSunSpec {
		lay = func() error { return l.laySunSpec(s) }
	}
	if err := lay(); err != nil {
		return nil, err
	}
	held, err := l.read(ctx, read)
	if err != nil {
		return nil, err
	}
	for _, r := range d.Control.Requires {
		v, ok := l.raw(held, r.Point)
		if !ok || v != r.Is {
			return nil, fmt.Errorf("%s: got %s, expected %d; %s: %w", r.Point, rawText(v, ok), r.Is, r.Hint, ErrNotReady)
		}
	}
	return l, nil
}

func rawText(v int64, known bool) string {
	if !known {
		return "nothing"
	}
	return fmt.Sprint(v)
}

func (l *ControlLayout) layModbus() error {
	var all []placed
	for name, p := range l.control.Points {
		x := placed{ControlPoint: p, at: register{3, p.Address}, typ: p.Type, words: uint16(wordsOf[p.Type])} //nolint:gosec // 1 to 4
		if p.Function != 0 {
			x.at.function = p.Function
		}
		l.points[name] = x
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b placed) int {
		return cmp.Or(cmp.Compare(a.at.function, b.at.function), cmp.Compare(a.at.address, b.at.address))
	})
	for _, p := range all {
		n := len(l.runs)
		if n > 0 {
			last := &l.runs[n-1]
			end := p.at.address + p.words - last.address
			if last.function == p.at.function && int(p.at.address) <= int(last.address)+int(last.count) && end <= maxBlock {
				last.count = max(last.count, end)
				continue
			}
		}
		l.runs = append(l.runs, run{p.at, p.words})
	}
	return nil
}

// sunSpecTypes are the types of SunSpec in terms of plain registers.
var sunSpecTypes = map[string]string{
	"int16": "int16", "uint16": "uint16", "count": "uint16", "enum16": "uint16", "bitfield16": "uint16", "acc16": "uint16",
	"int32": "int32", "uint32": "uint32", "enum32": "uint32", "bitfield32": "uint32", "acc32": "uint32",
	"int64": "int64", "uint64": "uint64", "acc64": "uint64", "float32": "float32",
}

func (l *ControlLayout) laySunSpec(s Survey) error {
	ends := map[uint16]*placedModel{}
	for _, name := range slices.Sorted(maps.Keys(l.control.Points)) {
		p := l.control.Points[name]
		m, err := sunspec.Lookup(p.Model)
		if err != nil {
			return err
		}
		block, err := sunspec.Find(s.blocks, m)
		if err != nil && p.Optional {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for %s: %w", name, err)
		}
		sp, _ := m.Point(p.Point)
		if sp.Offset+sp.Size > block.Length+2 {
			// A group that this device repeats less often.
			if p.Optional {
				continue
			}
			return fmt.Errorf("looking for %s: got model %d with %d registers, expected more than %d: %w", name, p.Model, block.Length, sp.Offset, sunspec.ErrBadChain)
		}
		x := placed{
			ControlPoint: p, at: register{3, block.Address + sp.Offset}, words: sp.Size, typ: sunSpecTypes[sp.Type],
		}
		end := sp.Offset + sp.Size
		if sf, ok := m.Point(sp.SF); sp.SF != "" && ok {
			x.sf = &register{3, block.Address + sf.Offset}
			end = max(end, sf.Offset+1)
		}
		l.points[name] = x
		if ends[p.Model] == nil {
			ends[p.Model] = &placedModel{block: block}
		}
		ends[p.Model].end = max(ends[p.Model].end, end)
	}
	for _, id := range slices.Sorted(maps.Keys(ends)) {
		l.models = append(l.models, *ends[id])
	}
	return nil
}

// held is what registers hold.
type held map[register]uint16

func (l *ControlLayout) read(ctx context.Context, read ReadRegisters) (held, error) {
	h := held{}
	keep := func(at register, words []uint16) {
		for i, w := range words {
			h[register{at.function, at.address + uint16(i)}] = w
		}
	}
	for _, m := range l.models {
		words, err := readSpan(ctx, read, m.block, sunspec.Span{Count: m.end})
		if err != nil {
			return nil, err
		}
		keep(register{3, m.block.Address}, words)
	}
	for _, r := range l.runs {
		words, err := readExactly(ctx, read, r.function, r.address, r.count)
		if err != nil {
			return nil, fmt.Errorf("reading %d registers from %d: %w", r.count, r.address, err)
		}
		keep(r.register, words)
	}
	return h, nil
}

func (h held) words(at register, n uint16) []uint16 {
	words := make([]uint16, n)
	for i := range words {
		words[i] = h[register{at.function, at.address + uint16(i)}]
	}
	return words
}

// Telling is what one look at the device gave: its state, and the registers that it follows from.
type Telling struct {
	ControlState
	held held
}

// Read looks at the device.
func (l *ControlLayout) Read(ctx context.Context, read ReadRegisters) (Telling, error) {
	h, err := l.read(ctx, read)
	if err != nil {
		return Telling{}, err
	}
	c := l.control
	t := Telling{held: h}
	t.BatteryW = l.known(h, c.Read.Power)
	if in, out := l.known(h, c.Read.Charging), l.known(h, c.Read.Discharging); in != nil && out != nil {
		t.BatteryW = new(*in - *out)
	}
	t.SoCBp = l.known(h, c.Read.SoC)
	t.CapacityWh = l.known(h, c.Read.Capacity)
	t.LeftS = l.known(h, c.Read.Remaining)
	t.MaxChargeW = l.positive(h, c.MaxCharge)
	t.MaxDischargeW = l.positive(h, c.MaxDischarge)
	t.MaxLimitW = l.positive(h, c.MaxProduction)
	if t.SoCBp != nil && (*t.SoCBp < 0 || *t.SoCBp > 10_000) {
		t.SoCBp = nil // no state of charge
	}
	t.Mode, t.SetW = l.mode(h)
	return t, nil
}

// mode is the one whose writes the registers look like.
func (l *ControlLayout) mode(h held) (mode string, power *int64) {
	for _, name := range ModesInOrder {
		writes, ok := l.control.Modes[name]
		if !ok {
			continue
		}
		if power, ok := l.looksLike(h, writes); ok {
			return name, power
		}
	}
	for _, w := range l.control.Own.When {
		if v, ok := l.raw(h, w.Point); !ok || v != w.Is {
			return "", nil
		}
	}
	return ModeOwn, nil
}

func (l *ControlLayout) looksLike(h held, writes []ControlWrite) (power *int64, ok bool) {
	for _, w := range writes {
		if w.Value != nil {
			if v, ok := l.raw(h, w.Point); !ok || v != *w.Value {
				return nil, false
			}
			continue
		}
		if w.From != FromPower && w.From != FromNegativePower {
			continue
		}
		v, ok := l.value(h, w.Point)
		if w.From == FromNegativePower {
			v = -v
		}
		if !ok || v < 0 || power != nil && *power != v {
			return nil, false
		}
		power = &v
	}
	return power, true
}

// Obeys reports whether the device holds what the set point would write. Its timer may have run since.
func (l *ControlLayout) Obeys(t Telling, s SetPoint) bool {
	if s.Mode == ModeOwn {
		return t.Mode == ModeOwn
	}
	writes, err := l.values(t, s)
	if err != nil {
		return false
	}
	for _, w := range writes {
		if w.timed {
			continue
		}
		if !slices.Equal(t.held.words(l.points[w.point].at, l.points[w.point].words), w.words) {
			return false
		}
	}
	return true
}

// Writes are the requests that bring a set point to the device that last told t, in their order. A power is rounded
// towards 0 and the lease up, to what the registers can hold; what they cannot is an error.
func (l *ControlLayout) Writes(t Telling, s SetPoint) ([]Write, error) {
	values, err := l.values(t, s)
	if err != nil {
		return nil, err
	}
	var writes []Write
	for _, v := range values {
		at := l.points[v.point].at.address
		if n := len(writes); n > 0 && int(writes[n-1].Address)+len(writes[n-1].Words) == int(at) {
			writes[n-1].Words = append(writes[n-1].Words, v.words...)
			continue
		}
		writes = append(writes, Write{at, slices.Clone(v.words)})
	}
	return writes, nil
}

// HasHeartbeat reports whether the device wants a heartbeat.
func (l *ControlLayout) HasHeartbeat() bool {
	if l.control.Heartbeat == nil {
		return false
	}
	_, there := l.points[l.control.Heartbeat.Point]
	return there
}

type pointWords struct {
	point string
	words []uint16
	timed bool // changes by itself, or says nothing
}

func (l *ControlLayout) values(t Telling, s SetPoint) ([]pointWords, error) {
	c := l.control
	writes, ok := c.Modes[s.Mode]
	if s.Mode == ModeOwn {
		writes, ok = c.Own.Write, len(c.Own.Write) > 0
	}
	if !ok {
		return nil, fmt.Errorf("mode: got %q, expected one of %v: %w", s.Mode, slices.Sorted(maps.Keys(c.Modes)), ErrInvalid)
	}
	var out []pointWords
	if l.HasHeartbeat() && s.Mode != ModeOwn {
		out = append(out, pointWords{c.Heartbeat.Point, []uint16{s.Heartbeat}, true})
	}
	for _, w := range writes {
		if _, there := l.points[w.Point]; !there {
			continue // optional, and the device has it not
		}
		words, err := l.words(t, s, w)
		if err != nil {
			return nil, fmt.Errorf("%s for %s: %w", w.Point, s, err)
		}
		out = append(out, pointWords{w.Point, words, w.From == FromLease})
	}
	return out, nil
}

func (l *ControlLayout) words(t Telling, s SetPoint, w ControlWrite) ([]uint16, error) {
	if w.Value != nil {
		return l.points[w.Point].encodeRaw(*w.Value)
	}
	var v int64
	switch w.From {
	case FromPower:
		v = s.PowerW
	case FromNegativePower:
		v = -s.PowerW
	case FromLease:
		v = min(max(s.LeaseS, l.control.Lease.MinS), l.control.Lease.MaxS)
	case FromMaxCharge, FromMaxDischarge:
		most := t.MaxChargeW
		if w.From == FromMaxDischarge {
			most = t.MaxDischargeW
		}
		if most == nil {
			return nil, fmt.Errorf("%s: the device does not say: %w", w.From, ErrNotReady)
		}
		v = *most
	}
	return l.encode(t.held, w.Point, v, w.From == FromLease)
}
