package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// models are the SunSpec layouts: embedded data, decoded once, never written to.
var models = sync.OnceValues(sunspec.LoadModels)

func (d *Definition) checkSunSpec(c *checker) {
	c.want(d.SignedBy == SignedByAgent, "signed_by", d.SignedBy, "agent: a SunSpec device does not sign")
	known, err := models()
	if err != nil {
		c.err = err
		return
	}
	m := known[d.SunSpec.Model]
	c.want(m != nil && d.SunSpec.Model != 1, "sunspec.model", d.SunSpec.Model, fmt.Sprintf("one of %v but 1", slices.Sorted(maps.Keys(known))))
	if c.err != nil {
		return
	}
	c.want(len(d.Points) > 0, "points", "none", "at least one of import, export, power")
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p, field := d.Points[name], "points."+name
		checkUnit(c, field, name, p)
		c.want(p.Type == "" && p.Block == "" && len(p.From) == 0 && !p.Sum && p.Exponent == 0 && p.WrapBits == 0 && p.Unit[:1] != "k",
			field, "fields of another protocol", "unit and point: the model says the rest")
		sp, ok := m.Point(p.Point)
		want := "acc32"
		if name == PointPower {
			want = "int16"
		}
		c.want(ok && sp.Type == want, field+".point", strconv.Quote(p.Point), fmt.Sprintf("a point of type %s in model %d", want, m.ID))
	}
	d.checkIdentity(c, func(field string, _ *IdentityPoint) {
		c.want(false, field, "given", "nothing: model 1 says who the device is")
	})
}
