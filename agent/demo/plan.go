package demo

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

const planFile = "demo.json"

// plan is what was founded: demo.json.
type plan struct {
	Name     string    `json:"name"`
	From     time.Time `json:"from"`               // community time at Start
	Start    time.Time `json:"start"`              // wall clock
	Rate     int64     `json:"rate"`               // community seconds per wall second
	Outage   int64     `json:"outage_s,omitempty"` // of community time, that its deadline allows for
	Clearing string    `json:"clearing"`
	Battery  string    `json:"battery,omitempty"` // how batteries are led; empty: not at all
	Profiles string    `json:"profiles,omitempty"`
	Homes    []home    `json:"homes"`
}

// home is one house of the street and what stands in it.
type home struct {
	Name       string   `json:"name"`
	Validator  bool     `json:"validator"`
	Light      bool     `json:"light,omitempty"`
	Node       string   `json:"node"` // of the network
	YearlyKWh  int      `json:"yearly_kwh"`
	SolarKWp   int      `json:"solar_kwp,omitempty"`
	Azimuth    int      `json:"azimuth,omitempty"`
	BatteryKWh int      `json:"battery_kwh,omitempty"`
	LoadCSV    string   `json:"load_csv,omitempty"`
	SolarCSV   string   `json:"solar_csv,omitempty"`
	Devices    []device `json:"devices"`
}

// device is a meter, as firmware-sim pretends to be it and the agent reads it.
type device struct {
	Role       string `json:"role"` // the agent's word: connection, solar, battery
	Definition string `json:"definition"`
	Unit       uint8  `json:"unit,omitempty"`
	Topic      string `json:"topic,omitempty"`
}

func (p *plan) pace() pace { return pace{rate: p.Rate} }

// rules are those of its pace, and how its intervals are decided.
func (p *plan) rules() ledger.Rules {
	r := p.pace().rules(time.Duration(p.Outage) * time.Second)
	r.Clearing = p.Clearing
	return r
}

// light is how many homes hold no ledger; they are the last.
func (p *plan) light() (n int) {
	for _, h := range p.Homes {
		if h.Light {
			n++
		}
	}
	return n
}

func (h home) dir(root string) string { return filepath.Join(root, "homes", h.Name) }

func (h home) role() string {
	switch {
	case h.Light:
		return household.RoleLight
	case h.Validator:
		return household.RoleValidator
	}
	return household.RoleReplica
}

func (h home) connection() device { return h.Devices[0] }

// protocol is that of the connection's meter.
func (h home) protocol() string {
	if h.connection().Topic != "" {
		return "mqtt"
	}
	return "modbus"
}

func (h home) describe() string {
	text := h.connection().Definition + " by " + h.protocol()
	if h.SolarKWp > 0 {
		text += ", sun"
	}
	if h.BatteryKWh > 0 {
		text += ", battery"
	}
	return text
}

// keyFile is where a meter that signs has its key: in the device, not in the home.
func (h home) keyFile(root string) string {
	return filepath.Join(root, "devices", h.Name+"-connection.key")
}

// inverter is what the batteries are behind.
const inverter = "sunspec-battery"

// kinds are the connection meters in turn: odd homes on Modbus, even ones on MQTT.
var kinds = []string{"eastron-sdm630", "tasmota", "sunspec-meter", "shelly-gen2", "eastron-sdm630", "commonwatt-signed"}

// layout is the street: half the homes with sun, two of three of those with a battery;
// so small that neighbours want more than it gives as often as less.
func layout(i int) home {
	n := i + 1
	h := home{
		Name: fmt.Sprintf("home-%d", n), Validator: i < maxValidators,
		YearlyKWh: []int{3500, 5400, 4200, 3000, 6800, 4300}[i%6],
	}
	kind, modbus := kinds[i%len(kinds)], i%2 == 0
	add := func(role, definition string) {
		d := device{Role: role, Definition: definition}
		if modbus {
			d.Unit = uint8(4*i + len(h.Devices) + 1) //nolint:gosec // at most 4 × 32
		} else {
			d.Topic = h.Name
			if role != household.RoleConnection {
				d.Topic += "-" + role
			}
		}
		h.Devices = append(h.Devices, d)
	}
	add(household.RoleConnection, kind)
	solar := "sunspec-meter"
	if !modbus {
		solar = "tasmota"
	}
	h.SolarKWp, h.Azimuth = []int{3, 0, 0, 2, 0, 1}[i%6], []int{180, 0, 0, 130, 0, 240}[i%6]
	h.Node = feederTown
	if h.SolarKWp > 0 {
		h.Node = feederSun
		add(household.RoleSolar, solar)
	}
	if i%6 == 0 || i%6 == 3 {
		h.BatteryKWh = 5
		// An inverter that obeys is on Modbus wherever the other meters are.
		h.Devices = append(h.Devices, device{Role: household.RoleBattery, Definition: inverter, Unit: uint8(4*i + len(h.Devices) + 1)}) //nolint:gosec // at most 4 × 32
	}
	return h
}

// loadPlan reads what an earlier start founded; nil if there is nothing.
func loadPlan(dir string) (*plan, error) {
	path := filepath.Join(dir, planFile)
	raw, err := os.ReadFile(path) //nolint:gosec // the folder is the person's own
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // nothing was founded, and that is no error
	}
	if err != nil {
		return nil, err
	}
	p := new(plan)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil || p.Rate < 1 || len(p.Homes) == 0 || len(p.Homes) > MaxHomes {
		return nil, fmt.Errorf("%w: %s is not a demonstration's (%w): --fresh begins anew", ErrUsage, path, err)
	}
	return p, nil
}

// fits says whether the options can be had from what was founded.
func (p *plan) fits(o Options, now time.Time) error {
	switch {
	case len(p.Homes) != o.Homes:
		return fmt.Errorf("%w: --homes %d: the street in %s has %d; --fresh begins anew", ErrUsage, o.Homes, o.Dir, len(p.Homes))
	case o.Profiles != "" && absolute(o.Profiles) != p.Profiles:
		return fmt.Errorf("%w: --profiles: the street in %s was founded with %q; --fresh begins anew", ErrUsage, o.Dir, p.Profiles)
	case !o.From.IsZero() && !o.From.Equal(p.From):
		return fmt.Errorf("%w: --from: the street in %s began at %s; --fresh begins anew", ErrUsage, o.Dir, p.From.Format(time.RFC3339))
	case o.Pace != 0 && paceOf(o.Pace) != p.pace():
		return fmt.Errorf("%w: --pace: in the street in %s %s; --fresh begins anew", ErrUsage, o.Dir, p.pace())
	case o.Battery != "" && o.Battery != p.Battery:
		return fmt.Errorf("%w: --battery: the street in %s was founded with %q; --fresh begins anew", ErrUsage, o.Dir, p.Battery)
	case o.Light != 0 && o.Light != p.light():
		return fmt.Errorf("%w: --light %d: the street in %s has %d; --fresh begins anew", ErrUsage, o.Light, o.Dir, p.light())
	case o.Clearing != "" && o.Clearing != p.Clearing:
		return fmt.Errorf("%w: --clearing: the street in %s was founded with %q; --fresh begins anew", ErrUsage, o.Dir, p.Clearing)
	case int64(o.Outage.For/time.Second) > p.Outage:
		return fmt.Errorf("%w: --outage: the street in %s substitutes reports that are away for so long; --fresh begins anew", ErrUsage, o.Dir)
	case p.pace().community(now.Sub(p.Start)) > longestAbsence:
		return fmt.Errorf("%w: the street in %s was founded %v ago, %d days of its own time, more than its ledger settles at once; --fresh begins anew",
			ErrUsage, o.Dir, now.Sub(p.Start).Round(time.Minute), p.pace().community(now.Sub(p.Start))/(24*time.Hour))
	}
	return nil
}

// forget removes an earlier street, and nothing that is not one.
func forget(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, planFile)); err != nil {
		return fmt.Errorf("%w: --fresh: %s holds something, but no demonstration; remove it yourself or use --data", ErrUsage, dir)
	}
	return os.RemoveAll(dir)
}

// found makes a new street.
func found(o Options) (*plan, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	p := &plan{
		Name: "demo-" + now.Format("20060102-150405"), From: o.From.UTC(), Start: now, Rate: paceOf(defaultPace).rate,
		Outage: int64(o.Outage.For / time.Second), Clearing: cmp.Or(o.Clearing, ledger.ClearingForward), Battery: cmp.Or(o.Battery, household.LeadFollow), Profiles: absolute(o.Profiles),
	}
	if o.Pace != 0 {
		p.Rate = paceOf(o.Pace).rate
	}
	for i := range o.Homes {
		h := layout(i)
		h.Light = i >= o.Homes-o.Light
		p.Homes = append(p.Homes, h)
	}
	if p.Profiles != "" {
		if err := p.record(); err != nil {
			return nil, err
		}
	}
	if o.From.IsZero() {
		var err error
		if p.From, err = p.sunnyMorning(); err != nil {
			return nil, err
		}
	}
	founding := household.Founding{
		Name: p.Name, Dir: filepath.Join(o.Dir, "cooperative"), Epoch: p.From, Start: p.Start, Rate: p.Rate,
		Rules: p.rules(), Network: network(len(p.Homes)),
		MeterOf: func(f household.Founder) (ed25519.PublicKey, error) { return deviceKey(o.Dir, p, f.Name) },
	}
	for _, h := range p.Homes {
		d, err := meter.FindDefinition("", h.connection().Definition)
		if err != nil {
			return nil, err
		}
		signedBy := ledger.SignedByAgent
		if d.SignedBy == meter.SignedByDevice {
			signedBy = ledger.SignedByDevice
		}
		founding.Homes = append(founding.Homes, household.Founder{
			Name: h.Name, Dir: h.dir(o.Dir), Validator: h.Validator, Node: h.Node,
			Meter: ledger.RegisterMeter{SignedBy: signedBy, Definition: d.Source()},
		})
	}
	if err := household.Found(founding); err != nil {
		return nil, err
	}
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(filepath.Join(o.Dir, planFile), append(raw, '\n'), 0o600)
}

// deviceKey makes the key inside a meter that signs, and returns its public half;
// nil for a meter that does not.
func deviceKey(root string, p *plan, name string) (ed25519.PublicKey, error) {
	for _, h := range p.Homes {
		d, err := meter.FindDefinition("", h.connection().Definition)
		if err != nil {
			return nil, err
		}
		if h.Name != name || d.SignedBy != meter.SignedByDevice {
			continue
		}
		if err := os.MkdirAll(filepath.Join(root, "devices"), 0o700); err != nil {
			return nil, err
		}
		if err := household.CreateKey(h.keyFile(root)); err != nil {
			return nil, err
		}
		key, err := household.LoadKey(h.keyFile(root))
		if err != nil {
			return nil, err
		}
		return key.Public().(ed25519.PublicKey), nil
	}
	return nil, nil
}

func absolute(path string) string {
	if path == "" {
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return strings.TrimSuffix(abs, "/")
}
