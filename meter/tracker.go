package meter

import (
	"fmt"
	"time"
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

// TrackerState is all that a Tracker knows: plain data that the caller keeps.
type TrackerState struct {
	// At is the time of the last accepted sample.
	At     time.Time     `json:"at"`
	Import RegisterState `json:"import"`
	Export RegisterState `json:"export"`
	// PowerW is the power of the last accepted sample.
	PowerW *int64 `json:"power_w"`
	// Serial, Maker and Model are those of the device, once it said them.
	Serial string `json:"serial"`
	Maker  string `json:"maker"`
	Model  string `json:"model"`
	// Source is the definition that it was read by: another one may read another model from the same device.
	Source string `json:"source"`
	// SignedEpoch is the device's own epoch, if it signs.
	SignedEpoch uint32 `json:"signed_epoch"`
	// Strange is set from when another device answered until the known one does; Stranger is what the other one said.
	Strange  bool     `json:"strange"`
	Stranger Identity `json:"stranger"`
	// Zeros counts the first samples in a row that told nothing but zeros.
	Zeros int `json:"zeros"`
	// StillSince is the time of the first sample with the present counters; StillWms is what has flowed since by the
	// device's own power, in W·ms. Frozen is set from when that is more than a counter can hide until it moves.
	StillSince time.Time `json:"still_since"`
	StillWms   uint64    `json:"still_wms"`
	Frozen     bool      `json:"frozen"`
	// Pace is the time between the last two accepted samples. Unseen is set by the first one after a silence, until
	// another one says something new.
	Pace   time.Duration `json:"pace"`
	Unseen bool          `json:"unseen"`
}

// Tracker decides which samples of a meter count. It is pure: it has no clock, and elapsed time is the difference of
// the samples' At, so in the caller's (community) time. It is for one goroutine.
//
// The rules, per counter:
//
//   - Unknown is no reading. The very first counters count as they are, unless all are 0: devices say so too while
//     they start, so three samples have to.
//   - A rise counts if it can have flowed: max power × elapsed × 1.1, and the resolution once. A counter that stands
//     still while the device says a power is one that is renewed seldom: what flowed by then counts as well.
//   - A fall within one resolution is jitter: the last value stays.
//   - Any other value is held. If the counter comes back, nothing happened, however long it was away. If three samples
//     in a row agree on the new story, a fall that fits a declared wrap and grows is accepted as one; everything else
//     is a replaced counter, which yields no energy and waits for NewEpoch.
//   - A counter that stands still for a quarter of an hour, though the device's power says that it should not, is
//     frozen: its samples are stale. When it moves again three samples have to agree; then it counts as soon as the
//     other counter does.
//
// Import and export are of one device: neither counts without the other, and if one is back, so may the other be.
type Tracker struct {
	maxPowerW uint64
	state     TrackerState
}

// NewTracker tracks a meter behind a connection of at most maxPowerW, from the given state on; the zero state knows
// nothing.
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

// ClockSetBack tells that the caller's clock was set back, so that elapsed time goes on from where it stood. The
// chain of readings still takes none that is older than its last.
func (t *Tracker) ClockSetBack(by time.Duration) {
	if by <= 0 || !t.known() {
		return
	}
	for _, at := range []*time.Time{&t.state.At, &t.state.StillSince, &t.state.Import.CandidateAt, &t.state.Export.CandidateAt} {
		if !at.IsZero() {
			*at = at.Add(-by)
		}
	}
}

// Waiting says whether nothing will be accepted until the old device or its old counters come back, or NewEpoch.
func (t *Tracker) Waiting() bool {
	s := &t.state
	return s.Strange || s.Import.away() || s.Export.away()
}

func (t *Tracker) known() bool { return t.state.Import.Known || t.state.Export.Known }

// Offer decides about the next sample of the meter.
func (t *Tracker) Offer(s Sample) Decision {
	if why := t.unusable(s); why != "" {
		return Decision{Verdict: Refused, Sample: s, Reason: why}
	}
	if why := t.stranger(s); why != "" {
		s.Quality |= IdentityChanged
		return Decision{Verdict: Replaced, Sample: s, Reason: why}
	}
	if why := t.newborn(s); why != "" {
		s.Quality |= Suspect
		return Decision{Verdict: Held, Sample: s, Reason: why}
	}
	in, out := t.look(t.state.Import, s.ImportWh, s.ImportTraits, s), t.look(t.state.Export, s.ExportWh, s.ExportTraits, s)
	if why := t.frozen(in, out); why != "" {
		s.Quality |= Stale
		return Decision{Verdict: Refused, Sample: s, Reason: why}
	}
	back := in.back() || out.back()
	t.judge(&in, s, back)
	t.judge(&out, s, back)
	verdict := max(in.verdict, out.verdict)
	if verdict != Accepted {
		// The two counters are of one moment: neither counts without the other, but both remember.
		t.state.Import, t.state.Export = in.next, out.next
		s.Quality |= Suspect
		return Decision{Verdict: verdict, Sample: s, Reason: reason(in, out)}
	}
	return Decision{Verdict: Accepted, Sample: t.accept(in, out, s)}
}

func (t *Tracker) accept(in, out finding, s Sample) Sample {
	t.stand(in, out, s)
	quiet := t.state.PowerW != nil && s.PowerW != nil && *t.state.PowerW == *s.PowerW && in.rise() == 0 && out.rise() == 0
	s.ImportWh, t.state.Import = in.accept(t.evidence(in, s, quiet, 1))
	s.ExportWh, t.state.Export = out.accept(t.evidence(out, s, quiet, -1))
	t.state.At, t.state.PowerW = s.At, clone(s.PowerW)
	for _, f := range []struct {
		into *string
		said string
	}{{&t.state.Serial, s.Identity.Serial}, {&t.state.Maker, s.Identity.Maker}, {&t.state.Model, s.Identity.Model}} {
		if f.said != "" {
			*f.into = f.said
		}
	}
	if s.Signed != nil {
		t.state.SignedEpoch = s.Signed.Reading.Epoch
	}
	t.state.Zeros, t.state.Source = 0, s.Source
	return s
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
	if !t.known() {
		return ""
	}
	known, said := Identity{Maker: t.state.Maker, Model: t.state.Model, Serial: t.state.Serial}, s.Identity
	same := known.Serial != "" && said.Serial == known.Serial
	why := ""
	switch {
	case known.Serial != "" && said.Serial != "" && !same:
		why = fmt.Sprintf("serial number is %q, was %q", said.Serial, known.Serial)
	case s.Quality&IdentityChanged != 0:
		why = "the device is another one"
	case !same && s.Source == t.state.Source && (differ(known.Maker, said.Maker) || differ(known.Model, said.Model)):
		why = fmt.Sprintf("device is %q, was %q", said.Maker+" "+said.Model, known.Maker+" "+known.Model)
	case s.Signed != nil && s.Signed.Reading.Epoch != t.state.SignedEpoch:
		return fmt.Sprintf("the device is in epoch %d, was in %d", s.Signed.Reading.Epoch, t.state.SignedEpoch)
	case t.state.Strange && !t.recognised(said):
		return "another device answered and this one does not say who it is"
	default:
		t.state.Strange, t.state.Stranger = false, Identity{}
		return ""
	}
	t.state.Strange, t.state.Stranger = true, said
	return why
}

// recognised says whether a device, after another one had answered, says enough of itself to be the known one.
func (t *Tracker) recognised(said Identity) bool {
	if t.state.Serial != "" {
		return said.Serial == t.state.Serial
	}
	return said.Model != "" && said.Model == t.state.Model && said.Maker == t.state.Maker
}

func differ(known, said string) bool { return known != "" && said != "" && known != said }

// newborn says why the first counters of a meter are not believed yet.
func (t *Tracker) newborn(s Sample) string {
	zero := func(v *uint64) bool { return v == nil || *v == 0 }
	if t.known() || !zero(s.ImportWh) || !zero(s.ExportWh) {
		return ""
	}
	if t.state.Zeros++; t.state.Zeros >= confirmations {
		return ""
	}
	return fmt.Sprintf("all counters are 0, as they are while a device starts; after %d such readings they count", confirmations)
}
