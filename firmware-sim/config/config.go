package config

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Config is a whole file, with defaults filled in and checked.
type Config struct {
	Clock    Clock         `yaml:"clock"`
	Interval time.Duration `yaml:"interval"` // the market's; sets the default of Refresh
	Refresh  time.Duration `yaml:"refresh"`  // community time between two refreshes of every counter
	Seed     uint64        `yaml:"seed"`
	Location Location      `yaml:"location"`
	Weather  Weather       `yaml:"weather"`
	Modbus   *Listen       `yaml:"modbus"`
	MQTT     *MQTT         `yaml:"mqtt"`
	Control  *Listen       `yaml:"control"`
	Journal  string        `yaml:"journal"` // file of what inverters were told; "": not kept
	Homes    []Home        `yaml:"homes"`
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

// Weather is the street's climate: 0 always clear, 1 always covered.
type Weather struct {
	Cloudiness float64 `yaml:"cloudiness"`
}

// Listen is the address of a server.
type Listen struct {
	Listen string `yaml:"listen"`
}

// MQTT is either a broker of our own or one that runs already.
type MQTT struct {
	Listen string `yaml:"listen"`
	Broker string `yaml:"broker"` // mqtt://HOST:PORT
}

// Home is one house.
type Home struct {
	ID      string   `yaml:"id"`
	Load    Load     `yaml:"load"`
	Solar   *Solar   `yaml:"solar"`
	Battery *Battery `yaml:"battery"`
	Devices []Device `yaml:"devices"`
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
	Unit       uint8  `yaml:"unit"`  // Modbus
	Topic      string `yaml:"topic"` // MQTT
	Key        string `yaml:"key"`   // file with the hexadecimal Ed25519 seed
}

// Kind is what the check needs to know of a device definition.
type Kind struct {
	Modbus bool // else MQTT
	Signs  bool
	Obeys  bool // a battery's inverter that can be told what to do
}

// Kinds are the definitions that a device may name, by id.
type Kinds map[string]Kind

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// ReadFile reads and checks a file. An error about its content is a Problems; any
// other means that it could not be read.
func ReadFile(file string, kinds Kinds) (*Config, error) {
	f, err := os.Open(file) //nolint:gosec // G304: the user named the file
	if err != nil {
		return nil, fmt.Errorf("opening the configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(file, data, kinds)
}

// Parse checks a file's content; the name is for messages and relative paths.
func Parse(file string, data []byte, kinds Kinds) (*Config, error) {
	if len(data) > maxFile {
		return nil, Problems{{File: file, Message: fmt.Sprintf("more than %d bytes", maxFile)}}
	}
	c := &Config{
		Interval: 15 * time.Minute,
		Location: Location{Latitude: 52, Longitude: 4.4},
		Weather:  Weather{Cloudiness: 0.7},
	}
	d := &decoder{file: file, lines: map[string]int{}}
	d.document(bytes.TrimPrefix(data, []byte("\ufeff")), c)
	if len(d.problems) == 0 {
		c.fill()
		(&checker{decoder: d, kinds: kinds}).check(c)
	}
	if len(d.problems) != 0 {
		return nil, d.problems
	}
	c.resolve(filepath.Dir(file))
	return c, nil
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
	for i := range c.Homes {
		h := &c.Homes[i]
		absolute(&h.Load.CSV)
		if h.Solar != nil {
			absolute(&h.Solar.CSV)
		}
		for j := range h.Devices {
			absolute(&h.Devices[j].Key)
		}
	}
}
