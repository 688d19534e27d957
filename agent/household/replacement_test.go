package household

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// officers sign as those of the rig's community do.
func (r *rig) officers(msg []byte) []ledger.Approval {
	r.t.Helper()
	var as []ledger.Approval
	for i := range 2 {
		key, err := LoadKey(filepath.Join(filepath.Dir(r.opt.Dir), "cooperative", fmt.Sprintf("officer-%d.key", i+1)))
		if err != nil {
			r.t.Fatal(err)
		}
		as = append(as, ledger.Approval{Officer: uint64(i), Signature: ed25519.Sign(key, msg)})
	}
	return as
}

// replace brings the replacement of the home's counter to the ledger.
func (r *rig) replace(from market.Interval, epoch uint32, key ledger.Key, by ledger.SignedBy) {
	r.t.Helper()
	x := ledger.ReplaceMeter{
		Meter: r.home.registration().meter, From: from, Epoch: epoch, Key: key, SignedBy: by,
		Definition: "eastron-sdm630@1", Reason: "the old one was exchanged",
	}
	x.Approvals = r.officers(x.ApprovalBytes(r.home.chainID, r.home.id))
	if err := r.Submit(r.t.Context(), x.Sign(r.home.chainID, r.home.id, r.home.opt.Keys.Device)); err != nil {
		r.t.Fatal(err)
	}
	r.block()
}

// A counter is exchanged: from then on its readings are set aside, and what it shows is
// nobody's energy. Once officers have approved, the home goes on with the new one, to the
// Wh, and a kill in between changes nothing.
func TestReplacedCounter(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.register()
			r.until(on(6, 15))
			first, before := r.at(6, 15), r.counter
			r.until(on(8, 0))
			exact(t, r, first, r.at(7, 45), before)
			wantImport, wantExport, _ := r.counted(r.home.id, first)

			r.counter = counters{imported: 17, exported: 3} // another meter, nearly new
			r.mend = func(_ time.Time, s *meter.Sample) { s.Identity.Serial = "20000002" }
			r.until(on(9, 7))
			p, shown := problem(r.draw(), "meter-suspect")
			if m := r.draw().Meters[0]; !shown || m.State != api.MeterSuspect {
				t.Fatalf("before the approval: problem %+v, meter %+v", p, m)
			}
			if imported, exported, last := r.counted(r.home.id, first); imported != wantImport || exported != wantExport || last != r.at(7, 45) {
				t.Fatalf("settled %d and %d Wh to interval %d, want %d and %d", imported, exported, last, wantImport, wantExport)
			}

			r.replace(r.at(9, 15), 1, Public(r.home.opt.Keys.Meter), ledger.SignedByAgent)
			if killed {
				r.restart()
			}
			r.until(on(9, 15))
			from := r.counter
			if killed {
				r.restart()
			}
			r.until(on(11, 0))
			r.look()
			r.block()
			_, suspect := problem(r.draw(), "meter-suspect")
			if suspect {
				t.Fatalf("after the approval: %+v", r.draw().Problems)
			}
			var imported, exported market.WattHours
			all := r.settlements(r.home.id)
			for k := r.at(9, 15); k < r.at(11, 0); k++ {
				s, ok := all[k]
				if !ok || s.Quality != ledger.QualityGood {
					t.Fatalf("interval %d: %+v", k, s)
				}
				imported, exported = imported+s.Import, exported+s.Export
			}
			if imported != market.WattHours(r.counter.imported-from.imported) || exported != market.WattHours(r.counter.exported-from.exported) {
				t.Errorf("settled %d and %d Wh, the new meter counted %+v from %+v on", imported, exported, r.counter, from)
			}
			// Between the two meters nothing is proven.
			for k := r.at(8, 0); k < r.at(9, 15); k++ {
				if s, ok := all[k]; ok && slices.Contains([]ledger.Quality{ledger.QualityGood, ledger.QualityEstimated}, s.Quality) {
					t.Errorf("interval %d is %s with %d and %d Wh", k, s.Quality, s.Import, s.Export)
				}
			}
		})
	}
}

// A meter that signs is repaired: its counter begins anew in an epoch of its own, which counts
// once the ledger knows it. An exchanged one has another key.
func TestReplacedSignedMeter(t *testing.T) {
	t.Parallel()
	for _, other := range []bool{false, true} {
		t.Run(fmt.Sprintf("another key %v", other), func(t *testing.T) {
			t.Parallel()
			r := newSignedRig(t, seed(1))
			device := newSigner(t, seed(1))
			r.mend = func(now time.Time, s *meter.Sample) { device.sign(s, now) }
			r.register()
			r.until(on(8, 0))
			key := seed(1)
			if other {
				key = seed(2)
				device = newSigner(t, key)
			}
			r.counter = counters{imported: 17, exported: 3}
			device.chain.BeginEpoch(5)
			r.until(on(8, 20))
			if m := r.draw().Meters[0]; m.State != api.MeterSuspect {
				t.Fatalf("before the approval: %+v", m)
			}
			r.replace(r.at(8, 30), 5, Public(key), ledger.SignedByDevice)
			r.until(on(8, 30))
			first, before := r.at(8, 30), r.counter
			r.until(on(9, 30))
			exact(t, r, first, r.at(9, 15), before)
			if p := r.draw().Problems; len(p) != 0 {
				t.Errorf("problems %+v", p)
			}
		})
	}
}

// Meters that are not settled on are approved by the homeowner.
func TestApproveMeter(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	mustClose(t, r.home)
	c := config("eastron-sdm630", nowhere)
	c.Meters = append(c.Meters, MeterConfig{Role: RoleSolar, Definition: "eastron-sdm630", Address: nowhere})
	r.opt.Config = c
	r.open()
	solar := r.home.meters[1]
	look := func(serial string, exported uint64) api.MeterState {
		imported := uint64(0)
		s := r.sample(r.clock.Now())
		s.Identity.Serial, s.ImportWh, s.ExportWh = serial, &imported, &exported
		r.clock.set(r.clock.Now().Add(time.Minute))
		if err := r.home.observe(solar, s); err != nil {
			t.Fatal(err)
		}
		return r.draw().Meters[1].State
	}
	refused := func(role, serial, code string) {
		t.Helper()
		err := r.home.ApproveMeter(role, serial)
		if e := (*api.Refused)(nil); !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s %s: got %v, want %s", role, serial, err, code)
		}
	}
	if s := look("1", 500); s != api.MeterOK {
		t.Fatalf("got %s", s)
	}
	refused(RoleSolar, "1", "not-waiting")
	if s := look("2", 7); s != api.MeterSuspect {
		t.Fatalf("another device: got %s", s)
	}
	refused(RoleConnection, "2", "not-approved")
	refused(RoleBattery, "2", "unknown-meter")
	refused(RoleSolar, "1", "another-serial")
	if err := r.home.ApproveMeter(RoleSolar, "2"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if s := look("2", 8+uint64(i)); s != api.MeterOK {
			t.Errorf("approved: got %s", s)
		}
	}
}
