//go:build linux

package household

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// TestPowerCut: what a home has metered is on its card before anybody hears of it. The plug is pulled right after each
// boundary; the report that it closed is there afterwards, and so are all before it, and the numbers of its readings.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	c, err := card.New(filepath.Join(t.TempDir(), "card"), card.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(c.Dir(), "home.db")
	counter := func(n uint64) *uint64 { return &n }
	for n := uint64(1); n <= 5; n++ {
		d, err := openDisk(path)
		if err != nil {
			t.Fatal(err)
		}
		k := market.Interval(100 + n)
		report := &ledger.ReportMeter{
			From: k, Count: 1,
			Start: ledger.Reading{Seq: n, ImportWh: counter(10 * n), ExportWh: counter(0)},
			End:   ledger.Reading{Seq: n + 1, ImportWh: counter(10*n + 10), ExportWh: counter(0)},
		}
		if err := d.saveBoundary(meterState{Chain: meter.ChainState{Seq: n + 1}}, report); err != nil {
			t.Fatal(err)
		}
		if err := c.Cut(); err != nil {
			t.Fatal(err)
		}
		_ = d.close() // there is no card to close it on
		if err := errors.Join(c.Unmount(), c.Mount()); err != nil {
			t.Fatal(err)
		}
		if d, err = openDisk(path); err != nil {
			t.Fatalf("after cut %d: %v", n, err)
		}
		state, err := d.loadMeter()
		if err != nil || state.Chain.Seq != n+1 {
			t.Errorf("after cut %d: reading %d, %v, want %d", n, state.Chain.Seq, err, n+1)
		}
		reports, err := d.loadReports()
		if err != nil || uint64(len(reports)) != n || reports[n-1].From != k || *reports[n-1].End.ImportWh != 10*n+10 {
			t.Fatalf("after cut %d: %d reports, %v", n, len(reports), err)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
}
