package home

import "math"

// Sky is one street's weather: the place, and one field of clouds that drifts
// over all its homes. It is a value; every home reads the same field.
type Sky struct {
	Location Location
	Seed     uint64
	// Cloudiness is the climate: 0 is a sky that is always clear, 1 one that is
	// always covered, 0.7 a changing one under which a southern roof at 52° north
	// yields about 1000 kWh a year and kWp.
	Cloudiness float64
	Climate    Climate
}

// Lifetimes of what the cloud field is made of: weather systems, a half day's
// change, fields of clouds, single clouds. The last two are seen only under a
// broken sky.
const (
	systemMS     = 40 * hourMS
	halfDayMS    = 9 * hourMS
	cloudFieldMS = 50 * minuteMS
	cloudMS      = 12 * minuteMS
)

// clouds is the cover at an instant, between 0 and 1, as it drifts over a home
// that the field reaches delay milliseconds late. Noise of the home's own (home
// seed) is small: neighbours differ, but they share their weather.
func (s Sky) clouds(at, delay int64, homeSeed uint64) float64 {
	swing := 4 * s.Cloudiness * (1 - s.Cloudiness)
	if swing == 0 {
		return s.Cloudiness
	}
	t := at - delay
	cover := s.Cloudiness + swing*(0.75*noise(s.Seed, streamClouds, t, systemMS)+
		0.35*noise(s.Seed, streamClouds+16, t, halfDayMS)+
		0.25*noise(s.Seed, streamClouds+32, t, cloudFieldMS)+
		0.20*noise(s.Seed, streamClouds+48, t, cloudMS)+
		0.04*noise(homeSeed, streamHomeClouds, at, cloudMS))
	// Real skies are clear or covered more often than half covered.
	return math.Min(1, math.Max(0, 0.5+contrast*(cover-0.5)))
}

const contrast = 2.2

// Panels describes a solar installation. Azimuth in degrees clockwise from
// north (180 is south), tilt in degrees from the horizontal.
type Panels struct {
	KilowattPeak, Azimuth, Tilt float64
}

const (
	// skyPieceMS is how long the modelled production stays as it is.
	skyPieceMS = 3 * minuteMS
	// groundAlbedo is the share of the light that grass and stones throw back.
	groundAlbedo = 0.2
	// performanceRatio is what is left of the panels' rating after heat, dirt,
	// wiring and the inverter; Reich et al., "Performance ratio revisited", 2012,
	// measured 0.70 to 0.90 in Germany.
	performanceRatio = 0.86
	// maxDrift is how long the cloud field takes across the street.
	maxDrift = 2 * minuteMS
)

// Roof is the model of a solar installation under the street's sky. It caches
// a day and belongs to one goroutine.
type Roof struct {
	panels   Panels
	sky      Sky
	homeSeed uint64
	delay    int64
	normal   sunVector
	skyView  float64 // (1 + cos tilt) / 2
	day      sunDay
	piece    int64 // the cached piece of time
	power    MilliWatts
}

// NewRoof makes the source of what panels produce.
func NewRoof(p Panels, sky Sky, homeSeed uint64) *Roof {
	sinTilt, cosTilt := math.Sincos(p.Tilt * math.Pi / 180)
	sinAz, cosAz := math.Sincos(p.Azimuth * math.Pi / 180)
	r := &Roof{
		panels:   p,
		sky:      sky,
		homeSeed: homeSeed,
		delay:    int64(random(homeSeed, streamHomeClouds, -1) % maxDrift),
		normal:   sunVector{x: sinTilt * sinAz, y: sinTilt * cosAz, z: cosTilt},
		skyView:  (1 + cosTilt) / 2,
		day:      newSunDay(0),
		piece:    math.MinInt64,
	}
	return r
}

// Power is the production at an instant.
func (r *Roof) Power(at int64) (MilliWatts, int64) {
	piece := floorDiv(at, skyPieceMS)
	if piece != r.piece {
		r.piece, r.power = piece, r.produce(piece*skyPieceMS+skyPieceMS/2)
	}
	return r.power, (piece + 1) * skyPieceMS
}

// produce adds beam, sky and ground light on the panels' plane (isotropic sky:
// B. Y. H. Liu, R. C. Jordan, "The long-term average performance of flat-plate
// solar-energy collectors", Solar Energy 7, 1963). The inverter's limit is the
// panels' rating.
func (r *Roof) produce(at int64) MilliWatts {
	if day := floorDiv(at, dayMS); day != r.day.day {
		r.day = newSunDay(day)
	}
	sun := r.day.position(r.sky.Location, at)
	if sun.z <= 0 {
		return 0
	}
	light := r.day.irradianceUnder(r.sky.clouds(at, r.delay, r.homeSeed), sun.z)
	incidence := math.Max(0, sun.x*r.normal.x+sun.y*r.normal.y+sun.z*r.normal.z)
	plane := light.beam*incidence + light.diffuse*r.skyView + light.global*groundAlbedo*(1-r.skyView)
	rating := r.panels.KilowattPeak * 1000
	return milliWatts(math.Min(rating, rating*performanceRatio*plane/1000))
}
