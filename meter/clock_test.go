package meter

import (
	"errors"
	"testing"
	"time"
)

// A gateway without a battery-backed clock boots with a time of yesterday, is set after a while, loses the network and
// finds it again.
func TestSystemClock(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var k kernel
	var err error
	c := &SystemClock{query: func() (kernel, error) { return k, err }, now: func() time.Time { return now }}
	for _, step := range []struct {
		name     string
		after    time.Duration
		kernel   kernel
		err      error
		trust    ClockTrust
		errorMs  int64 // -1: unknown
		sure     bool
		expected string
	}{
		{"it boots", 0, kernel{maxError: kernelLimit}, nil, ClockUnknown, -1, false, "unknown"},
		{"nobody has set it yet", time.Minute, kernel{maxError: kernelLimit}, nil, ClockUnknown, -1, false, "unknown"},
		{"it is set, roughly", time.Minute, kernel{true, 9 * time.Second}, nil, ClockSynchronised, 9000, false, "synchronised"},
		{"it is set", time.Minute, kernel{true, 12_345 * time.Microsecond}, nil, ClockSynchronised, 13, true, "synchronised"},
		{"the network is gone", time.Hour, kernel{maxError: kernelLimit}, nil, ClockHoldover, 373, true, "holdover"},
		{"for half a day", 11 * time.Hour, kernel{maxError: kernelLimit}, nil, ClockHoldover, 4333, true, "holdover"},
		{"for too long", 3 * time.Hour, kernel{maxError: kernelLimit}, nil, ClockHoldover, 5413, false, "holdover"},
		{"one who sets it does not say that he keeps it", 0, kernel{maxError: 40 * time.Millisecond}, nil, ClockHoldover, 40, true, "holdover"},
		{"the kernel does not say", 0, kernel{}, errors.New("not permitted"), ClockUnknown, -1, false, "unknown"},
	} {
		now, k, err = now.Add(step.after), step.kernel, step.err
		got := c.State()
		ms := int64(-1)
		if got.ErrorMs != nil {
			ms = *got.ErrorMs
		}
		if got.Trust != step.trust || ms != step.errorMs || got.Sure() != step.sure || got.Trust.String() != step.expected {
			t.Errorf("%s: got %v, %d ms, sure %v", step.name, got.Trust, ms, got.Sure())
		}
	}
	if s := Trusted(); !s.Sure() {
		t.Errorf("trusted: %+v", s)
	}
	// Whatever this machine says, it says it.
	if s := NewSystemClock().State(); s.Trust != ClockUnknown && s.ErrorMs == nil {
		t.Errorf("this machine: %+v", s)
	}
}

// Device times: 1970, fifty years ago, an hour off for good, late messages, one that is set in the end.
func TestDeviceClock(t *testing.T) {
	noon := time.Date(2026, 6, 21, 12, 0, 0, 0, time.UTC)
	const within = time.Minute
	for name, c := range map[string]struct {
		offsets      []time.Duration // a sample each half minute
		signed       bool
		used, unsure []bool
	}{
		"right, give or take":  {offsets: []time.Duration{0, within, -within}, used: []bool{true, true, true}, unsure: []bool{false, false, false}},
		"a second too far off": {offsets: []time.Duration{within + time.Second}, used: []bool{false}, unsure: []bool{true}},
		"1970":                 {offsets: []time.Duration{time.Unix(0, 0).Sub(noon)}, used: []bool{false}, unsure: []bool{false}},
		"fifty years ago":      {offsets: []time.Duration{-50 * 365 * 24 * time.Hour}, used: []bool{false}, unsure: []bool{false}},
		"summer time for ever": {
			offsets: []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, 0, time.Hour},
			used:    []bool{false, false, false, false, false, true, false}, unsure: []bool{true, true, true, true, false, false, true},
		},
		"messages that were kept somewhere": {
			offsets: []time.Duration{-10 * time.Minute, -9 * time.Minute, -8 * time.Minute, -7 * time.Minute, -6 * time.Minute, -5 * time.Minute, 0},
			used:    []bool{false, false, false, false, false, false, true}, unsure: []bool{true, true, true, true, true, true, false},
		},
		"signed, an hour off for good": {
			offsets: []time.Duration{time.Hour, time.Hour, time.Hour, time.Hour, time.Hour, time.Hour}, signed: true,
			used: make([]bool, 6), unsure: []bool{true, true, true, true, true, true},
		},
		"signed in 1970": {offsets: []time.Duration{time.Unix(0, 0).Sub(noon)}, signed: true, used: []bool{false}, unsure: []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			var d DeviceClock
			for i, off := range c.offsets {
				at := noon.Add(time.Duration(i) * 30 * time.Second)
				device := at.Add(off)
				s := Sample{At: at, DeviceAt: &device}
				if c.signed {
					s.Signed = &SignedProof{Reading: Reading{At: device}}
				}
				why := d.Judge(&s, within)
				if used := s.DeviceAt != nil; used != c.used[i] || used != (why == "") {
					t.Errorf("sample %d: used is %v: %q", i, used, why)
				}
				if unsure := s.Quality == ClockUnsure; unsure != c.unsure[i] {
					t.Errorf("sample %d: unsure is %v: %q", i, unsure, why)
				}
			}
		})
	}
}
