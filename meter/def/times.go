package def

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Formats of a time in a message.
const (
	timeRFC3339 = "rfc3339"
	timeUnix    = "unix"
)

// earliest is the first time that a device may tell: what is before comes from a clock that was never set.
var earliest = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)

// read reads a time; nil if it is none, or of a clock that was never set.
func (p *TimePoint) read(value any) *time.Time {
	var s string
	switch value := value.(type) {
	case string:
		s = value
	case scalarText:
		s = strings.Trim(string(value), `"`)
	case json.Number:
		s = value.String()
	}
	var at time.Time
	switch p.Format {
	case timeRFC3339:
		var err error
		if at, err = time.Parse(time.RFC3339, s); err != nil {
			return nil
		}
	case timeUnix:
		whole, _, _ := strings.Cut(s, ".") // parts of a second do not matter
		seconds, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || seconds > 1<<33 {
			return nil
		}
		at = time.Unix(seconds, 0)
	}
	if at.Before(earliest) {
		return nil
	}
	at = at.UTC()
	return &at
}
