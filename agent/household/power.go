package household

import (
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
)

// localShares is how much of what was allocated for an interval neighbours trade
// among themselves.
type localShares struct {
	known          bool
	bought, sold   market.WattHours // by this home from and to neighbours
	intervalLength time.Duration
}

func (v *view) shares(k market.Interval) localShares {
	s := localShares{intervalLength: v.home.calendar.Length}
	i := v.interval(k)
	if i.BoughtWh == nil || i.SoldWh == nil {
		return s
	}
	s.known, s.bought, s.sold = true, market.WattHours(*i.BoughtWh), market.WattHours(*i.SoldWh)
	return s
}

// power adds the meters up to one balance; what a silent meter should have told
// is unknown, and so is what follows from it.
func (h *Home) power(devices []deviceView, shares localShares) api.Power {
	var p api.Power
	sum := map[string]*int64{RoleSolar: number(0), RoleBattery: number(0)}
	for i, d := range devices {
		role := h.opt.Config.Meters[i].Role
		p.HasSolar = p.HasSolar || role == RoleSolar
		p.HasBattery = p.HasBattery || role == RoleBattery
		if d.state != api.MeterOK || d.sample.PowerW == nil {
			sum[role] = nil
			continue
		}
		if p.At == nil || d.lastAt.Before(*p.At) {
			at := d.lastAt
			p.At = &at
		}
		if role == RoleConnection {
			p.ConnectionW = number(*d.sample.PowerW)
		} else if sum[role] != nil {
			sum[role] = number(*sum[role] + *d.sample.PowerW)
		}
	}
	if p.HasSolar && sum[RoleSolar] != nil {
		p.SolarW = number(max(0, -*sum[RoleSolar])) // behind its own meter, what is produced is export
	}
	if p.HasBattery {
		p.BatteryW = sum[RoleBattery]
	}
	p.HouseW = house(p, sum[RoleBattery])
	p.NeighboursW, p.GridW = split(p.ConnectionW, shares)
	return p
}

// house is what is left for the house: what an inverter draws at night is its own.
// A negative rest says that the meters do not fit together, because there is sun
// without a meter or because they were read at different moments: it is unknown.
func house(p api.Power, battery *int64) *int64 {
	if p.ConnectionW == nil || battery == nil || p.HasSolar && p.SolarW == nil {
		return nil
	}
	w := *p.ConnectionW - *battery
	if p.SolarW != nil {
		w += *p.SolarW
	}
	if w < 0 {
		return nil
	}
	return &w
}

// split divides the power at the connection between neighbours and grid, by what
// was allocated for the interval.
func split(connection *int64, s localShares) (neighbours, grid *int64) {
	if connection == nil || !s.known {
		return nil, nil
	}
	perHour := func(wh market.WattHours) int64 {
		return int64(wh) * int64(time.Hour/time.Second) / int64(s.intervalLength/time.Second)
	}
	c := *connection
	n := min(max(c, 0), perHour(s.bought))
	if c < 0 {
		n = -min(-c, perHour(s.sold))
	}
	return number(n), number(c - n)
}
