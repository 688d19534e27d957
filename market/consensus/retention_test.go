package consensus

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Months are closed as time passes, and what is older than the retention goes from the
// disk while the node runs; what the months came to stays.
func TestRetention(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64 // by how much this node's clock is
	s := newStreet(t, streetOptions{
		validators: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute,
		rules: func(r *ledger.Rules) { r.ReportDeadlineS, r.CorrectionWindowS = 3600, 7200 },
		tweak: func(_ int, c *Config) {
			c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			c.Retention = 40 * 24 * time.Hour
			c.SnapshotEvery = 4
		},
	})
	n, h := s.nodes[0], s.homes[0]
	s.start(n)
	s.awaitUp(n)
	s.admit(n, s.nodes, h)
	ahead.Store(int64(75 * 24 * time.Hour)) // from 1 June to the middle of August
	june, august := market.Month(2026*12+5), market.Month(2026*12+7)
	var now market.Interval
	n.Read(func(st *ledger.State) { now = st.Calendar().At(st.Clock().Community(n.cfg.Now())) })
	s.awaitState("all gates closed", s.nodes, func(st *ledger.State) bool { return st.Next() >= now })
	ahead.Add(int64(4 * time.Hour)) // past deadline and window of what was closed late
	s.awaitState("June and July closed", s.nodes, func(st *ledger.State) bool { return st.OpenMonth() == august })
	first := func() (k market.Interval) {
		k = -1
		if err := n.Settlements(h.id, 0, func(x *ledger.Settlement) bool { k = x.Interval; return false }); err != nil {
			t.Fatal(err)
		}
		return k
	}
	var july market.Interval
	n.Read(func(st *ledger.State) { july, _ = st.Calendar().OfMonth(june+1, st.Zone()) })
	await(t, 30*time.Second, "June pruned, July kept", func() bool { return first() == july })
	months, err := n.Months(h.id)
	if err != nil || len(months) != 2 || months[0].Month != june || months[0].Lines == 0 {
		t.Errorf("months %v, %v, want June and July", months, err)
	}
	if all, err := n.IntervalSettlements(july - 1); err != nil || len(all) != 0 {
		t.Errorf("%d settlements of an interval that was pruned, %v", len(all), err)
	}
	if all, err := n.IntervalSettlements(july); err != nil || len(all) != 1 {
		t.Errorf("%d settlements, %v, want 1", len(all), err)
	}
	// Old blocks go as well, but those behind a snapshot stay, and the chain goes on.
	blocks := n.engine.Load().node.BlockStore()
	for blocks.Base() <= 1 && blocks.Height() < 200 {
		s.prefer(n, n)
	}
	base, oldest := blocks.Base(), n.snapshots.oldest()
	if base <= 1 || base > oldest {
		t.Errorf("the first block is %d, want it to be pruned up to the snapshot of block %d", base, oldest)
	}
	s.prefer(n, n)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	checkFolder(t, s, n)
	n.start()
	s.awaitUp(n)
	s.prefer(n, n)
}
