package home

import (
	"math"
	"time"
)

// Location is a place on earth in degrees, north and east positive.
type Location struct {
	Latitude, Longitude float64
}

// sunDay is what changes so slowly that one value serves a day.
type sunDay struct {
	day              int64   // days since 1970
	sinDec, cosDec   float64 // of the declination
	equationOfTime   float64 // minutes
	extraterrestrial float64 // W/m² on a plane that faces the sun
}

// solarConstant in W/m², ASTM E490.
const solarConstant = 1366.1

// newSunDay uses the Fourier series of J. W. Spencer, "Fourier series
// representation of the position of the sun", Search 2(5), 1971: declination
// within 3 minutes of arc, equation of time within 35 seconds, which is closer
// than any roof is built.
func newSunDay(day int64) sunDay {
	yearDay := time.UnixMilli(day * dayMS).UTC().YearDay()
	g := 2 * math.Pi * (float64(yearDay-1) + 0.5) / 365
	sin1, cos1 := math.Sincos(g)
	sin2, cos2 := math.Sincos(2 * g)
	sin3, cos3 := math.Sincos(3 * g)
	declination := 0.006918 - 0.399912*cos1 + 0.070257*sin1 - 0.006758*cos2 + 0.000907*sin2 -
		0.002697*cos3 + 0.00148*sin3
	d := sunDay{
		day:            day,
		equationOfTime: 229.18 * (0.000075 + 0.001868*cos1 - 0.032077*sin1 - 0.014615*cos2 - 0.040849*sin2),
		extraterrestrial: solarConstant * (1.00011 + 0.034221*cos1 + 0.00128*sin1 +
			0.000719*cos2 + 0.000077*sin2),
	}
	d.sinDec, d.cosDec = math.Sincos(declination)
	return d
}

// sunVector is the direction to the sun in the horizon's frame: x east, y
// north, z up. Its z is the cosine of the zenith angle.
type sunVector struct{ x, y, z float64 }

// position gives the direction to the sun at an instant of that day: spherical
// trigonometry of hour angle, declination and latitude.
func (d sunDay) position(l Location, at int64) sunVector {
	minutes := float64(at-d.day*dayMS)/minuteMS + d.equationOfTime + 4*l.Longitude
	sinHour, cosHour := math.Sincos((minutes/4 - 180) * math.Pi / 180)
	sinLat, cosLat := math.Sincos(l.Latitude * math.Pi / 180)
	return sunVector{
		x: -d.cosDec * sinHour,
		y: d.sinDec*cosLat - d.cosDec*sinLat*cosHour,
		z: d.sinDec*sinLat + d.cosDec*cosLat*cosHour,
	}
}

// irradiance on the ground in W/m².
type irradiance struct {
	global  float64 // on a horizontal plane, all of it
	diffuse float64 // the part of global that comes from the sky's whole dome
	beam    float64 // on a plane that faces the sun
}

// lowestCosZenith keeps beam = (global − diffuse)/cos z from exploding in the
// last minutes of a day, where the division is of two errors: 85 degrees.
const lowestCosZenith = 0.0872

// irradianceUnder is the light under a cloud cover between 0 and 1.
//
//   - clear sky: B. Haurwitz, "Insolation in relation to cloudiness and cloud
//     density", Journal of Meteorology 2 (1945) 154 and 3 (1946) 123;
//   - clouds: F. Kasten, G. Czeplak, "Solar and terrestrial radiation dependent
//     on the amount and type of cloud", Solar Energy 24 (1980) 177;
//   - diffuse part: D. G. Erbs, S. A. Klein, J. A. Duffie, "Estimation of the
//     diffuse radiation fraction", Solar Energy 28 (1982) 293.
func (d sunDay) irradianceUnder(clouds, cosZenith float64) irradiance {
	if cosZenith <= 0 {
		return irradiance{}
	}
	clear := 1098 * cosZenith * math.Exp(-0.059/cosZenith)
	global := clear * (1 - 0.75*math.Pow(clouds, 3.4))
	kt := global / (d.extraterrestrial * math.Max(cosZenith, lowestCosZenith))
	diffuse := global * diffuseFraction(math.Min(kt, 1))
	return irradiance{
		global:  global,
		diffuse: diffuse,
		beam:    (global - diffuse) / math.Max(cosZenith, lowestCosZenith),
	}
}

func diffuseFraction(kt float64) float64 {
	switch {
	case kt <= 0.22:
		return 1 - 0.09*kt
	case kt <= 0.80:
		return 0.9511 + kt*(-0.1604+kt*(4.388+kt*(-16.638+kt*12.336)))
	default:
		return 0.165
	}
}
