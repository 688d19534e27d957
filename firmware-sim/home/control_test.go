package home

import (
	"context"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// best finds by trial what decide computes: of all that battery and panels can
// do, what violates the wishes least, in the order that Control states.
func best(q question) (battery, solar int64) {
	if q.off {
		if q.hybrid {
			return 0, 0
		}
		return 0, q.solar
	}
	found := false
	var least [7]int64
	for b := -q.down; b <= q.up; b++ {
		for s := int64(0); s <= q.solar; s++ {
			if !q.hybrid && s != q.solar {
				continue
			}
			output := -b
			if q.hybrid {
				output += s
			}
			over := func(v, limit int64) int64 { return max(0, v-limit) }
			// Limits that cut are worth more than those that ask for more.
			var cost [7]int64
			if q.export.on || q.output.on {
				worst := int64(math.MinInt64)
				if q.export.on {
					worst = max(worst, s-q.load+0-b-q.export.high)
				}
				if q.output.on {
					worst = max(worst, output-q.output.high)
				}
				cost[0] = max(0, worst)
			}
			low, high := -q.down, q.up
			if q.battery.on {
				high = clamp(max(q.battery.low, q.battery.high), low, high)
				low = clamp(q.battery.low, low, q.up)
			}
			if q.solarOnly {
				high = min(high, q.solar)
				low = min(low, high)
			}
			if q.output.on {
				cost[1] = over(q.output.low, output)
			}
			cost[2] = over(low, b) + over(b, high)
			cost[3] = q.solar - s
			cost[4] = abs(b - clamp(q.wish(), low, high))
			if !found || less(cost, least) {
				found, least, battery, solar = true, cost, b, s
			}
		}
	}
	return battery, solar
}

func abs(v int64) int64 { return max(v, -v) }

func less(a, b [7]int64) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// TestDecideIsBest is H7: the arithmetic against the search.
func TestDecideIsBest(t *testing.T) {
	bound := func(t *rapid.T, name string) limits {
		l := limits{on: rapid.Bool().Draw(t, name), low: rapid.Int64Range(-9, 9).Draw(t, name+" low")}
		l.high = rapid.Int64Range(l.low, 9).Draw(t, name+" high")
		return l
	}
	rapid.Check(t, func(t *rapid.T) {
		q := question{
			load: rapid.Int64Range(0, 9).Draw(t, "load"), solar: rapid.Int64Range(0, 9).Draw(t, "solar"),
			up: rapid.Int64Range(0, 9).Draw(t, "up"), down: rapid.Int64Range(0, 9).Draw(t, "down"),
			hybrid: rapid.Bool().Draw(t, "hybrid"), solarOnly: rapid.Bool().Draw(t, "solar only"),
			off: rapid.IntRange(0, 9).Draw(t, "off") == 0, aim: Aim(rapid.IntRange(0, 3).Draw(t, "aim")),
			battery: bound(t, "battery"), output: bound(t, "output"),
			export: limits{on: rapid.Bool().Draw(t, "export"), high: rapid.Int64Range(0, 9).Draw(t, "export high")},
		}
		b, s := q.decide()
		wantB, wantS := best(q)
		if b != wantB || s != wantS {
			t.Fatalf("%+v: battery %d, solar %d, want %d and %d", q, b, s, wantB, wantS)
		}
	})
}

// drawControl is any control.
func drawControl(t *rapid.T) Control {
	slope := func(name string) Slope {
		return Slope{
			From: MilliWatts(rapid.Int64Range(-9_000_000, 9_000_000).Draw(t, name)),
			To:   MilliWatts(rapid.Int64Range(-9_000_000, 9_000_000).Draw(t, name)),
		}
	}
	bound := func(name string) Bound {
		if !rapid.Bool().Draw(t, name) {
			return Bound{}
		}
		a, b := slope(name+" a"), slope(name+" b")
		a.From, b.From = min(a.From, b.From), max(a.From, b.From)
		a.To, b.To = min(a.To, b.To), max(a.To, b.To)
		return Bound{On: true, Min: a, Max: b}
	}
	return Control{
		Aim: Aim(rapid.IntRange(0, 3).Draw(t, "aim")), Battery: bound("battery"), Output: bound("output"), Export: bound("export"),
		SolarOnly: rapid.Bool().Draw(t, "solar only"), Off: rapid.IntRange(0, 5).Draw(t, "off") == 0,
		Reserve: rapid.Int64Range(0, million).Draw(t, "reserve"), Ceiling: rapid.Int64Range(0, million).Draw(t, "ceiling"),
	}
}

// TestInvariantsUnderCommand: H1 to H5 hold in each step whatever the inverter
// is told, and a content that is never told otherwise stays where it may be.
func TestInvariantsUnderCommand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &Battery{
			Capacity:   MilliWattHours(rapid.Int64Range(1000, 50_000_000).Draw(t, "capacity")),
			Power:      MilliWatts(rapid.Int64Range(0, 20_000_000).Draw(t, "power")),
			Efficiency: rapid.Int64Range(500_000, million).Draw(t, "efficiency"),
			Standing:   MilliWatts(rapid.Int64Range(0, 50_000).Draw(t, "standing")),
		}
		b.Floor = MilliWattHours(rapid.Int64Range(0, int64(b.Capacity)).Draw(t, "floor"))
		h := &Home{
			Load:    &script{power: rapid.SliceOfN(rapid.Int64Range(0, 30_000_000), 9, 9).Draw(t, "load")},
			Solar:   &script{power: rapid.SliceOfN(rapid.Int64Range(0, 30_000_000), 9, 9).Draw(t, "solar")},
			Battery: b, Hybrid: rapid.Bool().Draw(t, "hybrid"), Rated: MilliWatts(rapid.Int64Range(0, 10_000_000).Draw(t, "rated")),
			Stored: MilliWattHours(rapid.Int64Range(0, int64(b.Capacity)).Draw(t, "stored")),
		}
		s, at := h.Begin(), int64(0)
		var potential MicroJoules
		for range 12 {
			c, step := drawControl(t), rapid.Int64Range(1, 400_000).Draw(t, "step")
			next := h.StepUnder(s, c, at, at+step)
			checkStep(t, b, s, next, step)
			potential += energyBetween(h.Solar, at, at+step)
			if next.Solar+next.Curtailed != MilliWattHours(potential/MicroJoulesPerMilliWattHour) {
				t.Fatalf("H5: solar %d and curtailed %d of %d µJ", next.Solar, next.Curtailed, potential)
			}
			if next.Lost < s.Lost || next.Stored != h.Stored+next.Charge-next.Discharge-next.Lost {
				t.Fatalf("H4: stored %d of %d, in %d, out %d, lost %d", next.Stored, h.Stored, next.Charge, next.Discharge, next.Lost)
			}
			if d := next.Discharge - s.Discharge; d > 0 && s.Stored-b.drawn(d) < b.floor(&c) {
				t.Fatalf("H3: gave %d out of %d down to a floor of %d", d, s.Stored, b.floor(&c))
			}
			given := next.Given - s.Given - next.Taken + s.Taken
			if want := h.behind(next.Solar-s.Solar) - (next.Charge - s.Charge) + (next.Discharge - s.Discharge); given != want {
				t.Fatalf("the inverter gave %d, want %d", given, want)
			}
			s, at = next, at+step
		}
	})
}

// TestHistoryWithCommands is H6: a history that was asked and told in turns, one
// that was told first, and the plain loop over all steps come to the same.
func TestHistoryWithCommands(t *testing.T) {
	const refresh, first, refreshes = 180_000, 9_900_000, 60
	rapid.Check(t, func(t *rapid.T) {
		type command struct {
			at     int64
			pieces []Piece
		}
		var commands []command
		at := int64(first * refresh)
		for range rapid.IntRange(1, 5).Draw(t, "commands") {
			at += rapid.Int64Range(0, 20*refresh).Draw(t, "later")
			c := command{at: at}
			piece := at
			for range rapid.IntRange(1, 3).Draw(t, "pieces") {
				c.pieces = append(c.pieces, Piece{At: piece, Control: drawControl(t)})
				piece += rapid.Int64Range(1, 5*refresh).Draw(t, "length")
			}
			commands = append(commands, c)
		}
		tell := func(h *History, c command) {
			err := h.Command(c.at, func(at int64) ([]Piece, error) {
				if at != c.at {
					t.Fatalf("told at %d, took effect at %d", c.at, at)
				}
				return c.pieces, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx := context.Background()
		asked, told := NewHistory(testHome(5), refresh, first), NewHistory(testHome(5), refresh, first)
		for _, c := range commands {
			// Ask up to the last refresh before the command, as time would have it.
			if _, err := asked.Moment(ctx, c.at-1); err != nil {
				t.Fatal(err)
			}
			if _, _, err := asked.At(ctx, min(floorDiv(c.at, refresh), first+refreshes)); err != nil {
				t.Fatal(err)
			}
			tell(asked, c)
			tell(told, c)
		}
		// The plain loop: time cut at every step of the physics and every piece.
		h := testHome(5)
		s := h.Begin()
		for i := int64(first); i < first+refreshes; i++ {
			for now := i * refresh; now < (i+1)*refresh; {
				control, until := Control{}, (i+1)*refresh
				for n, c := range commands {
					for _, p := range c.pieces {
						over := n+1 < len(commands) && p.At >= commands[n+1].at
						if over {
							continue
						}
						if p.At <= now {
							control = p.Control
						} else {
							until = min(until, p.At)
						}
					}
				}
				s = h.StepUnder(s, control, now, until)
				now = until
			}
			a, _, err := asked.At(ctx, i+1)
			if err != nil {
				t.Fatal(err)
			}
			b, _, err := told.At(ctx, i+1)
			if err != nil {
				t.Fatal(err)
			}
			if a != b {
				t.Fatalf("H6: at %d the history that was asked before says %+v, the other %+v", i+1-first, a, b)
			}
			if a != s {
				t.Fatalf("H6: at %d the history says %+v, the plain loop %+v", i+1-first, a, s)
			}
		}
	})
}

func TestCommandDoesNotChangeThePast(t *testing.T) {
	const refresh = 180_000
	h := NewHistory(testHome(1), refresh, 100)
	if err := h.Advance(context.Background(), 110); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ at, want int64 }{{105 * refresh, 110 * refresh}, {111*refresh + 1, 111*refresh + 1}, {111 * refresh, 111*refresh + 1}} {
		err := h.Command(c.at, func(at int64) ([]Piece, error) {
			if at != c.want {
				t.Errorf("a command of %d took effect at %d, want %d", c.at, at, c.want)
			}
			return []Piece{{At: at}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSlope(t *testing.T) {
	s := Slope{From: 1000, To: -3000, Begin: 100, End: 200}
	for at, want := range map[int64]MilliWatts{0: 1000, 100: 1000, 125: 0, 150: -1000, 200: -3000, 300: -3000} {
		if got := s.At(at); got != want {
			t.Errorf("at %d: %d, want %d", at, got, want)
		}
	}
	if got := s.mean(100, 200); got != -1000 {
		t.Errorf("mean %d", got)
	}
	if got := s.mean(0, 100); got != 1000 {
		t.Errorf("mean before it begins %d", got)
	}
	if got := s.mean(200, 300); got != -3000 {
		t.Errorf("mean after its end %d", got)
	}
	jump := Slope{From: 5, To: 7, Begin: 50, End: 50}
	if a, b := jump.mean(0, 50), jump.mean(50, 60); a != 5 || b != 7 {
		t.Errorf("a jump: %d before, %d after", a, b)
	}
}
