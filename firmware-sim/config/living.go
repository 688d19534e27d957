package config

import (
	"math"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// What a wall box gives at most.
const (
	onePhaseKW   = 7.4 // 32 A
	threePhaseKW = 22
)

// HeatPump heats a home out of the air.
type HeatPump struct {
	KW       float64 `yaml:"kw"`        // of heat, at -7 °C outside
	LossWK   float64 `yaml:"loss_w_k"`  // W that the house loses for each K
	Celsius  float64 `yaml:"celsius"`   // inside
	WaterKWh float64 `yaml:"water_kwh"` // heat of a day's hot water
}

// Car is an electric car that is charged at home. KW is the wall box's power.
type Car struct {
	KW          float64 `yaml:"kw"`
	Phases      uint8   `yaml:"phases"` // 1 or 3
	KMPerYear   float64 `yaml:"km_per_year"`
	KWhPer100KM float64 `yaml:"kwh_per_100km"`
	BatteryKWh  float64 `yaml:"battery_kwh"`
}

// fillHeatPump takes a house that the pump heats with a third to spare at -7 °C.
func fillHeatPump(p *HeatPump) {
	if p.LossWK == 0 {
		p.LossWK = math.Round(p.KW * 1000 / 27 * 0.7)
	}
	if p.Celsius == 0 {
		p.Celsius = 20.5
	}
	if p.WaterKWh == 0 {
		p.WaterKWh = 6
	}
}

func fillCar(c *Car) {
	if c.Phases == 0 {
		c.Phases = 3
		if c.KW <= onePhaseKW {
			c.Phases = 1
		}
	}
	if c.KMPerYear == 0 {
		c.KMPerYear = 12_000
	}
	if c.KWhPer100KM == 0 {
		c.KWhPer100KM = 18
	}
	if c.BatteryKWh == 0 {
		c.BatteryKWh = 60
	}
}

// living checks what people have besides: their habits, their heating, their car.
func (c *checker) living(key string, h *Home) {
	switch names := home.Occupancies(); {
	case h.Occupancy == "":
	case !slices.Contains(names, h.Occupancy):
		c.report(key+".occupancy", "got %.60q, want one of %s", h.Occupancy, strings.Join(names, ", "))
	case h.Load.CSV != "":
		c.report(key+".occupancy", "belongs to a model, not to a csv")
	}
	if p := h.HeatPump; p != nil {
		c.between(key+".heat_pump.kw", p.KW, 1, 100)
		c.between(key+".heat_pump.loss_w_k", p.LossWK, 10, 5000)
		c.between(key+".heat_pump.celsius", p.Celsius, 10, 30)
		c.between(key+".heat_pump.water_kwh", p.WaterKWh, 0, 100)
	}
	if car := h.Car; car != nil {
		most := float64(threePhaseKW)
		switch car.Phases {
		case 1:
			most = onePhaseKW
		case 3:
		default:
			c.report(key+".car.phases", "got %d, want 1 or 3", car.Phases)
		}
		c.between(key+".car.kw", car.KW, 1, most)
		c.between(key+".car.km_per_year", car.KMPerYear, 1, 200_000)
		c.between(key+".car.kwh_per_100km", car.KWhPer100KM, 5, 100)
		c.between(key+".car.battery_kwh", car.BatteryKWh, 1, 500)
	}
}
