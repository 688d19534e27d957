package household

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// pending is a report that the ledger does not hold yet. Its fields but refused are
// the trade goroutine's; refused is under Home.mu.
type pending struct {
	report  *ledger.ReportMeter
	tried   time.Time
	refused *ledger.Refusal // for good: it stays on disk as evidence; a restart tries it once more
}

const (
	// keptMetered is how many intervals this home remembers without the ledger.
	keptMetered = 200
	// maxPending bounds what a home keeps while there is no ledger to take it: 104
	// days of quarter hours.
	maxPending = 10_000
)

// remember takes a report into the pending ones, and its energy into what this home
// knows. The caller holds mu, or is New.
func (h *Home) remember(r *ledger.ReportMeter) {
	h.reports[r.From] = &pending{report: r}
	q := ledger.QualityGood
	if r.Count > 1 {
		q = ledger.QualityEstimated
	}
	imported := market.WattHours(*r.End.ImportWh - *r.Start.ImportWh) //nolint:gosec // a counter difference
	exported := market.WattHours(*r.End.ExportWh - *r.Start.ExportWh) //nolint:gosec // a counter difference
	n := int64(r.Count)
	for i := max(0, n-keptMetered); i < n; i++ {
		h.metered[r.From+market.Interval(i)] = energy{
			Import: ledger.Share(imported, i, n), Export: ledger.Share(exported, i, n), Quality: q,
		}
	}
	h.boundMetered()
}

// boundMetered forgets the oldest. The caller holds mu, or is New.
func (h *Home) boundMetered() {
	extra := len(h.metered) - keptMetered
	if extra <= 0 {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(h.metered))[:extra] {
		delete(h.metered, k)
	}
}

// makeRoom gives up the oldest pending reports if there is no room for one more.
func (h *Home) makeRoom() []market.Interval {
	h.mu.Lock()
	defer h.mu.Unlock()
	extra := len(h.reports) + 1 - maxPending
	if extra <= 0 {
		return nil
	}
	oldest := slices.Sorted(maps.Keys(h.reports))[:extra]
	for _, k := range oldest {
		delete(h.reports, k)
	}
	h.opt.Log.Warn("meter reports given up: too many wait for the ledger", "first_interval", oldest[0], "reports", extra)
	return oldest
}

// recall fills what this home knows of its own energy from the ledger: after a restart
// the reports that it holds are no longer on disk.
func (h *Home) recall() error {
	var next market.Interval
	found := map[market.Interval]energy{}
	note := func(k market.Interval, imported, exported market.WattHours, q ledger.Quality) {
		if metered(q) {
			found[k] = energy{Import: imported, Export: exported, Quality: q}
		}
	}
	h.opt.Ledger.Read(func(s *ledger.State) {
		next = s.Next()
		for _, k := range s.Intervals() {
			if r, ok := s.Interval(k); ok && k >= next-keptMetered {
				if e, ok := r.Entry(h.id); ok {
					note(k, e.Import, e.Export, e.Quality)
				}
			}
		}
	})
	err := h.opt.Ledger.Settlements(h.id, max(0, next-keptMetered), func(s *ledger.Settlement) bool {
		note(s.Interval, s.Import, s.Export, s.Quality)
		return true
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, e := range found {
		if _, ok := h.metered[k]; !ok {
			h.metered[k] = e
		}
	}
	h.boundMetered()
	return nil
}

// metered says whether energy of this quality was counted by the meter.
func metered(q ledger.Quality) bool {
	return q == ledger.QualityGood || q == ledger.QualityEstimated
}

// registration is what the ledger knows of this home.
type registration struct {
	member  bool // the household is registered
	metered bool // and its meter too
	meter   ledger.MeterID
	from    market.Interval // the first that the meter reports
	// Of the meter's counter, see ledger.Meter.
	epochKnown bool
	epoch      uint32
	epochFrom  market.Interval
}

func (h *Home) registration() (r registration) {
	h.opt.Ledger.Read(func(s *ledger.State) { r = registrationOf(s, h.id) })
	return r
}

func registrationOf(s *ledger.State, id market.HouseholdID) (r registration) {
	member, ok := s.Household(id)
	if !ok {
		return r
	}
	r.member = true
	if m, ok := s.Meter(member.Meter); ok && member.HasMeter {
		r.metered, r.meter, r.from = true, member.Meter, m.From
		r.epochKnown, r.epoch, r.epochFrom = m.EpochKnown, m.Epoch, m.EpochFrom
	}
	return r
}

// report submits what the ledger can take by now, and forgets what it holds.
func (t *trading) report(ctx context.Context) error {
	h := t.home
	from := h.registration().from
	h.mu.Lock()
	due := make([]*pending, 0, len(h.reports))
	for _, k := range slices.Sorted(maps.Keys(h.reports)) {
		if p := h.reports[k]; p.refused == nil {
			due = append(due, p)
		}
	}
	h.mu.Unlock()
	for _, p := range due {
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the home ends
		}
		if err := t.advance(ctx, p, from); err != nil {
			return err
		}
	}
	return nil
}

// advance brings one report as far as it can go now. registered is the first
// Interval that the meter reports.
func (t *trading) advance(ctx context.Context, p *pending, registered market.Interval) error {
	h := t.home
	last := p.report.From + market.Interval(p.report.Count) - 1
	switch {
	case last < registered: // nobody's: the home was no member
		return h.forget(p.report.From)
	case p.report.From < registered:
		// No reading proves where the membership began within the span, so that no one
		// can say how much of it the ledger should know.
		h.opt.Log.WarnContext(ctx, "meter report dropped: it begins before the meter was registered",
			"interval", p.report.From, "intervals", p.report.Count, "registered", registered)
		h.disown(registered, last)
		return h.forget(p.report.From)
	}
	held, err := h.held(last)
	if err != nil {
		return err
	}
	if held {
		return h.forget(p.report.From)
	}
	if h.recent(p.tried, t.again) || !h.reportable(last) {
		return nil
	}
	p.tried = h.opt.Now()
	return t.submitReport(ctx, p, last)
}

// disown takes back what this home believed to know of the Intervals from first to last.
func (h *Home) disown(first, last market.Interval) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.metered, func(k market.Interval, _ energy) bool { return first <= k && k <= last })
}

func (t *trading) submitReport(ctx context.Context, p *pending, last market.Interval) error {
	h := t.home
	// Signing again gives the same bytes, so that it is known where it waits already.
	err := h.opt.Ledger.Submit(ctx, p.report.Sign(h.chainID, h.id, h.opt.Keys.Device))
	refusal := (*ledger.Refusal)(nil)
	switch {
	case err == nil || ctx.Err() != nil:
		return nil //nolint:nilerr // the home ends
	case !errors.As(err, &refusal), refusal.Code == ledger.CodeNotCleared, refusal.Code == consensus.CodePoolFull:
		h.opt.Log.DebugContext(ctx, "report not accepted yet", "interval", p.report.From, "err", err)
		return nil
	}
	// It may have been applied since we looked.
	if held, err := h.held(last); err != nil || held {
		return err
	}
	h.opt.Log.WarnContext(ctx, "report refused", "interval", p.report.From, "err", err)
	h.mu.Lock()
	p.refused = refusal
	h.mu.Unlock()
	h.changed()
	return nil
}

// forget drops a report that the ledger holds, or will never have to.
func (h *Home) forget(from market.Interval) error {
	if err := h.disk.dropReports(from); err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.reports, from)
	h.mu.Unlock()
	h.changed()
	return nil
}

// held says whether the ledger holds what the meter counted in a report's last
// Interval, and so in all of them: a report is applied whole.
func (h *Home) held(last market.Interval) (held bool, err error) {
	settled := false
	h.opt.Ledger.Read(func(s *ledger.State) {
		if r, ok := s.Interval(last); ok {
			if e, ok := r.Entry(h.id); ok {
				held = metered(e.Quality)
				return
			}
		}
		settled = last < s.Next()
	})
	if !settled {
		return held, nil
	}
	// The state has forgotten it; the history knows what it came to in the end.
	err = h.opt.Ledger.Settlements(h.id, last, func(s *ledger.Settlement) bool {
		if s.Interval == last {
			held = metered(s.Quality)
		}
		return s.Interval == last
	})
	return held, err
}

// reportable says whether the gate of an Interval has closed.
func (h *Home) reportable(last market.Interval) (ok bool) {
	h.opt.Ledger.Read(func(s *ledger.State) { ok = last < s.Next() })
	return ok
}
