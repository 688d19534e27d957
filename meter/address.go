package meter

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/meter/def"
)

// scheme is a way to reach a device. To add one, add a row to schemes.
type scheme struct {
	// name is what an address begins with, without the colon.
	name string
	// example is a whole address.
	example string
	// serves reports whether devices of this kind are reached in this way.
	serves func(def.Definition) bool
	// parse reads the address; its error says what would be right.
	parse func(text string, d def.Definition) (address, error)
	// open makes the source. It must not wait for the device.
	open func(c Config, d Definition, a address) (Source, error)
}

// schemes are the forms that an address may have. The first that serves a definition is shown as its example.
func schemes() []scheme {
	return []scheme{
		{"tcp", "tcp://192.168.1.20:502", speaksModbus, parseHost, openModbus},
		{"tcp+tls", "tcp+tls://192.168.1.20:802", speaksModbus, parseHost, openModbus},
		{"rtu", "rtu:///dev/ttyUSB0?baud=9600&parity=N&stop=1", speaksModbus, parseModbusLine, openModbus},
		{"rtu+tcp", "rtu+tcp://192.168.1.20:4001", speaksModbus, parseHost, openModbus},
		{"mqtt", "mqtt://192.168.1.10:1883/kitchen", publishes, parseBroker, openMQTT},
		{"mqtts", "mqtts://broker.example:8883/kitchen", publishes, parseBroker, openMQTT},
		{"p1", "p1:///dev/ttyUSB0?baud=115200", hasP1, parseP1Line, openP1Line},
		{"p1+tcp", "p1+tcp://192.168.1.40:23", hasP1, parseHost, openP1TCP},
		{"p1+file", "p1+file:telegram.txt", hasP1, parseP1File, openP1File},
		{"http", "http://192.168.1.30", answersHTTP, parseHTTP("80"), openHTTP},
		{"https", "https://192.168.1.30", answersHTTP, parseHTTP("443"), openHTTP},
	}
}

func speaksModbus(d def.Definition) bool {
	return d.Protocol == def.ProtocolModbus || d.Protocol == def.ProtocolSunSpec
}

func publishes(d def.Definition) bool { return d.MQTT != nil }

// answersHTTP: JSON, or a telegram from a reader with a web server.
func answersHTTP(d def.Definition) bool { return d.HTTP != nil || d.P1 != nil }

func hasP1(d def.Definition) bool { return d.P1 != nil }

// prefix is how an address of the scheme begins.
func (s scheme) prefix() string {
	if strings.HasPrefix(s.example, s.name+"://") {
		return s.name + "://"
	}
	return s.name + ":"
}

// address is what an address says, parsed. Which fields are set depends on the scheme.
type address struct {
	scheme string
	host   string // host:port
	path   string // of a file, or on a server
	line   serialLine
	topics def.Topics
}

// serialLine is a serial port and how it is set.
type serialLine struct {
	device   string // /dev/ttyUSB0
	baud     int
	dataBits int
	stopBits int
	parity   string // N, E or O
}

func parseAddress(text string, d Definition) (scheme, address, error) {
	name, _, _ := strings.Cut(text, ":")
	var names []string
	example := ""
	for _, s := range schemes() {
		if !s.serves(d) {
			continue
		}
		names = append(names, s.prefix())
		if example == "" || s.name == name {
			example = s.example
		}
		if s.name != name {
			continue
		}
		a, err := s.parse(text, d)
		if err != nil {
			return scheme{}, address{}, addressError(text, err.Error(), s.example, d)
		}
		a.scheme = s.name
		return s, a, nil
	}
	return scheme{}, address{}, addressError(text, "an address beginning with "+orList(names), example, d)
}

func addressError(text, why, example string, d Definition) error {
	return &ConfigError{Field: "address", Got: withoutUser(text), Want: fmt.Sprintf("%s, such as %s (%s)", why, example, d.ID)}
}

// orList is "a", "a or b", "a, b or c".
func orList(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// splitURL reads scheme://HOST:PORT/PATH. The port may be left out if there is a usual one.
func splitURL(text, usualPort string) (u *url.URL, host string, err error) {
	u, err = url.Parse(text)
	switch {
	case err != nil || u.Opaque != "":
		return nil, "", errors.New("an address with // after the colon")
	case u.User != nil:
		return nil, "", errors.New("an address without a name or password; they are settings of their own")
	}
	name, port := u.Hostname(), u.Port()
	if port == "" {
		port = usualPort
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if name == "" || err != nil || n == 0 {
		return nil, "", errors.New("a host and a port from 1 to 65535")
	}
	if u.Fragment != "" || (u.RawQuery != "" || u.ForceQuery) {
		return nil, "", errors.New("nothing after ? or #")
	}
	return u, net.JoinHostPort(name, port), nil
}

// parseHost reads scheme://HOST:PORT and nothing else.
func parseHost(text string, _ def.Definition) (address, error) {
	u, host, err := splitURL(text, "")
	if err != nil {
		return address{}, err
	}
	if strings.TrimPrefix(u.Path, "/") != "" {
		return address{}, errors.New("no path")
	}
	return address{host: host}, nil
}

// parseBroker reads scheme://HOST:PORT/TOPIC.
func parseBroker(text string, d def.Definition) (address, error) {
	u, host, err := splitURL(text, "")
	if err != nil {
		return address{}, err
	}
	topics, err := d.ResolveTopic(strings.TrimPrefix(u.Path, "/"))
	if err != nil {
		return address{}, errors.New("the name of the device or its full topic as path, without + and #")
	}
	return address{host: host, topics: topics}, nil
}

// parseModbusLine reads rtu:///dev/ttyX?baud=…&parity=…&stop=…. Characters always have 8 bits.
func parseModbusLine(text string, _ def.Definition) (address, error) {
	return parseLine(text, serialLine{baud: 9600, dataBits: 8, stopBits: 1, parity: "N"}, "baud", "parity", "stop")
}

// The speeds of serial lines that drivers know, and the other settings.
var (
	bauds    = []string{"1200", "2400", "4800", "9600", "19200", "38400", "57600", "115200"}
	parities = []string{"N", "E", "O"}
	stops    = []string{"1", "2"}
	dataBits = []string{"7", "8"}
)

// parseLine reads scheme:///dev/ttyX?baud=…&parity=…&stop=…&bits=…, with defaults for what is left out. The settings
// that may be given are those of the list.
func parseLine(text string, usual serialLine, settings ...string) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Host != "" || u.User != nil || u.Fragment != "" || len(u.Path) < 2 || strings.ContainsRune(u.Path, 0) {
		return address{}, errors.New("a serial device with its whole path after ://")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, errors.New("settings such as baud=9600&parity=N after the ?")
	}
	line := usual
	line.device = u.Path
	for name, values := range query {
		if !slices.Contains(settings, name) || len(values) != 1 {
			return address{}, fmt.Errorf("only %s after the ?, each once", orList(settings))
		}
		if err := line.set(name, values[0]); err != nil {
			return address{}, err
		}
	}
	return address{line: line}, nil
}

func (l *serialLine) set(name, value string) error {
	choice := func(allowed []string) (int, error) {
		if !slices.Contains(allowed, value) {
			return 0, fmt.Errorf("%s=%s", name, orList(allowed))
		}
		n, _ := strconv.Atoi(value) // 0 for the letters, which are not used as numbers
		return n, nil
	}
	var err error
	switch name {
	case "baud":
		l.baud, err = choice(bauds)
	case "stop":
		l.stopBits, err = choice(stops)
	case "bits":
		l.dataBits, err = choice(dataBits)
	case "parity":
		value = strings.ToUpper(value)
		l.parity = value
		_, err = choice(parities)
	}
	return err
}

// withoutUser keeps a password that was put into an address out of messages.
func withoutUser(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 {
		return text
	}
	scheme, _, found := strings.Cut(text[:at], "://")
	if !found {
		return "…" + text[at:]
	}
	return scheme + "://…" + text[at:]
}

// Examples are one address of each form.
func Examples() []string {
	var all []string
	for _, s := range schemes() {
		all = append(all, s.example)
	}
	return all
}

// AddressForms are examples of the addresses by which a device of a definition is reached.
func AddressForms(d Definition) []string {
	var forms []string
	for _, s := range schemes() {
		if s.serves(d) {
			forms = append(forms, s.example)
		}
	}
	return forms
}
