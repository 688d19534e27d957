package household

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// maxReportSpan is the most intervals that the ledger takes in one report.
const maxReportSpan = 31 * 96

// prover turns the connection meter's samples into boundary readings and the spans
// between them into reports. Only readings that prove a boundary are numbered
// and signed: others never leave the house. Its poll goroutine owns it.
type prover struct {
	chain      *meter.Chain
	own        ledger.MeterID // whose readings chain makes
	boundaries *meter.Boundaries
	calendar   market.Calendar
	tolerance  time.Duration
}

func (h *Home) newProver() (*prover, error) {
	s, err := h.disk.loadMeter()
	if err != nil {
		return nil, err
	}
	chain, err := meter.NewChain(h.opt.Keys.Meter, s.Chain)
	if err != nil {
		return nil, err
	}
	b, err := meter.NewBoundaries(h.calendar.Length, h.tolerance(), s.Last)
	if err != nil {
		return nil, err
	}
	own := ledger.MeterID(meter.MeterID(h.opt.Keys.Meter.Public().(ed25519.PublicKey)))
	return &prover{chain: chain, own: own, boundaries: b, calendar: h.calendar, tolerance: h.tolerance()}, nil
}

// tolerance is how late after a boundary a reading may prove it.
func (h *Home) tolerance() time.Duration {
	return time.Duration(h.rules.ReadingToleranceS) * time.Second
}

// proof is what became of a sample as the proof of a boundary.
type proof struct {
	decided bool   // a boundary was due, or should have been
	why     string // what keeps the home from being settled on what its meter tells; empty: nothing
}

// prove makes a boundary reading of the sample if one is due, and keeps it and
// the report that it closes on disk before anybody hears of them.
func (p *prover) prove(h *Home, s meter.Sample, t meter.TrackerState) (proof, error) {
	if why, due := p.due(s); !due {
		return proof{decided: why != "", why: why}, nil
	}
	if why := t.Doubt(s); why != "" && s.Signed == nil {
		return proof{decided: true, why: why}, nil
	}
	r, err := p.reading(s)
	if err != nil {
		return proof{decided: true, why: err.Error()}, nil //nolint:nilerr // not ours, but the meter's: the page shows it
	}
	before := p.boundaries.Last()
	span, closed := p.boundaries.Add(r)
	if last := p.boundaries.Last(); last == nil || last.Seq != r.Seq || last.Meter != r.Meter {
		return proof{decided: true, why: fmt.Sprintf("its reading %d does not follow reading %d, which proved the last boundary", r.Seq, before.Seq)}, nil
	}
	var report *ledger.ReportMeter
	var givenUp []market.Interval
	why := ""
	if closed {
		report, why = p.report(span)
	}
	if report != nil {
		givenUp = h.makeRoom()
	}
	if err := h.disk.saveBoundary(meterState{Chain: p.chain.State(), Last: p.boundaries.Last(), Tracker: t}, report, givenUp...); err != nil {
		return proof{}, err
	}
	h.history.prove(RoleConnection, r, s.Raw)
	if report != nil {
		h.mu.Lock()
		h.remember(report)
		h.mu.Unlock()
	}
	return proof{decided: true, why: why}, nil
}

// keep writes down that a meter is set aside, or is no more: the home must not forget it,
// or it would believe a new counter that has caught up with the old one meanwhile.
func (p *prover) keep(h *Home, t meter.TrackerState) error {
	return h.disk.saveBoundary(meterState{Chain: p.chain.State(), Last: p.boundaries.Last(), Tracker: t}, nil)
}

// report quotes a span; nil, and why, if the ledger could never take it.
func (p *prover) report(span meter.Span) (*ledger.ReportMeter, string) {
	n := span.Intervals(p.calendar.Length)
	switch {
	case span.ImportWh() == nil || span.ExportWh() == nil:
		return nil, "it must tell both its import and its export counter to be settled on"
	case n > maxReportSpan:
		return nil, fmt.Sprintf("it was silent for %d intervals, and at most %d can be reported at once", n, maxReportSpan)
	}
	return &ledger.ReportMeter{
		From: p.calendar.At(span.FirstBoundary), Count: uint32(n), //nolint:gosec // positive and bounded
		Start: quoted(span.Start), End: quoted(span.End),
	}, ""
}

// due says whether the sample falls into the tolerance after a boundary that has
// no proof yet. What a device signs bears its own time: late is well, because it
// may have been on its way, but not early.
func (p *prover) due(s meter.Sample) (why string, due bool) {
	if s.Quality != meter.Good {
		return "", false
	}
	at := s.At
	if s.Signed != nil {
		if at = s.Signed.Reading.At; at.After(s.At.Add(p.tolerance)) {
			return fmt.Sprintf("its clock says %s, this gateway's %s", at.Format(time.DateTime), s.At.UTC().Format(time.DateTime)), false
		}
	}
	k := p.calendar.At(at)
	last := p.boundaries.Last()
	begins := last == nil || last.Meter != p.meterOf(s)
	if k < 0 || !begins && p.calendar.At(last.At) >= k {
		return "", false
	}
	boundary := p.calendar.Start(k)
	if !s.AskedAt.IsZero() && s.AskedAt.Before(boundary) {
		return "", false // asked before the boundary: the counter may be of before it too
	}
	if at.Sub(boundary) > p.tolerance {
		if begins {
			return "", false
		}
		return fmt.Sprintf("no reading came within %v after %s", p.tolerance, boundary.Format(time.DateTime)), false
	}
	return "", true
}

// meterOf is the meter that a reading of the sample is of.
func (p *prover) meterOf(s meter.Sample) ledger.MeterID {
	if s.Signed != nil {
		return s.Signed.Reading.Meter
	}
	return p.own
}

// reading is the device's own signed reading, or ours of its sample.
func (p *prover) reading(s meter.Sample) (meter.Reading, error) {
	if s.Signed != nil {
		return s.Signed.Reading, nil
	}
	return p.chain.Append(s)
}

// quoted is a reading as a report quotes it.
func quoted(r meter.Reading) ledger.Reading {
	return ledger.Reading{
		Meter: ledger.MeterID(r.Meter), Seq: r.Seq, Epoch: r.Epoch, AtMs: r.At.UnixMilli(),
		ImportWh: r.ImportWh, ExportWh: r.ExportWh, Quality: uint64(r.Quality), Prev: r.Prev, Signature: r.Signature,
	}
}
