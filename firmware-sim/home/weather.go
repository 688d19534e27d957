package home

import (
	"math"
	"time"
)

// Climate is what the year does to the temperature at a place, in °C: the mean
// of all hours, and half the distance between the means of January and July.
type Climate struct{ Mean, Swing float64 }

// Temperate is the climate of De Bilt in the Netherlands: 10.5 °C in the mean,
// 3.6 °C in January and 18.3 °C in July (KNMI, climate normals 1991-2020).
var Temperate = Climate{Mean: 10.5, Swing: 7.3}

const (
	coldestDay     = 22           // of the year, north of the equator
	airMassMS      = 110 * hourMS // how long one kind of air stays
	airMassKelvin  = 7.5          // how far it may be from the season's mean
	frontKelvin    = 2.5          // what passes through within a day and a half
	dayKelvin      = 3.2          // half the distance of night and afternoon
	warmestHour    = 15
	temperaturePMS = 10 * minuteMS // the temperature stays for this long
)

// Celsius is the temperature outside at an instant. All homes of a street share
// it.
func (s Sky) Celsius(at int64) float64 {
	at = floorDiv(at, temperaturePMS)*temperaturePMS + temperaturePMS/2
	season := seasonAt(at, s.Location.Latitude)
	hour := float64(at-floorDiv(at, dayMS)*dayMS)/hourMS + s.Location.Longitude/15
	// A winter's sun warms the afternoon less.
	swing := dayKelvin * (1 - 0.5*season)
	return s.Climate.Mean - s.Climate.Swing*season +
		airMassKelvin*noise(s.Seed, streamAir, at, airMassMS) +
		frontKelvin*noise(s.Seed, streamAir+1, at, systemMS) +
		swing*math.Cos(2*math.Pi*(hour-warmestHour)/24)
}

// seasonAt is 1 in the depth of winter and -1 at the height of summer.
func seasonAt(at int64, latitude float64) float64 {
	season := math.Cos(2 * math.Pi * float64(time.UnixMilli(at).UTC().YearDay()-coldestDay) / 365.25)
	if latitude < 0 {
		return -season
	}
	return season
}
