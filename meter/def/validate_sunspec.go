package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

func (d *Definition) checkSunSpec(c *checker) {
	c.want(d.SignedBy == SignedByAgent, "signed_by", d.SignedBy, "agent: a SunSpec device does not sign")
	c.want(len(d.Points) > 0, "points", "none", "at least one of "+strings.Join(pointNames, ", "))
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p, field := d.Points[name], "points."+name
		checkUnit(c, field, name, p)
		c.want(p.Type == "" && p.Block == "" && len(p.From) == 0 && !p.Sum && p.Exponent == 0 && p.WrapBits == 0 && p.Scale == nil && p.Order == "" && len(p.Invalid) == 0,
			field, "fields of another protocol", "unit, positive, negative, resolution_wh: the model says the rest")
		c.want(!p.Negative || name == PointImport || name == PointExport, field+".negative", p.Negative, "nothing: only counters have a magnitude")
		c.want(slices.ContainsFunc(d.SunSpec.Layouts, func(l Layout) bool { return l.Points[name] != "" }), field, "no layout with it", "a layout that says where it is")
	}
	c.want(len(d.SunSpec.Layouts) > 0 && len(d.SunSpec.Layouts) <= maxList, "sunspec.layouts", len(d.SunSpec.Layouts), "1 to 64 layouts")
	for i, l := range d.SunSpec.Layouts {
		d.checkLayout(c, fmt.Sprintf("sunspec.layouts[%d]", i), l)
	}
	d.checkIdentity(c, func(field string, p *IdentityPoint) {
		c.want(len(p.Expect) > 0 && p.Text == "" && p.Type == "" && p.Function == 0 && len(p.From) == 0 && !p.Device && !p.Optional,
			field, "other keys", "only expect: model 1 says who the device is")
	})
}

// typesOf are the types that make sense for a point.
var typesOf = map[string][]string{
	PointImport: {"acc16", "acc32", "acc64", "uint32", "uint64", "float32", "float64"},
	PointExport: {"acc16", "acc32", "acc64", "uint32", "uint64", "float32", "float64"},
	PointPower:  {"int16", "int32", "int64", "uint16", "uint32", "float32", "float64"},
	PointSoC:    {"uint16", "int16", "float32"},
}

func (d *Definition) checkLayout(c *checker, field string, l Layout) {
	c.want(len(l.Models) > 0 && len(l.Models) <= maxList, field+".models", l.Models, "at least one model")
	c.want(len(l.Points) > 0, field+".points", "none", "at least one point of the definition")
	for name := range l.Points {
		_, ok := d.Points[name]
		c.want(ok, field+".points."+name, strconv.Quote(name), "a point of the definition")
	}
	for i, id := range l.Models {
		model, err := sunspec.Lookup(id)
		c.want(err == nil && id != sunspec.Common, fmt.Sprintf("%s.models[%d]", field, i), id, fmt.Sprintf("one of %v but 1", sunspec.IDs()))
		if err != nil {
			continue
		}
		var names []string
		for _, name := range slices.Sorted(maps.Keys(l.Points)) {
			p, ok := model.Point(l.Points[name])
			c.want(ok && slices.Contains(typesOf[name], p.Type), field+".points."+name, strconv.Quote(l.Points[name]),
				fmt.Sprintf("a point of type %s in model %d", strings.Join(typesOf[name], ", "), id))
			if ok {
				names = append(names, l.Points[name])
			}
		}
		_, ok := model.Spans(names...)
		c.want(ok, field+".points", names, fmt.Sprintf("points within 125 registers of their scale factors in model %d", id))
	}
}
