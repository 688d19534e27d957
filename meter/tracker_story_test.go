package meter_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

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

// naive is a second tracker, for one counter without power, that is deliberately dumb: it keeps all that was ever
// accepted and works in fractions of exact size.
type naive struct {
	maxPower int64
	accepted []poll
	away     []poll // the other story, as far as it agrees with itself
	zeros    int
}

type poll struct {
	at time.Time
	wh uint64
}

func (n *naive) flows(from, to time.Time) *big.Rat {
	return new(big.Rat).SetFrac(big.NewInt(n.maxPower*11*to.Sub(from).Milliseconds()), big.NewInt(36_000_000))
}

func atMost(rise uint64, bound *big.Rat) bool {
	up := new(big.Int).Add(bound.Num(), new(big.Int).Sub(bound.Denom(), big.NewInt(1)))
	return new(big.Int).SetUint64(rise).Cmp(up.Div(up, bound.Denom())) <= 0
}

// credit goes through all that was accepted since the beginning.
func (n *naive) credit(res uint64) *big.Rat {
	whole := func(v uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(v)) }
	hour := n.flows(noon, noon.Add(time.Hour))
	c := whole(res)
	for i := 1; i < len(n.accepted); i++ {
		was, is := n.accepted[i-1], n.accepted[i]
		flows := n.flows(was.at, is.at)
		if is.wh == was.wh {
			if add := new(big.Rat).Sub(hour, c); add.Cmp(flows) < 0 {
				flows = add
			}
			if flows.Sign() > 0 {
				c = new(big.Rat).Add(c, flows)
			}
			continue
		}
		c = new(big.Rat).Sub(new(big.Rat).Add(c, flows), whole(is.wh-was.wh))
		if c.Sign() < 0 {
			c = new(big.Rat)
		}
		if c.Cmp(whole(res)) > 0 {
			c = whole(res)
		}
	}
	return c
}

func (n *naive) offer(p poll, res uint64) (meter.Verdict, uint64) {
	if len(n.accepted) == 0 {
		if n.zeros++; p.wh == 0 && n.zeros < 3 {
			return held, 0
		}
		n.accepted = append(n.accepted, p)
		return ok, p.wh
	}
	last := n.accepted[len(n.accepted)-1]
	if p.at.Before(last.at) {
		return no, 0
	}
	follows, moved := false, false
	if k := len(n.away); k > 0 {
		before := n.away[k-1]
		up := new(big.Rat).SetInt64(0)
		if p.at.After(before.at) {
			up = n.flows(before.at, p.at)
		}
		follows = p.wh+res >= before.wh && (p.wh <= before.wh+res || atMost(p.wh-before.wh-res, up))
		for _, a := range n.away {
			moved = moved || a.wh != n.away[0].wh
		}
	}
	fits := p.wh >= last.wh && atMost(p.wh-last.wh, new(big.Rat).Add(n.credit(res), n.flows(last.at, p.at)))
	doubt := follows && len(n.away) >= 3 && (moved || n.away[0].wh >= last.wh)
	switch {
	case fits && !doubt:
	case p.wh < last.wh && last.wh-p.wh <= res && !doubt:
		p.wh = last.wh
	default:
		if !follows {
			n.away = nil
		}
		if n.away = append(n.away, p); len(n.away) >= 3 {
			return repl, 0
		}
		return held, 0
	}
	n.away = nil
	n.accepted = append(n.accepted, p)
	return ok, p.wh
}

// TestTrackerAgainstNaive: the tracker and the dumb one say the same of every sequence, and whatever a device does that
// a power cannot do, each accepted counter is the true one, never more, and it is accepted again once it tells the truth.
func TestTrackerAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const maxPower = 20_000
		res := rapid.SampledFrom([]uint64{1, 10, 100}).Draw(t, "resolution")
		tracker, err := meter.NewTracker(maxPower, meter.TrackerState{})
		if err != nil {
			t.Fatal(err)
		}
		dumb := &naive{maxPower: maxPower}
		at, truth := noon, rapid.SampledFrom([]uint64{0, 7, 250, 13_423_000, 1 << 40}).Draw(t, "start")
		var left int
		var lie func() uint64
		settled, known := 0, false // how long the device has been telling the truth
		for i := range rapid.IntRange(1, 80).Draw(t, "polls") {
			step := rapid.IntRange(1, 120).Draw(t, "seconds")
			at = at.Add(time.Duration(step) * time.Second)
			truth += rapid.Uint64Range(0, uint64(step)*maxPower/3600).Draw(t, "rise")
			if left == 0 && known && rapid.IntRange(0, 3).Draw(t, "faulty") == 0 {
				left, lie = rapid.IntRange(1, 9).Draw(t, "for"), draw(t, truth, res)
			}
			shown := truth
			if left > 0 {
				left--
				shown, settled = lie(), 0
			} else {
				settled++
			}
			got := tracker.Offer(meter.Sample{At: at, ImportWh: &shown, ImportTraits: def.Traits{ResolutionWh: res}})
			verdict, wh := dumb.offer(poll{at, shown}, res)
			if got.Verdict != verdict || verdict == ok && *got.Sample.ImportWh != wh {
				t.Fatalf("poll %d: %d Wh is %v %s, the dumb one says %v, %d Wh", i, shown, got.Verdict, got.Reason, verdict, wh)
			}
			if got.Verdict == ok {
				known = true
				if v := *got.Sample.ImportWh; v > truth || settled > 0 && v+res < truth {
					t.Fatalf("poll %d: accepted %d Wh, the truth is %d", i, v, truth)
				}
			}
			if known && settled > 2 && got.Verdict != ok && !ambiguous(tracker.State()) {
				t.Fatalf("poll %d: the truth is %v: %s", i, got.Verdict, got.Reason)
			}
		}
	})
}

// ambiguous says whether the other story moved and is below what its own next step can reach: it may be another meter.
func ambiguous(s meter.TrackerState) bool {
	return s.Import.Moved && s.Import.CandidateWh <= s.Import.LastWh+1000
}

// draw makes a lie of a device: none that its power could tell.
func draw(t *rapid.T, truth, res uint64) func() uint64 {
	n, faults := uint64(0), []string{"leap", "wild", "jitter", "zero", "restart"}
	if truth < 5000 {
		faults = faults[:3] // a small counter that falls tells what it could have told truly
	}
	switch rapid.SampledFrom(faults).Draw(t, "fault") {
	case "zero":
		return func() uint64 { return 0 }
	case "restart":
		return func() uint64 { n += 3; return n }
	case "leap":
		return func() uint64 { n++; return truth + 1<<33 + n }
	case "wild":
		return func() uint64 { n++; return truth + 1<<33 + n*1_000_003 }
	default:
		return func() uint64 { return truth - min(truth, res) }
	}
}

// FuzzTracker: no sequence of samples makes the counters fall, rise faster than the power allows in the long run, or
// panic, also not when the tracker is kept on disk between any two.
func FuzzTracker(f *testing.F) {
	f.Add([]byte("0123456789abcdef0123456789abcdef"))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255, 7, 3})
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
