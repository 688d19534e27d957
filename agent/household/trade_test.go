package household

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// H5: one order for each interval, before its gate, also when the ledger does not take it at
// once, and over restarts.
func TestOrderedOnce(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]func(r *rig, now time.Time){
		"undisturbed":            nil,
		"restarted every minute": func(r *rig, _ time.Time) { r.restart() },
		"looking all the time": func(r *rig, _ time.Time) {
			for range 5 {
				r.look()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.register()
			r.after = func(now time.Time, _ api.Snapshot) error {
				if each != nil {
					each(r, now)
				}
				return nil
			}
			r.until(on(7, 0))
			seen := r.wasSeen(ledger.KindOrder)
			r.until(on(11, 0))
			if n := r.wasSeen(ledger.KindOrder) - seen; n != 16 {
				t.Errorf("%d orders for 16 intervals", n)
			}
			all := r.settlements(r.home.id)
			for k := r.at(8, 0); k < r.at(10, 0); k++ {
				// Persistence: what was metered two intervals before, net, is ordered and taken by the grid.
				net := all[k-2].Import - all[k-2].Export
				if got := all[k].Bought - all[k].Sold; got != net {
					t.Errorf("interval %d: bought %d, sold %d, want %d as two intervals before", k, all[k].Bought, all[k].Sold, net)
				}
			}
		})
	}
}

// An order that got lost on its way is sent again, the same one.
func TestOrderSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(7, 0))
	var sent []string
	r.before = func(tx *ledger.Tx) error {
		if tx.Kind() != ledger.KindOrder {
			return nil
		}
		if sent = append(sent, string(tx.Bytes())); len(sent) < 3 {
			return errKilled
		}
		return nil
	}
	// The gate of the interval at 7:15 closes at 7:10; the order is due from 7:08 on.
	for s := 0; s <= 15*60; s += 2 {
		r.clock.set(on(7, 0).Add(time.Duration(s) * time.Second))
		r.look()
		if s%60 == 0 {
			r.block()
		}
	}
	if len(sent) != 3 || sent[0] != sent[1] || sent[1] != sent[2] {
		t.Errorf("sent %d times, want three times the same", len(sent))
	}
	var bids []ledger.Step
	r.Read(func(s *ledger.State) {
		if i, ok := s.Interval(r.at(7, 15)); ok {
			e, _ := i.Entry(r.home.id)
			bids = e.Bid
		}
	})
	if len(bids) != 1 || bids[0].Price != 300_000 {
		t.Errorf("bids on the ledger: %+v", bids)
	}
}

// A restarted home knows from the ledger what it metered: it orders and shows it, though its
// disk has no report any more.
func TestRecall(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *townOptions) { o.homes = 2 })
	r.register()
	r.neighbour()
	r.until(on(8, 50)) // nothing is settled: the neighbour does not report
	r.look()
	want := maps.Clone(r.home.metered)
	from := r.home.registration().from
	maps.DeleteFunc(want, func(k market.Interval, _ energy) bool { return k < from })
	r.restart()
	if len(r.home.metered) > 1 { // the last one's report is deleted with the next boundary
		t.Fatalf("%d intervals are known before the ledger was asked", len(r.home.metered))
	}
	r.look()
	if diff := cmp.Diff(want, r.home.metered); diff != "" || len(want) != 10 {
		t.Errorf("%d intervals, want 10\n%s", len(want), diff)
	}
	s := r.draw()
	for k := r.at(7, 0); k < r.at(8, 30); k++ {
		if i := shown(t, s, k); i.State != api.StateCleared || i.ImportWh == nil || i.BoughtWh == nil || i.Quality != api.QualityGood {
			t.Errorf("interval %d: %+v, want it cleared and metered", k, i)
		}
	}
}

// neighbour registers a second home, which never says anything again.
func (r *rig) neighbour() {
	r.t.Helper()
	o := r.options(1, config("eastron-sdm630", nowhere))
	h := mustOpen(r.t, o)
	defer mustClose(r.t, h)
	t := h.newTrading()
	for range 4 {
		if err := t.look(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
		r.block()
	}
	if !h.registration().metered {
		r.t.Fatal("the neighbour was not admitted")
	}
}

// The admission goes step by step: nothing is submitted that the ledger must refuse.
func TestAdmission(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if p, ok := problem(r.draw(), "not-a-member"); !ok {
		t.Errorf("problems: %+v", p)
	}
	refused := 0
	for range 6 {
		r.before = func(tx *ledger.Tx) error {
			dec, err := ledger.DecodeTx(tx.Bytes())
			if err != nil {
				return err
			}
			r.Read(func(s *ledger.State) {
				if s.CheckTx(dec) != nil {
					refused++
				}
			})
			return nil
		}
		r.look()
		r.block()
	}
	if r.wasSeen(ledger.KindHousehold) != 1 || r.wasSeen(ledger.KindMeter) != 1 || refused != 0 {
		t.Errorf("%d and %d admissions, %d refused", r.wasSeen(ledger.KindHousehold), r.wasSeen(ledger.KindMeter), refused)
	}
	if p := r.draw().Problems; len(p) != 0 {
		t.Errorf("problems: %+v", p)
	}
}

// A refusal of the admission is on the page.
func TestNotAdmitted(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.before = func(*ledger.Tx) error {
		return &ledger.Refusal{Code: ledger.CodeNotApproved, Field: "approvals", Text: "got 1, want 2 officers of the cooperative"}
	}
	r.look()
	want := "The ledger does not admit this home: not-approved: approvals: got 1, want 2 officers of the cooperative."
	if p, ok := problem(r.draw(), "not-admitted"); !ok || p.Text != want {
		t.Errorf("problems: %+v", r.home.Snapshot().Problems)
	}
}

// What stands in admission.txt is judged before anything starts, with file and line.
func TestBadAdmission(t *testing.T) {
	t.Parallel()
	tw := found(t, townOptions{homes: 2, start: dawn, now: (&clock{now: dawn}).Now})
	o := tw.options(0, config("eastron-sdm630", nowhere))
	path := filepath.Join(o.Dir, AdmissionFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(tw.dirs[1], AdmissionFile))
	if err != nil {
		t.Fatal(err)
	}
	order := ledger.PlaceOrder{Interval: 1, Seq: 1, Side: market.Bid, Steps: []ledger.Step{{}}}
	foreign := fmt.Sprintf("%x\n", order.Sign("sim-town", o.Keys.ID(), o.Keys.Device))
	for name, c := range map[string]struct{ text, want string }{
		"not hexadecimal":     {string(raw) + "\nzz\n", ":4: want hexadecimal digits"},
		"no transaction":      {"00\n", ":1: want a transaction"},
		"another home's":      {string(other), ":1: is for household"},
		"another kind":        {foreign, ":1: got a transaction of kind order, want household or meter"},
		"too many":            {strings.Repeat(string(raw), 5), ":9: want at most 8 transactions"},
		"a line without end":  {strings.Repeat("0", 1<<17), "token too long"},
		"empty lines, spaces": {"\n  " + string(raw) + "\n\n", ""},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := New(o)
		if err == nil {
			mustClose(t, h)
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), AdmissionFile+c.want) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
