package household

import (
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// prover turns the connection meter's samples into boundary readings and the spans
// between them into reports. Only readings that prove a boundary are numbered
// and signed: others never leave the house. Its poll goroutine owns it.
type prover struct {
	chain      *meter.Chain
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
	tolerance := time.Duration(h.rules.ReadingToleranceS) * time.Second
	b, err := meter.NewBoundaries(h.calendar.Length, tolerance, s.Last)
	if err != nil {
		return nil, err
	}
	return &prover{chain: chain, boundaries: b, calendar: h.calendar, tolerance: tolerance}, nil
}

// prove makes a boundary reading of the sample if one is due, and keeps it and
// the report that it closes on disk before anybody hears of them.
func (p *prover) prove(h *Home, s meter.Sample, t meter.TrackerState) error {
	if !p.due(s) {
		return nil
	}
	r, err := p.reading(s)
	if err != nil {
		h.opt.Log.Warn("reading cannot be signed", "err", err)
		return nil
	}
	span, closed := p.boundaries.Add(r)
	if last := p.boundaries.Last(); last == nil || last.Seq != r.Seq {
		return nil
	}
	var report *ledger.ReportMeter
	if closed && span.ImportWh() != nil && span.ExportWh() != nil {
		report = &ledger.ReportMeter{
			From:  p.calendar.At(span.FirstBoundary),
			Count: uint32(span.Intervals(p.calendar.Length)), //nolint:gosec // positive, and a report bounds it
			Start: quoted(span.Start), End: quoted(span.End),
		}
	}
	if err := h.disk.saveBoundary(meterState{Chain: p.chain.State(), Last: p.boundaries.Last(), Tracker: t}, report); err != nil {
		return err
	}
	if report != nil {
		h.mu.Lock()
		h.remember(report)
		h.mu.Unlock()
	}
	return nil
}

// due says whether the sample falls into the tolerance after a boundary that has
// no proof yet.
func (p *prover) due(s meter.Sample) bool {
	if s.Quality != meter.Good {
		return false
	}
	at := s.At
	if s.Signed != nil {
		at = s.Signed.Reading.At
	}
	k := p.calendar.At(at)
	if at.Sub(p.calendar.Start(k)) > p.tolerance {
		return false
	}
	last := p.boundaries.Last()
	return last == nil || p.calendar.At(last.At) < k
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
