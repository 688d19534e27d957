package meter

import (
	"fmt"
	"time"
)

const (
	// frozenAfter and frozenWh are how long a counter may stand still, and how much may flow by the device's own power
	// meanwhile, before it is called frozen; ten resolutions come on top.
	frozenAfter = 15 * time.Minute
	frozenWh    = 50
	// doubtAfter and doubtWh are the same for a doubt: such a counter may be an old one. Two resolutions come on top.
	doubtAfter = 5 * time.Minute
	doubtWh    = 10
	// leastPowerW is the power below which counters need not count: meters have a starting current.
	leastPowerW = 20
	// unseenAfter is how long a meter must have told nothing that counts, and twice as long as the time before, for its
	// next sample to be the first after a silence.
	unseenAfter = 30 * time.Minute
	// longestStep bounds what one pair of samples says about the time between them.
	longestStep = 15 * time.Minute
)

// evidence is what may have flowed since the last sample without the counter having shown it yet, in W·ms, when the
// counter stood still: by the device's power, a quarter more; and if it shows the very same as before, so that it may
// show it again, or knows no power, what flows at most. side is 1 for import, -1 for export.
func (t *Tracker) evidence(f finding, s Sample, quiet bool, side int64) uint64 {
	if f.raw == nil || !f.before.Known || f.rise() > 0 {
		return 0
	}
	most, limit := t.flow(t.state.At, s.At), t.maxPowerW*11/10*wms // of an hour, which is maxCredit
	v := most
	if was, is := t.state.PowerW, s.PowerW; was != nil && is != nil && !quiet {
		// Powers are clipped before they are multiplied: a device may say anything.
		p := uint64(min(max(0, side**was, side**is), int64(t.maxPowerW)))                //nolint:gosec // between 0 and 1e9
		v = min(most, p*uint64(min(s.At.Sub(t.state.At), maxCredit).Milliseconds())/4*5) //nolint:gosec // at most 1e9 × 3.6e6
	}
	return min(v, limit-min(limit, f.before.CreditWms))
}

// frozen says why a sample whose counters stand still is stale.
func (t *Tracker) frozen(in, out finding) string {
	if !t.state.Frozen || !in.still() || !out.still() {
		return ""
	}
	return fmt.Sprintf("the counters stand still since %s, although by the power that it shows %d Wh have flowed",
		t.state.StillSince.UTC().Format(time.DateTime), t.state.StillWms/wms)
}

// still says whether the counter shows what it did, give or take its resolution.
func (f *finding) still() bool { return f.raw == nil || f.value == f.before.LastWh || f.jitters }

// stand notes an accepted sample: since when the counters stand still, and what should have moved them.
func (t *Tracker) stand(in, out finding, s Sample) {
	st := &t.state
	t.silence(in, out, s)
	if in.rise() > 0 || out.rise() > 0 || !in.before.Known && !out.before.Known || st.StillSince.IsZero() {
		st.StillSince, st.StillWms, st.Frozen = s.At, 0, false
		return
	}
	if st.PowerW == nil || s.PowerW == nil || (*st.PowerW > 0) != (*s.PowerW > 0) {
		return
	}
	// A power beyond what a counter of Wh can follow says nothing.
	p, f := min(magnitude(*st.PowerW), magnitude(*s.PowerW), t.maxPowerW), in
	if *s.PowerW < 0 {
		f = out
	}
	if p < leastPowerW || f.raw == nil {
		return
	}
	st.StillWms = min(st.StillWms+p*uint64(min(s.At.Sub(st.At), longestStep).Milliseconds()), unbounded) //nolint:gosec // At never falls
	st.Frozen = s.At.Sub(st.StillSince) >= frozenAfter && st.StillWms >= (frozenWh+10*max(1, min(f.traits.ResolutionWh, 1<<30)))*wms
}

// silence notes whether an accepted sample is the first after a silence, or says nothing new since that one: what it
// tells may have stood still since any moment of the silence, and nobody saw it.
func (t *Tracker) silence(in, out finding, s Sample) {
	st := &t.state
	gap := s.At.Sub(st.At)
	switch was, is := st.PowerW, s.PowerW; {
	case !in.before.Known && !out.before.Known:
		gap, st.Unseen = 0, false
	case gap > max(unseenAfter, 2*st.Pace):
		st.Unseen = true
	case in.rise() > 0, out.rise() > 0, was == nil, is == nil, *was != *is:
		st.Unseen = false
	}
	st.Pace = gap
}

func magnitude(w int64) uint64 {
	if w < 0 {
		return -uint64(w) //nolint:gosec // its magnitude, also of the smallest
	}
	return uint64(w)
}

// Doubt says why an accepted sample should prove no boundary, because its counters may be older than it is: they stand
// still, although by the device's own power something has flowed; or it was not seen for long, and nothing of it has
// changed since. It costs nothing to wait for the next that moved: the energy is the same, over a longer span. Empty:
// there is no doubt.
func (s TrackerState) Doubt(of Sample) string {
	since := s.StillSince.UTC().Format(time.DateTime)
	if s.Unseen && s.PowerW != nil && magnitude(*s.PowerW) >= leastPowerW {
		return fmt.Sprintf("it was not seen for long before %s, and has shown nothing new since: its counters may stand still", since)
	}
	wh := s.StillWms / wms
	step := max(1, min(max(of.ImportTraits.ResolutionWh, of.ExportTraits.ResolutionWh), 1<<30))
	if s.StillSince.IsZero() || of.At.Sub(s.StillSince) < doubtAfter || wh < doubtWh+2*step {
		return ""
	}
	return fmt.Sprintf("its counters stand still since %s, although by its power %d Wh have flowed", since, wh)
}
