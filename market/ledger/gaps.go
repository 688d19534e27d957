package ledger

import (
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// maxGaps bounds what a household can make all others keep. One that reports its
// spans as they come has none.
const maxGaps = 64

// Gap is a run of Intervals that a meter has not reported though it has reported later
// ones. Whoever fills it must begin and end with the very readings that stand at its
// ends: else the energy within the tolerance around a boundary could be counted
// twice, or never, by reporting out of order.
type Gap struct {
	_     struct{} `cbor:",toarray"`
	From  market.Interval
	To    market.Interval
	Start [32]byte // hash of the reading that ended the Interval before; zero: there was none
	End   [32]byte // hash of the reading that began the Interval after; zero: the counter was replaced there
}

// joins says whether the report's readings are those of its neighbours, and returns
// the meter's gaps after it.
func (r *ReportMeter) joins(d *draft, m *Meter) ([]Gap, *Refusal) {
	if r.From > m.Last {
		return r.joinsTip(d, m)
	}
	i := slices.IndexFunc(m.Gaps, func(g Gap) bool { return g.From <= r.From && r.last() <= g.To })
	if i < 0 {
		return nil, refuse(CodeAlreadyReported, "from", "not all of %d to %d is still to be reported", r.From, r.last())
	}
	g := m.Gaps[i]
	var rest []Gap
	switch {
	case r.From > g.From:
		rest = append(rest, Gap{From: g.From, To: r.From - 1, Start: g.Start, End: r.Start.Hash()})
	case g.Start != [32]byte{} && r.Start.Hash() != g.Start:
		return nil, refuse(CodeBadReading, "start", "is not the reading that ended interval %d", r.From-1)
	}
	switch {
	case r.last() < g.To:
		rest = append(rest, Gap{From: r.last() + 1, To: g.To, Start: r.End.Hash(), End: g.End})
	case g.End != [32]byte{} && r.End.Hash() != g.End:
		return nil, refuse(CodeBadReading, "end", "is not the reading that began interval %d", r.last()+1)
	}
	return d.limitGaps(slices.Concat(m.Gaps[:i], rest, m.Gaps[i+1:]))
}

// joinsTip is joins after the newest Interval reported.
func (r *ReportMeter) joinsTip(d *draft, m *Meter) ([]Gap, *Refusal) {
	if r.From > m.Last+1 {
		return d.limitGaps(append(slices.Clone(m.Gaps), Gap{From: m.Last + 1, To: r.From - 1, Start: m.LastEnd, End: r.Start.Hash()}))
	}
	if m.LastEnd != ([32]byte{}) && r.Start.Hash() != m.LastEnd {
		return nil, refuse(CodeBadReading, "start", "is not the reading that ended interval %d", m.Last)
	}
	return d.limitGaps(m.Gaps)
}

// limitGaps leaves out the gaps that nobody can fill any more.
func (d *draft) limitGaps(gaps []Gap) ([]Gap, *Refusal) {
	var open []Gap // nil if there are none, so that there is one encoding of it
	for _, g := range gaps {
		if _, ok := d.interval(g.To); ok || !d.ended(g.To, d.rulesAt(g.To).CorrectionWindowS) {
			open = append(open, g)
		}
	}
	if len(open) > maxGaps {
		return nil, refuse(CodeBadReading, "from", "would leave %d gaps, want at most %d: report what is missing first", len(open), maxGaps)
	}
	return open, nil
}
