package meter

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
)

// RegisterState is where one counter stands. The zero value knows nothing.
type RegisterState struct {
	Known bool `json:"known"`
	// LastWh is the last accepted value, BaseWh the part of it that earlier wraps make up.
	LastWh uint64 `json:"last_wh"`
	BaseWh uint64 `json:"base_wh"`
	// CreditWms is how far beyond LastWh the counter may show, apart from what flowed since: what its resolution hides,
	// and what flowed while it stood still. In W·ms.
	CreditWms uint64 `json:"credit_wms"`
	// Agreeing counts the samples in a row that tell another story; CandidateWh is the raw counter of the last of
	// them, CandidateAt its time, and Moved says whether the story has moved since it began.
	Agreeing    int       `json:"agreeing"`
	CandidateWh uint64    `json:"candidate_wh"`
	CandidateAt time.Time `json:"candidate_at"`
	Moved       bool      `json:"moved"`
	// Thawing says that the story is the counter's own: it was frozen, and all samples of the story go on from LastWh.
	// Agreeing then speaks for the counter, otherwise against it.
	Thawing bool `json:"thawing"`
}

const (
	// wms is one Wh in W·ms.
	wms = 3_600_000
	// unbounded is more than any counter rises.
	unbounded = 1 << 62
	// maxCredit is how long a counter that stands still may have counted unseen at full power.
	maxCredit = time.Hour
	// wrapWithin is how long before it wrapped a counter must have been seen.
	wrapWithin = 2 * time.Hour
)

// flow is what flows at most between two times: max power × elapsed × 1.1, in W·ms.
func (t *Tracker) flow(from, to time.Time) uint64 {
	if from.IsZero() || !to.After(from) {
		return 0
	}
	hi, lo := bits.Mul64(t.maxPowerW*11, uint64(to.Sub(from).Milliseconds())) //nolint:gosec // to is after from
	if hi >= 10 {
		return unbounded
	}
	quo, _ := bits.Div64(hi, lo, 10)
	return min(quo, unbounded)
}

// allowance is flow in Wh, rounded up.
func (t *Tracker) allowance(from, to time.Time) uint64 { return wholeWh(t.flow(from, to)) }

func wholeWh(v uint64) uint64 { return (min(v, unbounded) + wms - 1) / wms }

// finding is what one counter says in one sample.
type finding struct {
	before  RegisterState
	raw     *uint64
	value   uint64 // with what earlier wraps make up
	traits  def.Traits
	bound   uint64 // how far the value may be beyond the last, in W·ms
	fits    bool   // the value goes on from the last one
	jitters bool   // the value is below the last by no more than the resolution
	follows bool   // the value goes on from that of the other story

	verdict Verdict
	reason  string
	// wh is the value to accept, base its new base; nil if the counter is and was unknown.
	wh   *uint64
	base uint64
	// next is the state to remember if the sample is not accepted.
	next RegisterState
}

// look compares one counter with what is known of it.
func (t *Tracker) look(r RegisterState, raw *uint64, traits def.Traits, s Sample) finding {
	f := finding{verdict: Accepted, before: r, raw: raw, traits: traits, base: r.BaseWh, next: r}
	f.traits.ResolutionWh = max(1, traits.ResolutionWh)
	if s.Signed != nil {
		// What a device signed cannot be mended: its counter must not fall, and it must say itself when it wraps.
		f.traits = def.Traits{}
	}
	if raw == nil {
		return f
	}
	f.value = r.BaseWh + *raw
	f.bound = min(r.CreditWms, unbounded) + t.flow(t.state.At, s.At)
	f.fits = !r.Known || f.value >= r.LastWh && f.value-r.LastWh <= wholeWh(f.bound)
	f.jitters = r.Known && f.value < r.LastWh && r.LastWh-f.value <= f.traits.ResolutionWh
	res := f.traits.ResolutionWh
	f.follows = r.Agreeing > 0 && *raw+res >= r.CandidateWh && *raw <= r.CandidateWh+t.allowance(r.CandidateAt, s.At)+res
	return f
}

// rise is how far the value is beyond the last one.
func (f *finding) rise() uint64 {
	if f.raw == nil || !f.before.Known || f.value < f.before.LastWh {
		return 0
	}
	return f.value - f.before.LastWh
}

// back says whether the counter was away and is without doubt where it was. One that thaws was not away.
func (f *finding) back() bool {
	return f.before.Agreeing > 0 && !f.before.Thawing && f.fits && !f.follows
}

// doubtful says whether a value that fits is that of a confirmed other story. A value may fit both stories, more so as
// time goes by. Until the new story is confirmed the old one wins: what it could book wrongly is what the power allows
// anyway. Once confirmed, a counter is not believed again because it has caught up; but one that fell, stood still
// there and is then back in one step may be: what that could book is less than its last step. A story of thawing, which
// fitted from its beginning, is the counter's own: that it is confirmed is no doubt, however long it waits for the
// other counter.
func (f *finding) doubtful(back bool) bool {
	r := &f.before
	stood := !r.Moved && r.BaseWh+r.CandidateWh < r.LastWh
	return f.follows && r.away() && !back && !stood
}

// judge follows the rules for one counter. back says that the other counter, or this one, is where it was.
func (t *Tracker) judge(f *finding, s Sample, back bool) {
	r, n := f.before, &f.next
	believed := !f.doubtful(back)
	thawing := believed && f.fits && t.state.Frozen && f.rise() > 0
	switch {
	case f.raw == nil:
		return
	case believed && f.fits && !thawing:
		f.wh = &f.value
		n.forget()
		return
	case believed && f.jitters:
		f.wh = &r.LastWh
		n.forget()
		return
	}
	if !f.follows || thawing != n.Thawing {
		// A story is of one kind: what speaks against a counter never counts for it, nor the other way round.
		n.forget()
	}
	n.Moved = n.Moved || n.Agreeing > 0 && *f.raw != n.CandidateWh
	n.Agreeing = min(n.Agreeing+1, confirmations)
	n.CandidateWh, n.CandidateAt, n.Thawing = *f.raw, s.At, thawing
	f.verdict = Held
	f.reason = fmt.Sprintf("counter went from %d to %d Wh, at most %d more can be", r.LastWh, f.value, wholeWh(f.bound))
	switch {
	case thawing:
		f.reason = fmt.Sprintf("counter moves again, from %d to %d Wh; the next readings decide", r.LastWh, f.value)
	case f.fits:
		f.reason = fmt.Sprintf("counter with %d Wh is another one, which has caught up with %d Wh", f.value, r.LastWh)
	}
	if n.Agreeing < confirmations {
		return
	}
	if thawing {
		// The story stays, confirmed, for as long as the other counter is held.
		f.verdict, f.reason, f.wh = Accepted, "", &f.value
		return
	}
	if wrapped, ok := t.wraps(f, s); ok {
		f.verdict, f.reason, f.wh, f.base = Accepted, "", &wrapped, r.BaseWh+f.traits.WrapWh
		n.forget()
		return
	}
	f.verdict = Replaced
}

// wraps returns the value of a counter that began anew where its definition says that it does: shortly after it was
// seen near its end, and counting.
func (t *Tracker) wraps(f *finding, s Sample) (uint64, bool) {
	r := &f.before
	wrapped := f.value + f.traits.WrapWh
	if f.traits.WrapWh == 0 || f.value >= r.LastWh || wrapped < r.LastWh || !f.next.Moved {
		return 0, false
	}
	until := s.At
	if latest := t.state.At.Add(wrapWithin); until.After(latest) {
		until = latest
	}
	return wrapped, wrapped-r.LastWh <= wholeWh(min(r.CreditWms, unbounded)+t.flow(t.state.At, until))
}

// accept returns the counter of the reading and the state after it. unseen is what may have flowed since the last
// sample without the counter having shown it yet, in W·ms.
func (f *finding) accept(unseen uint64) (*uint64, RegisterState) {
	if f.wh == nil {
		return nil, f.before
	}
	r := RegisterState{Known: true, LastWh: *f.wh, BaseWh: f.base}
	hidden := max(1, f.traits.ResolutionWh) * wms
	switch rise := *f.wh - f.before.LastWh; {
	case !f.before.Known:
		r.CreditWms = hidden
	case rise > 0:
		r.CreditWms = min(hidden, f.bound-min(f.bound, min(rise, unbounded/wms)*wms))
	default:
		r.CreditWms = min(f.before.CreditWms+unseen, unbounded)
	}
	return clone(f.wh), r
}

// away says whether another story of the counter is confirmed.
func (r *RegisterState) away() bool { return r.Agreeing >= confirmations && !r.Thawing }

// forget ends the other story.
func (r *RegisterState) forget() { r.Agreeing, r.Moved, r.Thawing = 0, false, false }

func reason(findings ...finding) string {
	var errs []error
	for i, f := range findings {
		if f.reason != "" {
			errs = append(errs, fmt.Errorf("%s %s", [...]string{"import", "export"}[i], f.reason))
		}
	}
	return errors.Join(errs...).Error()
}
