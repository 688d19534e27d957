package meter

import (
	"fmt"
	"sync"
	"time"
)

// ClockTrust says what is known of the clock that gave a reading its time.
type ClockTrust uint8

// What is known of a clock.
const (
	// ClockUnknown: nobody says that it was ever set.
	ClockUnknown ClockTrust = iota
	// ClockSynchronised: it is kept right now.
	ClockSynchronised
	// ClockHoldover: it was set, and runs by itself since.
	ClockHoldover
)

// String returns unknown, synchronised or holdover.
func (c ClockTrust) String() string {
	switch c {
	case ClockUnknown:
		return "unknown"
	case ClockSynchronised:
		return "synchronised"
	case ClockHoldover:
		return "holdover"
	}
	return fmt.Sprintf("clock-%d", uint8(c))
}

// ClockState is what is known of a clock, and how far it may be off.
type ClockState struct {
	Trust ClockTrust
	// ErrorMs is nil where nobody can say.
	ErrorMs *int64
}

// MaxClockErrorMs is how far a clock may be off for its readings to prove a boundary: half a per cent of a quarter of
// an hour. What is put down to the wrong side of a boundary is not lost.
const MaxClockErrorMs = 5000

// Sure says whether readings that this clock stamps can prove a boundary.
func (s ClockState) Sure() bool {
	return s.Trust != ClockUnknown && s.ErrorMs != nil && *s.ErrorMs <= MaxClockErrorMs
}

// Trusted is the state of a clock that somebody vouched for.
func Trusted() ClockState { return ClockState{Trust: ClockSynchronised, ErrorMs: new(int64)} }

const (
	// driftPerS is what a gateway's quartz is taken to go wrong by: 100 millionths, twice what cheap ones do.
	driftPerS = 100 * time.Microsecond
	// kernelLimit is from where on the kernel itself calls its clock unsynchronised.
	kernelLimit = 16 * time.Second
)

// kernel is what an operating system says of its clock.
type kernel struct {
	synchronised bool
	maxError     time.Duration
}

// SystemClock knows the state of this machine's clock from its kernel, which is told by whatever keeps the time
// (systemd-timesyncd, chrony, ntpd, a GPS receiver). It asks no network. A gateway without a battery-backed clock boots
// with a time of yesterday: it is unknown until one of them has set it. What this process saw synchronised is in
// holdover for as long as a quartz stays within MaxClockErrorMs, some twelve hours. It may be used by several goroutines.
type SystemClock struct {
	query func() (kernel, error)
	now   func() time.Time // its monotonic part counts

	mu        sync.Mutex
	seen      time.Time // when it was synchronised last, zero for never
	lastError time.Duration
}

// NewSystemClock asks this machine's kernel.
func NewSystemClock() *SystemClock { return &SystemClock{query: queryKernel, now: time.Now} }

// State asks the kernel now.
func (c *SystemClock) State() ClockState {
	k, err := c.query()
	if err != nil {
		return ClockState{} // a kernel that says nothing of its clock vouches for nothing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if k.synchronised {
		c.seen, c.lastError = now, k.maxError
		return ClockState{Trust: ClockSynchronised, ErrorMs: ms(k.maxError)}
	}
	var known []time.Duration
	if k.maxError < kernelLimit { // whoever set it tells its error, but not that it keeps it (chrony without rtcsync)
		known = append(known, k.maxError)
	}
	if !c.seen.IsZero() {
		known = append(known, c.lastError+time.Duration(now.Sub(c.seen).Seconds()*float64(driftPerS)))
	}
	if len(known) == 0 {
		return ClockState{}
	}
	least := known[0]
	for _, k := range known {
		least = min(least, k)
	}
	return ClockState{Trust: ClockHoldover, ErrorMs: ms(least)}
}

func ms(d time.Duration) *int64 {
	v := (d + time.Millisecond - 1).Milliseconds()
	return &v
}
