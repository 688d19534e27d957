package household

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/meter"
)

// TestTrack holds what a track says against a battery whose power is known for every second.
func TestTrack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const length = 900
		var tr track
		at := func(second int) time.Time { return on(9, 0).Add(time.Duration(second) * time.Second) }
		powers := []int64{} // of each second
		power := rapid.Int64Range(-4000, 4000).Draw(rt, "first")
		tr.add(at(0), power, length*time.Second)
		tr.goesOn(at(0), power)
		for range rapid.IntRange(1, 30).Draw(rt, "beats") {
			for range rapid.IntRange(1, 60).Draw(rt, "seconds") {
				powers = append(powers, power)
			}
			now := at(len(powers))
			if took, ok := tr.add(now, power, length*time.Second); !ok || took == 0 && power != 0 {
				rt.Fatalf("got %d, %t", took, ok)
			}
			power = rapid.Int64Range(-4000, 4000).Draw(rt, "power")
			tr.goesOn(now, power)
		}
		end := len(powers)
		from := rapid.IntRange(max(0, end-length), end-1).Draw(rt, "from")
		to := rapid.IntRange(from+1, end).Draw(rt, "to")
		var want int64
		for _, w := range powers[from:to] {
			want += w
		}
		want /= int64(to - from)
		if got := tr.mean(at(from), at(to)); got-want > 2 || want-got > 2 {
			rt.Fatalf("from %d to %d s: got %d W, expected %d", from, to, got, want)
		}
	})
}

// TestCourse: the reading soon after a boundary is the interval's base; one that comes late proves nothing.
func TestCourse(t *testing.T) {
	calendar := market.Calendar{Length: 15 * time.Minute}
	var c course
	say := func(at time.Time, in, out uint64, w int64) {
		c.note(meter.Sample{At: at, ImportWh: &in, ExportWh: &out, PowerW: &w}, calendar, 30*time.Second)
	}
	say(on(9, 7), 1000, 100, 50)
	if c.proven {
		t.Error("an interval that began without a reading is proven")
	}
	say(on(9, 15).Add(20*time.Second), 1010, 100, 60)
	if !c.proven || c.base != 910 || c.interval != calendar.At(on(9, 15)) {
		t.Errorf("got %+v, expected a proven base of 910 Wh", c)
	}
	say(on(9, 20), 1010, 130, -300)
	if c.net-c.base != -30 || !c.movedAt.Equal(on(9, 20)) {
		t.Errorf("got %+v, expected 30 Wh out", c)
	}
	say(on(9, 21), 1010, 130, -300)
	if !c.movedAt.Equal(on(9, 20)) || !c.at.Equal(on(9, 21)) {
		t.Errorf("got %+v, expected a meter that said the same again", c)
	}
	say(on(9, 31), 1010, 130, -300)
	if c.proven {
		t.Error("a reading a minute after the boundary proves it")
	}
}

// TestHouseGuess: the house is what is left of the connection without the battery, in the time that the meter speaks of; and
// what a late meter says after the battery was told something new is not mixed with what the battery does since.
func TestHouseGuess(t *testing.T) {
	const length = 15 * time.Minute
	at := func(second int) time.Time { return on(9, 0).Add(time.Duration(second) * time.Second) }
	var tr track
	var g houseGuess
	zero, later := int64(0), int64(1900)
	for s := 0; s <= 900; s += 30 { // its own mode covers the house
		tr.add(at(s), -400, length)
		tr.goesOn(at(s), -400)
	}
	c := course{powerW: &zero, movedAt: at(0)}
	g.learn(c, &tr, at(600), length, true)
	if g.w == nil || *g.w != 400 {
		t.Fatalf("in its own mode: got %v, expected 400 W", g.w)
	}
	tr.goesOn(at(900), 1500) // now it charges, and the meter has not said so yet
	tr.add(at(960), 1500, length)
	g.learn(c, &tr, at(960), length, false)
	if *g.w != 400 {
		t.Fatalf("the meter is late: got %d, expected 400 W still", *g.w)
	}
	tr.add(at(1200), 1500, length)
	c.powerW, c.movedAt = &later, at(1200)
	g.refresh = 300 * time.Second
	g.learn(c, &tr, at(1200), length, false)
	if *g.w != 400 {
		t.Fatalf("the meter has said so: got %d, expected 400 W", *g.w)
	}
}
