package config

import (
	"maps"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker looks at the meaning of what was decoded.
type checker struct {
	*decoder
	kinds  Kinds
	modbus bool // some device needs it
	mqtt   bool
	ids    map[string]string // what is taken → by which key
}

// Limits of one house; a megawatt is no home, and a meter's SunSpec registers
// and a simulation's integers end somewhere.
const (
	maxYearlyKWh   = 1_000_000
	maxKWP         = 1000
	maxBatteryKWh  = 10_000
	maxHomes       = 10_000
	maxRate        = 100_000
	minRefresh     = time.Second
	maxInterval    = time.Hour
	maxDevices     = 4
	maxMinSoC      = 90
	maxStandingW   = 1000
	lowestEfficacy = 0.5
)

var (
	homeID    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	topicName = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
)

func (c *checker) check(cfg *Config) {
	c.ids = map[string]string{}
	c.clock(cfg)
	c.between("location.latitude", cfg.Location.Latitude, -90, 90)
	c.between("location.longitude", cfg.Location.Longitude, -180, 180)
	c.between("weather.cloudiness", cfg.Weather.Cloudiness, 0, 1)
	c.between("weather.mean_celsius", cfg.Weather.MeanCelsius, -30, 40)
	c.between("weather.swing_celsius", cfg.Weather.SwingCelsius, 0, 40)
	if len(cfg.Homes) == 0 || len(cfg.Homes) > maxHomes {
		c.report("homes", "got %d homes, want 1 to %d", len(cfg.Homes), maxHomes)
	}
	for i := range cfg.Homes {
		c.home("homes["+strconv.Itoa(i)+"]", &cfg.Homes[i])
	}
	c.servers(cfg)
}

func (c *checker) clock(cfg *Config) {
	c.year("clock.epoch", cfg.Clock.Epoch)
	switch {
	case !cfg.Clock.Manual:
		c.year("clock.start", cfg.Clock.Start)
		if cfg.Clock.Rate < 1 || cfg.Clock.Rate > maxRate {
			c.report("clock.rate", "got %d, want 1 to %d", cfg.Clock.Rate, maxRate)
		}
	case !cfg.Clock.Start.IsZero():
		c.report("clock.start", "belongs to a clock that goes by itself, not to a manual one")
	case cfg.Clock.Rate != 0:
		c.report("clock.rate", "belongs to a clock that goes by itself, not to a manual one")
	}
	allowed := []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, maxInterval}
	if !slices.Contains(allowed, cfg.Interval) {
		c.report("interval", "got %v, want 1m, 5m, 15m, 30m or 60m", cfg.Interval)
	}
	if cfg.Refresh < minRefresh || cfg.Refresh > maxInterval || cfg.Refresh%time.Second != 0 {
		c.report("refresh", "got %v, want whole seconds between %v and %v", cfg.Refresh, minRefresh, maxInterval)
	}
}

func (c *checker) year(key string, at time.Time) {
	if at.Year() < 1971 || at.Year() > 2200 { // also if it is missing
		c.report(key, "want a time between 1971 and 2200 like 2026-06-21T08:00:00Z")
	}
}

func (c *checker) between(key string, v, low, high float64) {
	if !(v >= low && v <= high) { // also a NaN
		c.report(key, "got %v, want %v to %v", v, low, high)
	}
}

// taken reports a name that was used before.
func (c *checker) taken(name, key string) {
	if other, twice := c.ids[name]; twice {
		c.report(key, "%s is taken by %s", name, other)
		return
	}
	c.ids[name] = key
}

func (c *checker) home(key string, h *Home) {
	if !homeID.MatchString(h.ID) {
		c.report(key+".id", "got %.80q, want 1 to 64 of a-z, 0-9 and -", h.ID)
	} else {
		c.taken("home "+h.ID, key+".id")
	}
	switch {
	case h.Load.CSV != "" && h.Load.Model != "", h.Load.CSV == "" && h.Load.Model == "":
		c.report(key+".load", "want either csv or model")
	case h.Load.CSV != "" && h.Load.YearlyKWh != 0:
		c.report(key+".load.yearly_kwh", "belongs to a model, not to a csv")
	case h.Load.CSV != "":
	case h.Load.Model != "household":
		c.report(key+".load.model", "got %.60q, want household", h.Load.Model)
	default:
		c.between(key+".load.yearly_kwh", h.Load.YearlyKWh, 1, maxYearlyKWh)
	}
	if s := h.Solar; s != nil {
		c.between(key+".solar.kwp", s.KWP, 0.01, maxKWP)
		c.between(key+".solar.azimuth", s.Azimuth, 0, 360)
		c.between(key+".solar.tilt", s.Tilt, 0, 90)
		if s.CSV != "" && (s.Azimuth != 0 || s.Tilt != 0) {
			c.report(key+".solar", "azimuth and tilt belong to the model, not to a csv")
		}
	}
	if b := h.Battery; b != nil {
		c.between(key+".battery.kwh", b.KWh, 0.01, maxBatteryKWh)
		c.between(key+".battery.kw", b.KW, 0.01, maxKWP)
		c.between(key+".battery.efficiency", b.Efficiency, lowestEfficacy, 1)
		c.between(key+".battery.min_soc", b.MinSoC, 0, maxMinSoC)
		c.between(key+".battery.standing_w", b.StandingW, 0, maxStandingW)
	}
	c.living(key, h)
	if len(h.Devices) == 0 || len(h.Devices) > maxDevices {
		c.report(key+".devices", "got %d devices, want 1 to %d", len(h.Devices), maxDevices)
	}
	for i, d := range h.Devices {
		c.device(key+".devices["+strconv.Itoa(i)+"]", h, d)
	}
}

func (c *checker) device(key string, h *Home, d Device) {
	switch {
	case d.Role == RoleGrid, d.Role == RoleSolar && h.Solar != nil, d.Role == RoleBattery && h.Battery != nil:
		c.taken("role "+d.Role+" of home "+h.ID, key+".role")
	case d.Role == RoleInverter && h.Solar != nil && h.Battery != nil:
		c.taken("role "+d.Role+" of home "+h.ID, key+".role")
	case d.Role == RoleInverter:
		c.report(key+".role", "an inverter has panels and a battery behind it: this home lacks one")
	case d.Role == RoleSolar || d.Role == RoleBattery:
		c.report(key+".role", "this home has no %s", d.Role)
	default:
		c.report(key+".role", "got %.60q, want grid, solar, battery or inverter", d.Role)
	}
	kind, known := c.kinds[d.Definition]
	if !known {
		want := "a kind of device that firmware-sim --list shows"
		if len(c.kinds) <= 8 {
			want = "one of " + strings.Join(slices.Sorted(maps.Keys(c.kinds)), ", ")
		}
		c.report(key+".definition", "got %.60q, want %s", d.Definition, want)
		return
	}
	switch {
	case kind.Obeys && d.Role != RoleBattery && d.Role != RoleInverter:
		c.report(key+".role", "%s is a battery's inverter: want battery (panels apart) or inverter (panels behind it)", d.Definition)
	case kind.Obeys:
		c.taken("the inverter of home "+h.ID, key+".definition")
	case d.Role == RoleInverter:
		c.report(key+".definition", "%s is a meter, want an inverter", d.Definition)
	}
	c.reach(key, kind, d)
	switch {
	case kind.Signs && d.Key == "":
		c.report(key+".key", "%s signs its readings: name a file with an Ed25519 seed of 64 hexadecimal digits", d.Definition)
	case !kind.Signs && d.Key != "":
		c.report(key+".key", "%s does not sign", d.Definition)
	}
}

func (c *checker) address(key, address string) {
	host, port, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(port, 10, 64)
	if err != nil || portErr != nil || number > math.MaxUint16 || strings.ContainsAny(host, " /") {
		c.report(key, "got %.80q, want HOST:PORT such as 127.0.0.1:1502, or 127.0.0.1:0 for a free one", address)
	}
}
