package fault

import (
	"context"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

var epoch = time.Date(2026, 6, 21, 0, 0, 0, 0, time.UTC)

const refresh = time.Minute

var grid = Key{"home-1", "grid"}

// steady imports 100 Wh and exports 10 Wh a minute from the epoch on.
type steady struct{}

func (steady) First() int64 { return epoch.UnixMilli() / refresh.Milliseconds() }

func (s steady) Walk(_ context.Context, from, to int64, each func(device.Reading)) error {
	for i := from; i <= to; i++ {
		n := home.MilliWattHours(i - s.First())
		each(device.Reading{
			Index: i, At: time.UnixMilli(i * refresh.Milliseconds()).UTC(),
			Import: 5_000_000 + n*100_000, Export: 900_000 + n*10_000, Power: 5_400_000,
		})
	}
	return nil
}

func newBook() *Book {
	return NewBook([]Device{
		{Home: "home-1", Role: "grid", Definition: "x", Transports: []wire.Transport{wire.TCP}, Unknowns: true, Scales: true, Clock: true, WrapWh: 1_000_000},
		{Home: "home-2", Role: "grid", Definition: "y", Transports: []wire.Transport{wire.MQTT}},
	}, Options{Refresh: refresh, OwnBroker: true})
}

func (b *Book) mustStart(t *testing.T, r Rule, base time.Time) Status {
	t.Helper()
	s, err := b.Start(r, base)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// importAt is the imported Wh that are shown so many minutes after the epoch.
func importAt(t *testing.T, b *Book, minute int64) int64 {
	t.Helper()
	at := epoch.Add(time.Duration(minute) * time.Minute)
	r, err := b.Show(t.Context(), grid, steady{}, at, steady{}.First()+minute)
	if err != nil {
		t.Fatal(err)
	}
	return int64(r.Import) / 1000
}

// TestShapes: the imported counter of each fault of values, minute by minute,
// with the fault from minute 2 to 4 of 6. Honest: 5000, 5100, …
func TestShapes(t *testing.T) {
	for name, c := range map[string]struct {
		parameters map[string]string
		want       [6]int64
	}{
		"tamper":      {map[string]string{"percent": "50"}, [6]int64{5000, 5100, 5200, 5250, 5300, 5400}},
		"reset":       {map[string]string{"to_wh": "7"}, [6]int64{5000, 5100, 7, 107, 207, 307}},
		"wrap":        {map[string]string{"margin_wh": "150"}, [6]int64{5000, 5100, 999_850, 999_950, 50, 150}},
		"jump":        {map[string]string{"by_wh": "-9000"}, [6]int64{5000, 5100, 0, 0, 5400, 5500}},
		"frozen":      {nil, [6]int64{5000, 5100, 5200, 5200, 5400, 5500}},
		"zero-bounce": {nil, [6]int64{5000, 5100, 0, 0, 5400, 5500}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBook()
			b.mustStart(t, Rule{Fault: name, Home: "home-1", After: 2 * time.Minute, For: 2 * time.Minute, Parameters: c.parameters}, epoch)
			var got [6]int64
			for range 2 { // backwards too: the past does not depend on what was asked
				for minute := range int64(6) {
					got[5-minute] = importAt(t, b, 5-minute)
				}
				if got != c.want {
					t.Errorf("got %v, want %v", got, c.want)
				}
				for minute := range int64(6) {
					got[minute] = importAt(t, b, minute)
				}
			}
			counted, err := b.Counted(t.Context(), grid, steady{}, epoch.Add(5*time.Minute), steady{}.First()+5)
			want := int64(5500)
			if name == "tamper" {
				want = 5400
			}
			if err != nil || int64(counted.Import)/1000 != want {
				t.Errorf("counted %d, %v, want %d", counted.Import, err, want)
			}
		})
	}
}

// TestOneOnAnother: tampering, a reset and a freeze at once, in the order of the
// table whatever the order of their rules.
func TestOneOnAnother(t *testing.T) {
	b := newBook()
	b.mustStart(t, Rule{Fault: "frozen", Home: "home-1", After: 5 * time.Minute, For: time.Minute}, epoch)
	b.mustStart(t, Rule{Fault: "reset", Home: "home-1", After: 3 * time.Minute}, epoch)
	b.mustStart(t, Rule{Fault: "tamper", Home: "home-1", After: time.Minute, Parameters: map[string]string{"percent": "10"}}, epoch)
	for minute, want := range []int64{5000, 5100, 5190, 0, 90, 180, 270} {
		if got := importAt(t, b, int64(minute)); got != want {
			t.Errorf("minute %d: got %d, want %d", minute, got, want)
		}
	}
}

// TestEndedByHand: what was ended strikes no more, the past stays, and a lasting
// fault's effect remains.
func TestEndedByHand(t *testing.T) {
	b := newBook()
	bounce := b.mustStart(t, Rule{Fault: "zero-bounce", Home: "home-1"}, epoch.Add(time.Minute))
	tamper := b.mustStart(t, Rule{Fault: "tamper", Home: "home-1", Parameters: map[string]string{"percent": "100"}}, epoch.Add(time.Minute))
	if s, ok := b.End(bounce.ID, epoch.Add(3*time.Minute)); !ok || s.Active {
		t.Errorf("ended %+v, %t", s, ok)
	}
	if _, ok := b.End(bounce.ID, epoch.Add(4*time.Minute)); ok {
		t.Error("ended twice")
	}
	if _, ok := b.End(99, epoch); ok {
		t.Error("ended what never was")
	}
	b.End(tamper.ID, epoch.Add(4*time.Minute))
	for minute, want := range []int64{5000, 0, 0, 5100, 5100, 5200} {
		if got := importAt(t, b, int64(minute)); got != want {
			t.Errorf("minute %d: got %d, want %d", minute, got, want)
		}
	}
}

// TestOccurrences compares with a list of all beginnings.
func TestOccurrences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := func(name string, low, high int64) time.Duration {
			return time.Duration(rapid.Int64Range(low, high).Draw(t, name)) * time.Second
		}
		every := seconds("every", 10, 100)
		r := Rule{
			Fault: "zero-bounce", After: seconds("after", 0, 100), Every: every, For: seconds("for", 1, int64(every/time.Second)),
			Probability: rapid.SampledFrom([]float64{0.3, 0.7, 1}).Draw(t, "probability"), Seed: rapid.Uint64().Draw(t, "seed"),
		}
		if rapid.Bool().Draw(t, "has an end") {
			r.Until = epoch.Add(r.After + seconds("until", 1, 1000))
		}
		b := newBook()
		if _, err := b.Start(r, epoch); err != nil {
			t.Fatal(err)
		}
		rule := b.rules[0]
		at := epoch.Add(seconds("at", 0, 2000))
		want := false
		for k, begin := 0, rule.At; !begin.After(at) && (r.Until.IsZero() || begin.Before(r.Until)); k, begin = k+1, begin.Add(every) {
			if at.Before(begin.Add(r.For)) {
				want = chance(rule.seed, uint64(k), r.Probability)
			}
		}
		if got := rule.active(at); got != want {
			t.Fatalf("active: %t, want %t", got, want)
		}
	})
}

// TestShare: about as many answers are hit as asked for, the same each time.
func TestShare(t *testing.T) {
	run := func(seed uint64) (hit []int) {
		b := newBook()
		b.mustStart(t, Rule{Fault: "drop", Home: "home-1", Share: 0.2, Seed: seed}, epoch)
		for i := range 1000 {
			a := wire.Answer{Transport: wire.TCP, Body: []byte{3, 2, 0, 0}}
			if b.Spoil(grid, epoch, &a); a.Silent {
				hit = append(hit, i)
			}
		}
		return hit
	}
	first, again, other := run(1), run(1), run(2)
	if len(first) < 150 || len(first) > 250 {
		t.Errorf("%d of 1000 were hit, want about 200", len(first))
	}
	same := func(a, b []int) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i] != b[i] {
				return false
			}
		}
		return true
	}
	if !same(first, again) || same(first, other) {
		t.Error("the seed does not decide")
	}
}

// TestBound: a book takes no more than it says.
func TestBound(t *testing.T) {
	b := newBook()
	for range maxRules {
		b.last++
		b.rules = append(b.rules, nil)
	}
	if _, err := b.Start(Rule{Fault: "drop"}, epoch); !errors.Is(err, ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}

// TestEveryRowIsWhole: a row does one thing, and its defaults are within their
// bounds.
func TestEveryRowIsWhole(t *testing.T) {
	for _, k := range Kinds() {
		if k.value != nil && k.wire != nil || k.Sentence == "" || (k.Only == nil) != (k.OnlySentence == "") {
			t.Errorf("%s: %+v", k.Name, k)
		}
		if k.wire != nil && len(k.Transports) == 0 {
			t.Errorf("%s is on the wire, but on no transport", k.Name)
		}
		v, err := k.valuesOf(nil)
		if err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
		for _, p := range k.Parameters {
			if !p.check(p.Default) || p.Sentence == "" {
				t.Errorf("%s: %s=%s is not allowed", k.Name, p.Name, p.Default)
			}
		}
		if k.value != nil {
			k.value(v)
		}
		if k.wire != nil {
			k.wire(v)
		}
	}
}
