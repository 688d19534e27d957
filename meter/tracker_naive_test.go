package meter_test

import (
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// poll is what a device of import and, if it has one, export said at a time.
type poll struct {
	at    time.Time
	wh    []uint64
	power *int64
}

// remark is what one counter said in a sample that did not count: whether that spoke for the counter, which was frozen
// and goes on, or against it.
type remark struct {
	at  time.Time
	wh  uint64
	own bool
}

// naive is a second tracker that is deliberately dumb: it keeps all that was ever said, goes through it from the
// beginning for every question, and works in fractions of exact size. It knows no wraps and no identities.
type naive struct {
	maxPower int64
	res      uint64
	accepted []poll
	remarks  [2][]remark // of each counter, since it was last without blame
	zeros    int
}

func whole(v uint64) *big.Rat { return new(big.Rat).SetInt(new(big.Int).SetUint64(v)) }

// energy is what a power is in a time, in Wh.
func energy(watt int64, d time.Duration) *big.Rat {
	return new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(watt), big.NewInt(d.Milliseconds())), big.NewInt(3_600_000))
}

func least(first *big.Rat, others ...*big.Rat) *big.Rat {
	for _, o := range others {
		if o.Cmp(first) < 0 {
			first = o
		}
	}
	return first
}

func (n *naive) flows(from, to time.Time) *big.Rat {
	if to.Before(from) {
		return new(big.Rat)
	}
	return new(big.Rat).Mul(energy(n.maxPower, to.Sub(from)), big.NewRat(11, 10))
}

func atMost(rise uint64, bound *big.Rat) bool {
	up := new(big.Int).Add(bound.Num(), new(big.Int).Sub(bound.Denom(), big.NewInt(1)))
	return new(big.Int).SetUint64(rise).Cmp(up.Div(up, bound.Denom())) <= 0
}

// credit is how far a counter may be beyond what it showed last, apart from what flowed since.
func (n *naive) credit(side int) *big.Rat {
	c := whole(n.res)
	for i := 1; i < len(n.accepted); i++ {
		was, is := n.accepted[i-1], n.accepted[i]
		flows := n.flows(was.at, is.at)
		if rise := is.wh[side] - was.wh[side]; rise > 0 {
			c.Add(c, flows).Sub(c, whole(rise))
			if c.Sign() < 0 {
				c = new(big.Rat)
			}
			c = new(big.Rat).Set(least(c, whole(n.res)))
			continue
		}
		unseen := flows
		if was.power != nil && is.power != nil && (*was.power != *is.power || !slices.Equal(was.wh, is.wh)) {
			p := max(*was.power, *is.power, 0)
			if side == 1 {
				p = max(-*was.power, -*is.power, 0)
			}
			unseen = least(flows, new(big.Rat).Mul(energy(min(p, n.maxPower), min(is.at.Sub(was.at), time.Hour)), big.NewRat(5, 4)))
		}
		room := new(big.Rat).Sub(n.flows(noon, noon.Add(time.Hour)), c)
		if more := least(unseen, room); more.Sign() > 0 {
			c = new(big.Rat).Add(c, more)
		}
	}
	return c
}

// frozen goes through what was accepted since a counter last moved.
func (n *naive) frozen() bool {
	since := len(n.accepted) - 1
	for since > 0 && slices.Equal(n.accepted[since-1].wh, n.accepted[since].wh) {
		since--
	}
	flowed, frozen := new(big.Rat), false
	for i := since + 1; i < len(n.accepted); i++ {
		was, is := n.accepted[i-1], n.accepted[i]
		if was.power == nil || is.power == nil || *was.power > 0 != (*is.power > 0) || *is.power < 0 && len(is.wh) < 2 {
			continue
		}
		p := min(max(*was.power, -*was.power), max(*is.power, -*is.power), n.maxPower)
		if p < 20 {
			continue
		}
		flowed.Add(flowed, energy(p, min(is.at.Sub(was.at), 15*time.Minute)))
		frozen = is.at.Sub(n.accepted[since].at) >= 15*time.Minute && flowed.Cmp(whole(50+10*n.res)) >= 0
	}
	return frozen
}

// story is the longest run of remarks up to the last that tell one thing: each goes on from the one before, and all
// speak for the counter or all against it.
func (n *naive) story(side int) []remark {
	all := n.remarks[side]
	begin := len(all) - 1
	for begin > 0 && all[begin-1].own == all[begin].own && n.goesOn(all[begin-1], all[begin].at, all[begin].wh) {
		begin--
	}
	return all[max(0, begin):]
}

func (n *naive) goesOn(from remark, at time.Time, wh uint64) bool {
	return wh+n.res >= from.wh && (wh <= from.wh+n.res || atMost(wh-from.wh-n.res, n.flows(from.at, at)))
}

// blame is what one counter of a sample is blamed for.
type blame struct {
	fits, slips   bool // it goes on from what counted; it is a resolution below it at most
	thaws         bool // it goes on from what counted, was frozen, and moves
	home, suspect bool // it was away and is where it should be; it looks like one that was away and has caught up
}

func (n *naive) blames(side int, p poll) (b blame) {
	last := n.accepted[len(n.accepted)-1]
	now, was := p.wh[side], last.wh[side]
	b.fits = now >= was && atMost(now-was, new(big.Rat).Add(n.credit(side), n.flows(last.at, p.at)))
	b.slips = now < was && was-now <= n.res
	b.thaws = n.frozen() && b.fits && now > was
	story := n.story(side)
	if len(story) == 0 || story[0].own {
		return b
	}
	if !n.goesOn(story[len(story)-1], p.at, now) {
		b.home = b.fits
		return b
	}
	moved := slices.ContainsFunc(story, func(r remark) bool { return r.wh != story[0].wh })
	b.suspect = len(story) >= 3 && (moved || story[0].wh >= was)
	return b
}

func (n *naive) offer(p poll) (meter.Verdict, []uint64) {
	if len(n.accepted) == 0 {
		if n.zeros++; slices.Max(p.wh) == 0 && n.zeros < 3 {
			return held, nil
		}
		n.accepted = append(n.accepted, p)
		return ok, p.wh
	}
	last := n.accepted[len(n.accepted)-1]
	if p.at.Before(last.at) {
		return no, nil
	}
	var blames []blame
	still, home := true, false
	for side := range p.wh {
		b := n.blames(side, p)
		blames = append(blames, b)
		still = still && (b.slips || p.wh[side] == last.wh[side])
		home = home || b.home
	}
	if still && n.frozen() {
		return no, nil
	}
	counts, worst := slices.Clone(p.wh), ok
	for side, b := range blames {
		worst = max(worst, n.one(side, p, b, b.suspect && !home))
		if b.slips {
			counts[side] = last.wh[side]
		}
	}
	if worst != ok {
		return worst, nil
	}
	n.remarks = [2][]remark{}
	n.accepted = append(n.accepted, poll{p.at, counts, p.power})
	return ok, counts
}

// one says what a sample would be if it were for one of its counters only.
func (n *naive) one(side int, p poll, b blame, suspect bool) meter.Verdict {
	own := b.thaws && !suspect
	if !suspect && !own && (b.fits || b.slips) {
		n.remarks[side] = nil
		return ok
	}
	n.remarks[side] = append(n.remarks[side], remark{p.at, p.wh[side], own})
	switch agree := len(n.story(side)); {
	case agree < 3:
		return held
	case own:
		return ok
	}
	return repl
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
		dumb := &naive{maxPower: maxPower, res: res}
		at, truth := noon, rapid.SampledFrom([]uint64{0, 7, 250, 13_423_000, 1 << 40}).Draw(t, "start")
		var left int
		var lie func() uint64
		settled, known := 0, false // how long the device has been telling the truth
		for i := range rapid.IntRange(1, 80).Draw(t, "polls") {
			step := rapid.IntRange(1, 120).Draw(t, "seconds")
			at = at.Add(time.Duration(step) * time.Second)
			truth += rapid.Uint64Range(0, uint64(step)*maxPower/3600).Draw(t, "rise")
			if left == 0 && known && rapid.IntRange(0, 3).Draw(t, "faulty") == 0 {
				left, lie = rapid.IntRange(1, 9).Draw(t, "for"), draw(t, truth, truth, res)
			}
			shown := truth
			if left > 0 {
				left--
				shown, settled = lie(), 0
			} else {
				settled++
			}
			got := tracker.Offer(meter.Sample{At: at, ImportWh: &shown, ImportTraits: def.Traits{ResolutionWh: res}})
			verdict, wh := dumb.offer(poll{at: at, wh: []uint64{shown}})
			if got.Verdict != verdict || verdict == ok && *got.Sample.ImportWh != wh[0] {
				t.Fatalf("poll %d: %d Wh is %v %s, the dumb one says %v, %d Wh", i, shown, got.Verdict, got.Reason, verdict, wh)
			}
			if got.Verdict == ok {
				known = true
				if v := *got.Sample.ImportWh; v > truth || settled > 0 && v+res < truth {
					t.Fatalf("poll %d: accepted %d Wh, the truth is %d", i, v, truth)
				}
			}
			if known && settled > 2 && got.Verdict != ok && !ambiguous(tracker.State().Import) {
				t.Fatalf("poll %d: the truth is %v: %s", i, got.Verdict, got.Reason)
			}
		}
	})
}

// ambiguous says whether the other story moved and is below what its own next step can reach: it may be another meter.
func ambiguous(r meter.RegisterState) bool {
	return r.Moved && !r.Thawing && r.CandidateWh <= r.LastWh+1000
}

// accused says whether there is another story that speaks against a counter: so may the truth, if the counter stood
// still through samples that did not count, and their powers neither.
func accused(r meter.RegisterState) bool { return r.Agreeing > 0 && !r.Thawing }

// draw makes a lie of a counter that showed last: none that its power could tell.
func draw(t *rapid.T, truth, last, res uint64) func() uint64 {
	n, faults := uint64(0), []string{"leap", "wild", "jitter", "zero", "restart"}
	if last < 5000 {
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

// house is a device of two counters behind a power that says what flows: as the tracker may take it for granted.
type house struct {
	at     time.Time
	truth  [2]uint64 // W·s
	power  int64
	stuck  [2]int // for how many polls each counter stands still, and where
	stands [2]uint64
	lies   [2]int
	lie    [2]func() uint64
}

// TestBothCountersAgainstNaive: the same of import and export that freeze, thaw and lie each for itself, while the
// device's power tells the truth: after five polls in which both move and tell the truth the sample counts.
func TestBothCountersAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const maxPower = 20_000
		res := rapid.SampledFrom([]uint64{1, 10, 100}).Draw(t, "resolution")
		tracker, err := meter.NewTracker(maxPower, meter.TrackerState{})
		if err != nil {
			t.Fatal(err)
		}
		dumb := &naive{maxPower: maxPower, res: res}
		h := &house{at: noon}
		for side := range h.truth {
			h.truth[side] = rapid.SampledFrom([]uint64{3, 250, 13_423_000, 1 << 40}).Draw(t, "start") * 3600
		}
		offer := func(shown [2]uint64) meter.Decision {
			power, traits := h.power, def.Traits{ResolutionWh: res}
			got := tracker.Offer(meter.Sample{At: h.at, ImportWh: &shown[0], ExportWh: &shown[1], PowerW: &power, ImportTraits: traits, ExportTraits: traits})
			verdict, wh := dumb.offer(poll{h.at, shown[:], &power})
			if got.Verdict != verdict || verdict == ok && (*got.Sample.ImportWh != wh[0] || *got.Sample.ExportWh != wh[1]) {
				t.Fatalf("%v: %d Wh is %v %s, the dumb one says %v, %d Wh", h.at, shown, got.Verdict, got.Reason, verdict, wh)
			}
			if verdict == ok && (wh[0] > h.truth[0]/3600 || wh[1] > h.truth[1]/3600) {
				t.Fatalf("%v: accepted %d Wh, the truth is %d", h.at, wh, h.truth)
			}
			if (verdict == ok || verdict == held) && tracker.Waiting() {
				t.Fatalf("%v: %v, and nothing is to be accepted any more", h.at, verdict)
			}
			return got
		}
		for range rapid.IntRange(1, 120).Draw(t, "polls") {
			h.live(t, maxPower)
			offer(h.show(t, tracker.State(), res))
		}
		var got meter.Decision
		for range 5 { // two that may be more than can have flowed, and the three that have to agree
			h.at = h.at.Add(time.Minute)
			h.truth[0], h.truth[1] = h.truth[0]+3600*res, h.truth[1]+3600*res
			got = offer([2]uint64{h.truth[0] / 3600 / res * res, h.truth[1] / 3600 / res * res})
		}
		if s := tracker.State(); got.Verdict != ok && !accused(s.Import) && !accused(s.Export) {
			t.Fatalf("the truth is %v: %s; %+v", got.Verdict, got.Reason, s)
		}
	})
}

// live goes on by one poll: seldom from import to export, or back.
func (h *house) live(t *rapid.T, maxPower int64) {
	step := rapid.Int64Range(10, 200).Draw(t, "seconds")
	power := max(0, rapid.Int64Range(-20, maxPower/100).Draw(t, "power")) * 100
	side := 0
	if h.power < 0 {
		side = 1
	}
	if rapid.IntRange(0, 7).Draw(t, "turns") == 0 {
		side = 1 - side
	}
	h.at = h.at.Add(time.Duration(step) * time.Second)
	h.truth[side] += uint64(power * step)
	if h.power = power; side == 1 {
		h.power = -power
	}
}

// show says what the device shows: of each counter the truth in its steps, what it stands at, or a lie.
func (h *house) show(t *rapid.T, s meter.TrackerState, res uint64) (shown [2]uint64) {
	if s.Import.Known && h.stuck == [2]int{} && rapid.IntRange(0, 4).Draw(t, "freezes") == 0 {
		for side := range h.stuck {
			h.stuck[side], h.stands[side] = rapid.IntRange(0, 30).Draw(t, "stuck"), h.truth[side]/3600/res*res
		}
	}
	for side, r := range []meter.RegisterState{s.Import, s.Export} {
		truth := h.truth[side] / 3600 / res * res
		shown[side] = truth
		if h.stuck[side] > 0 {
			h.stuck[side]--
			shown[side] = h.stands[side]
		}
		if h.lies[side] == 0 && r.Known && rapid.IntRange(0, 39).Draw(t, "faulty") == 0 {
			h.lies[side], h.lie[side] = rapid.IntRange(1, 6).Draw(t, "for"), draw(t, truth, r.LastWh, res)
		}
		if h.lies[side] == 0 && r.LastWh > 5000 && rapid.IntRange(0, 39).Draw(t, "lower") == 0 {
			low := r.LastWh - res*rapid.Uint64Range(2, 30).Draw(t, "by")
			h.lies[side] = rapid.IntRange(1, 9).Draw(t, "for")
			h.lie[side] = func() uint64 { low += 9 * res; return min(low, truth) }
		}
		if h.lies[side] > 0 {
			h.lies[side]--
			shown[side] = h.lie[side]()
		}
	}
	return shown
}
