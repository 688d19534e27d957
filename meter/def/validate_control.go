package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// controlUnits are the units of control points.
var controlUnits = []string{"", "W", "kW", "Wh", "kWh", "s", "min", "%"}

func (d *Definition) checkControl(c *checker) {
	k := d.Control
	if k == nil || c.err != nil {
		return
	}
	c.want(d.Protocol == ProtocolModbus || d.Protocol == ProtocolSunSpec, "control", "given", "nothing: only devices on Modbus can be led")
	c.want(len(k.Points) > 0 && len(k.Points) <= maxList, "control.points", len(k.Points), "1 to 64 points")
	c.want(len(k.Modes) > 0, "control.modes", "none", "at least one of "+fmt.Sprint(ModesInOrder))
	c.want(len(k.Tests) > 0 && len(k.Tests) <= maxList, "control.tests", len(k.Tests), "at least one test vector")
	c.want(len(k.Requires) <= maxList, "control.requires", len(k.Requires), "at most 64")
	for _, name := range slices.Sorted(maps.Keys(k.Points)) {
		c.want(isPointName(name), "control.points", strconv.Quote(name), "names of 1 to 64 of a-z, 0-9 and _")
		d.checkControlPoint(c, "control.points."+name, k.Points[name])
	}
	d.checkNamed(c)
	for i, r := range k.Requires {
		d.checkCondition(c, fmt.Sprintf("control.requires[%d]", i), r)
		c.want(r.Hint != "", fmt.Sprintf("control.requires[%d].hint", i), strconv.Quote(""), "how a person makes it so")
	}
	c.want(len(k.Own.When) > 0 && len(k.Own.When) <= maxList, "control.own.when", len(k.Own.When), "what the registers hold in the device's own mode")
	for i, w := range k.Own.When {
		d.checkCondition(c, fmt.Sprintf("control.own.when[%d]", i), w)
	}
	if k.Lease != nil {
		c.want(k.Lease.MinS >= 1 && k.Lease.MinS <= k.Lease.MaxS && k.Lease.MaxS <= 1e9, "control.lease", fmt.Sprintf("%d to %d s", k.Lease.MinS, k.Lease.MaxS), "1 <= min_s <= max_s <= 1000000000")
		c.want(len(k.Own.Write) == 0, "control.own.write", "given", "nothing: a device with a timer reverts by itself")
	} else {
		c.want(len(k.Own.Write) > 0, "control.own.write", "none", "what brings a device without a timer back to its own mode")
	}
	d.checkWrites(c, "control.own.write", ModeOwn, k.Own.Write)
	for _, mode := range slices.Sorted(maps.Keys(k.Modes)) {
		c.want(slices.Contains(ModesInOrder, mode), "control.modes", strconv.Quote(mode), "one of "+fmt.Sprint(ModesInOrder))
		c.want(len(k.Modes[mode]) > 0 && len(k.Modes[mode]) <= maxList, "control.modes."+mode, len(k.Modes[mode]), "1 to 64 writes")
		d.checkWrites(c, "control.modes."+mode, mode, k.Modes[mode])
	}
	for i, t := range k.Tests {
		c.want(t.Name != "", fmt.Sprintf("control.tests[%d].name", i), strconv.Quote(""), "a name")
	}
}

func isPointName(s string) bool {
	return s != "" && len(s) <= 64 && !slices.ContainsFunc([]rune(s), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
}

func (d *Definition) checkControlPoint(c *checker, field string, p ControlPoint) {
	c.want(slices.Contains(controlUnits, p.Unit), field+".unit", strconv.Quote(p.Unit), `W, kW, Wh, kWh, s, min, "%" or none`)
	c.want(p.Positive == "" || p.Positive == "charge" || p.Positive == "discharge", field+".positive", strconv.Quote(p.Positive), "charge or discharge")
	if p.Of != "" {
		of, ok := d.Control.Points[p.Of]
		c.want(p.Unit == "%", field+".of", strconv.Quote(p.Of), "nothing: only a percentage is of something")
		c.want(ok && of.Of == "" && (of.Unit == "W" || of.Unit == "kW"), field+".of", strconv.Quote(p.Of), "the name of a point in W or kW")
	}
	if d.Protocol == ProtocolModbus {
		c.want(p.Model == 0 && p.Point == "" && !p.Optional, field, "fields of SunSpec", "address and type")
		c.want(p.Function == 0 || p.Function == 3 || p.Function == 4, field+".function", p.Function, "3 (holding) or 4 (input)")
		n := wordsOf[p.Type]
		c.want(n > 0, field+".type", strconv.Quote(p.Type), "one of "+typeNames())
		c.want(int(p.Address)+n <= 1<<16, field+".address", p.Address, "an address within 65536")
		c.want(p.Order == "" || p.Order == OrderBig || p.Order == OrderLittle, field+".order", strconv.Quote(p.Order), "big or little")
		c.want(p.Exponent >= -9 && p.Exponent <= 9, field+".exponent", p.Exponent, "-9 to 9")
		c.want(len(p.Invalid) <= maxList, field+".invalid", len(p.Invalid), "at most 64")
		return
	}
	c.want(p.Function == 0 && p.Address == 0 && p.Type == "" && p.Order == "" && p.Exponent == 0 && len(p.Invalid) == 0, field, "fields of plain Modbus", "model and point: the model says the rest")
	m, err := sunspec.Lookup(p.Model)
	c.want(err == nil, field+".model", p.Model, fmt.Sprintf("one of %v", sunspec.IDs()))
	if err != nil {
		return
	}
	sp, ok := m.Point(p.Point)
	c.want(ok && sunSpecTypes[sp.Type] != "" && int(sp.Offset)+int(sp.Size) <= maxBlock, field+".point", strconv.Quote(p.Point), fmt.Sprintf("a number among the first %d registers of model %d", maxBlock, p.Model))
	if sf, ok := m.Point(sp.SF); sp.SF != "" {
		c.want(ok && sf.Offset < maxBlock, field+".point", strconv.Quote(p.Point), "a point whose scale factor is in the same request")
	}
}

// checkNamed checks the points that the part names.
func (d *Definition) checkNamed(c *checker) {
	k := d.Control
	for _, x := range []struct {
		field, name string
		units       []string
	}{
		{"control.max_charge", k.MaxCharge, []string{"W", "kW"}},
		{"control.max_discharge", k.MaxDischarge, []string{"W", "kW"}},
		{"control.max_production", k.MaxProduction, []string{"W", "kW"}},
		{"control.read.power", k.Read.Power, []string{"W", "kW"}},
		{"control.read.charging", k.Read.Charging, []string{"W", "kW"}},
		{"control.read.discharging", k.Read.Discharging, []string{"W", "kW"}},
		{"control.read.soc", k.Read.SoC, []string{"%"}},
		{"control.read.capacity", k.Read.Capacity, []string{"Wh", "kWh"}},
		{"control.read.remaining", k.Read.Remaining, []string{"s", "min"}},
	} {
		if x.name == "" {
			continue
		}
		p, ok := k.Points[x.name]
		c.want(ok && slices.Contains(x.units, p.Unit) && p.Of == "", x.field, strconv.Quote(x.name), fmt.Sprintf("the name of a point in %v", x.units))
	}
	if k.Lease != nil {
		p, ok := k.Points[k.Lease.Point]
		c.want(ok && (p.Unit == "s" || p.Unit == "min") && p.Function != 4, "control.lease.point", strconv.Quote(k.Lease.Point), "the name of a point in s or min that can be written")
	}
	c.want((k.Read.Charging == "") == (k.Read.Discharging == "") && (k.Read.Charging == "" || k.Read.Power == ""), "control.read", "a part of them, or all", "power, or charging and discharging")
	if h := k.Heartbeat; h != nil {
		p, ok := k.Points[h.Point]
		c.want(ok && p.Function != 4 && (p.Model != 0 || p.Type == "uint16"), "control.heartbeat.point", strconv.Quote(h.Point), "a point of 16 bits that can be written")
		c.want(h.WithinS >= 1 && h.WithinS <= 86400, "control.heartbeat.within_s", h.WithinS, "1 to 86400")
	}
}

func (d *Definition) checkCondition(c *checker, field string, r Condition) {
	_, ok := d.Control.Points[r.Point]
	c.want(ok, field+".point", strconv.Quote(r.Point), "the name of a control point")
}

func (d *Definition) checkWrites(c *checker, field, mode string, writes []ControlWrite) {
	powers, leases := 0, 0
	seen := map[string]bool{}
	for i, w := range writes {
		at := fmt.Sprintf("%s[%d]", field, i)
		p, ok := d.Control.Points[w.Point]
		c.want(ok && p.Function != 4, at+".point", strconv.Quote(w.Point), "the name of a control point that can be written")
		c.want(!seen[w.Point], at+".point", strconv.Quote(w.Point), "another one: it is written already")
		seen[w.Point] = true
		c.want((w.Value == nil) != (w.From == ""), at, "value and from, or none", "just one of them")
		switch w.From {
		case FromPower, FromNegativePower:
			powers++
			c.want(p.Unit == "W" || p.Unit == "kW" || p.Unit == "%" && p.Of != "", at+".point", strconv.Quote(w.Point), `a point in W, kW, or "%" of one`)
		case FromLease:
			leases++
			c.want(d.Control.Lease != nil && d.Control.Lease.Point == w.Point, at+".point", strconv.Quote(w.Point), "the point of control.lease")
		case FromMaxCharge, FromMaxDischarge:
			name := d.Control.MaxCharge
			if w.From == FromMaxDischarge {
				name = d.Control.MaxDischarge
			}
			c.want(name != "", at+".from", w.From, "a definition that names that limit")
		case "":
			d.checkConstant(c, at+".value", p, w.Value)
		default:
			c.want(false, at+".from", strconv.Quote(w.From), "power, minus-power, lease, max-charge or max-discharge")
		}
	}
	c.want((powers > 0) == hasPower(mode), field, fmt.Sprintf("%d writes of a power", powers), "at least one in charge, discharge and limit, none in others")
	if mode != ModeOwn && d.Control.Lease != nil {
		c.want(leases == 1, field, fmt.Sprintf("%d writes of the lease", leases), "one in each mode")
	}
}

func (d *Definition) checkConstant(c *checker, field string, p ControlPoint, value *int64) {
	if value == nil || c.err != nil {
		return
	}
	typ := p.Type
	if p.Model != 0 {
		if m, err := sunspec.Lookup(p.Model); err == nil {
			sp, _ := m.Point(p.Point)
			typ = sunSpecTypes[sp.Type]
		}
	}
	_, err := placed{typ: typ, words: uint16(wordsOf[typ])}.encodeRaw(*value) //nolint:gosec // 1 to 4
	c.want(err == nil, field, *value, "a number that fits the type "+typ)
}
