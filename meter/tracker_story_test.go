package meter_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// both is a look at two counters and a power.
type both struct {
	after   time.Duration
	in, out uint64
	power   *int64
	want    meter.Verdict
}

func w(v int64) *int64 { return &v }

// TestStories are sequences of whole devices behind 10 kW: what the field complains of, counter by counter.
func TestStories(t *testing.T) {
	const m, s = time.Minute, 10 * time.Second
	for name, story := range map[string][]both{
		"a device that starts with zeros for exactly three polls, its export still small": {
			{m, 13_423_000, 5, nil, ok}, {m, 0, 0, nil, held}, {m, 0, 0, nil, held}, {m, 0, 0, nil, repl}, {m, 13_423_050, 5, nil, ok}, {m, 13_423_060, 6, nil, ok},
		},
		"the same while both counters are small": {
			{m, 120, 5, nil, ok}, {m, 0, 0, nil, held}, {m, 0, 0, nil, held}, {m, 0, 0, nil, repl}, {m, 130, 5, nil, ok}, {m, 140, 6, nil, ok},
		},
		"another counter that moves on from 0 is not believed": {
			{m, 120, 5, nil, ok}, {m, 0, 0, nil, held}, {m, 10, 0, nil, held}, {m, 30, 0, nil, repl}, {m, 125, 5, nil, repl}, {m, 140, 5, nil, repl},
		},
		"a counter that is renewed every minute, asked every ten seconds": {
			{m, 1000, 0, w(9000), ok},
			{s, 1000, 0, w(9010), ok},
			{s, 1000, 0, w(8990), ok},
			{s, 1000, 0, w(9020), ok},
			{s, 1000, 0, w(9000), ok},
			{s, 1000, 0, w(9010), ok},
			{s, 1150, 0, w(9000), ok},
			{s, 1150, 0, w(9000), ok},
		},
		"a jump of export while the power says import": {
			{m, 1000, 50, w(300), ok}, {s, 1001, 50, w(310), ok}, {10 * m, 1053, 50, w(305), ok}, {s, 1054, 550, w(300), held}, {s, 1055, 550, w(300), held}, {s, 1056, 550, w(300), repl}, {s, 1057, 50, w(300), ok},
		},
		"a whole device that is frozen for an hour and goes on by itself": {
			{m, 1000, 0, w(2000), ok},
			{5 * m, 1000, 0, w(2000), ok},
			{5 * m, 1000, 0, w(2000), ok},
			{5 * m, 1000, 0, w(2000), ok},
			{m, 1000, 0, w(2000), no},
			{44 * m, 1000, 0, w(2000), no},
			{s, 5000, 0, w(4000), held},
			{s, 5011, 0, w(4000), held},
			{s, 5022, 0, w(4000), ok},
			{s, 5033, 0, w(4000), ok},
		},
		"a short freeze": {
			{m, 1000, 0, w(2000), ok}, {m, 1000, 0, w(2000), ok}, {m, 1000, 0, w(2000), ok}, {m, 1400, 0, w(8000), ok},
		},
		"what thaws with more than can have flowed": {
			{m, 1000, 0, w(2000), ok},
			{5 * m, 1000, 0, w(2000), ok},
			{5 * m, 1000, 0, w(2000), ok},
			{5 * m, 1000, 0, w(2000), ok},
			{m, 1000, 0, w(2000), no},
			{s, 900_000, 0, w(1000), held},
			{s, 900_003, 0, w(1000), held},
			{s, 900_006, 0, w(1000), repl},
			{s, 1030, 0, w(1000), held},
			{s, 1033, 0, w(1000), held},
			{s, 1036, 0, w(1000), ok},
		},
		"import and export that thaw at different times, in steps of ten": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{30 * m, 1000, 500, w(2000), no},
			{s, 1400, 500, w(2000), held},
			{s, 1400, 500, w(-3000), held},
			{s, 1400, 510, w(-3000), held}, // import is confirmed, export only begins
			{s, 1400, 520, w(-3000), held},
			{s, 1400, 530, w(-3000), ok},
			{s, 1410, 530, w(2000), ok},
		},
		"the same the other way round, import a glitch late": {
			{m, 1000, 500, w(-2000), ok},
			{5 * m, 1000, 500, w(-2000), ok},
			{5 * m, 1000, 500, w(-2000), ok},
			{5 * m, 1000, 500, w(-2000), ok},
			{30 * m, 1000, 500, w(-2000), no},
			{s, 1010, 800, w(-2000), held},
			{s, 0, 810, w(-2000), held},
			{s, 1010, 820, w(-2000), held},
			{s, 1010, 820, w(-2000), held},
			{s, 1020, 830, w(-2000), ok},
		},
		"export that stands still while import thaws holds nothing": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{m, 1000, 500, w(2000), no},
			{s, 1400, 500, w(2000), held},
			{s, 1410, 500, w(2000), held},
			{s, 1420, 500, w(2000), ok},
		},
		"export that leaps while import has thawed": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{m, 1000, 500, w(2000), no},
			{s, 1400, 900_000, w(2000), held},
			{s, 1410, 900_010, w(2000), held},
			{s, 1420, 900_020, w(2000), repl},
			{s, 1430, 900_030, w(2000), repl},
			{s, 1440, 500, w(2000), ok},
		},
		"a replaced import that starts lower and catches up while frozen is not believed, though export thaws": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{m, 1000, 500, w(2000), no},
			{m, 700, 500, w(2000), held},
			{m, 800, 510, w(2000), held},
			{m, 900, 520, w(2000), repl},
			{m, 990, 530, w(2000), repl},
			{m, 1080, 540, w(2000), repl},
			{m, 1170, 550, w(2000), repl},
			{m, 1260, 560, w(2000), repl},
			{m, 1350, 570, w(2000), repl},
		},
		"a thawing import that is replaced before export agrees, and catches up": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{m, 1000, 500, w(2000), no},
			{s, 1400, 900_000, w(2000), held},
			{s, 1410, 0, w(2000), held},
			{s, 1420, 900_000, w(2000), held},
			{m, 700, 510, w(2000), held},
			{m, 800, 520, w(2000), held},
			{m, 900, 530, w(2000), repl},
			{m, 1080, 540, w(2000), repl},
			{m, 1170, 550, w(2000), repl},
			{m, 1260, 560, w(2000), repl},
			{m, 1350, 570, w(2000), repl},
		},
		"what spoke against import does not count for it, once it goes on from where it was frozen": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{m, 1000, 500, w(2000), no},
			{s, 990, 500, w(2000), held},
			{s, 998, 500, w(2000), held},
			{s, 1010, 500, w(2000), held},
			{s, 1012, 500, w(2000), held},
			{s, 1014, 500, w(2000), ok},
		},
		"import that thaws and leaps was not away: it vouches for no replaced export": {
			{m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{5 * m, 1000, 500, w(2000), ok},
			{m, 1000, 500, w(2000), no},
			{m, 1010, 300, w(2000), held},
			{m, 1020, 350, w(2000), held},
			{m, 1030, 400, w(2000), repl},
			{m, 1040, 480, w(2000), repl},
			{m, 1050, 560, w(2000), repl},
			{m, 1500, 640, w(2000), repl},
			{m, 1510, 650, w(2000), repl},
			{m, 1520, 660, w(2000), repl},
		},
		"a meter of a house that needs nothing is not frozen": {
			{m, 1000, 9, w(5), ok}, {time.Hour, 1000, 9, w(5), ok}, {time.Hour, 1000, 9, w(5), ok}, {time.Hour, 1000, 9, w(5), ok},
		},
	} {
		t.Run(name, func(t *testing.T) {
			at, state := noon, meter.TrackerState{}
			for i, b := range story {
				tracker, err := meter.NewTracker(10000, throughJSON(t, state))
				if err != nil {
					t.Fatal(err)
				}
				at = at.Add(b.after)
				got := tracker.Offer(meter.Sample{At: at, ImportWh: &b.in, ExportWh: &b.out, PowerW: b.power})
				state = tracker.State()
				if got.Verdict != b.want {
					t.Fatalf("poll %d, %d and %d Wh: got %v (%s), expected %v", i, b.in, b.out, got.Verdict, got.Reason, b.want)
				}
				if waiting := tracker.Waiting(); waiting != (b.want == repl) {
					t.Fatalf("poll %d: waiting is %v", i, waiting)
				}
				if frozen := got.Verdict == no; frozen != (got.Sample.Quality&meter.Stale != 0) {
					t.Errorf("poll %d: quality %v", i, got.Sample.Quality)
				}
			}
		})
	}
}

// A counter that bounces down by exactly its resolution, and up by it at the same instant, gains nothing by it.
func TestBouncesGainNothing(t *testing.T) {
	tracker, err := meter.NewTracker(10000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	const res = 100
	var last uint64
	for i := range uint64(1000) {
		wh := uint64(1_000_000)
		if i%2 == 1 {
			wh -= res
		}
		if i >= 500 {
			wh = 1_000_000 + (i-499)*res // now it climbs, a resolution a second: 360 kW
		}
		got := tracker.Offer(meter.Sample{At: noon.Add(time.Duration(i) * time.Second), ImportWh: &wh, ImportTraits: def.Traits{ResolutionWh: res}})
		if got.Verdict == ok {
			last = *got.Sample.ImportWh
		}
		if most := 1_000_000 + res + 1 + i*10_000*11/36_000; last > most || i < 500 && last != 1_000_000 {
			t.Fatalf("poll %d: the counter is %d, at most %d", i, last, most)
		}
	}
}

// A device that was another one for a while is known again by what it says of itself.
func TestStrangers(t *testing.T) {
	id := func(maker, model, serial string) meter.Identity {
		return meter.Identity{Maker: maker, Model: model, Serial: serial}
	}
	for name, c := range map[string]struct {
		known, other, back meter.Identity
		quality            meter.Quality
		recovers           bool
	}{
		"its serial number":                      {known: id("A", "X", "1"), other: id("A", "X", "2"), back: id("A", "X", "1"), recovers: true},
		"no serial number, another model":        {known: id("A", "X", ""), other: id("B", "Y", ""), back: id("A", "X", ""), recovers: true},
		"another model that has a serial":        {known: id("A", "X", ""), other: id("B", "Y", "7"), back: id("B", "Y", "7")},
		"only the source saw it":                 {known: id("", "", ""), other: id("", "", ""), back: id("", "", ""), quality: meter.IdentityChanged},
		"a serial number that was never known":   {known: id("", "", ""), other: id("", "", "9"), back: id("", "", "9"), quality: meter.IdentityChanged},
		"another firmware text, the same serial": {known: id("A", "X", "1"), other: id("A", "X+", "1"), recovers: true},
	} {
		t.Run(name, func(t *testing.T) {
			tracker, err := meter.NewTracker(10000, meter.TrackerState{})
			if err != nil {
				t.Fatal(err)
			}
			offer := func(minute int, who meter.Identity, q meter.Quality) meter.Verdict {
				return tracker.Offer(meter.Sample{At: noon.Add(time.Duration(minute) * time.Minute), ImportWh: new(uint64(1000 + minute)), Identity: who, Quality: q}).Verdict
			}
			if got := offer(0, c.known, 0); got != ok {
				t.Fatal(got)
			}
			want := repl
			if c.back == (meter.Identity{}) && c.recovers {
				want = ok
			}
			if got := offer(1, c.other, c.quality); got != want {
				t.Fatalf("the other one: %v", got)
			}
			if want == ok {
				return
			}
			if got := tracker.State().Stranger; got != c.other || !tracker.Waiting() {
				t.Errorf("stranger is %+v", got)
			}
			if got := offer(2, c.back, 0) == ok; got != c.recovers {
				t.Fatalf("recovers is %v", got)
			}
			tracker.NewEpoch()
			if got := offer(3, c.other, 0); got != ok || tracker.Waiting() {
				t.Errorf("approved: %v", got)
			}
		})
	}
}

// A clock that was set back: elapsed time goes on from where it stood.
func TestClockSetBack(t *testing.T) {
	tracker, err := meter.NewTracker(10000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	tracker.ClockSetBack(time.Hour) // there is nothing to set back yet
	for i, c := range []struct {
		at   time.Duration
		wh   uint64
		want meter.Verdict
	}{{0, 1000, ok}, {time.Minute, 0, held}, {-59 * time.Minute, 0, held}, {-58 * time.Minute, 1300, ok}, {-57 * time.Minute, 99_999, held}} {
		if i == 2 {
			tracker.ClockSetBack(time.Hour)
		}
		if got := tracker.Offer(meter.Sample{At: noon.Add(c.at), ImportWh: &c.wh}); got.Verdict != c.want {
			t.Fatalf("poll %d: %v, %s", i, got.Verdict, got.Reason)
		}
	}
}

// A state that was kept before there was a word for thawing: its counters, which had begun to agree, begin anew.
func TestStateFromBeforeThawing(t *testing.T) {
	var state meter.TrackerState
	const kept = `{"at": "2026-06-21T12:00:00Z", "frozen": true, "still_since": "2026-06-21T11:30:00Z", "still_wms": 3600000000,
		"import": {"known": true, "last_wh": 1000, "credit_wms": 3600000, "agreeing": 2, "candidate_wh": 1090, "candidate_at": "2026-06-21T12:10:00Z", "moved": true},
		"export": {"known": true, "last_wh": 500, "credit_wms": 3600000}}`
	if err := json.Unmarshal([]byte(kept), &state); err != nil {
		t.Fatal(err)
	}
	tracker, err := meter.NewTracker(10000, state)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []meter.Verdict{held, held, ok} {
		got := tracker.Offer(meter.Sample{At: noon.Add(time.Duration(11+i) * time.Minute), ImportWh: new(uint64(1100 + i)), ExportWh: new(uint64(500))})
		if got.Verdict != want || tracker.Waiting() {
			t.Fatalf("sample %d: %v, %s", i, got.Verdict, got.Reason)
		}
	}
}

// Another version of a definition may read another model from the same device.
func TestAnotherDefinition(t *testing.T) {
	tracker, err := meter.NewTracker(10000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		source, model string
		want          meter.Verdict
	}{{"a@1", "X", ok}, {"a@2", "X (2)", ok}, {"a@2", "X", repl}, {"a@2", "X (2)", ok}} {
		s := meter.Sample{At: noon.Add(time.Duration(i) * time.Minute), ImportWh: new(uint64(1000)), Source: c.source, Identity: meter.Identity{Model: c.model}}
		if got := tracker.Offer(s); got.Verdict != c.want {
			t.Errorf("sample %d: %v, %s", i, got.Verdict, got.Reason)
		}
	}
}

// FuzzTracker: no sequence of samples makes the counters fall, rise faster than the power allows in the long run, or
// panic, also not when the tracker is kept on disk between any two.
func FuzzTracker(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 7, 3})
	f.Add(thaw())
	f.Fuzz(func(t *testing.T, data []byte) {
		const maxPower = 10_000
		tracker, err := meter.NewTracker(maxPower, meter.TrackerState{})
		if err != nil {
			t.Fatal(err)
		}
		at := noon
		var first, last *meter.Sample
		var firstAt time.Time
		for i := 0; i+8 <= len(data) && i < 8*500; i += 8 {
			b := data[i : i+8]
			at = at.Add(time.Duration(int8(b[0])) * time.Second)
			in := uint64(b[1]) << (b[2] % 57)
			s := meter.Sample{At: at, ImportWh: &in, Quality: meter.Quality(b[3] & b[4] & b[5])}
			s.ImportTraits = def.Traits{ResolutionWh: uint64(b[4] % 4), WrapWh: uint64(b[5]%2) * 65536}
			if b[6]%4 > 0 {
				out, p := uint64(b[6]), int64(int8(b[7]))<<(b[3]%57)
				s.ExportWh, s.PowerW = &out, &p
			}
			if b[7]%16 == 0 {
				s.Identity.Serial = fmt.Sprint(b[7] / 64)
			}
			d := tracker.Offer(s)
			if again, err := meter.NewTracker(maxPower, tracker.State()); err == nil {
				tracker = again
			}
			if (d.Verdict == meter.Accepted || d.Verdict == meter.Held) && tracker.Waiting() {
				t.Fatalf("%v, and nothing is to be accepted any more", d.Verdict)
			}
			if d.Verdict != meter.Accepted {
				if d.Reason == "" {
					t.Fatalf("%v for no reason", d.Verdict)
				}
				continue
			}
			if last != nil && (*d.Sample.ImportWh < *last.ImportWh || d.Sample.At.Before(last.At)) {
				t.Fatalf("counter fell from %d to %d", *last.ImportWh, *d.Sample.ImportWh)
			}
			if last = &d.Sample; first == nil {
				first, firstAt = last, at
			}
			most := uint64(at.Sub(firstAt).Milliseconds())*maxPower*11/36_000_000 + 2*4 + uint64(i)
			if *last.ImportWh-*first.ImportWh > most {
				t.Fatalf("counter rose by %d Wh in %v", *last.ImportWh-*first.ImportWh, at.Sub(firstAt))
			}
		}
	})
}

// thaw is a sequence for FuzzTracker: counters that are frozen at 6400 W and move again, export three polls later.
func thaw() (data []byte) {
	for i := range byte(20) {
		in, out := byte(100), byte(5)
		if i > 10 {
			in += i - 10
		}
		if i > 13 {
			out += i - 13
		}
		data = append(data, 120, in, 0, 6, 0, 0, out, 100)
	}
	return data
}
