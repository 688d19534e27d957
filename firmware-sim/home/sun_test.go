package home

import (
	"math"
	"testing"
	"time"
)

// TestSunPosition compares with facts of astronomy: the height at solar noon is
// 90° − latitude + declination, and sunrise on the day's ends.
func TestSunPosition(t *testing.T) {
	for _, c := range []struct {
		name      string
		at        string
		location  Location
		elevation float64 // degrees
		azimuth   float64 // from north, clockwise; NaN: not checked
		within    float64
	}{
		{"solstice noon at Delft", "2026-06-21T11:44:00Z", Location{52, 4.4}, 61.44, 180, 0.7},
		{"winter noon at Delft", "2026-12-21T11:40:30Z", Location{52, 4.4}, 14.56, 180, 0.7},
		{"equinox at the equator", "2026-03-20T12:07:30Z", Location{0, 0}, 90, math.NaN(), 0.7},
		{"equinox morning", "2026-03-20T06:07:30Z", Location{0, 0}, 0, 90, 0.7},
		{"equinox evening", "2026-03-20T18:07:30Z", Location{0, 0}, 0, 270, 0.7},
		{"southern summer noon", "2026-12-21T11:58:10Z", Location{-33.9, 0}, 79.5, 0, 1.2},
		{"polar night", "2026-12-21T12:00:00Z", Location{75, 0}, -8.4, 180, 0.8},
		{"midnight sun", "2026-06-21T00:00:00Z", Location{75, 0}, 8.4, 0, 0.8},
	} {
		at := ms(t, c.at)
		sun := newSunDay(floorDiv(at, dayMS)).position(c.location, at)
		if length := math.Hypot(math.Hypot(sun.x, sun.y), sun.z); math.Abs(length-1) > 1e-9 {
			t.Errorf("%s: direction has length %v", c.name, length)
		}
		if elevation := math.Asin(sun.z) * 180 / math.Pi; math.Abs(elevation-c.elevation) > c.within {
			t.Errorf("%s: elevation %.2f°, want %.2f°", c.name, elevation, c.elevation)
		}
		azimuth := math.Atan2(sun.x, sun.y) * 180 / math.Pi
		if off := math.Mod(azimuth-c.azimuth+540, 360) - 180; !math.IsNaN(c.azimuth) && math.Abs(off) > 2 {
			t.Errorf("%s: azimuth %.2f°, want %.2f°", c.name, azimuth, c.azimuth)
		}
	}
}

// TestNightHasNoSun is H5 for a year: from half an hour after any sunset to
// half an hour before any sunrise.
func TestNightHasNoSun(t *testing.T) {
	r := NewRoof(Panels{KilowattPeak: 6, Azimuth: 180, Tilt: 35}, delft, 1)
	begin := ms(t, "2026-01-01T00:00:00Z")
	nights := 0
	for at := begin; at < begin+365*dayMS; at += 10 * minuteMS {
		sun := newSunDay(floorDiv(at, dayMS)).position(delft.Location, at)
		power, until := r.Power(at)
		if until <= at || until > at+skyPieceMS {
			t.Fatalf("at %d: a piece until %d", at, until)
		}
		if sun.z < -0.02 {
			nights++
			if power != 0 {
				t.Fatalf("%v: %d mW at night", time.UnixMilli(at).UTC(), power)
			}
		}
		if power < 0 || power > 6_000_000 {
			t.Fatalf("%v: %d mW of 6 kWp", time.UnixMilli(at).UTC(), power)
		}
	}
	if nights == 0 {
		t.Fatal("no night in a year")
	}
}

// TestCloudsAreShared: neighbours' productions go together, different seeds'
// do not, and clear is clear.
func TestCloudsAreShared(t *testing.T) {
	var a, b, other []float64
	stranger := delft
	stranger.Seed = 43
	for i := range int64(40 * 24) {
		at := ms(t, "2026-05-01T00:00:00Z") + i*hourMS
		a = append(a, delft.clouds(at, 0, 1))
		b = append(b, delft.clouds(at, 90_000, 2))
		other = append(other, stranger.clouds(at, 0, 1))
	}
	if c := correlation(a, b); c < 0.95 {
		t.Errorf("neighbours' skies correlate by %.2f", c)
	}
	if c := correlation(a, other); c > 0.5 {
		t.Errorf("unrelated skies correlate by %.2f", c)
	}
	for _, cover := range []float64{0, 1} {
		sky := delft
		sky.Cloudiness = cover
		if got := sky.clouds(12345678, 0, 1); got != cover {
			t.Errorf("cloudiness %v gives %v", cover, got)
		}
	}
	equal := 0
	for i := range a {
		if a[i] == b[i] {
			equal++
		}
	}
	if equal > len(a)*3/4 {
		t.Errorf("neighbours' skies are the same in %d of %d hours", equal, len(a))
	}
}

func correlation(a, b []float64) float64 {
	var ma, mb, sab, saa, sbb float64
	for i := range a {
		ma += a[i] / float64(len(a))
		mb += b[i] / float64(len(b))
	}
	for i := range a {
		sab += (a[i] - ma) * (b[i] - mb)
		saa += (a[i] - ma) * (a[i] - ma)
		sbb += (b[i] - mb) * (b[i] - mb)
	}
	return sab / math.Sqrt(saa*sbb)
}

// TestRoofsFaceTheirSun: an eastern roof earns in the morning, and a clear
// June noon gives about what a data sheet promises.
func TestRoofsFaceTheirSun(t *testing.T) {
	sky := delft
	sky.Cloudiness = 0
	power := func(azimuth float64, at string) float64 {
		p, _ := NewRoof(Panels{KilowattPeak: 1, Azimuth: azimuth, Tilt: 35}, sky, 1).Power(ms(t, at))
		return float64(p) / 1000
	}
	if east, west := power(90, "2026-06-21T07:00:00Z"), power(270, "2026-06-21T07:00:00Z"); east < 2*west {
		t.Errorf("in the morning the east gives %.0f W, the west %.0f W", east, west)
	}
	if noon := power(180, "2026-06-21T11:44:00Z"); noon < 700 || noon > 900 {
		t.Errorf("a clear June noon gives %.0f W per kWp", noon)
	}
	if winter := power(180, "2026-12-21T11:40:00Z"); winter < 150 || winter > 600 {
		t.Errorf("a clear December noon gives %.0f W per kWp", winter)
	}
}
