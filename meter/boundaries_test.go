package meter_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter"
)

func reading(seq uint64, at time.Time, in, out uint64) meter.Reading {
	return meter.Reading{Seq: seq, At: at, ImportWh: &in, ExportWh: &out}
}

// TestBoundaries walks through the cases on 15-minute intervals with a tolerance of one minute.
func TestBoundaries(t *testing.T) {
	const q = 15 * time.Minute
	b, err := meter.NewBoundaries(q, time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	add := func(after time.Duration, change func(*meter.Reading)) (meter.Span, bool) {
		seq++
		r := reading(seq, noon.Add(after), 1000+seq, 500+2*seq)
		if change != nil {
			change(&r)
		}
		return b.Add(r)
	}
	bad := func(q meter.Quality) func(*meter.Reading) { return func(r *meter.Reading) { r.Quality = q } }
	for _, c := range []struct {
		name   string
		after  time.Duration
		change func(*meter.Reading)
		from   time.Duration // boundaries of the span, if to > 0
		to     time.Duration
	}{
		{"before any boundary", -time.Second, nil, 0, 0},
		{"the first proof", 2 * time.Second, nil, 0, 0},
		{"a second one of the same boundary", 10 * time.Second, nil, 0, 0},
		{"too late for its boundary", q + 61*time.Second, nil, 0, 0},
		{"exactly at a boundary", 2 * q, nil, 0, 2 * q},
		{"of bad quality", 3 * q, bad(meter.ClockUnsure), 0, 0},
		{"at the tolerance", 3*q + time.Minute, nil, 2 * q, 3 * q},
		{"after a day without", 99 * q, nil, 3 * q, 99 * q},
		{"back in time", 98 * q, nil, 0, 0},
		{"in a new epoch", 100 * q, func(r *meter.Reading) { r.Epoch = 1 }, 0, 0},
		{"a straggler of the old epoch", 101 * q, nil, 0, 0},
		{"the new epoch goes on", 102 * q, func(r *meter.Reading) { r.Epoch = 1 }, 100 * q, 102 * q},
		{"another meter", 103 * q, func(r *meter.Reading) { r.Meter[0] = 1; r.Epoch = 1 }, 0, 0},
		{"an old number", 104 * q, func(r *meter.Reading) { r.Meter[0] = 1; r.Epoch = 1; r.Seq = 1 }, 0, 0},
	} {
		span, ok := add(c.after, c.change)
		if ok != (c.to > 0) {
			t.Fatalf("%s: got a span %v (%+v)", c.name, ok, span)
		}
		if !ok {
			continue
		}
		if !span.FirstBoundary.Equal(noon.Add(c.from)) || !span.LastBoundary.Equal(noon.Add(c.to)) {
			t.Errorf("%s: got %v to %v, expected %v to %v", c.name, span.FirstBoundary, span.LastBoundary, noon.Add(c.from), noon.Add(c.to))
		}
		if got, want := span.Intervals(q), int((c.to-c.from)/q); got != want {
			t.Errorf("%s: got %d intervals, expected %d", c.name, got, want)
		}
		if got, want := *span.ExportWh(), 2**span.ImportWh(); got != want {
			t.Errorf("%s: got %d Wh of export, expected %d", c.name, got, want)
		}
	}
}

func TestSpanUnknown(t *testing.T) {
	known := reading(1, noon, 5, 5)
	for _, s := range []meter.Span{
		{Start: known, End: meter.Reading{}}, {Start: meter.Reading{}, End: known}, {Start: reading(1, noon, 6, 6), End: known},
	} {
		if s.ImportWh() != nil || s.ExportWh() != nil {
			t.Errorf("energy made of nothing: %v, %v", s.ImportWh(), s.ExportWh())
		}
	}
}

func TestNewBoundariesRefuses(t *testing.T) {
	for _, c := range []struct{ length, tolerance time.Duration }{
		{0, 0}, {-time.Minute, 0}, {time.Millisecond, 0}, {time.Second + 1, 0}, {time.Minute, -1}, {time.Minute, time.Minute},
	} {
		if _, err := meter.NewBoundaries(c.length, c.tolerance, nil); err == nil {
			t.Errorf("length %v and tolerance %v were taken", c.length, c.tolerance)
		}
	}
}

// TestSpansTelescope: whatever readings come, the spans follow each other without gap or overlap, and their sum is the
// difference of the outer counters — also across restarts.
func TestSpansTelescope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		length := time.Duration(rapid.SampledFrom([]int{1, 5, 15, 30, 60}).Draw(t, "minutes")) * time.Minute
		tolerance := time.Duration(rapid.IntRange(0, int(length/time.Millisecond)-1).Draw(t, "tolerance")) * time.Millisecond
		b, err := meter.NewBoundaries(length, tolerance, nil)
		if err != nil {
			t.Fatal(err)
		}
		at := time.UnixMilli(rapid.Int64Range(-1e12, 4e12).Draw(t, "start")).UTC()
		in, out := uint64(0), uint64(0)
		var spans []meter.Span
		var sumIn, sumOut uint64
		for seq := range rapid.Uint64Range(0, 200).Draw(t, "readings") {
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(length/time.Millisecond)).Draw(t, "step")) * time.Millisecond)
			in += rapid.Uint64Range(0, 1000).Draw(t, "in")
			out += rapid.Uint64Range(0, 1000).Draw(t, "out")
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				if b, err = meter.NewBoundaries(length, tolerance, b.Last()); err != nil {
					t.Fatal(err)
				}
			}
			span, ok := b.Add(reading(seq+1, at, in, out))
			if !ok {
				continue
			}
			for _, p := range []struct {
				boundary time.Time
				r        meter.Reading
			}{{span.FirstBoundary, span.Start}, {span.LastBoundary, span.End}} {
				if late := p.r.At.Sub(p.boundary); late < 0 || late > tolerance || p.boundary.UnixMilli()%length.Milliseconds() != 0 {
					t.Fatalf("boundary %v proven by a reading at %v", p.boundary, p.r.At)
				}
			}
			if n := len(spans); n > 0 && (!span.FirstBoundary.Equal(spans[n-1].LastBoundary) || span.Start.Seq != spans[n-1].End.Seq) {
				t.Fatalf("span %v begins after %v ended", span.FirstBoundary, spans[n-1].LastBoundary)
			}
			spans = append(spans, span)
			sumIn += *span.ImportWh()
			sumOut += *span.ExportWh()
		}
		if len(spans) == 0 {
			return
		}
		first, last := spans[0].Start, spans[len(spans)-1].End
		if sumIn != *last.ImportWh-*first.ImportWh || sumOut != *last.ExportWh-*first.ExportWh {
			t.Fatalf("spans sum up to %d and %d Wh, counters to %d and %d", sumIn, sumOut, *last.ImportWh-*first.ImportWh, *last.ExportWh-*first.ExportWh)
		}
	})
}

// TestDaylightSaving lives through days of 92, 96 and 100 quarter hours in Amsterdam with a P1 meter, whose telegrams say
// S or W beside the local time: every boundary is proven, both half past twos of autumn are intervals of their own, and
// the day adds up to the counters.
func TestDaylightSaving(t *testing.T) {
	zone := map[byte]*time.Location{'S': time.FixedZone("CEST", 2*3600), 'W': time.FixedZone("CET", 3600)}
	for name, c := range map[string]struct {
		from      time.Time
		intervals int
		switches  time.Time // in UTC
	}{
		"spring": {time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC), 92, time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC)},
		"autumn": {time.Date(2026, 10, 24, 22, 0, 0, 0, time.UTC), 100, time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)},
		"summer": {time.Date(2026, 6, 20, 22, 0, 0, 0, time.UTC), 96, time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			const length = 15 * time.Minute
			flag := func(at time.Time) byte {
				if at.Before(c.switches) == (name == "spring") {
					return 'W'
				}
				return 'S'
			}
			b, err := meter.NewBoundaries(length, time.Minute, nil)
			if err != nil {
				t.Fatal(err)
			}
			tracker, err := meter.NewTracker(17_000, meter.TrackerState{})
			if err != nil {
				t.Fatal(err)
			}
			var clock meter.DeviceClock
			in, seen, sum, spans := uint64(5000), map[string]int{}, uint64(0), 0
			for at := c.from; !at.After(c.from.Add(time.Duration(c.intervals) * length)); at = at.Add(10 * time.Second) {
				in += uint64(at.Unix()/10) % 7
				// The telegram has local time and a letter; this is what its decoder makes of them.
				local, letter := at.In(zone[flag(at)]).Format("060102150405"), flag(at)
				device, err := time.ParseInLocation("060102150405", local, zone[letter])
				if err != nil {
					t.Fatal(err)
				}
				s := meter.Sample{At: at, DeviceAt: &device, ImportWh: new(in)}
				if why := clock.Judge(&s, time.Minute); why != "" || s.Quality != meter.Good {
					t.Fatal(why)
				}
				if d := tracker.Offer(s); d.Verdict != meter.Accepted {
					t.Fatal(d.Reason)
				}
				span, closed := b.Add(reading(uint64(at.Unix()), at, in, 0))
				if !closed {
					continue
				}
				spans++
				sum += *span.ImportWh()
				seen[span.FirstBoundary.In(zone[flag(span.FirstBoundary)]).Format("15:04")]++
				if !span.LastBoundary.Equal(c.from.Add(time.Duration(spans) * length)) {
					t.Fatalf("span %d ends at %v", spans, span.LastBoundary)
				}
			}
			half := map[string]int{"spring": 0, "autumn": 2, "summer": 1}[name]
			if spans != c.intervals || sum != *b.Last().ImportWh-5000-uint64(c.from.Unix()/10)%7 || seen["02:30"] != half || seen["03:30"] != 1 {
				t.Errorf("%d intervals, %d Wh, half past two %d times", spans, sum, seen["02:30"])
			}
		})
	}
}
