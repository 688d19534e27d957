package meter_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

var noon = time.Date(2026, 6, 21, 12, 0, 0, 0, time.UTC)

// offer is one poll of an import counter, in Wh.
type offer struct {
	after  time.Duration // since the poll before
	wh     uint64
	change func(*meter.Sample)
	want   meter.Verdict
	gives  uint64 // the counter of the reading, if accepted
}

const (
	ok   = meter.Accepted
	held = meter.Held
	repl = meter.Replaced
	no   = meter.Refused
)

// TestCounterRules is the table of what counters do in the field. The meter is behind 10 kW, so a counter rises by at
// most 10000 × 1.1 / 60 = 184 Wh a minute, plus its resolution of 1 Wh.
func TestCounterRules(t *testing.T) {
	const m = time.Minute
	unknown := func(s *meter.Sample) { s.ImportWh = nil }
	quality := func(q meter.Quality) func(*meter.Sample) { return func(s *meter.Sample) { s.Quality |= q } }
	serial := func(n string) func(*meter.Sample) { return func(s *meter.Sample) { s.Identity.Serial = n } }
	coarse := func(s *meter.Sample) { s.ImportTraits.ResolutionWh = 10 }
	wraps := func(s *meter.Sample) { s.ImportTraits.WrapWh = 1000 }
	for _, c := range []struct {
		name   string
		offers []offer
	}{
		{"ct-01 a counter that falls to 0 and comes back", []offer{
			{m, 13423000, nil, ok, 13423000}, {m, 0, nil, held, 0}, {m, 13423010, nil, ok, 13423010},
		}},
		{"ct-02 eleven zero bounces", bounces(11)},
		{"ct-03 0 for so long that it looks real, then back", []offer{
			{m, 13423000, nil, ok, 13423000},
			{m, 0, nil, held, 0},
			{m, 0, nil, held, 0},
			{m, 0, nil, repl, 0},
			{m, 0, nil, repl, 0},
			{m, 13423020, nil, ok, 13423020},
			{m, 13423021, nil, ok, 13423021},
		}},
		{"ct-04 a meter that was replaced by a new one and is never believed again by itself", []offer{
			{m, 500, nil, ok, 500}, {m, 2, nil, held, 0}, {m, 100, nil, held, 0}, {m, 200, nil, repl, 0}, {m, 380, nil, repl, 0}, {m, 560, nil, repl, 0}, {m, 700, nil, repl, 0},
		}},
		{"ct-05 first contact while the device still says 0", []offer{
			{m, 0, nil, held, 0}, {m, 0, nil, held, 0}, {m, 13423000, nil, ok, 13423000}, {m, 13423001, nil, ok, 13423001},
		}},
		{"ct-05b a counter that is new", []offer{
			{m, 0, nil, held, 0}, {m, 0, nil, held, 0}, {m, 0, nil, ok, 0}, {m, 1, nil, ok, 1},
		}},
		{"ct-06 a jump that goes away", []offer{
			{m, 1000, nil, ok, 1000}, {m, 99999, nil, held, 0}, {m, 1010, nil, ok, 1010},
		}},
		{"ct-07 at the limit and one above", []offer{
			{m, 1000, nil, ok, 1000}, {m, 1185, nil, ok, 1185}, {m, 1371, nil, held, 0}, {m, 1372, nil, ok, 1372},
		}},
		{"ct-08 a burst that the power allows a moment later", []offer{
			{m, 1000, nil, ok, 1000}, {time.Second, 1060, nil, held, 0}, {20 * time.Second, 1060, nil, ok, 1060},
		}},
		{"ct-09 jitter within the resolution", []offer{
			{m, 1000, coarse, ok, 1000}, {m, 991, coarse, ok, 1000}, {m, 1003, coarse, ok, 1003}, {m, 992, coarse, held, 0}, {m, 1003, coarse, ok, 1003},
		}},
		{"ct-10 a declared wrap", []offer{
			{m, 990, wraps, ok, 990}, {m, 5, wraps, held, 0}, {m, 10, wraps, held, 0}, {m, 20, wraps, ok, 1020}, {m, 40, wraps, ok, 1040},
		}},
		{"ct-11 a wrap twice", []offer{
			{m, 900, wraps, ok, 900},
			{m, 50, wraps, held, 0},
			{m, 51, wraps, held, 0},
			{m, 52, wraps, ok, 1052},
			{5 * m, 950, wraps, ok, 1950},
			{m, 20, wraps, held, 0},
			{m, 21, wraps, held, 0},
			{m, 22, wraps, ok, 2022},
		}},
		{"ct-12 a fall that is too far from the wrap", []offer{
			{m, 300, wraps, ok, 300}, {m, 5, wraps, held, 0}, {m, 10, wraps, held, 0}, {m, 20, wraps, repl, 0},
		}},
		{"ct-13 unknown is no reading, and not 0", []offer{
			{m, 0, unknown, no, 0}, {m, 1000, nil, ok, 1000}, {m, 0, unknown, no, 0}, {m, 1020, nil, ok, 1020},
		}},
		{"ct-14 what the quality says", []offer{
			{m, 1000, quality(meter.Retained), no, 0},
			{m, 1000, quality(meter.Stale), no, 0},
			{m, 1000, quality(meter.DeviceError), no, 0},
			{m, 1000, quality(meter.OutOfRange), no, 0},
			{m, 1000, quality(meter.Substitute), no, 0},
			{m, 1000, quality(meter.ClockUnsure), ok, 1000},
		}},
		{"ct-15 a time before the last reading", []offer{
			{m, 1000, nil, ok, 1000}, {-m, 1001, nil, no, 0}, {2 * m, 1002, nil, ok, 1002},
		}},
		{"ct-16 another serial number, and the old one again", []offer{
			{m, 1000, serial("A"), ok, 1000}, {m, 1001, serial("B"), repl, 0}, {m, 1002, nil, repl, 0}, {m, 1003, serial("A"), ok, 1003},
		}},
		{"ct-17 a source that saw the device change", []offer{
			{m, 1000, nil, ok, 1000}, {m, 1001, quality(meter.IdentityChanged), repl, 0},
		}},
		{"ct-18 a device that learns its serial number late", []offer{
			{m, 1000, nil, ok, 1000}, {m, 1001, serial("A"), ok, 1001}, {m, 1002, nil, ok, 1002},
		}},
		{"ct-19 a long outage: all that the power allows", []offer{
			{m, 1000, nil, ok, 1000}, {24 * time.Hour, 265001, nil, ok, 265001}, {24 * time.Hour, 600000, nil, held, 0},
		}},
		{"ct-20 two stories that do not agree begin the count anew", []offer{
			{m, 9000, nil, ok, 9000}, {m, 0, nil, held, 0}, {m, 5000, nil, held, 0}, {m, 3, nil, held, 0}, {m, 4, nil, held, 0}, {m, 5, nil, repl, 0},
		}},
		{"ct-21 the same time twice", []offer{
			{m, 1000, nil, ok, 1000}, {0, 1001, nil, ok, 1001}, {0, 1003, nil, held, 0},
		}},
		{"ct-22 the largest counters", []offer{
			{m, 1 << 63, nil, ok, 1 << 63}, {m, 1<<64 - 1, nil, held, 0}, {m, 0, nil, held, 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) { runOffers(t, c.offers) })
	}
}

func bounces(n int) []offer {
	offers := []offer{{time.Minute, 13423000, nil, ok, 13423000}}
	for i := range uint64(n) {
		offers = append(offers, offer{time.Minute, 0, nil, held, 0}, offer{time.Minute, 13423000 + i, nil, ok, 13423000 + i})
	}
	return offers
}

func runOffers(t *testing.T, offers []offer) {
	t.Helper()
	at, state := noon, meter.TrackerState{}
	for i, o := range offers {
		// Each poll is by a tracker that was just loaded from disk: state is all there is.
		tracker, err := meter.NewTracker(10000, throughJSON(t, state))
		if err != nil {
			t.Fatal(err)
		}
		at = at.Add(o.after)
		s := meter.Sample{At: at, ImportWh: new(o.wh)}
		if o.change != nil {
			o.change(&s)
		}
		got := tracker.Offer(s)
		state = tracker.State()
		if got.Verdict != o.want {
			t.Fatalf("poll %d, %d Wh: got %v (%s), expected %v", i, o.wh, got.Verdict, got.Reason, o.want)
		}
		if got.Verdict == ok && *got.Sample.ImportWh != o.gives {
			t.Fatalf("poll %d, %d Wh: got a counter of %d, expected %d", i, o.wh, *got.Sample.ImportWh, o.gives)
		}
		if (got.Verdict == ok) != (got.Reason == "") {
			t.Errorf("poll %d: %v for the reason %q", i, got.Verdict, got.Reason)
		}
		if got.Verdict == held && got.Sample.Quality&meter.Suspect == 0 {
			t.Errorf("poll %d: held, but of quality %v", i, got.Sample.Quality)
		}
	}
}

func throughJSON(t *testing.T, state meter.TrackerState) meter.TrackerState {
	t.Helper()
	data, err := json.Marshal(state)
	if err != nil {
		t.Fatal(err)
	}
	var back meter.TrackerState
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state, back); diff != "" {
		t.Fatalf("state does not survive the disk: %s", diff)
	}
	return back
}

// TestTwoRegisters: import and export of one sample stand and fall together.
func TestTwoRegisters(t *testing.T) {
	tracker, err := meter.NewTracker(10000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	at := noon
	for i, c := range []struct {
		in, out *uint64
		want    meter.Verdict
	}{
		{new(uint64(100)), nil, ok},              // an export counter may show up later
		{new(uint64(110)), new(uint64(5)), ok},   //
		{new(uint64(120)), nil, no},              // but not vanish
		{nil, new(uint64(6)), no},                //
		{new(uint64(130)), new(uint64(0)), held}, // a good import does not save a bad export
		{new(uint64(140)), new(uint64(6)), ok},   //
		{new(uint64(0)), new(uint64(0)), held},   //
		{new(uint64(0)), new(uint64(0)), held},   //
		{new(uint64(0)), new(uint64(0)), repl},   //
		{new(uint64(150)), new(uint64(0)), repl}, // both have to come back
		{new(uint64(6000)), new(uint64(9999)), held},
	} {
		at = at.Add(time.Minute)
		if got := tracker.Offer(meter.Sample{At: at, ImportWh: c.in, ExportWh: c.out}); got.Verdict != c.want {
			t.Fatalf("sample %d: got %v (%s), expected %v", i, got.Verdict, got.Reason, c.want)
		}
	}
	tracker.NewEpoch()
	got := tracker.Offer(meter.Sample{At: at.Add(time.Minute), ImportWh: new(uint64(3)), ExportWh: new(uint64(4)), Identity: meter.Identity{Serial: "new"}})
	if got.Verdict != ok || tracker.State().Serial != "new" {
		t.Errorf("in a new epoch: got %v (%s), state %+v", got.Verdict, got.Reason, tracker.State())
	}
}

// TestSignedSamplesAreNotMended: what a device signed cannot be smoothed or unwrapped, and its epoch is its own.
func TestSignedSamplesAreNotMended(t *testing.T) {
	tracker, err := meter.NewTracker(10000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	sample := func(minute int, wh uint64, epoch uint32) meter.Sample {
		return meter.Sample{
			At: noon.Add(time.Duration(minute) * time.Minute), ImportWh: new(wh), ImportTraits: def.Traits{ResolutionWh: 10, WrapWh: 1000},
			Signed: &meter.SignedProof{Reading: meter.Reading{Epoch: epoch}},
		}
	}
	for i, c := range []struct {
		s    meter.Sample
		want meter.Verdict
	}{
		{sample(0, 990, 2), ok},
		{sample(1, 989, 2), held},
		{sample(2, 990, 2), ok},
		{sample(3, 1, 2), held},
		{sample(4, 2, 2), held},
		{sample(5, 3, 2), repl},
		{sample(6, 991, 2), ok},
		{sample(7, 992, 3), repl},
		{sample(8, 992, 2), ok},
	} {
		if got := tracker.Offer(c.s); got.Verdict != c.want {
			t.Fatalf("sample %d: got %v (%s), expected %v", i, got.Verdict, got.Reason, c.want)
		}
	}
	tracker.NewEpoch()
	if got := tracker.Offer(sample(9, 5, 3)); got.Verdict != ok {
		t.Errorf("in the new epoch: got %v (%s)", got.Verdict, got.Reason)
	}
}

func TestNewTrackerRefuses(t *testing.T) {
	for _, w := range []int64{-1, 0, 1e9 + 1} {
		if _, err := meter.NewTracker(w, meter.TrackerState{}); err == nil {
			t.Errorf("max_power_w %d was taken", w)
		}
	}
}

// TestTrackerNeverInvents: whatever a counter does, the accepted values never fall within an epoch, never rise faster
// than the power allows, and each is a value that the device showed (wraps aside).
func TestTrackerNeverInvents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const maxPower = 20000
		tracker, err := meter.NewTracker(maxPower, meter.TrackerState{})
		if err != nil {
			t.Fatal(err)
		}
		at, truth := noon, rapid.Uint64Range(0, 50000).Draw(t, "start")
		var last uint64
		var moved time.Time // when the counter last rose: while it stands still nothing says that it is renewed
		for i := range rapid.IntRange(1, 60).Draw(t, "polls") {
			at = at.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, fmt.Sprintf("seconds %d", i))) * time.Second)
			truth += rapid.Uint64Range(0, 300).Draw(t, "rise")
			shown := truth
			switch rapid.IntRange(0, 5).Draw(t, "fault") {
			case 0:
				shown = 0
			case 1:
				shown = rapid.Uint64Range(0, 1<<40).Draw(t, "wild")
			case 2:
				shown = truth - min(truth, 3)
			}
			got := tracker.Offer(meter.Sample{At: at, ImportWh: &shown})
			if got.Verdict != meter.Accepted {
				continue
			}
			wh := *got.Sample.ImportWh
			if !moved.IsZero() {
				elapsed := at.Sub(moved).Milliseconds()
				most := uint64(elapsed*maxPower*11/36_000_000) + 1 + 1
				if wh < last || wh-last > most {
					t.Fatalf("counter went from %d to %d in %d ms, at most %d more can be", last, wh, elapsed, most)
				}
				if wh != shown && wh != last {
					t.Fatalf("counter is %d, but the device showed %d and before that %d", wh, shown, last)
				}
			}
			if wh != last || moved.IsZero() {
				moved = at
			}
			last = wh
		}
	})
}

// A counter that stands still while power flows is accepted, but in doubt before it is called frozen.
func TestDoubt(t *testing.T) {
	for _, c := range []struct {
		name    string
		powerW  int64
		minutes int
		step    uint64
		doubt   bool
	}{
		{"too short to tell", 5000, 4, 1, false},
		{"a kettle", 2000, 5, 1, true},
		{"next to nothing flows", 100, 6, 1, false},
		{"the same for longer", 100, 12, 1, true},
		{"below what makes a counter count", 15, 60, 1, false},
		{"a counter of coarse steps", 1000, 10, 100, false},
		{"the same for longer", 1000, 13, 100, true},
	} {
		tracker, err := meter.NewTracker(20_000, meter.TrackerState{})
		if err != nil {
			t.Fatal(err)
		}
		var s meter.Sample
		for minute := range c.minutes + 1 {
			imported, exported, power := uint64(1000), uint64(7), c.powerW
			s = meter.Sample{
				At: time.Date(2026, 6, 21, 6, 0, 0, 0, time.UTC).Add(time.Duration(minute) * time.Minute), ImportWh: &imported, ExportWh: &exported, PowerW: &power,
				ImportTraits: def.Traits{ResolutionWh: c.step}, ExportTraits: def.Traits{ResolutionWh: c.step},
			}
			if d := tracker.Offer(s); d.Verdict != meter.Accepted {
				t.Fatalf("%s: minute %d: %v %s", c.name, minute, d.Verdict, d.Reason)
			}
		}
		if why := tracker.State().Doubt(s); (why != "") != c.doubt {
			t.Errorf("%s: got %q, expected doubt: %v", c.name, why, c.doubt)
		}
	}
}

// A counter that stood still in a silence shows nothing of that afterwards but that it goes on to: the first sample is
// accepted, and in doubt until there is something new.
func TestDoubtAfterSilence(t *testing.T) {
	const m = time.Minute
	type look struct {
		after time.Duration
		wh    uint64
		power *int64
		doubt bool
	}
	for name, looks := range map[string][]look{
		"frozen at some moment of it":             {{m, 1000, w(700), false}, {m, 1010, w(700), false}, {2 * time.Hour, 1500, w(716), true}, {m, 1500, w(716), true}, {m, 1515, w(650), false}},
		"not at all: the counter moves":           {{m, 1000, w(700), false}, {m, 1010, w(700), false}, {2 * time.Hour, 1500, w(716), true}, {m, 1511, w(716), false}},
		"not at all: the power changes":           {{m, 1000, w(700), false}, {m, 1010, w(700), false}, {2 * time.Hour, 1500, w(716), true}, {m, 1500, w(717), false}},
		"a power with which counters stand still": {{m, 1000, w(700), false}, {m, 1010, w(700), false}, {2 * time.Hour, 1500, w(19), false}, {m, 1500, w(19), false}},
		"a device without a power":                {{m, 1000, nil, false}, {m, 1010, nil, false}, {2 * time.Hour, 1500, nil, false}, {m, 1500, nil, false}},
		"short silence":                           {{m, 1000, w(700), false}, {m, 1010, w(700), false}, {30 * m, 1300, w(716), false}},
		"a device that tells once an hour":        {{m, 1000, w(700), false}, {60 * m, 1700, w(700), true}, {60 * m, 2400, w(700), false}, {61 * m, 3100, w(700), false}, {150 * m, 5000, w(700), true}, {60 * m, 5700, w(700), false}},
		"a house that slept meanwhile":            {{m, 1000, w(12), false}, {2 * time.Hour, 1000, w(700), true}, {m, 1011, w(700), false}},
	} {
		t.Run(name, func(t *testing.T) {
			at, state := noon, meter.TrackerState{}
			for i, l := range looks {
				tracker, err := meter.NewTracker(10000, throughJSON(t, state))
				if err != nil {
					t.Fatal(err)
				}
				at = at.Add(l.after)
				s := meter.Sample{At: at, ImportWh: &l.wh, PowerW: l.power}
				if d := tracker.Offer(s); d.Verdict != ok {
					t.Fatalf("look %d: %v, %s", i, d.Verdict, d.Reason)
				}
				state = tracker.State()
				if why := state.Doubt(s); (why != "") != l.doubt {
					t.Errorf("look %d: got %q, expected doubt: %v", i, why, l.doubt)
				}
			}
		})
	}
}
