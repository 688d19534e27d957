package meter

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
)

// confirmations is how many polls must agree, the first one included, before a counter that fell or jumped is taken
// for what it then is: a declared wrap, or a counter that was replaced.
const confirmations = 3

// refusing are the qualities with which a sample is no reading. ClockUnsure is not among them: such a reading counts,
// but proves no boundary.
const refusing = Stale | Retained | Substitute | OutOfRange | DeviceError | IdentityChanged | Suspect

// Verdict is what a Tracker makes of a sample.
type Verdict uint8

// The verdicts.
const (
	// Accepted: the sample may become a reading. Its counters are those of Decision.Sample.
	Accepted Verdict = iota + 1
	// Refused: the sample says nothing about the counters (unknown, retained, faulty, out of time).
	Refused
	// Held: a counter fell or jumped; the next samples decide.
	Held
	// Replaced: the counter or the device is another one. Nothing is accepted until NewEpoch.
	Replaced
)

// String returns the name of the verdict.
func (v Verdict) String() string {
	switch v {
	case Accepted:
		return "accepted"
	case Refused:
		return "refused"
	case Held:
		return "held"
	case Replaced:
		return "replaced"
	}
	return fmt.Sprintf("verdict-%d", uint8(v))
}

// Decision is a verdict on one sample.
type Decision struct {
	Verdict Verdict
	// Sample is the one that was offered; accepted, its counters are free of jitter and of wraps, held or replaced,
	// its quality says so.
	Sample Sample
	// Reason says why it was not accepted, for people.
	Reason string
}

// RegisterState is where one counter stands. The zero value knows nothing.
type RegisterState struct {
	Known bool `json:"known"`
	// LastWh is the last accepted value, BaseWh the part of it that earlier wraps make up.
	LastWh uint64 `json:"last_wh"`
	BaseWh uint64 `json:"base_wh"`
	// Agreeing counts the samples in a row that tell another story; CandidateWh is the raw counter of the last of
	// them and CandidateAt its time.
	Agreeing    int       `json:"agreeing"`
	CandidateWh uint64    `json:"candidate_wh"`
	CandidateAt time.Time `json:"candidate_at"`
}

// TrackerState is all that a Tracker knows: plain data that the caller keeps.
type TrackerState struct {
	// At is the time of the last accepted sample.
	At     time.Time     `json:"at"`
	Import RegisterState `json:"import"`
	Export RegisterState `json:"export"`
	// Serial is that of the device, once it said one.
	Serial string `json:"serial"`
	// SignedEpoch is the device's own epoch, if it signs.
	SignedEpoch uint32 `json:"signed_epoch"`
	// Strange is set from when another device answered until one with the known serial number does.
	Strange bool `json:"strange"`
}

// Tracker decides which samples of a meter count. It is pure: it has no clock, and elapsed time is the difference of
// the samples' At, so in the caller's (community) time. It is for one goroutine.
//
// The rules, per counter: unknown is no reading. A rise of at most max power × elapsed × 1.1 + resolution is accepted.
// A fall within one resolution is jitter: the last value stays. Any other value is held; if the counter comes back,
// nothing happened. If three samples in a row agree on the new story, a fall that fits a declared wrap is accepted as
// one; everything else is a replaced counter, which yields no energy and waits for NewEpoch.
type Tracker struct {
	maxPowerW uint64
	state     TrackerState
}

// NewTracker tracks a meter behind a connection of at most maxPowerW, from the given state on; the zero state knows
// nothing, and the first good sample is then accepted as it is.
func NewTracker(maxPowerW int64, state TrackerState) (*Tracker, error) {
	if maxPowerW <= 0 || maxPowerW > 1e9 {
		return nil, fmt.Errorf("max_power_w: got %d, expected 1 to 1000000000", maxPowerW)
	}
	return &Tracker{maxPowerW: uint64(maxPowerW), state: state}, nil
}

// State returns what to keep.
func (t *Tracker) State() TrackerState { return t.state }

// NewEpoch forgets the counters and the device: somebody approved that they are new. The next good sample is accepted
// as it is. The caller begins a new epoch in its Chain as well.
func (t *Tracker) NewEpoch() { t.state = TrackerState{At: t.state.At} }

// Offer decides about the next sample of the meter.
func (t *Tracker) Offer(s Sample) Decision {
	if why := t.unusable(s); why != "" {
		return Decision{Verdict: Refused, Sample: s, Reason: why}
	}
	if why := t.stranger(s); why != "" {
		s.Quality |= IdentityChanged
		return Decision{Verdict: Replaced, Sample: s, Reason: why}
	}
	allowed := t.allowance(t.state.At, s.At)
	in := t.judge(t.state.Import, s.ImportWh, s.ImportTraits, s, allowed)
	out := t.judge(t.state.Export, s.ExportWh, s.ExportTraits, s, allowed)
	verdict := max(in.verdict, out.verdict)
	if verdict != Accepted {
		// The two counters are of one moment: neither counts without the other, but both remember.
		t.state.Import.remember(in)
		t.state.Export.remember(out)
		s.Quality |= Suspect
		return Decision{Verdict: verdict, Sample: s, Reason: reason(in, out)}
	}
	s.ImportWh, t.state.Import = in.accept(t.state.Import)
	s.ExportWh, t.state.Export = out.accept(t.state.Export)
	t.state.At = s.At
	if s.Identity.Serial != "" {
		t.state.Serial = s.Identity.Serial
	}
	if s.Signed != nil {
		t.state.SignedEpoch = s.Signed.Reading.Epoch
	}
	return Decision{Verdict: Accepted, Sample: s}
}

func (t *Tracker) unusable(s Sample) string {
	switch {
	case s.Quality&refusing&^IdentityChanged != 0:
		return "quality " + s.Quality.String()
	case s.ImportWh == nil && s.ExportWh == nil:
		return "no counter is known"
	case s.ImportWh == nil && t.state.Import.Known, s.ExportWh == nil && t.state.Export.Known:
		return "a counter that was known is not"
	case s.At.Before(t.state.At):
		return fmt.Sprintf("time %v is before that of the last reading, %v", s.At, t.state.At)
	}
	return ""
}

// stranger tells a device that is not the one that answered before, and remembers it.
func (t *Tracker) stranger(s Sample) string {
	known := t.state.Import.Known || t.state.Export.Known
	switch serial := s.Identity.Serial; {
	case !known:
		return ""
	case t.state.Serial != "" && serial != "" && serial != t.state.Serial:
		t.state.Strange = true
		return fmt.Sprintf("serial number is %q, was %q", serial, t.state.Serial)
	case s.Quality&IdentityChanged != 0:
		t.state.Strange = true
		return "the device is another one"
	case s.Signed != nil && s.Signed.Reading.Epoch != t.state.SignedEpoch:
		return fmt.Sprintf("the device is in epoch %d, was in %d", s.Signed.Reading.Epoch, t.state.SignedEpoch)
	case t.state.Strange && serial == "":
		return "another device answered and this one does not say who it is"
	}
	t.state.Strange = false
	return ""
}

// allowance is the most that a counter can rise between two times: max power × elapsed × 1.1, in Wh, rounded up.
func (t *Tracker) allowance(from, to time.Time) uint64 {
	if from.IsZero() || !to.After(from) {
		return 0
	}
	// W × ms × 11 / (10 × 3 600 000) = Wh
	hi, lo := bits.Mul64(t.maxPowerW*11, uint64(to.Sub(from).Milliseconds())) //nolint:gosec // to is after from
	const perWh = 36_000_000
	if hi >= perWh {
		return 1 << 62
	}
	quo, rest := bits.Div64(hi, lo, perWh)
	if rest > 0 {
		quo++
	}
	return min(quo, 1<<62)
}

// finding is what one counter says in one sample.
type finding struct {
	verdict Verdict
	reason  string
	// wh is the value to accept, base its new base; nil if the counter is and was unknown.
	wh   *uint64
	base uint64
	// next is the state to remember if the sample is not accepted.
	next RegisterState
}

// judge follows the rules for one counter. allowed is the allowance since the last accepted sample.
func (t *Tracker) judge(r RegisterState, raw *uint64, traits def.Traits, s Sample, allowed uint64) finding {
	f := finding{verdict: Accepted, base: r.BaseWh, next: r}
	if raw == nil {
		return f
	}
	resolution := max(1, traits.ResolutionWh)
	if s.Signed != nil {
		// What a device signed cannot be mended: its counter must not fall, and it must say itself when it wraps.
		resolution, traits.WrapWh = 0, 0
	}
	value := r.BaseWh + *raw
	if !r.Known {
		f.wh = &value
		return f
	}
	follows := r.Agreeing > 0 && *raw+resolution >= r.CandidateWh && *raw <= r.CandidateWh+t.allowance(r.CandidateAt, s.At)+resolution
	rises := value >= r.LastWh && value-r.LastWh <= allowed+resolution
	// A value may fit both stories, more so as time goes by. Until the new story is confirmed the old one wins: what
	// it could book wrongly is what the power allows anyway. Once confirmed, a counter is not believed again because
	// it has caught up.
	doubtful := follows && r.Agreeing >= confirmations
	switch {
	case rises && !doubtful:
		f.wh = &value
		return f
	case value < r.LastWh && r.LastWh-value <= resolution && !doubtful:
		f.wh = clone(&r.LastWh)
		return f
	}
	n := &f.next
	if !follows {
		n.Agreeing = 0
	}
	n.Agreeing = min(n.Agreeing+1, confirmations)
	n.CandidateWh, n.CandidateAt = *raw, s.At
	f.verdict = Held
	f.reason = fmt.Sprintf("counter went from %d to %d Wh, at most %d more can be", r.LastWh, value, allowed+resolution)
	if n.Agreeing < confirmations {
		return f
	}
	if wrapped := value + traits.WrapWh; traits.WrapWh > 0 && value < r.LastWh && wrapped >= r.LastWh && wrapped-r.LastWh <= allowed+resolution {
		f.verdict, f.reason, f.wh, f.base = Accepted, "", &wrapped, r.BaseWh+traits.WrapWh
		return f
	}
	f.verdict = Replaced
	return f
}

// accept returns the counter of the reading and the state after it.
func (f finding) accept(r RegisterState) (*uint64, RegisterState) {
	if f.wh == nil {
		return nil, r
	}
	return clone(f.wh), RegisterState{Known: true, LastWh: *f.wh, BaseWh: f.base}
}

func (r *RegisterState) remember(f finding) {
	if f.verdict == Accepted {
		// On its own this counter is fine, so what it was suspected of is over.
		r.Agreeing = 0
		return
	}
	*r = f.next
}

func reason(findings ...finding) string {
	var errs []error
	for i, f := range findings {
		if f.reason != "" {
			errs = append(errs, fmt.Errorf("%s %s", [...]string{"import", "export"}[i], f.reason))
		}
	}
	return errors.Join(errs...).Error()
}
