package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

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
		checkPlace(c, d, field, Place{Message: f.Message, Path: f.Path})
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
		c.want(p.Type == "" && p.Block == "" && p.Scale == nil && !p.Negative && p.WrapBits == 0, field, "fields of another protocol", "unit and from")
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
