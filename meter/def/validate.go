package def

import (
	"fmt"
	"maps"
	"net/url"
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

// checker collects mistakes, at most one a field.
type checker struct {
	err      error // not nil once something is wrong
	problems []Problem
}

// maxProblems bounds what is said of one file; the rest follows from these, or can wait until they are mended.
const maxProblems = 50

func (c *checker) want(ok bool, field string, got any, want string) {
	if ok {
		return
	}
	c.err = ErrInvalid
	known := func(p Problem) bool { return p.Key == field }
	if len(c.problems) < maxProblems && !slices.ContainsFunc(c.problems, known) {
		c.problems = append(c.problems, Problem{Key: field, Reason: fmt.Sprintf("got %v, expected %s", got, want)})
	}
}

func (d *Definition) validate() []Problem {
	var c checker
	c.want(isID(d.ID), "id", strconv.Quote(d.ID), "1 to 64 of a-z, 0-9 and -")
	c.want(d.Version >= 1, "version", d.Version, "a number from 1")
	c.want(d.Name != "" && len(d.Name) <= 200, "name", strconv.Quote(d.Name), "a name for people")
	c.want(len(d.Facts) > 0 && len(d.Facts) <= maxList, "facts", len(d.Facts), "the address of at least one document")
	for i, f := range d.Facts {
		c.want(isDocument(f), fmt.Sprintf("facts[%d]", i), strconv.Quote(f), "the address of a document, beginning with https:// or http://")
	}
	c.want(d.SignedBy == SignedByAgent || d.SignedBy == SignedByDevice, "signed_by", d.SignedBy, "agent or device")
	c.want(d.MaxPowerW > 0 && d.MaxPowerW <= 1e9, "max_power_w", d.MaxPowerW, "1 to 1000000000")
	c.want(len(d.Tests) > 0 && len(d.Tests) <= maxList, "tests", len(d.Tests), "at least one test vector")
	for i, t := range d.Tests {
		c.want(t.Name != "", fmt.Sprintf("tests[%d].name", i), strconv.Quote(""), "a name")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		c.want(slices.Contains(pointNames, name), "points."+name, strconv.Quote(name), "one of "+strings.Join(pointNames, ", "))
	}
	d.checkParts(&c)
	d.checkControl(&c)
	return c.problems
}

// pointNames are what a definition may say the place of.
var pointNames = []string{PointImport, PointExport, PointPower, PointSoC}

func isDocument(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= 500 && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// checkParts checks the part that belongs to the protocol, and that no other is there: but one definition may have both
// mqtt and http.
func (d *Definition) checkParts(c *checker) {
	parts := []struct {
		name  string
		given bool
		check func(*checker)
	}{
		{ProtocolModbus, d.Modbus != nil, d.checkModbus},
		{ProtocolSunSpec, d.SunSpec != nil, d.checkSunSpec},
		{ProtocolMQTT, d.MQTT != nil, d.checkMQTT},
		{ProtocolHTTP, d.HTTP != nil, d.checkHTTP},
		{ProtocolP1, d.P1 != nil, d.checkP1},
	}
	goes := func(name string) bool {
		both := (name == ProtocolMQTT || name == ProtocolHTTP) && (d.Protocol == ProtocolMQTT || d.Protocol == ProtocolHTTP)
		return name == d.Protocol || both
	}
	names := make([]string, 0, len(parts))
	for _, p := range parts {
		names = append(names, p.name)
	}
	if c.want(slices.Contains(names, d.Protocol), "protocol", strconv.Quote(d.Protocol), orList(names)); !slices.Contains(names, d.Protocol) {
		return
	}
	for _, p := range parts {
		c.want(p.given || p.name != d.Protocol, p.name, "none", "the part for protocol "+p.name)
		c.want(!p.given || goes(p.name), p.name, "a part", "just the part for protocol "+d.Protocol)
		if p.given && goes(p.name) {
			p.check(c)
		}
	}
	if goes(ProtocolMQTT) || d.Protocol == ProtocolP1 {
		d.checkMessagePoints(c)
	}
}

// orList is "a, b or c".
func orList(names []string) string {
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

func isID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && s[0] != '-'
}

// unitsOf are the units that a point may have.
var unitsOf = map[string][]string{
	PointImport: {"Wh", "kWh"}, PointExport: {"Wh", "kWh"}, PointPower: {"W", "kW"}, PointSoC: {"%"},
}

// checkUnit checks what all points have in common.
func checkUnit(c *checker, field string, name string, p Point) {
	if units, known := unitsOf[name]; known {
		if len(p.From) > 0 && slices.Contains(units, "Wh") {
			units = append(slices.Clone(units), "Wmin")
		}
		c.want(slices.Contains(units, p.Unit), field+".unit", strconv.Quote(p.Unit), strings.Join(units, " or "))
	}
	if name == PointPower {
		c.want(p.Positive == "" || p.Positive == "import" || p.Positive == "export", field+".positive", strconv.Quote(p.Positive), "import or export")
	} else {
		c.want(p.Positive == "", field+".positive", strconv.Quote(p.Positive), "nothing: only power has a direction")
		c.want(!p.Sum, field+".sum", p.Sum, "nothing: only power may be summed, an array of counters has no agreed meaning")
	}
	c.want(p.ResolutionWh <= 1e6, field+".resolution_wh", p.ResolutionWh, "0 to 1000000")
	c.want(p.ResolutionWh == 0 || name == PointImport || name == PointExport, field+".resolution_wh", p.ResolutionWh, "nothing: only counters have one")
}

func (d *Definition) checkIdentity(c *checker, check func(string, *IdentityPoint)) {
	for name, p := range d.Identify.all() {
		if p == nil {
			continue
		}
		field := "identify." + name
		given := 0
		registers := p.Function != 0 || p.Type != "" || p.Block != ""
		proven := registers && len(p.Expect) > 0
		for _, is := range []bool{p.Text != "" && !proven, registers, p.Device || len(p.From) > 0} {
			if is {
				given++
			}
		}
		c.want(given == 1 || (given == 0 && d.Protocol == ProtocolSunSpec), field, given, "one way to find it: text, registers, or device and from")
		check(field, p)
	}
}

// all yields the parts in the order of the file.
func (i IdentityPoints) all() func(yield func(string, *IdentityPoint) bool) {
	return func(yield func(string, *IdentityPoint) bool) {
		_ = yield("maker", i.Maker) && yield("model", i.Model) && yield("serial", i.Serial) && yield("firmware", i.Firmware)
	}
}
