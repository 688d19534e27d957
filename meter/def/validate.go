package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/commonwatt/commonwatt/meter/sunspec"
)

// models are the SunSpec layouts: embedded data, decoded once, never written to.
var models = sync.OnceValues(sunspec.LoadModels)

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

func (d *Definition) checkModbus(c *checker) {
	m := d.Modbus
	c.want(d.SignedBy == SignedByAgent, "signed_by", d.SignedBy, "agent: a Modbus device does not sign")
	c.want(len(m.Blocks) > 0 && len(m.Blocks) <= maxList, "modbus.blocks", len(m.Blocks), "1 to 64 blocks")
	for i, b := range m.Blocks {
		field := fmt.Sprintf("modbus.blocks[%d]", i)
		_, twice := d.block(b.Name)
		c.want(b.Name != "" && twice == i, field+".name", strconv.Quote(b.Name), "a name of its own")
		c.want(b.Function == 3 || b.Function == 4, field+".function", b.Function, "3 (holding) or 4 (input)")
		c.want(b.Count >= 1 && b.Count <= maxBlock && int(b.Address)+int(b.Count) <= 1<<16, field+".count", b.Count, "1 to 125, within 65536")
	}
	c.want(len(d.Points) > 0, "points", "none", "at least one of import, export, power")
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p, field := d.Points[name], "points."+name
		checkUnit(c, field, name, p)
		c.want(p.Words() > 0, field+".type", strconv.Quote(p.Type), "one of "+typeNames())
		c.want(p.Order == "" || p.Order == OrderBig || p.Order == OrderLittle, field+".order", strconv.Quote(p.Order), "big or little")
		c.want(p.Exponent >= -9 && p.Exponent <= 9, field+".exponent", p.Exponent, "-9 to 9")
		c.want(p.WrapBits == 0 || wrapAt(p.WrapBits, p.shift()) > 0, field+".wrap_bits", p.WrapBits, "8 to 63")
		c.want(p.Point == "" && len(p.From) == 0 && !p.Sum, field, "fields of another protocol", "block, address, type")
		b, i := d.block(p.Block)
		c.want(i >= 0, field+".block", strconv.Quote(p.Block), "the name of a block")
		c.want(p.Address >= b.Address && int(p.Address)+p.Words() <= int(b.Address)+int(b.Count), field+".address", p.Address, "an address within its block")
	}
	d.checkIdentity(c, func(field string, p *IdentityPoint) {
		c.want(len(p.From) == 0 && !p.Device, field, "fields of MQTT", "text, or function, address and type")
		if p.Text == "" {
			c.want(p.Function == 3 || p.Function == 4, field+".function", p.Function, "3 (holding) or 4 (input)")
			c.want(p.words() >= 1 && p.words() <= maxBlock && int(p.Address)+int(p.words()) <= 1<<16, field+".type", strconv.Quote(p.Type), "uint16, uint32, or string with a count")
		}
	})
}

// words is the number of registers of an identity point, 0 if its type is none.
func (p *IdentityPoint) words() uint16 {
	switch p.Type {
	case "uint16":
		return 1
	case "uint32":
		return 2
	case "string":
		return p.Count
	}
	return 0
}

func (d *Definition) block(name string) (Block, int) {
	i := slices.IndexFunc(d.Modbus.Blocks, func(b Block) bool { return b.Name == name })
	if i < 0 {
		return Block{}, i
	}
	return d.Modbus.Blocks[i], i
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

func (d *Definition) checkMQTT(c *checker) {
	m := d.MQTT
	c.want(m.Format == "json" || m.Format == FormatSigned, "mqtt.format", strconv.Quote(m.Format), "json or "+FormatSigned)
	c.want((m.Format == FormatSigned) == (d.SignedBy == SignedByDevice), "signed_by", d.SignedBy, "device with format signed-reading, else agent")
	c.want(len(m.Messages) > 0 && len(m.Messages) <= maxList, "mqtt.messages", len(m.Messages), "1 to 64 messages")
	for i, msg := range m.Messages {
		field := fmt.Sprintf("mqtt.messages[%d]", i)
		c.want(msg.Name != "" && d.message(msg.Name) == i, field+".name", strconv.Quote(msg.Name), "a name of its own")
		c.want(len(msg.Topics) > 0 && len(msg.Topics) <= maxList, field+".topics", len(msg.Topics), "at least one topic")
		for _, t := range msg.Topics {
			c.want(strings.Count(t, deviceMark) == 1 && !strings.ContainsAny(t, "+#\x00") && len(t) <= 256, field+".topics", strconv.Quote(t), "a topic with "+deviceMark+" in it once and no + or #")
		}
	}
	for i, f := range m.Faults {
		field := fmt.Sprintf("mqtt.faults[%d]", i)
		checkPlace(c, d, field, Place{f.Message, f.Path})
		c.want(len(f.Values) > 0, field+".values", "none", "the texts that mean a fault")
	}
	if m.Format == FormatSigned {
		c.want(len(d.Points) == 0 && len(m.Messages) == 1, "points", len(d.Points), "none, and one message: a signed reading has its own form")
	} else {
		c.want(len(d.Points) > 0, "points", "none", "at least one of import, export, power")
	}
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p, field := d.Points[name], "points."+name
		checkUnit(c, field, name, p)
		c.want(p.Type == "" && p.Block == "" && p.Point == "" && p.WrapBits == 0, field, "fields of another protocol", "unit and from")
		c.want(p.Exponent >= -9 && p.Exponent <= 9, field+".exponent", p.Exponent, "-9 to 9")
		c.want(len(p.From) > 0 && len(p.From) <= maxList, field+".from", len(p.From), "at least one place")
		for j, from := range p.From {
			checkPlace(c, d, fmt.Sprintf("%s.from[%d]", field, j), from)
		}
	}
	d.checkIdentity(c, func(field string, p *IdentityPoint) {
		c.want(p.Function == 0 && p.Type == "" && len(p.Expect) == 0, field, "fields of Modbus", "text, device or from")
		for j, from := range p.From {
			checkPlace(c, d, fmt.Sprintf("%s.from[%d]", field, j), from)
		}
	})
}

func checkPlace(c *checker, d *Definition, field string, p Place) {
	c.want(d.message(p.Message) >= 0, field+".message", strconv.Quote(p.Message), "the name of a message")
	c.want(len(p.Path) > 0 && len(p.Path) <= maxList && !slices.Contains(p.Path, ""), field+".path", p.Path, "at least one key")
}

func (d *Definition) message(name string) int {
	return slices.IndexFunc(d.MQTT.Messages, func(m Message) bool { return m.Name == name })
}
