package meter

import (
	"fmt"
	"time"
)

const (
	// unset is how far off a device's clock is not wrong, but not set: 1970, fifty years ago, an impossible date.
	unset = 24 * time.Hour
	// constantFor is how long a device's clock must be off by the same before it is its clock that is wrong, and not
	// its message that is late.
	constantFor = 2 * time.Minute
)

// DeviceClock compares a device's own time with ours. It is a pure value for one goroutine.
//
// A time within the limit is kept beside ours. Any other is flagged and not used. What a device signed bears its time
// in the signed bytes, so then its reading is ClockUnsure. Otherwise the reading bears our time, and the question is
// how old it is: a device whose clock is off by more than a day, or always by the same, has a wrong clock, and its
// reading is as fresh as any; an offset that is new or changes may be that of a message that was kept somewhere, and
// the reading is ClockUnsure.
type DeviceClock struct {
	offset time.Duration // device minus ours, when it went off
	since  time.Time     // ours, when it was off by that first; zero while it is not
}

// Judge flags the sample. It returns what is wrong with the device's clock, for people; empty if nothing is.
func (d *DeviceClock) Judge(s *Sample, within time.Duration) string {
	if s.DeviceAt == nil {
		d.since = time.Time{}
		return ""
	}
	device := *s.DeviceAt
	offset := device.Sub(s.At) // saturates
	if offset.Abs() <= within {
		d.since = time.Time{}
		return ""
	}
	s.DeviceAt = nil
	why := fmt.Sprintf("the device's clock says %s, this gateway's %s", device.UTC().Format(time.DateTime), s.At.UTC().Format(time.DateTime))
	if s.Signed != nil {
		s.Quality |= ClockUnsure
		return why + "; it signed a time that cannot be right"
	}
	if offset.Abs() > unset {
		d.since = time.Time{}
		return why + "; it is not used"
	}
	if d.since.IsZero() || (offset-d.offset).Abs() > within/4 || s.At.Before(d.since) {
		d.offset, d.since = offset, s.At
	}
	if s.At.Sub(d.since) < constantFor {
		s.Quality |= ClockUnsure
		return why + "; its message may be late"
	}
	return why + "; it is not used"
}
