package home

import "math"

// CarSpec describes an electric car and its wall box.
type CarSpec struct {
	KW          float64 // of the wall box; the whole of it is used
	KMPerYear   float64
	KWhPer100KM float64 // out of the car's battery, in the mean of a year
	BatteryKWh  float64 // an evening's charging is no more than that
}

const (
	carLosses      = 1.12 // what the wall gives for what arrives in the battery
	carWinter      = 0.22 // how much more a kilometre takes in the depth of winter
	carPlugged     = 0.55 // share of evenings on which it is plugged in
	carLookback    = 6    // and on every sixth it is in any case
	carLongTrips   = 0.03 // share of days with a trip of carLongFactor days' kilometres
	carLongFactor  = 6
	carDrivesAtAll = 0.8
)

// Car is the model of a car that charges at home, without any control: it takes
// full power from its arrival until what was driven is back, or until it leaves.
// It is a function of seed and day.
type Car struct {
	spec      CarSpec
	occupancy *Occupancy
	seed      uint64
	latitude  float64
	local     int64
	power     MilliWatts
	sessions  [2]carSession
}

// carSession is the charging that begins on a local day.
type carSession struct {
	day    int64
	filled bool
	begin  int64 // of local time
	whole  int64 // milliseconds at full power, whole minutes
	last   MilliWatts
}

// NewCar makes the car of a home. The occupancy says when it comes home.
func NewCar(spec CarSpec, o *Occupancy, at Location, homeSeed uint64) *Car {
	return &Car{
		spec: spec, occupancy: o, seed: homeSeed, latitude: at.Latitude,
		local: localTime(at.Longitude), power: milliWatts(spec.KW * 1000),
	}
}

// localTime is how many milliseconds local time is ahead of UTC, to the full hour.
func localTime(longitude float64) int64 { return int64(math.Round(longitude/15)) * hourMS }

// Power is what the wall box takes; it holds for a minute at most.
func (c *Car) Power(at int64) (MilliWatts, int64) {
	local := at + c.local
	day := floorDiv(local, dayMS)
	until := (floorDiv(local, minuteMS) + 1) * minuteMS
	for _, d := range [2]int64{day - 1, day} {
		s := c.session(d)
		switch since := local - s.begin; {
		case since < 0:
		case since < s.whole:
			return c.power, until - c.local
		case since < s.whole+minuteMS:
			return s.last, until - c.local
		}
	}
	return 0, until - c.local
}

func (c *Car) session(day int64) *carSession {
	s := &c.sessions[day&1]
	if !s.filled || s.day != day {
		*s = c.charge(day)
	}
	return s
}

func (c *Car) chance(n uint64, day int64) float64 { return unit(random(c.seed, streamCar+n<<8, day)) }

// driven is the energy, at the wall, of a day's kilometres in kWh.
func (c *Car) driven(day int64) float64 {
	if c.occupancy != nil && c.occupancy.holiday(day) {
		return 0 // it stands at home, or charges elsewhere
	}
	if c.chance(0, day) >= carDrivesAtAll {
		return 0
	}
	mean := c.spec.KMPerYear / 365.25 / carDrivesAtAll / (1 + carLongTrips*(carLongFactor-1))
	km := mean * (0.3 + 1.4*c.chance(1, day))
	if c.chance(2, day) < carLongTrips {
		km *= carLongFactor
	}
	return km * c.spec.KWhPer100KM / 100 * carLosses * (1 + carWinter*seasonAt(day*dayMS, c.latitude))
}

// plugged says whether the car is plugged in on a day's evening: by chance, and
// on every sixth day in any case.
func (c *Car) plugged(day int64) bool {
	return day%carLookback == 0 || c.chance(3, day) < carPlugged
}

// charge is the session of a day: what was driven since the car was last plugged
// in, from the arrival on.
func (c *Car) charge(day int64) carSession {
	s := carSession{day: day, filled: true, begin: math.MaxInt64 / 2}
	if !c.plugged(day) {
		return s
	}
	kWh := c.driven(day)
	for back := int64(1); back < carLookback && !c.plugged(day-back); back++ {
		kWh += c.driven(day - back)
	}
	kWh = min(kWh, c.spec.BatteryKWh*carLosses)
	arrival := int64(60 * (16 + 5*c.chance(4, day)))
	if from, to := c.occupancy.Away(day); to > from && to < dayMinutes {
		arrival = int64(to)
	}
	energy := min(int64(milliWatts(kWh*1000))*hourMS, int64(c.power)*11*hourMS) // until the next morning
	if energy <= 0 || c.power <= 0 {
		return s
	}
	s.begin = day*dayMS + arrival*minuteMS
	s.whole = energy / int64(c.power) / minuteMS * minuteMS
	s.last = MilliWatts((energy - s.whole*int64(c.power)) / minuteMS)
	return s
}
