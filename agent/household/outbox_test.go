package household

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// bid is a bid of the rig's household, signed; it crosses none of its own offers.
func (r *rig) bid(k market.Interval, seq uint64) []byte {
	o := ledger.PlaceOrder{Interval: k, Seq: seq, Side: market.Bid, Steps: []ledger.Step{{Price: 10_000, WattHours: 250}}}
	return o.Sign(r.home.chainID, r.home.id, r.home.opt.Keys.Device)
}

// lose makes the ledger forget what waits, as a pool does whose machine was killed.
func (r *rig) lose() {
	r.mu.Lock()
	r.pool = nil
	r.mu.Unlock()
}

func (r *rig) bidOf(k market.Interval) (seq uint64) {
	r.Read(func(s *ledger.State) {
		if i, ok := s.Interval(k); ok {
			e, _ := i.Entry(r.home.id)
			seq = e.BidSeq
		}
	})
	return seq
}

// letters is how many wait in memory, and on disk.
func (r *rig) letters() (memory, disk int) {
	all, err := r.home.disk.loadLetters()
	if err != nil {
		r.t.Error(err)
	}
	return len(r.home.outbox.letters), len(all)
}

// H12: what was taken survives that the home is killed, and the pool with it.
func TestOutboxSurvives(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(9, 0))
	k := r.at(11, 0)
	preference := ledger.SetPreference{Seq: 1 << 50, MinSell: 90_000, MaxBuy: 250_000}
	for _, tx := range [][]byte{r.bid(k, 1<<50), preference.Sign(r.home.chainID, r.home.id, r.home.opt.Keys.Device)} {
		if err := r.home.Submit(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		if err := r.home.Submit(t.Context(), tx); err != nil {
			t.Errorf("submitted again while it waits: %v", err)
		}
	}
	if memory, disk := r.letters(); memory != 2 || disk != 2 {
		t.Errorf("%d letters in memory and %d on disk, want 2", memory, disk)
	}
	r.lose()
	r.restart()
	r.until(on(9, 5))
	if got := r.bidOf(k); got != 1<<50 {
		t.Errorf("the ledger has bid %d, want what was taken", got)
	}
	r.Read(func(s *ledger.State) {
		if p, _ := s.PreferenceAt(s.Next(), r.home.id); p.MaxBuy != 250_000 {
			t.Errorf("the ledger has preference %+v", p)
		}
	})
	r.until(on(9, 10))
	if memory, disk := r.letters(); memory != 0 || disk != 0 {
		t.Errorf("%d letters in memory and %d on disk, want none once the ledger has them", memory, disk)
	}
	if _, ok := problem(r.draw(), "order-missed"); ok {
		t.Error("an order that the ledger has is told to be missed")
	}
}

// An order whose gate closes before the ledger has it is a problem on the page until its interval is over.
func TestOutboxMissedOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(9, 0))
	k := r.at(9, 45)
	if err := r.home.Submit(t.Context(), r.bid(k, 1<<50)); err != nil {
		t.Fatal(err)
	}
	r.lose()
	r.before = func(tx *ledger.Tx) error {
		if o, ok := tx.Order(); ok && o.Seq == 1<<50 {
			return errors.New("nobody is there")
		}
		return nil
	}
	r.until(on(9, 44))
	if memory, disk := r.letters(); memory != 0 || disk != 0 {
		t.Errorf("%d letters in memory and %d on disk, want none after the gate", memory, disk)
	}
	want := "Of the orders that this home had taken 1 came into no block; the last was for 2026-06-21 09:45 UTC: its gate closed before."
	if p, ok := problem(r.draw(), "order-missed"); !ok || p.Text != want {
		t.Errorf("problems: %+v", r.home.Snapshot().Problems)
	}
	r.until(on(10, 5))
	if _, ok := problem(r.draw(), "order-missed"); ok {
		t.Error("it is still told after the interval")
	}
}

// What is refused is not kept, and what cannot be kept is not taken.
func TestOutboxRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(9, 0))
	refused := (*api.Refused)(nil)
	if err := r.home.Submit(t.Context(), r.bid(r.at(8, 0), 1<<50)); !errors.As(err, &refused) || refused.Code != "gate-closed" {
		t.Errorf("got %v, want gate-closed", err)
	}
	if memory, disk := r.letters(); memory != 0 || disk != 0 {
		t.Errorf("%d letters in memory and %d on disk of what was refused", memory, disk)
	}
	for i := range maxLetters {
		r.home.outbox.letters[[32]byte{byte(i), byte(i >> 8), 1}] = &letter{At: time.Time{}}
	}
	if err := r.home.Submit(t.Context(), r.bid(r.at(11, 0), 1<<50)); !errors.Is(err, errOutboxFull) {
		t.Errorf("got %v, want %v", err, errOutboxFull)
	}
	clear(r.home.outbox.letters)
	if err := r.home.disk.close(); err != nil {
		t.Fatal(err)
	}
	err := r.home.Submit(t.Context(), r.bid(r.at(11, 0), 1<<50))
	if want := fmt.Sprintf("keeping the transaction in %s: ", DiskFile); err == nil || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
		t.Errorf("a disk that does not write: got %v", err)
	}
	r.open()
}
