package meter

import (
	"fmt"
	"strings"
)

// Quality says what is wrong with a value, as a bit set; zero means nothing is. The numbers are part of the signed
// bytes of a reading and never change.
type Quality uint16

// The bits of a Quality.
const (
	// Good: no bit set.
	Good Quality = 0
	// Stale: older than it should be, or seen before.
	Stale Quality = 1 << (iota - 1)
	// Retained: kept by a broker from before we asked; nobody knows how old it is.
	Retained
	// Substitute: estimated, not measured.
	Substitute
	// OutOfRange: a number that cannot be, such as a negative counter.
	OutOfRange
	// DeviceError: the device said that it is ill, or sent something that is no number where one belongs.
	DeviceError
	// ClockUnsure: the time of the value cannot be relied on.
	ClockUnsure
	// IdentityChanged: the device is not the one that answered before.
	IdentityChanged
	// Suspect: the counter fell or jumped and has not been confirmed.
	Suspect
)

var qualityNames = [...]string{"stale", "retained", "substitute", "out-of-range", "device-error", "clock-unsure", "identity-changed", "suspect"}

// String returns "good" or the names of the set bits joined by commas.
func (q Quality) String() string {
	if q == Good {
		return "good"
	}
	var names []string
	for i := range 16 {
		switch bit := Quality(1) << i; {
		case q&bit == 0:
		case i < len(qualityNames):
			names = append(names, qualityNames[i])
		default:
			names = append(names, fmt.Sprintf("bit-%d", i))
		}
	}
	return strings.Join(names, ",")
}

// MarshalText writes the form of String.
func (q Quality) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText reads the form of String; names that this version does not know are refused.
func (q *Quality) UnmarshalText(text []byte) error {
	*q = Good
	if string(text) == "good" {
		return nil
	}
names:
	for name := range strings.SplitSeq(string(text), ",") {
		for i, known := range qualityNames {
			if name == known {
				*q |= 1 << i
				continue names
			}
		}
		return fmt.Errorf("quality: got %q, expected good or names of %s joined by commas", name, strings.Join(qualityNames[:], ", "))
	}
	return nil
}
