package home

import (
	"math"
	"slices"
	"time"
)

// Occupancy is when a home is empty: by the habits of the people in it, the day
// of the week, their holidays, and chance. It is a function of seed and day.
type Occupancy struct {
	habits habits
	seed   uint64
}

// habits of a kind of household. Times are hours of the local day.
type habits struct {
	workdays      float64 // share of Monday to Friday on which nobody stays
	leave, back   float64 // on such a day
	spread        float64 // hours by which both vary, each way
	outings       float64 // share of the other days with an outing
	from, hours   float64 // of an outing: earliest begin, longest time
	winterHoliday float64 // probability of a week away in winter
}

var occupancies = map[string]habits{
	"workers":     {workdays: 0.94, leave: 7.7, back: 17.6, spread: 0.7, outings: 0.5, from: 11, hours: 5, winterHoliday: 0.6},
	"family":      {workdays: 0.9, leave: 8.2, back: 15.1, spread: 0.4, outings: 0.55, from: 10, hours: 5, winterHoliday: 0.4},
	"home-office": {workdays: 0.4, leave: 7.9, back: 18, spread: 0.8, outings: 0.5, from: 11, hours: 4, winterHoliday: 0.4},
	"retired":     {outings: 0.7, from: 9.5, hours: 3, winterHoliday: 0.3},
}

// Occupancies are the names that NewOccupancy knows, sorted.
func Occupancies() []string {
	names := make([]string, 0, len(occupancies))
	for name := range occupancies {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewOccupancy makes the occupancy of a home. A name that is not known is that
// of a home which is never empty.
func NewOccupancy(name string, homeSeed uint64) *Occupancy {
	return &Occupancy{habits: occupancies[name], seed: homeSeed}
}

// Away is the part of a local day, in minutes, during which the home is empty;
// from == to: it is not. A holiday is a whole day.
func (o *Occupancy) Away(day int64) (from, to int) {
	if o == nil {
		return 0, 0
	}
	if o.holiday(day) {
		return 0, dayMinutes
	}
	chance := func(n uint64) float64 { return unit(random(o.seed, streamAway+n<<8, day)) }
	h := &o.habits
	if !weekend(day) && chance(0) < h.workdays {
		return int(60 * (h.leave + h.spread*(2*chance(1)-1))), int(60 * (h.back + h.spread*(2*chance(2)-1)))
	}
	if chance(3) < h.outings {
		from = int(60 * (h.from + 2*chance(4)))
		return from, from + int(60*h.hours*(0.3+0.7*chance(5)))
	}
	return 0, 0
}

// holiday says whether everybody is gone for the whole day: two weeks in summer,
// and perhaps one in winter.
func (o *Occupancy) holiday(day int64) bool {
	if o.habits == (habits{}) {
		return false
	}
	date := time.UnixMilli(day * dayMS).UTC()
	year, yearDay := int64(date.Year()), date.YearDay()
	summer := 185 + int(unit(random(o.seed, streamHoliday, year))*50)
	winter := 5 + int(unit(random(o.seed, streamHoliday+1<<8, year))*50)
	away := unit(random(o.seed, streamHoliday+2<<8, year)) < o.habits.winterHoliday
	return yearDay >= summer && yearDay < summer+14 || away && yearDay >= winter && yearDay < winter+7
}

func weekend(day int64) bool {
	weekday := (day%7 + 7) % 7 // 1970-01-01 was a Thursday
	return weekday == 2 || weekday == 3
}

// Sum is a load of several parts.
type Sum []Source

// Power adds the parts'; it holds as long as the shortest of them.
func (s Sum) Power(at int64) (MilliWatts, int64) {
	var sum MilliWatts
	until := int64(math.MaxInt64)
	for _, part := range s {
		power, end := part.Power(at)
		sum += power
		until = min(until, end)
	}
	return min(sum, maxPower), until
}
