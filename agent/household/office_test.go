package household

import (
	"encoding/hex"
	"errors"
	"testing"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// A correction goes the way of the commands: what the page knows of the settled interval is
// enough of a proof for the ledger, for the first correction and for one of a correction.
func TestCorrectable(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(8, 0))
	k := r.at(7, 0)
	for i, want := range []struct {
		kept   bool
		energy market.WattHours
	}{{false, 111}, {true, 222}} {
		c, err := r.home.Correctable(int64(k))
		if err != nil {
			t.Fatal(err)
		}
		if c.Kept != want.kept || c.Version != uint32(i+1) || c.Kept == (c.Settlement != "") {
			t.Errorf("correction %d: got %+v", i, c)
		}
		if settled := r.settlements(r.home.id)[k]; i == 0 && (c.ImportWh != int64(settled.Import) || c.ExportWh != int64(settled.Export)) {
			t.Errorf("got %d and %d Wh, settled on %d and %d", c.ImportWh, c.ExportWh, settled.Import, settled.Export)
		} else if i == 1 && c.ImportWh != 111 {
			t.Errorf("got %d Wh, corrected to 111", c.ImportWh)
		}
		tx := ledger.CorrectReport{Interval: k, Version: c.Version, Import: want.energy, Reason: "the meter was off", Index: c.Index, Total: c.Total}
		if tx.Old, err = hex.DecodeString(c.Settlement); err != nil {
			t.Fatal(err)
		}
		for _, a := range c.Aunts {
			aunt, err := hex.DecodeString(a)
			if err != nil {
				t.Fatal(err)
			}
			tx.Aunts = append(tx.Aunts, aunt)
		}
		tx.Approvals = r.officers(tx.ApprovalBytes(r.home.chainID, r.home.id))
		if err := r.Submit(t.Context(), tx.Sign(r.home.chainID, r.home.id, r.home.opt.Keys.Device)); err != nil {
			t.Fatalf("correction %d: %v", i, err)
		}
		r.block()
	}
	if _, err := r.home.Correctable(int64(r.at(9, 0))); !errors.As(err, new(*api.Refused)) {
		t.Errorf("an interval that is not settled: %v", err)
	}
}

// The page knows the members, and who has a vote.
func TestCommunity(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	c, err := r.home.Community()
	if err != nil {
		t.Fatal(err)
	}
	own := api.Member{}
	for _, m := range c.Members {
		if m.Household == r.home.id.String() {
			own = m
		}
	}
	if !own.Meter || own.Node == "" || own.Left != nil || own.Revoked || c.NextGate == 0 || len(c.Nodes) == 0 || c.Rules.IntervalS == 0 {
		t.Errorf("got %+v of %+v", own, c)
	}
	if own.Participation == nil || c.Decisions != 0 {
		t.Errorf("got %+v", c)
	}
}
