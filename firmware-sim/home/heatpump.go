package home

import (
	"math"
	"math/rand/v2"
)

// HeatPumpSpec describes a house that is heated by a pump out of the air.
type HeatPumpSpec struct {
	KW     float64 // of heat, at -7 °C outside
	WPerK  float64 // heat that the house loses for each K between inside and outside
	Inside float64 // °C that the thermostat is set to
	// WaterKWh is the heat of a day's hot water.
	WaterKWh float64
}

// The model of the pump. Its efficiency is a share of Carnot's between the water
// it makes and the air it takes the heat from, as measured ones have it (I.
// Staffell et al., "A review of domestic heat pumps", Energy & Environmental
// Science 5 (2012) 9291: a coefficient of performance of 2 to 4.5).
const (
	heatCarnot      = 0.42
	heatRated       = -7.0 // °C outside at which the spec's power holds
	heatPerKelvin   = 0.02 // capacity that each K above it adds
	heatLowest      = 0.35 // of the capacity: below that the pump goes on and off
	heatBand        = 0.4  // K around the thermostat's value
	heatHours       = 55.0 // thermal mass: hours in which the house loses 63 % of its warmth
	heatGainsW      = 350.0
	heatLimit       = 16.0 // °C outside above which the heating is off
	heatSetback     = 1.0  // K less at night, and when nobody is there
	heatStandbyW    = 18.0
	heatRodW        = 3000.0 // electric, if the pump is too weak
	heatRodKelvin   = 1.5    // below the thermostat's value at which it helps
	defrostAfter    = 75     // minutes of running in cold and wet air
	defrostMinutes  = 6
	defrostW        = 1400.0 // electric; and the house gives the heat
	defrostBelow    = 5.0    // °C outside; above, the heat exchanger does not freeze
	defrostAbove    = -12.0  // below, the air is too dry to ice it up
	recoverMinutes  = 9      // at full power afterwards
	waterCelsius    = 52.0
	heatWarmUpHours = 24 // a day is computed from one day earlier
)

// HeatPump is the model of a heat pump's electric power. It caches two days and
// belongs to one goroutine.
//
// A house remembers its warmth, so a day cannot be computed alone: it is computed
// from the day before, which begins at the thermostat's value. That is a function
// of the day again, and after a day the difference is within the thermostat's
// band.
type HeatPump struct {
	spec      HeatPumpSpec
	sky       Sky
	occupancy *Occupancy
	seed      uint64
	local     int64
	days      [2]householdDay
	inside    [2]float64 // °C at the end of those days
}

// NewHeatPump makes the heat pump of a home.
func NewHeatPump(spec HeatPumpSpec, sky Sky, o *Occupancy, homeSeed uint64) *HeatPump {
	return &HeatPump{spec: spec, sky: sky, occupancy: o, seed: homeSeed, local: localTime(sky.Location.Longitude)}
}

// Power is the electric power at an instant; it holds for its minute.
func (h *HeatPump) Power(at int64) (MilliWatts, int64) {
	local := at + h.local
	day := floorDiv(local, dayMS)
	minute := (local - day*dayMS) / minuteMS
	d := &h.days[day&1]
	if !d.filled || d.day != day {
		h.fill(d, day)
	}
	return d.minute[minute], day*dayMS + (minute+1)*minuteMS - h.local
}

// heatState is the house and its pump from minute to minute.
type heatState struct {
	inside  float64 // °C
	on      bool
	running int     // minutes since the last defrosting
	defrost int     // minutes left
	recover int     // minutes left
	water   float64 // Wh of heat that the tank still wants
}

// fill computes a day, beginning one day earlier.
func (h *HeatPump) fill(d *householdDay, day int64) {
	s := heatState{inside: h.spec.Inside, running: int(random(h.seed, streamHeat, day) % defrostAfter)}
	for _, now := range [2]int64{day - 1, day} {
		rng := rand.New(rand.NewPCG(random(h.seed, streamHeat+1<<8, now), uint64(now))) //nolint:gosec // G404, G115: a model, not a secret
		water := [2]int{int(60 * (4 + 1.5*rng.Float64())), int(60 * (13 + 3*rng.Float64()))}
		from, to := h.occupancy.Away(now)
		need := h.spec.WaterKWh * 1000 / 2 * (0.7 + 0.6*rng.Float64())
		if to-from == dayMinutes {
			need = 0
		}
		outside := 0.0
		for m := range dayMinutes {
			if m%10 == 0 {
				outside = h.sky.Celsius(now*dayMS + int64(m)*minuteMS - h.local)
			}
			if m == water[0] || m == water[1] {
				s.water += need
			}
			set := h.spec.Inside
			if m < 5*60 || m >= 22*60+30 || m >= from && m < to {
				set -= heatSetback
			}
			watts := h.minute(&s, outside, set)
			if now == day {
				d.minute[m] = milliWatts(watts)
			}
		}
	}
	d.day, d.filled = day, true
	h.inside[day&1] = s.inside
}

// minute moves the house by a minute and says what the pump took of electricity.
func (h *HeatPump) minute(s *heatState, outside, set float64) float64 {
	electric, heat := heatStandbyW, 0.0
	capacity := h.spec.KW * 1000 * math.Min(1.3, math.Max(0.6, 1+heatPerKelvin*(outside-heatRated)))
	switch {
	case outside >= heatLimit || s.inside > set+heatBand:
		s.on = false
	case s.inside < set-heatBand:
		s.on = true
	}
	switch {
	case s.defrost > 0:
		s.defrost--
		electric, heat = electric+defrostW, -defrostW
		if s.defrost == 0 {
			s.recover = recoverMinutes
		}
	case s.water > 0:
		given := math.Min(s.water, capacity/60)
		s.water -= given
		electric += given * 60 / performance(waterCelsius, outside)
	case s.on:
		want := h.spec.WPerK*(set-outside) - heatGainsW + 900*(set-s.inside)
		if s.recover > 0 {
			s.recover--
			want = capacity
		}
		heat = math.Min(capacity, math.Max(heatLowest*capacity, want))
		electric += heat / performance(flowCelsius(outside), outside)
		s.running++
		if s.running >= defrostAfter && outside < defrostBelow && outside > defrostAbove {
			s.running, s.defrost = 0, defrostMinutes
		}
		if s.inside < set-heatRodKelvin {
			electric, heat = electric+heatRodW, heat+heatRodW
		}
	}
	capacityWh := h.spec.WPerK * heatHours // of the house, Wh per K
	s.inside += (heat + heatGainsW - h.spec.WPerK*(s.inside-outside)) / 60 / capacityWh
	return electric
}

// flowCelsius is the heating curve: how warm the water must be.
func flowCelsius(outside float64) float64 {
	return math.Min(48, math.Max(26, 30+0.55*(15-outside)))
}

// performance is heat for electricity.
func performance(water, outside float64) float64 {
	lift := math.Max(15, water-outside+8) // the exchangers need some K of their own
	return math.Min(6, heatCarnot*(water+4+273.15)/lift)
}
