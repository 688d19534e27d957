package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// Config is a whole file, with defaults filled in and checked.
type Config struct {
	Clock      Clock         `yaml:"clock"`
	Interval   time.Duration `yaml:"interval"` // the market's; sets the default of Refresh
	Refresh    time.Duration `yaml:"refresh"`  // community time between two refreshes of every counter
	Seed       uint64        `yaml:"seed"`
	Location   Location      `yaml:"location"`
	Weather    Weather       `yaml:"weather"`
	Modbus     *Listen       `yaml:"modbus"`     // Modbus TCP
	ModbusTLS  *TLS          `yaml:"modbus_tls"` // the same units inside TLS,
	RTU        *Line         `yaml:"rtu"`        // on a serial line,
	RTUOverTCP *Listen       `yaml:"rtu_tcp"`    // and on one behind TCP
	MQTT       *MQTT         `yaml:"mqtt"`
	Control    *Listen       `yaml:"control"`
	Journal    string        `yaml:"journal"` // file of what inverters were told; "": not kept
	Homes      []Home        `yaml:"homes"`
}

// Clock defines community time: epoch + rate × (wall clock − start), or one
// that is moved by hand.
type Clock struct {
	Epoch  time.Time `yaml:"epoch"`
	Start  time.Time `yaml:"start"`
	Rate   int64     `yaml:"rate"`
	Manual bool      `yaml:"manual"` // it stands at the epoch until the control API moves it
}

// Location is the street's place, in degrees.
type Location struct {
	Latitude  float64 `yaml:"latitude"`
	Longitude float64 `yaml:"longitude"`
}

// Weather is the street's climate. Cloudiness: 0 always clear, 1 always covered.
// The temperatures are the mean of all hours of a year, and half the distance
// between the means of January and July.
type Weather struct {
	Cloudiness   float64 `yaml:"cloudiness"`
	MeanCelsius  float64 `yaml:"mean_celsius"`
	SwingCelsius float64 `yaml:"swing_celsius"`
}

// Listen is the address of a server.
type Listen struct {
	Listen string `yaml:"listen"`
}

// TLS is the address of a server with a certificate.
type TLS struct {
	Listen   string `yaml:"listen"`
	Cert     string `yaml:"cert"`      // PEM files
	Key      string `yaml:"key"`       //
	ClientCA string `yaml:"client_ca"` // "": clients need no certificate
}

// Line is a pseudo-terminal.
type Line struct {
	Link string `yaml:"link"` // symbolic link that is made to it
}

// MQTT is either a broker of our own or one that runs already.
type MQTT struct {
	Listen string `yaml:"listen"`
	TLS    *TLS   `yaml:"tls"`    // a further listener of our own broker
	Broker string `yaml:"broker"` // mqtt://HOST:PORT
	// User and the content of PasswordFile are what our own broker asks for, or what
	// devices tell the one that runs.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
}

// Own says whether the broker is our own.
func (m *MQTT) Own() bool { return m.Broker == "" }

// Home is one house.
type Home struct {
	ID      string   `yaml:"id"`
	Load    Load     `yaml:"load"`
	Solar   *Solar   `yaml:"solar"`
	Battery *Battery `yaml:"battery"`
	// Occupancy says when nobody is there: workers, family, home-office or retired;
	// "": somebody always is.
	Occupancy string    `yaml:"occupancy"`
	HeatPump  *HeatPump `yaml:"heat_pump"`
	Car       *Car      `yaml:"car"`
	Devices   []Device  `yaml:"devices"`
}

// Load is a model or a recording.
type Load struct {
	Model     string  `yaml:"model"`
	YearlyKWh float64 `yaml:"yearly_kwh"`
	CSV       string  `yaml:"csv"`
}

// Solar is an installation, modelled or from a recording in W per W installed.
type Solar struct {
	KWP     float64 `yaml:"kwp"`
	Azimuth float64 `yaml:"azimuth"`
	Tilt    float64 `yaml:"tilt"`
	CSV     string  `yaml:"csv"`
}

// Battery is a home's store. Efficiency is that of one way; MinSoC is the
// content in percent below which it is not discharged; StandingW is what it
// loses by itself.
type Battery struct {
	KWh        float64 `yaml:"kwh"`
	KW         float64 `yaml:"kw"`
	Efficiency float64 `yaml:"efficiency"`
	MinSoC     float64 `yaml:"min_soc"`
	StandingW  float64 `yaml:"standing_w"`
}

// Roles of a device in its home.
const (
	RoleGrid    = "grid"
	RoleSolar   = "solar"
	RoleBattery = "battery"
	// RoleInverter is that of an inverter which has both the panels and the battery
	// behind it.
	RoleInverter = "inverter"
)

// Device is a meter. Definition is the id of its device definition.
type Device struct {
	Role       string `yaml:"role"`
	Definition string `yaml:"definition"`
	Unit       uint8  `yaml:"unit"`    // Modbus
	Topic      string `yaml:"topic"`   // MQTT
	Listen     string `yaml:"listen"`  // HTTP, or P1 over TCP
	Link       string `yaml:"link"`    // P1 on a pseudo-terminal
	Version    string `yaml:"version"` // of a kind that has several
	Key        string `yaml:"key"`     // file with the hexadecimal Ed25519 seed
}

// Kind is what the check needs to know of a device definition.
type Kind struct {
	Modbus, MQTT, P1, HTTP bool // how it can be reached
	Signs                  bool
	Versions               []string
	Obeys                  bool // a battery's inverter that can be told what to do
}

// Kinds are the definitions that a device may name, by id.
type Kinds map[string]Kind

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// ReadFile reads and checks a file. An error about its content is a Problems; any
// other means that it could not be read.
func ReadFile(file string, kinds Kinds) (*Config, error) {
	data, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("opening the configuration: %w", err)
	}
	return Parse(file, data, kinds)
}

// Read gives a file's content, as far as that can be one of ours.
func Read(file string) ([]byte, error) {
	f, err := os.Open(file) //nolint:gosec // G304: the user named the file
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// Parse checks a file's content; the name is for messages and relative paths.
func Parse(file string, data []byte, kinds Kinds) (*Config, error) {
	c := Default()
	d := Decode(file, data, c)
	d.Check("", c, kinds)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Default is a Config with what is not written in a file.
func Default() *Config {
	return &Config{
		Interval: 15 * time.Minute,
		Location: Location{Latitude: 52, Longitude: 4.4},
		Weather:  Weather{Cloudiness: 0.7, MeanCelsius: home.Temperate.Mean, SwingCelsius: home.Temperate.Swing},
	}
}

// Document is a file of which a configuration is a part, or all.
type Document struct{ decoder *decoder }

// Decode fills a struct from a file's content, strictly. Fields that the file
// does not have keep their values.
func Decode(file string, data []byte, into any) *Document {
	d := &decoder{file: file, lines: map[string]int{}}
	if len(data) > maxFile {
		d.report("", "more than %d bytes", maxFile)
	} else {
		d.document(bytes.TrimPrefix(data, []byte("\ufeff")), into)
	}
	return &Document{d}
}

// Has says whether a key like "homes[0].id" stands in the file.
func (d *Document) Has(key string) bool { return d.decoder.lines[key] != 0 }

// Report adds a problem at a key.
func (d *Document) Report(key, format string, args ...any) { d.decoder.report(key, format, args...) }

// Err is a Problems, or nil.
func (d *Document) Err() error {
	if len(d.decoder.problems) == 0 {
		return nil
	}
	return d.decoder.problems
}

// Check fills in and checks the configuration that stands at a prefix ("" or
// "config."), if nothing was wrong until now, and makes its paths relative to the
// file's directory.
func (d *Document) Check(prefix string, c *Config, kinds Kinds) {
	if d.Err() != nil {
		return
	}
	d.decoder.prefix = prefix
	c.fill()
	(&checker{decoder: d.decoder, kinds: kinds}).check(c)
	d.decoder.prefix = ""
	if d.Err() == nil {
		c.resolve(filepath.Dir(d.decoder.file))
	}
}

// fill sets what depends on other values or stands in optional parts.
func (c *Config) fill() {
	if c.Refresh == 0 {
		c.Refresh = c.Interval / 5
	}
	if c.Clock.Rate == 0 && !c.Clock.Manual {
		c.Clock.Rate = 1
	}
	if c.Control == nil {
		c.Control = &Listen{Listen: "127.0.0.1:0"}
	}
	for i := range c.Homes {
		if s := c.Homes[i].Solar; s != nil && s.CSV == "" && s.Azimuth == 0 && s.Tilt == 0 {
			s.Azimuth, s.Tilt = 180, 35
		}
		if p := c.Homes[i].HeatPump; p != nil {
			fillHeatPump(p)
		}
		if car := c.Homes[i].Car; car != nil {
			fillCar(car)
		}
		if b := c.Homes[i].Battery; b != nil && b.Efficiency == 0 {
			b.Efficiency = 0.95
		}
	}
}

// resolve makes paths relative to the file's directory.
func (c *Config) resolve(dir string) {
	absolute := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	absolute(&c.Journal)
	for _, t := range []*TLS{c.ModbusTLS, c.mqttTLS()} {
		if t != nil {
			absolute(&t.Cert)
			absolute(&t.Key)
			absolute(&t.ClientCA)
		}
	}
	if c.MQTT != nil {
		absolute(&c.MQTT.PasswordFile)
	}
	if c.RTU != nil {
		absolute(&c.RTU.Link)
	}
	for i := range c.Homes {
		h := &c.Homes[i]
		absolute(&h.Load.CSV)
		if h.Solar != nil {
			absolute(&h.Solar.CSV)
		}
		for j := range h.Devices {
			absolute(&h.Devices[j].Key)
			absolute(&h.Devices[j].Link)
		}
	}
}

func (c *Config) mqttTLS() *TLS {
	if c.MQTT == nil {
		return nil
	}
	return c.MQTT.TLS
}
