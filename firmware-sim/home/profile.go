package home

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ErrProfile is returned for a file that is no household or solar profile; the
// error's text names the line.
var ErrProfile = errors.New("not a profile")

const (
	profileHeader = "timestamp,electricity"
	// maxProfileRows is a year of minutes, and a bit.
	maxProfileRows = 600_000
	maxProfileLine = 256
)

// Profile is a recorded power, one value for each row of a CSV file, repeated
// for ever in whole days: an instant outside of the file is answered with the
// row of the same time of day some days before or after.
type Profile struct {
	first  int64 // milliseconds
	period int64 // of a row
	days   int64 // whole days that the file covers
	power  []MilliWatts
}

// ReadProfile reads "timestamp,electricity" rows: Unix seconds at a constant
// distance that divides a day, and a power that is not negative; at least one
// whole day. One unit in the file is scale milliwatts: 1000 for a file in W, a
// million times the kilowatts installed for a file in W per W installed.
func ReadProfile(r io.Reader, scale float64) (*Profile, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxProfileLine), maxProfileLine)
	p := &Profile{}
	number := 0
	for lines.Scan() {
		number++
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if number == 1 {
			if text != profileHeader {
				return nil, fmt.Errorf("%w: line 1: got %.60q, want the header %q", ErrProfile, text, profileHeader)
			}
			continue
		}
		if text == "" {
			continue
		}
		if err := p.add(text, scale); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrProfile, number, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", ErrProfile, number+1, err)
	}
	if p.period != 0 {
		p.days = int64(len(p.power)) * p.period / dayMS
	}
	if p.days == 0 {
		return nil, fmt.Errorf("%w: got %d rows, want at least one whole day of them", ErrProfile, len(p.power))
	}
	p.power = p.power[:p.days*dayMS/p.period]
	return p, nil
}

// add appends a row.
func (p *Profile) add(text string, scale float64) error {
	stamp, value, ok := strings.Cut(text, ",")
	if !ok || strings.Contains(value, ",") {
		return fmt.Errorf("got %.60q, want two columns, %s", text, profileHeader)
	}
	if len(p.power) == maxProfileRows {
		return fmt.Errorf("more than %d rows", maxProfileRows)
	}
	at, err := unixMillis(stamp)
	if err != nil {
		return err
	}
	units, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || math.IsNaN(units) || units < 0 || units*scale > float64(maxPower) {
		return fmt.Errorf("electricity %.40q: want a power between 0 and %d W", value, maxPower/1000)
	}
	switch n := int64(len(p.power)); {
	case n == 0:
		p.first = at
	case n == 1:
		p.period = at - p.first
		if p.period < 1000 || dayMS%p.period != 0 {
			return fmt.Errorf("rows are %d s apart, want a distance that divides a day", p.period/1000)
		}
	case at != p.first+n*p.period:
		return fmt.Errorf("timestamp %s, want %d: rows must follow each other every %d s without a gap",
			strings.TrimSpace(stamp), (p.first+n*p.period)/1000, p.period/1000)
	}
	p.power = append(p.power, milliWatts(units*scale/1000))
	return nil
}

// unixMillis reads whole Unix seconds; a fraction of zeros is allowed since
// many tools write their integers so.
func unixMillis(stamp string) (int64, error) {
	whole, fraction, _ := strings.Cut(strings.TrimSpace(stamp), ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || strings.Trim(fraction, "0") != "" || seconds < 0 || seconds > math.MaxUint32 {
		return 0, fmt.Errorf("timestamp %.40q: want whole Unix seconds", stamp)
	}
	return seconds * 1000, nil
}

// Power is the recorded power at an instant, or that of the same time of day
// on another day of the file.
func (p *Profile) Power(at int64) (MilliWatts, int64) {
	span := p.days * dayMS
	offset := at - p.first
	offset -= floorDiv(offset, span) * span
	row := offset / p.period
	return p.power[row], at + (row+1)*p.period - offset
}
