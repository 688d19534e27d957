package household

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// pending is a report that the ledger does not hold yet.
type pending struct {
	report  *ledger.ReportMeter
	tx      []byte
	tried   time.Time
	refused *ledger.Refusal // for good: it stays on disk and is not tried again
}

const keptMetered = 200

// remember takes a report into the pending ones, and its energy into what this home
// knows. The caller holds mu, or is New.
func (h *Home) remember(r *ledger.ReportMeter) {
	h.reports[r.From] = &pending{report: r, tx: r.Sign(h.chainID, h.id, h.opt.Keys.Device)}
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
	for len(h.metered) > keptMetered {
		delete(h.metered, slices.Min(slices.Collect(maps.Keys(h.metered))))
	}
}

// trade brings the admission, the reports and the orders to the ledger. It looks
// often and does little: what is on its way is left alone.
func (h *Home) trade(ctx context.Context) error {
	beat := min(max(h.wallInterval()/50, 50*time.Millisecond), 2*time.Second)
	t := &trading{home: h, resend: min(max(h.wallInterval()/4, time.Second), 30*time.Second)}
	for pause(ctx, beat) {
		if h.opt.Ledger.Status().CatchingUp {
			continue
		}
		if !t.member(ctx) {
			continue
		}
		if err := t.report(ctx); err != nil {
			return err
		}
		t.quote(ctx)
	}
	return nil
}

// trading is the state of the trade goroutine.
type trading struct {
	home    *Home
	resend  time.Duration
	applied time.Time       // when the admission was last submitted
	quoted  market.Interval // the last Interval quoted for
	order   []byte          // its transaction
	sent    time.Time
}

// member says whether the home is registered with its meter; if not, it submits
// the admission.
func (t *trading) member(ctx context.Context) bool {
	h := t.home
	known, metered := false, false
	h.opt.Ledger.Read(func(s *ledger.State) {
		if r, ok := s.Household(h.id); ok {
			known, metered = true, r.HasMeter
		}
	})
	if known && metered {
		return true
	}
	if h.opt.Now().Sub(t.applied) < t.resend {
		return false
	}
	t.applied = h.opt.Now()
	for i, tx := range h.admission {
		if known && i == 0 {
			continue
		}
		if !known && i > 0 {
			t.applied = time.Time{} // the meter follows as soon as the household is there
			return false
		}
		if err := h.opt.Ledger.Submit(ctx, tx); err != nil && ctx.Err() == nil {
			h.opt.Log.Warn("admission not accepted", "err", err)
			return false
		}
	}
	return false
}

// report submits what the ledger can take by now, and forgets what it holds.
func (t *trading) report(ctx context.Context) error {
	h := t.home
	h.mu.Lock()
	due := slices.Sorted(maps.Keys(h.reports))
	h.mu.Unlock()
	for _, from := range due {
		h.mu.Lock()
		p := h.reports[from]
		h.mu.Unlock()
		if h.held(p.report) {
			if err := h.forget(from); err != nil {
				return err
			}
			continue
		}
		if p.refused != nil || h.opt.Now().Sub(p.tried) < t.resend || !h.reportable(p.report) {
			continue
		}
		p.tried = h.opt.Now()
		if err := t.submitReport(ctx, from, p); err != nil {
			return err
		}
	}
	return nil
}

func (t *trading) submitReport(ctx context.Context, from market.Interval, p *pending) error {
	h := t.home
	err := h.opt.Ledger.Submit(ctx, p.tx)
	refusal := (*ledger.Refusal)(nil)
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case !errors.As(err, &refusal):
		h.opt.Log.Debug("report not submitted", "interval", from, "err", err)
	case refusal.Code == ledger.CodeAlreadyReported:
		return h.forget(from)
	case refusal.Code == ledger.CodeNotCleared, refusal.Code < ledger.CodeGateClosed:
		h.opt.Log.Debug("report not accepted yet", "interval", from, "err", err)
	default:
		h.opt.Log.Warn("report refused", "interval", from, "err", err)
		h.mu.Lock()
		p.refused = refusal
		h.mu.Unlock()
		h.changed()
	}
	return nil
}

// forget drops a report that the ledger holds.
func (h *Home) forget(from market.Interval) error {
	if err := h.disk.dropReport(from); err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.reports, from)
	h.mu.Unlock()
	h.changed()
	return nil
}

// held says whether the ledger holds the energy of the report's last Interval, and so
// of all: a report is applied whole. Intervals from before the meter was
// registered are nobody's and count as held.
func (h *Home) held(r *ledger.ReportMeter) (held bool) {
	last := r.From + market.Interval(r.Count) - 1
	h.opt.Ledger.Read(func(s *ledger.State) {
		member, ok := s.Household(h.id)
		if !ok || !member.HasMeter {
			return
		}
		m, _ := s.Meter(member.Meter)
		if last < m.From {
			held = true
			return
		}
		record, ok := s.Interval(last)
		if !ok {
			held = last < s.Next() && m.Last >= last
			return
		}
		e, ok := record.Entry(h.id)
		held = ok && (e.Quality == ledger.QualityGood || e.Quality == ledger.QualityEstimated)
	})
	return held
}

// reportable says whether the gates of all its Intervals have closed.
func (h *Home) reportable(r *ledger.ReportMeter) (ok bool) {
	h.opt.Ledger.Read(func(s *ledger.State) { ok = r.From+market.Interval(r.Count) <= s.Next() })
	return ok
}

// quoteBefore is how long before a gate the order is made: late enough to know the
// last interval, early enough for the block that collects orders.
func (h *Home) quoteBefore() time.Duration { return min(h.wallInterval()*2/5, 2*time.Minute) }

// quote orders for the next gate, once, and sends it again until the ledger has it.
func (t *trading) quote(ctx context.Context) {
	h := t.home
	var k market.Interval
	var e ledger.Entry
	var p market.Preference
	h.opt.Ledger.Read(func(s *ledger.State) {
		k = s.Next()
		if r, ok := s.Interval(k); ok {
			e, _ = r.Entry(h.id)
		}
		if m, ok := s.Household(h.id); ok {
			p = market.Preference{MinSell: m.MinSell, MaxBuy: m.MaxBuy}
		}
	})
	now := h.opt.Now()
	gate := h.clock.Wall(h.calendar.GateClosure(k))
	if now.After(gate) || gate.Sub(now) > h.quoteBefore() {
		return
	}
	if e.BidSeq+e.OfferSeq > 0 {
		t.quoted = k
		return
	}
	if t.quoted != k {
		t.quoted, t.order = k, h.makeOrder(k, p, now)
	} else if now.Sub(t.sent) < t.resend {
		return
	}
	if t.order == nil {
		return
	}
	t.sent = now
	if err := h.opt.Ledger.Submit(ctx, t.order); err != nil && ctx.Err() == nil {
		h.opt.Log.Info("order not accepted", "interval", k, "err", err)
	}
}

// makeOrder asks the trader; nil if there is nothing to order. The wall clock's
// milliseconds are the sequence number: later is higher, also after a restart.
func (h *Home) makeOrder(k market.Interval, p market.Preference, now time.Time) []byte {
	h.mu.Lock()
	known := make([]trader.Metered, 0, len(h.metered))
	for i, e := range h.metered {
		known = append(known, trader.Metered{Interval: i, Import: e.Import, Export: e.Export})
	}
	h.mu.Unlock()
	f, ok := trader.Persist(k, known)
	if !ok {
		return nil
	}
	side, step, ok := trader.Quote(f, p, h.rules.MaxWattHours)
	if !ok {
		return nil
	}
	order := ledger.PlaceOrder{
		Interval: k, Seq: uint64(now.UnixMilli()), Side: side, //nolint:gosec // after 1970
		Steps: []ledger.Step{{Price: step.Price, WattHours: step.WattHours}},
	}
	return order.Sign(h.chainID, h.id, h.opt.Keys.Device)
}
