package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// reach checks the ways by which a device is reached: what a kind cannot is
// refused, and one at least has to be there.
func (c *checker) reach(key string, kind Kind, d Device) {
	if !kind.Modbus && d.Unit != 0 {
		c.report(key+".unit", "%s is %s, not a unit", d.Definition, kind.give())
	}
	if !kind.MQTT && d.Topic != "" {
		c.report(key+".topic", "%s is %s, not a topic", d.Definition, kind.give())
	}
	if !kind.HTTP && !kind.P1 && d.Listen != "" {
		c.report(key+".listen", "%s is %s, not a listener", d.Definition, kind.give())
	}
	if !kind.P1 && d.Link != "" {
		c.report(key+".link", "%s is %s, not a link", d.Definition, kind.give())
	}
	if d.Version != "" && !slices.Contains(kind.Versions, d.Version) {
		want := "none: it comes in one only"
		if len(kind.Versions) > 0 {
			want = "one of " + strings.Join(kind.Versions, ", ")
		}
		c.report(key+".version", "got %.20q, want %s", d.Version, want)
	}
	if kind.Modbus {
		c.modbus = true
		if d.Unit < 1 || d.Unit > 247 {
			c.report(key+".unit", "got %d, want 1 to 247", d.Unit)
		} else {
			c.taken("unit "+strconv.Itoa(int(d.Unit)), key+".unit")
		}
	}
	if kind.MQTT && (d.Topic != "" || d.Listen == "") {
		c.mqtt = true
		if !topicName.MatchString(d.Topic) || len(d.Topic) > 128 {
			c.report(key+".topic", "got %.80q, want a name of letters, digits and . _ - (and / between levels)", d.Topic)
		} else {
			c.taken("topic "+d.Topic, key+".topic")
		}
	}
	if d.Listen != "" {
		c.address(key+".listen", d.Listen)
	}
	if d.Link != "" {
		c.taken("link "+d.Link, key+".link")
	}
	if kind.P1 && d.Listen == "" && d.Link == "" {
		c.report(key+".listen", "missing: %s is on P1: give a listener such as 127.0.0.1:0, or a link to a pseudo-terminal", d.Definition)
	}
	if kind.HTTP && !kind.MQTT && d.Listen == "" {
		c.report(key+".listen", "missing: %s is on HTTP: give a listener such as 127.0.0.1:0", d.Definition)
	}
}

// give says what a device of the kind wants.
func (k Kind) give() string {
	switch {
	case k.Modbus:
		return "on Modbus: give a unit"
	case k.P1:
		return "on P1: give a listener or a link"
	case k.MQTT && k.HTTP:
		return "on MQTT and HTTP: give a topic or a listener"
	case k.MQTT:
		return "on MQTT: give a topic"
	default:
		return "on HTTP: give a listener"
	}
}

// servers checks addresses, and that every protocol in use has a server.
func (c *checker) servers(cfg *Config) {
	if cfg.Modbus != nil {
		c.address("modbus.listen", cfg.Modbus.Listen)
	}
	if cfg.ModbusTLS != nil {
		c.tls("modbus_tls", cfg.ModbusTLS)
	}
	if cfg.RTUOverTCP != nil {
		c.address("rtu_tcp.listen", cfg.RTUOverTCP.Listen)
	}
	if cfg.RTU != nil && cfg.RTU.Link != "" {
		c.taken("link "+cfg.RTU.Link, "rtu.link")
	}
	if c.modbus && cfg.Modbus == nil && cfg.ModbusTLS == nil && cfg.RTU == nil && cfg.RTUOverTCP == nil {
		c.report("modbus", "missing, though devices need it: want {listen: 127.0.0.1:0}, or modbus_tls, rtu or rtu_tcp")
	}
	c.address("control.listen", cfg.Control.Listen)
	if cfg.MQTT == nil {
		if c.mqtt {
			c.report("mqtt", "missing, though devices need it: want {listen: 127.0.0.1:0} or {broker: mqtt://HOST:PORT}")
		}
		return
	}
	c.broker(cfg.MQTT)
}

func (c *checker) broker(m *MQTT) {
	if (m.User == "") != (m.PasswordFile == "") {
		c.report("mqtt.user", "want both user and password_file, or none")
	}
	own := m.Listen != "" || m.TLS != nil
	if own == (m.Broker != "") {
		c.report("mqtt", "want either listen (or tls), for a broker of our own, or broker, for one that runs")
		return
	}
	if m.Listen != "" {
		c.address("mqtt.listen", m.Listen)
	}
	if m.TLS != nil {
		c.tls("mqtt.tls", m.TLS)
	}
	if own {
		return
	}
	u, err := url.Parse(m.Broker)
	if err != nil || u.Scheme != "mqtt" || u.Port() == "" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		c.report("mqtt.broker", "got %.80q, want mqtt://HOST:PORT", m.Broker)
	}
}

func (c *checker) tls(key string, t *TLS) {
	c.address(key+".listen", t.Listen)
	if t.Cert == "" {
		c.report(key+".cert", "missing: name a PEM file with the server's certificate")
	}
	if t.Key == "" {
		c.report(key+".key", "missing: name a PEM file with the server's key")
	}
}
