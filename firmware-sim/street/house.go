package street

import (
	"context"
	"fmt"
	"os"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// House is one home with its meters.
type House struct {
	ID     string
	Meters []*Meter

	history  *home.History
	home     *home.Home
	refresh  int64
	inverter *inverter // nil: nothing here obeys
	sky      home.Sky
	heatPump *home.HeatPump // nil: none
	car      *home.Car      // nil: none
}

// build makes a house. Its time begins one refresh before the epoch's, so that
// its meters have a power to show from the first moment on.
func (s *Street) build(cfg *config.Config, c config.Home) (*House, error) {
	seed := home.Seed(cfg.Seed, c.ID)
	house := &House{ID: c.ID, refresh: s.refresh, home: &home.Home{}, sky: home.Sky{
		Location:   home.Location{Latitude: cfg.Location.Latitude, Longitude: cfg.Location.Longitude},
		Seed:       cfg.Seed,
		Cloudiness: cfg.Weather.Cloudiness,
		Climate:    home.Climate{Mean: cfg.Weather.MeanCelsius, Swing: cfg.Weather.SwingCelsius},
	}}
	if err := house.live(c, seed); err != nil {
		return nil, err
	}
	if err := house.produce(c, seed); err != nil {
		return nil, err
	}
	house.history = home.NewHistory(house.home, s.refresh, s.first-1)
	for _, d := range c.Devices {
		m, err := newMeter(s, house, d, seed)
		if err != nil {
			return nil, fmt.Errorf("%s meter: %w", d.Role, err)
		}
		m.Transports = transports(cfg, m.Kind, d)
		house.Meters = append(house.Meters, m)
		if obeys, ok := m.Device.(device.Inverter); ok {
			house.inverter = newInverter(house, m, obeys)
		}
	}
	return house, nil
}

// live makes what the house takes.
func (h *House) live(c config.Home, seed uint64) error {
	var occupancy *home.Occupancy
	if c.Occupancy != "" {
		occupancy = home.NewOccupancy(c.Occupancy, seed)
	}
	if c.Load.CSV != "" {
		profile, err := readProfile(c.Load.CSV, 1000)
		if err != nil {
			return err
		}
		h.home.Load = profile
	} else {
		people := home.NewHousehold(c.Load.YearlyKWh, h.sky.Location.Longitude, seed)
		if occupancy != nil {
			people.Occupied(occupancy)
		}
		h.home.Load = people
	}
	if c.HeatPump == nil && c.Car == nil {
		return nil
	}
	sum := home.Sum{h.home.Load}
	if p := c.HeatPump; p != nil {
		h.heatPump = home.NewHeatPump(home.HeatPumpSpec{KW: p.KW, WPerK: p.LossWK, Inside: p.Celsius, WaterKWh: p.WaterKWh}, h.sky, occupancy, seed)
		sum = append(sum, h.heatPump)
	}
	if car := c.Car; car != nil {
		spec := home.CarSpec{KW: car.KW, KMPerYear: car.KMPerYear, KWhPer100KM: car.KWhPer100KM, BatteryKWh: car.BatteryKWh}
		h.car = home.NewCar(spec, occupancy, h.sky.Location, seed)
		sum = append(sum, h.car)
		if car.Phases == 1 {
			h.home.Single = h.car
		}
	}
	h.home.Load = sum
	return nil
}

// produce makes the house's panels and its battery.
func (h *House) produce(c config.Home, seed uint64) error {
	if c.Solar != nil && c.Solar.CSV != "" {
		profile, err := readProfile(c.Solar.CSV, c.Solar.KWP*1e6)
		if err != nil {
			return err
		}
		h.home.Solar = profile
	} else if c.Solar != nil {
		panels := home.Panels{KilowattPeak: c.Solar.KWP, Azimuth: c.Solar.Azimuth, Tilt: c.Solar.Tilt}
		h.home.Solar = home.NewRoof(panels, h.sky, seed)
	}
	if c.Battery == nil {
		return nil
	}
	h.home.Battery = &home.Battery{
		Capacity:   home.MilliWattHours(c.Battery.KWh * 1e6),
		Power:      home.MilliWatts(c.Battery.KW * 1e6),
		Efficiency: int64(c.Battery.Efficiency*1e6 + 0.5),
		Floor:      home.MilliWattHours(c.Battery.KWh * c.Battery.MinSoC * 1e4),
		Standing:   home.MilliWatts(c.Battery.StandingW * 1000),
	}
	h.home.Stored = h.home.Battery.InitialCharge(seed)
	for _, d := range c.Devices {
		if d.Role == config.RoleInverter {
			h.home.Hybrid = true
			h.home.Rated = max(h.home.Battery.Power, home.MilliWatts(c.Solar.KWP*1e6))
		}
	}
	return nil
}

func readProfile(file string, scale float64) (*home.Profile, error) {
	f, err := os.Open(file) //nolint:gosec // G304: the configuration named the file
	if err != nil {
		return nil, fmt.Errorf("opening a profile: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	p, err := home.ReadProfile(f, scale)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return p, nil
}

// Flows are the mean powers of a house over the last refresh period, in mW,
// and what its battery holds. Grid is positive when the house imports, Battery
// when it charges. A part that the house does not have is nil.
type Flows struct {
	Load, Grid     home.MilliWatts
	Solar, Battery *home.MilliWatts
	Stored         *home.MilliWattHours
	HeatPump, Car  *home.MilliWatts // parts of Load
}

// Flows are those at a refresh.
func (h *House) Flows(ctx context.Context, index int64) (Flows, error) {
	s, before, err := h.history.At(ctx, index)
	if err != nil {
		return Flows{}, err
	}
	power := func(e home.MilliWattHours) home.MilliWatts { return home.MeanPower(e, h.refresh) }
	f := Flows{
		Load: power(s.Load - before.Load),
		Grid: power(s.Import - before.Import - s.Export + before.Export),
	}
	if h.home.Solar != nil {
		solar := power(s.Solar - before.Solar)
		f.Solar = &solar
	}
	if h.home.Battery != nil {
		battery, stored := power(s.Charge-before.Charge-s.Discharge+before.Discharge), s.Stored
		f.Battery, f.Stored = &battery, &stored
	}
	end := index * h.refresh
	if h.heatPump != nil {
		f.HeatPump = h.mean(h.heatPump, end)
	}
	if h.car != nil {
		f.Car = h.mean(h.car, end)
	}
	return f, nil
}

// mean is a part's mean power over the refresh period that ends at an instant.
func (h *House) mean(part home.Source, end int64) *home.MilliWatts {
	p := h.history.Mean(part, end-h.refresh, end)
	return &p
}

// Celsius is the temperature outside at a refresh.
func (h *House) Celsius(index int64) float64 { return h.sky.Celsius(index * h.refresh) }
