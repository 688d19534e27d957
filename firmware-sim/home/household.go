package home

import (
	"math"
	"math/rand/v2"
)

// The household model: what a year's bill says is spread over the year in four
// parts, each with the mean share below, so that a long run meets the yearly
// energy and a single day does not.
//
//   - standby: what never sleeps;
//   - cooling: a refrigerator's compressor, on and off;
//   - presence: light, screens, cooking in the large; a daily shape with a
//     morning and an evening peak, higher in winter and at weekends;
//   - appliances: single runs of machines, drawn anew each day.
//
// The shape follows the familiar outline of standard load profiles (H0 of the
// German VDEW, 1999: night valley, morning shoulder, evening peak) and the
// bottom-up idea of I. Richardson et al., "Domestic electricity use: a
// high-resolution energy demand model", Energy and Buildings 42 (2010) 1878.
// The numbers are rounded plausible ones of our own.
const (
	shareStandby   = 0.24
	shareCooling   = 0.10
	sharePresence  = 0.34
	shareAppliance = 0.32
)

const (
	coolingPeriodMS = 47 * minuteMS // not a divisor of a day: it wanders
	coolingDuty     = 0.4
	winterSwing     = 0.18 // presence is this much higher in mid January
	dayMinutes      = 24 * 60
	weekMeanFactor  = (5*1.0 + 2*weekendFactor) / 7
	weekendFactor   = 1.12
)

// presenceByHour is the mean course of a day by local time, of any scale.
var presenceByHour = [25]float64{
	4, 3, 2.5, 2.5, 2.5, 3, 7, 11, 10, 8, 7.5, 8.5, 11,
	9, 8, 8, 9, 14, 19, 21, 20, 18, 13, 7.5, 4,
}

// An appliance runs perDay times a day in an ordinary household, for minutes at
// watts, and then tailMinutes at tailWatts. Other homes run all their machines
// more or less often, by the same factor.
type appliance struct {
	perDay      float64
	minutes     int
	watts       int
	tailMinutes int
	tailWatts   int
	hours       [24]uint8 // weight of each local hour for its start
}

var appliances = []appliance{
	// kettle, coffee
	{perDay: 4.5, minutes: 4, watts: 2000, hours: [24]uint8{6: 4, 7: 9, 8: 7, 9: 4, 10: 3, 11: 2, 12: 3, 13: 3, 14: 2, 15: 4, 16: 4, 17: 2, 18: 2, 19: 3, 20: 3, 21: 2}},
	// hob and oven
	{perDay: 1.3, minutes: 32, watts: 1800, hours: [24]uint8{7: 1, 11: 2, 12: 4, 13: 1, 16: 1, 17: 6, 18: 9, 19: 5, 20: 2}},
	// washing machine: heating, then drum
	{perDay: 0.5, minutes: 24, watts: 2000, tailMinutes: 70, tailWatts: 180, hours: [24]uint8{8: 4, 9: 6, 10: 6, 11: 4, 12: 3, 13: 3, 14: 3, 15: 2, 16: 2, 17: 2, 18: 2, 19: 2}},
	// dishwasher
	{perDay: 0.6, minutes: 26, watts: 1900, tailMinutes: 60, tailWatts: 90, hours: [24]uint8{8: 2, 9: 2, 13: 4, 14: 2, 19: 4, 20: 8, 21: 7}},
	// tumble dryer
	{perDay: 0.25, minutes: 65, watts: 2100, hours: [24]uint8{10: 3, 11: 4, 12: 4, 13: 4, 14: 3, 15: 3, 16: 2, 17: 2, 18: 2}},
	// vacuum cleaner, hair dryer, iron
	{perDay: 0.8, minutes: 14, watts: 1300, hours: [24]uint8{7: 5, 8: 3, 9: 2, 10: 3, 11: 2, 16: 2, 17: 2, 18: 2, 19: 2}},
}

func (a appliance) runWattHours() float64 {
	return float64(a.minutes*a.watts+a.tailMinutes*a.tailWatts) / 60
}

// Household is the model of a home's load. It caches two days and belongs to
// one goroutine.
type Household struct {
	seed       uint64
	mean       float64 // W over a year
	runsFactor float64 // how often the appliances run, against the reference
	presence   float64 // mean of this home's presenceByHour
	shift      float64 // hours this home gets up later (or earlier)
	cooling    int64   // phase of the compressor
	local      int64   // milliseconds that local time is ahead of UTC
	occupancy  *Occupancy
	days       [2]householdDay
}

type householdDay struct {
	day    int64
	filled bool
	minute [dayMinutes]MilliWatts
}

// NewHousehold makes a load that uses yearlyKWh in a mean year. Local time is
// taken from the longitude to the full hour: a simulation needs the sun and the
// breakfast to agree, not the summer-time rules.
func NewHousehold(yearlyKWh float64, longitude float64, homeSeed uint64) *Household {
	h := &Household{
		seed:    homeSeed,
		mean:    yearlyKWh * 1000 / (365.25 * 24),
		shift:   2*unit(random(homeSeed, streamHousehold, 0)) - 1,
		cooling: int64(random(homeSeed, streamHousehold, 1) % coolingPeriodMS),
		local:   localTime(longitude),
	}
	var daily float64
	for _, a := range appliances {
		daily += a.perDay * a.runWattHours()
	}
	h.runsFactor = shareAppliance * h.mean * 24 / daily
	for m := range dayMinutes {
		h.presence += h.shape(m) / dayMinutes
	}
	return h
}

// awayShare is what is left of presence while nobody is there.
const awayShare = 0.25

// Occupied makes the load that of people who are sometimes out: less presence
// then, machines that wait until somebody is back, and more of both at the other
// times, so that a year's energy stays what it is. It is called before the first
// question.
func (h *Household) Occupied(o *Occupancy) *Household {
	var all, kept, holidays float64
	for day := range int64(365) {
		from, to := o.Away(day)
		for m := range dayMinutes {
			shape := h.shape(m)
			all += shape
			if m >= from && m < to {
				shape *= awayShare
			}
			kept += shape
		}
		if to-from == dayMinutes {
			holidays++
		}
	}
	h.occupancy = o
	h.presence *= kept / all
	h.runsFactor /= 1 - holidays/365
	return h
}

// Power is the load at an instant; it holds for its minute.
func (h *Household) Power(at int64) (MilliWatts, int64) {
	local := at + h.local
	day := floorDiv(local, dayMS)
	minute := (local - day*dayMS) / minuteMS
	d := &h.days[day&1]
	if !d.filled || d.day != day {
		h.fill(d, day)
	}
	return d.minute[minute], day*dayMS + (minute+1)*minuteMS - h.local
}

// shape is the presence curve of this home at a minute of the local day.
func (h *Household) shape(minute int) float64 {
	hour := float64(minute)/60 - h.shift
	if hour < 0 {
		hour += 24
	}
	if hour >= 24 {
		hour -= 24
	}
	i := int(hour)
	return presenceByHour[i] + (presenceByHour[i+1]-presenceByHour[i])*(hour-float64(i))
}

// fill computes a day minute by minute. It is a function of seed and day only.
func (h *Household) fill(d *householdDay, day int64) {
	rng := rand.New(rand.NewPCG(random(h.seed, streamDay, day), uint64(day))) //nolint:gosec // G404, G115: a model, not a secret
	var watts [dayMinutes]float64

	season := 1 + winterSwing*math.Cos(2*math.Pi*(float64(day%365)-15)/365)
	week := 1.0
	if weekday := (day%7 + 7) % 7; weekday == 2 || weekday == 3 { // 1970-01-01 was a Thursday
		week = weekendFactor
	}
	mood := 0.8 + 0.4*rng.Float64() // a day out, a day in
	presence := sharePresence * h.mean * season * mood * week / (weekMeanFactor * h.presence)
	standby, compressor := shareStandby*h.mean, shareCooling*h.mean/coolingDuty
	start := day*dayMS - h.local
	from, to := h.occupancy.Away(day)
	for m := range watts {
		watts[m] = standby + presence*h.shape(m)
		if m >= from && m < to {
			watts[m] = standby + awayShare*presence*h.shape(m)
		}
		phase := start + int64(m)*minuteMS + h.cooling
		if phase -= floorDiv(phase, coolingPeriodMS) * coolingPeriodMS; float64(phase) < coolingDuty*coolingPeriodMS {
			watts[m] += compressor
		}
	}
	if to-from < dayMinutes {
		for i := range appliances {
			h.run(&appliances[i], rng, &watts, from, to)
		}
	}
	d.day, d.filled = day, true
	for m, w := range watts {
		d.minute[m] = milliWatts(w)
	}
}

// run draws a day's runs of one appliance. A run that would pass midnight
// starts earlier, so that a day can be computed without its neighbours; one that
// would begin while nobody is there begins after their return.
func (h *Household) run(a *appliance, rng *rand.Rand, watts *[dayMinutes]float64, from, to int) {
	expected := a.perDay * h.runsFactor
	runs := int(expected)
	if rng.Float64() < expected-float64(runs) {
		runs++
	}
	var total int
	for _, w := range a.hours {
		total += int(w)
	}
	length := a.minutes + a.tailMinutes
	for range runs {
		pick, hour := rng.IntN(total), 0
		for pick >= int(a.hours[hour]) {
			pick -= int(a.hours[hour])
			hour++
		}
		start := hour*60 + rng.IntN(60)
		if start >= from && start < to {
			start = to + rng.IntN(300)
		}
		start = min(start, dayMinutes-length)
		for m := range length {
			if m < a.minutes {
				watts[start+m] += float64(a.watts)
			} else {
				watts[start+m] += float64(a.tailWatts)
			}
		}
	}
}
