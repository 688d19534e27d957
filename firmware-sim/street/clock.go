package street

import "time"

// Clock turns wall time into community time.
type Clock struct {
	Epoch, Start time.Time
	Rate         int64 // 1 to 100,000
}

// Community is the community time at a wall time; before Start it is before
// Epoch. It counts seconds and nanoseconds apart, since a time.Duration ends
// after 292 years, which pass in a day at the highest rate.
func (c Clock) Community(wall time.Time) time.Time {
	seconds := wall.Unix() - c.Start.Unix()
	nanos := int64(wall.Nanosecond() - c.Start.Nanosecond())
	return time.Unix(c.Epoch.Unix()+seconds*c.Rate, int64(c.Epoch.Nanosecond())+nanos*c.Rate).UTC()
}

// Wall is the earliest wall time, in whole nanoseconds, at which a community
// time is reached.
func (c Clock) Wall(community time.Time) time.Time {
	seconds := community.Unix() - c.Epoch.Unix()
	nanos := int64(community.Nanosecond() - c.Epoch.Nanosecond())
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+int64(time.Second)
	}
	whole := seconds / c.Rate
	if seconds%c.Rate < 0 {
		whole--
	}
	rest := (seconds-whole*c.Rate)*int64(time.Second) + nanos // below rate × 10^9, at most 10^14
	return time.Unix(c.Start.Unix()+whole, int64(c.Start.Nanosecond())+(rest+c.Rate-1)/c.Rate).UTC()
}
