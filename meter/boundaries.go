package meter

import (
	"fmt"
	"time"
)

// Span is the energy between two proven interval boundaries: End's counters minus Start's. It covers one interval, or
// several if the boundaries between were not proven.
type Span struct {
	// FirstBoundary and LastBoundary are multiples of the interval length.
	FirstBoundary, LastBoundary time.Time
	// Start and End are the readings that prove them: same meter, same epoch.
	Start, End Reading
}

// ImportWh is the energy imported over the span; nil is unknown.
func (s Span) ImportWh() *uint64 { return difference(s.Start.ImportWh, s.End.ImportWh) }

// ExportWh is the energy exported over the span; nil is unknown.
func (s Span) ExportWh() *uint64 { return difference(s.Start.ExportWh, s.End.ExportWh) }

// Intervals is the number of intervals of the given length that the span covers.
func (s Span) Intervals(length time.Duration) int {
	return int(s.LastBoundary.Sub(s.FirstBoundary) / length)
}

func difference(from, to *uint64) *uint64 {
	if from == nil || to == nil || *to < *from {
		return nil
	}
	d := *to - *from
	return &d
}

// Boundaries picks, from the readings of one meter, the one that proves each interval boundary: the first good reading
// at the boundary or at most the tolerance after it. That reading ends one interval and begins the next. It is pure and
// for one goroutine.
type Boundaries struct {
	length, tolerance time.Duration
	last              *Reading // proves the boundary before its At
}

// NewBoundaries picks for intervals of a length, counted from the Unix epoch. The tolerance must be shorter than the
// length; last, the reading that proved the last boundary before a restart, may be nil.
func NewBoundaries(length, tolerance time.Duration, last *Reading) (*Boundaries, error) {
	if length < time.Second || length%time.Millisecond != 0 {
		return nil, fmt.Errorf("interval length: got %v, expected whole milliseconds and at least 1s", length)
	}
	if tolerance < 0 || tolerance >= length {
		return nil, fmt.Errorf("boundary tolerance: got %v, expected at least 0 and less than the interval length %v", tolerance, length)
	}
	return &Boundaries{length: length, tolerance: tolerance, last: last}, nil
}

// Last returns the reading that proved the last boundary, or nil. It is all the state there is: give it to
// NewBoundaries after a restart.
func (b *Boundaries) Last() *Reading { return clone(b.last) }

// Add takes the next accepted reading. It returns a span if the reading proves a boundary and the one before it was
// proven in the same epoch. Readings that are not good, come too late after a boundary, or do not follow the last
// proof in time and number, prove nothing.
func (b *Boundaries) Add(r Reading) (Span, bool) {
	boundary := b.floor(r.At)
	if r.Quality != Good || r.At.Sub(boundary) > b.tolerance {
		return Span{}, false
	}
	before := b.last
	if before == nil || r.Meter != before.Meter || r.Epoch > before.Epoch {
		b.last = &r
		return Span{}, false
	}
	first := b.floor(before.At)
	if r.Epoch < before.Epoch || r.Seq <= before.Seq || !boundary.After(first) {
		return Span{}, false
	}
	b.last = &r
	return Span{FirstBoundary: first, LastBoundary: boundary, Start: *before, End: r}, true
}

// floor is the boundary at or before t, exact also before 1970.
func (b *Boundaries) floor(t time.Time) time.Time {
	ms, length := t.UnixMilli(), b.length.Milliseconds()
	rest := ms % length
	if rest < 0 {
		rest += length
	}
	return time.UnixMilli(ms - rest).UTC()
}
