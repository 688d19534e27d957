package market

import (
	"fmt"
	"strconv"
	"time"
)

// A Month is a calendar month of the community's own time zone, the period of a
// Statement: year × 12 + (month − 1), so that the next one is one more.
type Month int32

const (
	monthsPerYear = 12
	firstYear     = 1970
	lastYear      = 9999
)

// monthOfYear returns a year's month.
func monthOfYear(year int, month time.Month) Month {
	return Month(year*monthsPerYear + int(month) - 1) //nolint:gosec // years are far below 2^31 / 12, see MaxInterval
}

// ParseMonth reads what String writes, "2026-06", and nothing else, for the years
// 1970 to 9999; else it fails with ErrBadMonth.
func ParseMonth(s string) (Month, error) {
	var m Month
	err := m.UnmarshalText([]byte(s))
	return m, err
}

// String returns the year and the month, such as "2026-06".
func (m Month) String() string {
	year, month := m.date()
	return fmt.Sprintf("%04d-%02d", year, int(month))
}

func (m Month) date() (int, time.Month) {
	year, month := int(m/monthsPerYear), time.Month(m%monthsPerYear)
	if month < 0 {
		year, month = year-1, month+monthsPerYear
	}
	return year, month + 1
}

// MarshalText returns String as bytes, or ErrBadMonth for what UnmarshalText would refuse.
func (m Month) MarshalText() ([]byte, error) {
	if m < firstYear*monthsPerYear || m >= (lastYear+1)*monthsPerYear {
		return nil, fmt.Errorf("writing month: got %d, want one of the years %d to %d: %w", int32(m), firstYear, lastYear, ErrBadMonth)
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads "2026-06", or fails with ErrBadMonth and leaves the month as it was.
func (m *Month) UnmarshalText(text []byte) error {
	const form = "2026-06"
	ok := len(text) == len(form)
	for i, c := range text {
		ok = ok && (i == 4 && c == '-' || i != 4 && c >= '0' && c <= '9')
	}
	if ok {
		// Digits: neither can fail.
		year, _ := strconv.Atoi(string(text[:4]))
		month, _ := strconv.Atoi(string(text[5:]))
		if year >= firstYear && month >= 1 && month <= monthsPerYear {
			*m = monthOfYear(year, time.Month(month))
			return nil
		}
	}
	return fmt.Errorf("reading month: got %q, want a year from %d to %d and a month, as %s: %w", text, firstYear, lastYear, form, ErrBadMonth)
}

// OfMonth returns the intervals that start in a month in loc, as the half-open
// range [first, end). The ranges of successive months join without gap or overlap.
func (c Calendar) OfMonth(m Month, loc *time.Location) (first, end Interval) {
	begin := func(m Month) Interval {
		year, month := m.date()
		return c.startingFrom(midnight(year, month, 1, loc))
	}
	return begin(m), begin(m + 1)
}

// MonthOf returns the month in whose OfMonth an interval is.
func (c Calendar) MonthOf(k Interval, loc *time.Location) Month {
	year, month, day := c.Start(k).In(loc).Date()
	m := monthOfYear(year, month)
	if day > 1 && day < 28 {
		return m
	}
	// Where clocks change at midnight, a month's last hour may come twice, the
	// second time in what OfMonth has as the next.
	switch first, end := c.OfMonth(m, loc); {
	case k < first:
		return m - 1
	case k >= end:
		return m + 1
	default:
		return m
	}
}
