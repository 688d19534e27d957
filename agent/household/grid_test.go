package household

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func limit(w int64) *int64 { return &w }

// feeders is a street whose only home may give 400 W at most, 100 Wh in an interval.
func feeders(o *townOptions) {
	o.node = "feeder"
	o.network = []ledger.Node{
		{ID: "root"},
		{ID: "street", Parent: "root", ImportFee: 10_000, ExportFee: 1_000},
		{ID: "feeder", Parent: "street", ImportLimitW: limit(9_000), ExportLimitW: limit(400)},
		{ID: "other", Parent: "street"},
	}
}

// What the API says of the network is what the ledger has: prices, flows, limits, fees, and
// sums that are right.
func TestGrid(t *testing.T) {
	t.Parallel()
	r := newRig(t, feeders)
	r.register()
	r.until(on(11, 0))
	k := r.at(10, 0)
	g, ok, err := r.home.Grid(int64(k))
	if err != nil || !ok {
		t.Fatalf("interval %d: %v, %v", k, ok, err)
	}
	if g.State != api.StateSettled || g.Clearing != ledger.ClearingForward || len(g.Nodes) != 4 {
		t.Fatalf("got %+v", g)
	}
	root, street, feeder, other := g.Nodes[0], g.Nodes[1], g.Nodes[2], g.Nodes[3]
	if root.ID != "root" || street.ID != "street" || feeder.ID != "feeder" || other.ID != "other" {
		t.Errorf("the nodes are not in the order of the tree: %+v", g.Nodes)
	}
	// Its sun is more than it may give: at the feeder a kWh is worth the feed-in price.
	if *feeder.ExportWh != 100 || *feeder.ExportW != 400 || *feeder.LoadingBp != 10_000 || *feeder.Price != 79_000 || !feeder.Home || feeder.Homes != 1 ||
		feeder.ExportLimitBy != api.LimitByNetwork {
		t.Errorf("feeder: %+v", feeder)
	}
	if *street.ImportPrice != 310_000 || *street.ExportPrice != 79_000 || *street.FeesMicro != 100 || street.LoadingBp != nil || *street.Price != 79_000 {
		t.Errorf("street: %+v", street)
	}
	if *root.ExportWh != 100 || root.Homes != 1 || other.Homes != 0 || *other.ExportWh != 0 {
		t.Errorf("root %+v, other %+v", root, other)
	}
	if !*g.PhysicalOK || *g.SupplierWh != *g.ImportWh-*g.ExportWh || g.AccountsSum != 0 || *g.SoldWh != 100 || *g.FeesMicro != 100 || *g.RentMicro != 0 {
		t.Errorf("sums: %+v", g)
	}
	shown := r.draw().Grid
	if shown == nil || shown.Interval <= int64(k) || shown.AccountsSum != 0 {
		t.Errorf("the page shows %+v", shown)
	}
	for _, other := range []market.Interval{k - 100_000, k + 100_000, -1, market.MaxInterval} {
		if g, ok, err := r.home.Grid(int64(other)); ok || err != nil {
			t.Errorf("interval %d: got %+v, %v", other, g, err)
		}
	}
}

// An envelope of the grid operator comes by Submit, binds, and is shown; one of somebody else
// is refused in the ledger's words.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	r := newRig(t, feeders)
	r.register()
	r.until(on(9, 0))
	cooperative := filepath.Join(filepath.Dir(r.opt.Dir), "cooperative")
	envelope := ledger.SetEnvelope{Envelope: ledger.Envelope{
		Seq: 1, Node: "feeder", ExportW: limit(200), From: r.at(10, 0), Until: r.at(11, 0), Reason: "voltage",
	}}
	for file, want := range map[string]string{"officer-1.key": "bad-signature", OperatorFile: ""} {
		key, err := LoadKey(filepath.Join(cooperative, file))
		if err != nil {
			t.Fatal(err)
		}
		err = r.home.Submit(context.Background(), envelope.Sign(r.home.chainID, key))
		refused := (*api.Refused)(nil)
		if errors.As(err, &refused) != (want != "") || want != "" && refused.Code != want {
			t.Errorf("%s: got %v, want %q", file, err, want)
		}
	}
	r.until(on(10, 20))
	for k, want := range map[market.Interval]struct {
		w  int64
		by string
	}{r.at(9, 45): {400, api.LimitByNetwork}, r.at(10, 15): {200, api.LimitByEnvelope}} {
		g, ok, err := r.home.Grid(int64(k))
		if err != nil || !ok {
			t.Fatalf("interval %d: %v, %v", k, ok, err)
		}
		if n := g.Nodes[2]; *n.ExportLimitW != want.w || n.ExportLimitBy != want.by || *n.ExportWh != want.w/4 || (n.Reason != "") != (want.by == api.LimitByEnvelope) {
			t.Errorf("interval %d: %+v, want %+v", k, n, want)
		}
	}
	g, _, _ := r.home.Grid(int64(r.at(10, 15)))
	if len(g.Envelopes) != 1 || !g.Envelopes[0].InForce || *g.Envelopes[0].ExportW != 200 || g.Envelopes[0].Reason != "voltage" {
		t.Errorf("envelopes: %+v", g.Envelopes)
	}
	r.until(on(12, 0))
	for k, want := range map[market.Interval]int64{r.at(9, 45): 100, r.at(10, 0): 50, r.at(10, 45): 50, r.at(11, 0): 100} {
		if g, ok, err := r.home.Grid(int64(k)); err != nil || !ok || *g.Nodes[2].ExportWh != want {
			t.Errorf("interval %d: %+v, %v, want %d Wh", k, g.Nodes, err, want)
		}
	}
}

// Where the meters decide, a home orders nothing, and is settled all the same.
func TestMeteredCommunity(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *townOptions) {
		o.rules = func(r *ledger.Rules) { r.Clearing = ledger.ClearingMetered }
	})
	r.register()
	r.until(on(11, 0))
	if n := r.wasSeen(ledger.KindOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
	all := r.settlements(r.home.id)
	for k := r.at(8, 0); k < r.at(10, 0); k++ {
		if s := all[k]; !s.Metered || s.Bought != s.Import || s.Sold != s.Export || s.Import+s.Export == 0 {
			t.Errorf("interval %d: %+v", k, s)
		}
	}
	g, ok, err := r.home.Grid(int64(r.at(10, 0)))
	if err != nil || !ok || g.Clearing != ledger.ClearingMetered {
		t.Errorf("%+v, %v", g, err)
	}
}
