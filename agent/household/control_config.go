package household

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/meter"
)

// ControlConfig is one device to lead.
type ControlConfig struct {
	Definition     string `yaml:"definition"` // one with a part control
	Address        string `yaml:"address"`
	Unit           uint8  `yaml:"unit"`
	Mode           string `yaml:"mode"`
	PowerW         int64  `yaml:"power_w"`         // of charge and discharge
	MaxPowerW      int64  `yaml:"max_power_w"`     // 0: what the device says
	ReservePercent int64  `yaml:"reserve_percent"` // not discharged below
	CapacityWh     int64  `yaml:"capacity_wh"`     // 0: what the device says, or unknown
	LeaseS         int64  `yaml:"lease_s"`         // 0: a third of an interval
}

// How a device can be led.
const (
	LeadFollow          = "follow" // the connection comes to what was bought and sold
	LeadSelfConsumption = "self-consumption"
	LeadHold            = "hold"
	LeadHoldCharge      = "hold-charge"
	LeadCharge          = "charge"
	LeadDischarge       = "discharge"
	LeadLimitExport     = "limit-export" // production as the envelope of the connection allows
)

var leads = []string{LeadFollow, LeadSelfConsumption, LeadHold, LeadHoldCharge, LeadCharge, LeadDischarge, LeadLimitExport}

const (
	maxControls   = 32
	maxCapacityWh = 1e9
	longestLease  = 24 * 3600
	shortestLease = 10
)

func (c *Config) validateControls() *ConfigError {
	if len(c.Controls) > maxControls {
		return bad("controls", "got %d, want at most %d", len(c.Controls), maxControls)
	}
	for i, x := range c.Controls {
		key := fmt.Sprintf("controls[%d].", i)
		switch {
		case x.Definition == "" || !printable(x.Definition):
			return bad(key+"definition", "got %q, want the id of a definition with a part control, such as sunspec-battery", x.Definition)
		case x.Address == "" || !printable(x.Address):
			return bad(key+"address", "got %q, want an address of Modbus such as tcp://HOST:PORT", x.Address)
		case !slices.Contains(leads, x.Mode):
			return bad(key+"mode", "got %q, want %s", x.Mode, strings.Join(leads, ", "))
		case x.PowerW < 0 || x.PowerW > maxPowerW:
			return bad(key+"power_w", "got %d, want 0 to %d", x.PowerW, int64(maxPowerW))
		case x.PowerW == 0 && (x.Mode == LeadCharge || x.Mode == LeadDischarge):
			return bad(key+"power_w", "got 0, want the power with which to %s", x.Mode)
		case x.MaxPowerW < 0 || x.MaxPowerW > maxPowerW:
			return bad(key+"max_power_w", "got %d, want 0 to %d", x.MaxPowerW, int64(maxPowerW))
		case x.ReservePercent < 0 || x.ReservePercent > 100:
			return bad(key+"reserve_percent", "got %d, want 0 to 100", x.ReservePercent)
		case x.CapacityWh < 0 || x.CapacityWh > maxCapacityWh:
			return bad(key+"capacity_wh", "got %d, want 0 to %d", x.CapacityWh, int64(maxCapacityWh))
		case x.LeaseS != 0 && (x.LeaseS < shortestLease || x.LeaseS > longestLease):
			return bad(key+"lease_s", "got %d, want 0 or %d to %d", x.LeaseS, shortestLease, int64(longestLease))
		}
		for j, y := range c.Controls[:i] {
			if y.Address == x.Address && y.Unit == x.Unit && (y.Mode == LeadLimitExport) == (x.Mode == LeadLimitExport) {
				return bad(key+"address", "got the device of controls[%d] again, want one hand for each", j)
			}
		}
	}
	return nil
}

// openLeader opens the i-th device to lead. known is who answered there before.
func (h *Home) openLeader(i int, known meter.Identity) (*leader, error) {
	c := h.opt.Config.Controls[i]
	log := newQuiet(h.opt.Log.Handler(), h.opt.Now).With("control", i)
	a, err := meter.OpenActuator(context.Background(), meter.Config{
		Definition: c.Definition, DefinitionsDir: h.own(h.opt.Config.Definitions), Address: c.Address, Unit: c.Unit, Now: h.community, Log: log, Pool: h.pool,
	}, known)
	key := fmt.Sprintf("controls[%d].", i)
	if ce := (*meter.ConfigError)(nil); errors.As(err, &ce) {
		return nil, bad(key+ce.Field, "got %q, want %s", ce.Got, ce.Want).locate(h.opt.Dir)
	}
	if err != nil {
		return nil, err
	}
	d := a.Definition()
	for _, mode := range needed[c.Mode] {
		if !d.CanLead(mode) {
			return nil, errors.Join(bad(key+"mode", "got %q, want a definition that can %s; %s cannot", c.Mode, mode, d.ID).locate(h.opt.Dir), a.Close())
		}
	}
	return &leader{home: h, index: i, cfg: c, actuator: a, log: log, view: controlView{battery: map[market.Interval]int64{}}}, nil
}
