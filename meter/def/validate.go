package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxBlock is the most registers that one Modbus request can ask for.
	maxBlock = 125
	// maxList bounds every list of a definition.
	maxList = 64
	// deviceMark stands for the name of the device in a topic.
	deviceMark = "{device}"
)

func typeNames() string { return strings.Join(slices.Sorted(maps.Keys(wordsOf)), ", ") }

// checker collects the first mistake; the rest of a check is then skipped.
type checker struct{ err error }

func (c *checker) want(ok bool, field string, got any, want string) {
	if c.err == nil && !ok {
		c.err = fmt.Errorf("%s: got %v, expected %s: %w", field, got, want, ErrInvalid)
	}
}

func (d *Definition) validate() error {
	var c checker
	c.want(isID(d.ID), "id", strconv.Quote(d.ID), "1 to 64 of a-z, 0-9 and -")
	c.want(d.Version >= 1, "version", d.Version, "a number from 1")
	c.want(d.Name != "" && len(d.Name) <= 200, "name", strconv.Quote(d.Name), "a name for people")
	c.want(len(d.Facts) > 0 && len(d.Facts) <= maxList, "facts", len(d.Facts), "the address of at least one document")
	c.want(d.SignedBy == SignedByAgent || d.SignedBy == SignedByDevice, "signed_by", d.SignedBy, "agent or device")
	c.want(d.MaxPowerW > 0 && d.MaxPowerW <= 1e9, "max_power_w", d.MaxPowerW, "1 to 1000000000")
	c.want(len(d.Tests) > 0 && len(d.Tests) <= maxList, "tests", len(d.Tests), "at least one test vector")
	for i, t := range d.Tests {
		c.want(t.Name != "", fmt.Sprintf("tests[%d].name", i), strconv.Quote(""), "a name")
	}
	for name := range d.Points {
		c.want(name == PointImport || name == PointExport || name == PointPower, "points", name, "import, export or power")
	}
	switch d.Protocol {
	case ProtocolModbus:
		c.want(d.Modbus != nil && d.SunSpec == nil && d.MQTT == nil, "modbus", "none or others too", "just this part for protocol modbus")
		if c.err == nil {
			d.checkModbus(&c)
		}
	case ProtocolSunSpec:
		c.want(d.SunSpec != nil && d.Modbus == nil && d.MQTT == nil, "sunspec", "none or others too", "just this part for protocol sunspec")
		if c.err == nil {
			d.checkSunSpec(&c)
		}
	case ProtocolMQTT:
		c.want(d.MQTT != nil && d.Modbus == nil && d.SunSpec == nil, "mqtt", "none or others too", "just this part for protocol mqtt")
		if c.err == nil {
			d.checkMQTT(&c)
		}
	default:
		c.want(false, "protocol", strconv.Quote(d.Protocol), "modbus, sunspec or mqtt")
	}
	d.checkControl(&c)
	return c.err
}

func isID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && s[0] != '-'
}

// checkUnit checks what all points have in common.
func checkUnit(c *checker, field string, name string, p Point) {
	if name == PointPower {
		c.want(p.Unit == "W" || p.Unit == "kW", field+".unit", strconv.Quote(p.Unit), "W or kW")
		c.want(p.Positive == "" || p.Positive == "import" || p.Positive == "export", field+".positive", strconv.Quote(p.Positive), "import or export")
	} else {
		c.want(p.Unit == "Wh" || p.Unit == "kWh", field+".unit", strconv.Quote(p.Unit), "Wh or kWh")
		c.want(p.Positive == "", field+".positive", strconv.Quote(p.Positive), "nothing: counters only rise")
		c.want(!p.Sum, field+".sum", p.Sum, "nothing: only power may be summed, an array of counters has no agreed meaning")
	}
	c.want(p.ResolutionWh <= 1e6, field+".resolution_wh", p.ResolutionWh, "0 to 1000000")
}

func (d *Definition) checkIdentity(c *checker, check func(string, *IdentityPoint)) {
	for name, p := range d.Identify.all() {
		if p == nil {
			continue
		}
		field := "identify." + name
		given := 0
		for _, is := range []bool{p.Text != "", p.Function != 0 || p.Type != "", p.Device, len(p.From) > 0} {
			if is {
				given++
			}
		}
		c.want(given == 1, field, given, "one way to find it: text, registers, device or from")
		check(field, p)
	}
}

// all yields the parts in the order of the file.
func (i IdentityPoints) all() func(yield func(string, *IdentityPoint) bool) {
	return func(yield func(string, *IdentityPoint) bool) {
		_ = yield("maker", i.Maker) && yield("model", i.Model) && yield("serial", i.Serial) && yield("firmware", i.Firmware)
	}
}
