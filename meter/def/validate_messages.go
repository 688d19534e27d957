package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// maxTogether bounds how far apart the messages of one sample may be, in seconds.
const maxTogether = 300

func (d *Definition) checkMQTT(c *checker) {
	m := d.MQTT
	c.want(m.Format == "json" || m.Format == FormatSigned, "mqtt.format", strconv.Quote(m.Format), "json or "+FormatSigned)
	c.want((m.Format == FormatSigned) == (d.SignedBy == SignedByDevice), "signed_by", d.SignedBy, "device with format signed-reading, else agent")
	c.want(len(m.Messages) > 0 && len(m.Messages) <= maxList, "mqtt.messages", len(m.Messages), "1 to 64 messages")
	c.want(m.TogetherS >= 0 && m.TogetherS <= maxTogether, "mqtt.together_s", m.TogetherS, "0 to 300")
	for i, msg := range m.Messages {
		field := fmt.Sprintf("mqtt.messages[%d]", i)
		c.want(d.owns(msg.Name), field+".name", strconv.Quote(msg.Name), "a name of its own")
		c.want(len(msg.Topics) > 0 && len(msg.Topics) <= maxList, field+".topics", len(msg.Topics), "at least one topic")
		for _, t := range msg.Topics {
			c.want(strings.Count(t, deviceMark) == 1 && !strings.ContainsAny(t, "+#\x00") && len(t) <= 256, field+".topics", strconv.Quote(t), "a topic with "+deviceMark+" in it once and no + or #")
		}
	}
	d.checkFaults(c, "mqtt", m.Faults)
	if m.Format == FormatSigned {
		c.want(len(d.Points) == 0 && len(m.Messages) == 1 && d.HTTP == nil, "points", len(d.Points), "none, and one message: a signed reading has its own form")
		return
	}
	names := make([]string, 0, len(m.Messages))
	for _, msg := range m.Messages {
		names = append(names, msg.Name)
	}
	d.checkReached(c, "mqtt", names)
	if c.err == nil {
		points := newLook(d, names, 0).points
		c.want(points[PointImport] != nil || points[PointExport] != nil, "points", "no counter in a message of mqtt", "import or export: only a counter makes a sample of what is published")
	}
}

func (d *Definition) checkHTTP(c *checker) {
	h := d.HTTP
	c.want(d.SignedBy == SignedByAgent, "signed_by", d.SignedBy, "agent: only messages of MQTT are signed")
	const maxRequests = 8
	c.want(len(h.Messages) > 0 && len(h.Messages) <= maxRequests, "http.messages", len(h.Messages), "1 to 8 messages")
	names := make([]string, 0, len(h.Messages))
	for i, msg := range h.Messages {
		field := fmt.Sprintf("http.messages[%d]", i)
		c.want(d.owns(msg.Name), field+".name", strconv.Quote(msg.Name), "a name of its own")
		c.want(isPath(msg.Path), field+".path", strconv.Quote(msg.Path), "a path that begins with / and has no blanks or #")
		names = append(names, msg.Name)
	}
	d.checkFaults(c, "http", h.Faults)
	d.checkReached(c, "http", names)
}

func (d *Definition) checkP1(c *checker) {
	c.want(d.SignedBy == SignedByAgent, "signed_by", d.SignedBy, "agent: a P1 port does not sign")
	c.want(d.P1.Path == "" || isPath(d.P1.Path), "p1.path", strconv.Quote(d.P1.Path), "a path that begins with / and has no blanks or #")
	if offset := d.P1.WinterOffsetMin; offset != nil {
		c.want(*offset >= -720 && *offset <= 840, "p1.winter_offset_min", *offset, "-720 to 840")
	}
	c.want(d.Time == nil, "time", "given", "nothing: telegrams have their own")
	d.checkReached(c, "p1", []string{telegramKind})
}

func isPath(p string) bool {
	return strings.HasPrefix(p, "/") && len(p) <= 256 && !strings.ContainsAny(p, " #\x00\r\n\t") && strings.Trim(p, "!\"$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~") == ""
}

// checkMessagePoints checks what definitions of messages have in common, of whatever transport.
func (d *Definition) checkMessagePoints(c *checker) {
	signed := d.MQTT != nil && d.MQTT.Format == FormatSigned
	c.want(signed || len(d.Points) > 0, "points", "none", "at least one of import, export, power")
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		p, field := d.Points[name], "points."+name
		checkUnit(c, field, name, p)
		c.want((p.Type == "" || p.Type == "float32") && p.Block == "" && p.Scale == nil && !p.Negative && len(p.Add) == 0 && len(p.Subtract) == 0 && p.WrapBits == 0 && len(p.Invalid) == 0, field, "fields of another protocol", "unit and from, and type float32 where the device counts in one")
		c.want(p.Exponent >= -9 && p.Exponent <= 9, field+".exponent", p.Exponent, "-9 to 9")
		c.want(len(p.From) > 0 && len(p.From) <= maxList, field+".from", len(p.From), "at least one place")
		for j, from := range p.From {
			d.checkSum(c, fmt.Sprintf("%s.from[%d]", field, j), name, from)
		}
	}
	if d.Time != nil {
		c.want(d.Time.Format == timeRFC3339 || d.Time.Format == timeUnix, "time.format", strconv.Quote(d.Time.Format), "rfc3339 or unix")
		c.want(len(d.Time.From) > 0 && len(d.Time.From) <= maxList, "time.from", len(d.Time.From), "at least one place")
		for j, from := range d.Time.From {
			d.checkPlace(c, fmt.Sprintf("time.from[%d]", j), from)
		}
	}
	d.checkIdentity(c, func(field string, p *IdentityPoint) {
		c.want(p.Block == "" && p.Function == 0 && p.Type == "" && len(p.Expect) == 0, field, "fields of Modbus", "text, device or from")
		c.want(!p.Device || d.MQTT != nil, field+".device", p.Device, "nothing: only topics name the device")
		for j, from := range p.From {
			d.checkPlace(c, fmt.Sprintf("%s.from[%d]", field, j), from)
		}
	})
}

// checkSum checks a place that may be a sum.
func (d *Definition) checkSum(c *checker, field, point string, p Place) {
	if len(p.Add) == 0 && len(p.Subtract) == 0 {
		d.checkPlace(c, field, p)
		return
	}
	c.want(p.Message == "" && len(p.Path) == 0 && p.OBIS == "" && p.Count == 0, field, "a place and a sum", "either message and path, or obis, or add and subtract")
	c.want(len(p.Add) > 0 && len(p.Add)+len(p.Subtract) <= maxList, field+".add", len(p.Add), "at least one place")
	c.want(len(p.Subtract) == 0 || point == PointPower, field+".subtract", len(p.Subtract), "nothing: counters only rise")
	for _, list := range []struct {
		name   string
		places []Place
	}{{"add", p.Add}, {"subtract", p.Subtract}} {
		for i, q := range list.places {
			inner := fmt.Sprintf("%s.%s[%d]", field, list.name, i)
			c.want(len(q.Add) == 0 && len(q.Subtract) == 0, inner, "a sum", "a place: sums do not nest")
			d.checkPlace(c, inner, q)
		}
	}
}

// checkPlace checks one place of one message.
func (d *Definition) checkPlace(c *checker, field string, p Place) {
	c.want(len(p.Add) == 0 && len(p.Subtract) == 0, field, "a sum", "a place")
	if d.P1 != nil {
		c.want(p.Message == "" && len(p.Path) == 0 && p.Count == 0, field, "fields of another protocol", "obis")
		c.want(isOBIS(p.OBIS), field+".obis", strconv.Quote(p.OBIS), "a code such as 1-0:1.8.1")
		return
	}
	c.want(p.OBIS == "", field+".obis", strconv.Quote(p.OBIS), "nothing: only P1 telegrams have codes")
	known, scalar := d.message(p.Message)
	c.want(known > 0, field+".message", strconv.Quote(p.Message), "the name of a message")
	c.want((len(p.Path) == 0) == scalar && len(p.Path) <= maxList && !slices.Contains(p.Path, ""), field+".path", p.Path, "at least one key, or none for a scalar message")
	wild := 0
	for _, key := range p.Path {
		if key == every {
			wild++
		}
	}
	c.want(wild <= 1, field+".path", p.Path, `at most one "*"`)
	c.want((wild == 1) == (p.Count != 0) && p.Count >= 0 && p.Count <= maxList, field+".count", p.Count, `1 to 64 with a "*" in the path, else nothing`)
}

// isOBIS reports whether a text is of the form A-B:C.D.E.
func isOBIS(code string) bool {
	return strings.Count(code, "-") == 1 && strings.Count(code, ":") == 1 && strings.Count(code, ".") == 2 &&
		len(code) >= 9 && len(code) <= 19 && strings.Trim(code, "0123456789-:.") == ""
}

// checkFaults checks the lists of faults of one transport.
func (d *Definition) checkFaults(c *checker, part string, faults []Fault) {
	c.want(len(faults) <= maxList, part+".faults", len(faults), "at most 64")
	for i, f := range faults {
		field := fmt.Sprintf("%s.faults[%d]", part, i)
		known, scalar := d.message(f.Message)
		c.want(known > 0, field+".message", strconv.Quote(f.Message), "the name of a message")
		c.want((len(f.Path) == 0) == scalar && len(f.Path) <= maxList && !slices.Contains(f.Path, ""), field+".path", f.Path, "at least one key, or none for a scalar message")
		c.want(len(f.Values) > 0, field+".values", "none", "the texts that mean a fault")
	}
}

// checkReached makes sure that a transport brings something.
func (d *Definition) checkReached(c *checker, part string, names []string) {
	if c.err == nil {
		c.want(len(newLook(d, names, 0).points) > 0, "points", "none in a message of "+part, "at least one")
	}
}

// owns reports whether a message has a name that no other has.
func (d *Definition) owns(name string) bool {
	n, _ := d.message(name)
	return name != "" && n == 1
}

// message counts the messages of a name, and says whether they are scalar.
func (d *Definition) message(name string) (n int, scalar bool) {
	if d.MQTT != nil {
		for _, m := range d.MQTT.Messages {
			if m.Name == name {
				n++
				scalar = scalar || m.Scalar
			}
		}
	}
	if d.HTTP != nil {
		for _, m := range d.HTTP.Messages {
			if m.Name == name {
				n++
			}
		}
	}
	return n, scalar
}
