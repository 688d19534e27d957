package household

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/agent/trader"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// trade brings the admission, the reports and the orders to the ledger. It looks
// often and does little: what is on its way is left alone.
func (h *Home) trade(ctx context.Context) error {
	beat := min(max(h.wallInterval()/50, 50*time.Millisecond), 2*time.Second)
	t := h.newTrading()
	for pause(ctx, beat) {
		if err := t.look(ctx); err != nil {
			return err
		}
	}
	return nil
}

// trading is the state of the trade goroutine.
type trading struct {
	home     *Home
	resend   time.Duration             // of what a gate waits for
	again    time.Duration             // of reports, which nothing waits for
	applied  map[ledger.Kind]time.Time // when the admission was last submitted
	recalled bool
	quoted   market.Interval // the last Interval quoted for
	order    []byte          // its transaction; nil: there was nothing to order
	sent     time.Time
}

func (h *Home) newTrading() *trading {
	return &trading{
		home: h, resend: min(max(h.wallInterval()/4, time.Second), 30*time.Second),
		again:   min(max(h.wallInterval()/4, time.Second), 2*time.Minute),
		applied: map[ledger.Kind]time.Time{}, quoted: -1,
	}
}

// look does what there is to do now.
func (t *trading) look(ctx context.Context) error {
	h := t.home
	if h.opt.Ledger.Status().CatchingUp {
		return nil
	}
	if err := t.deliver(ctx); err != nil {
		return fmt.Errorf("delivering what was submitted: %w", err)
	}
	if !t.member(ctx) {
		return nil
	}
	if !t.recalled {
		if err := h.recall(); err != nil {
			return fmt.Errorf("recalling what was metered: %w", err)
		}
		t.recalled = true
	}
	if err := t.report(ctx); err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	t.quote(ctx)
	return nil
}

// recent says whether something was done less than d ago. A clock that was set back
// makes nothing recent.
func (h *Home) recent(done time.Time, d time.Duration) bool {
	since := h.opt.Now().Sub(done)
	return 0 <= since && since < d
}

// member says whether the home is registered with its meter; if not, it submits
// what is still missing of the admission.
func (t *trading) member(ctx context.Context) bool {
	h := t.home
	r := h.registration()
	if r.metered {
		return true
	}
	want := ledger.KindHousehold
	if r.member {
		want = ledger.KindMeter
	}
	if h.recent(t.applied[want], t.resend) {
		return false
	}
	t.applied[want] = h.opt.Now()
	for _, a := range h.admission {
		if a.kind == want {
			t.apply(ctx, a)
		}
	}
	return false
}

func (t *trading) apply(ctx context.Context, a admission) {
	h := t.home
	err := h.opt.Ledger.Submit(ctx, a.raw)
	if ctx.Err() != nil {
		return
	}
	refused := ""
	if r := (*ledger.Refusal)(nil); errors.As(err, &r) {
		refused = r.Error()
	}
	if err != nil {
		h.opt.Log.WarnContext(ctx, "admission not accepted", "kind", a.kind.String(), "err", err)
	}
	h.mu.Lock()
	h.notAdmitted = refused
	h.mu.Unlock()
	h.changed()
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
	var most market.WattHours
	metered := false
	h.opt.Ledger.Read(func(s *ledger.State) {
		k = s.Next()
		if r, ok := s.Interval(k); ok {
			e, _ = r.Entry(h.id)
		}
		p, _ = s.PreferenceAt(k, h.id)
		rules := s.RulesAt(k)
		most, metered = rules.MaxWattHours, rules.Clearing == ledger.ClearingMetered
	})
	if metered {
		return // the meter's report is the order, at the same Preference (R6)
	}
	now := h.opt.Now()
	gate := h.clock.Wall(h.calendar.GateClosure(k))
	if now.After(gate) || gate.Sub(now) > h.quoteBefore() {
		return
	}
	if e.BidSeq > 0 || e.OfferSeq > 0 {
		t.quoted, t.order = k, nil // the ledger has it, perhaps from before a restart
		return
	}
	if t.quoted != k || t.order == nil {
		t.quoted, t.order = k, h.makeOrder(k, p, most, now)
	} else if h.recent(t.sent, t.resend) {
		return
	}
	if t.order == nil {
		return
	}
	t.sent = now
	if err := h.opt.Ledger.Submit(ctx, t.order); err != nil && ctx.Err() == nil {
		h.opt.Log.InfoContext(ctx, "order not accepted", "interval", k, "err", err)
	}
}

// makeOrder asks the trader; nil if there is nothing to order. The wall clock's
// milliseconds are the sequence number: later is higher, also after a restart.
func (h *Home) makeOrder(k market.Interval, p market.Preference, most market.WattHours, now time.Time) []byte {
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
	side, step, ok := trader.Quote(h.planned(f), p, most)
	if !ok {
		return nil
	}
	order := ledger.PlaceOrder{
		Interval: k, Seq: uint64(max(1, now.UnixMilli())), Side: side,
		Steps: []ledger.Step{{Price: step.Price, WattHours: step.WattHours}},
	}
	return order.Sign(h.chainID, h.id, h.opt.Keys.Device)
}
