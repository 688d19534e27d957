package store_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// verified spares the signatures: consensus has checked them when they came in.
func verified([32]byte, ledger.Key) bool { return true }

// BenchmarkSettleInterval runs one interval of a street on four feeders: a block with
// everyone's orders and the tick that clears it, and one with everyone's reports, which
// settles it; applied and committed. Signatures have been verified before, as in consensus.
//
// disk-B/household is what the ledger grows by, written-B/household what is written to the
// disk for it, ns/household the time of the fastest interval, since a machine and its disk
// have moods, and cpu-ns/household what the processors were busy with it on average.
func BenchmarkSettleInterval(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("households=%d", n), func(b *testing.B) {
			c := ledgertest.New(ledger.DefaultRules(), feeders()...)
			s, err := store.Open(filepath.Join(b.TempDir(), "ledger.db"), ledgertest.ChainID, c.Genesis)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			homes := make([]*ledgertest.Home, n)
			var found ledger.Block
			for i := range homes {
				homes[i] = ledgertest.NewHome(fmt.Sprintf("home/%d", i))
				homes[i].Node = fmt.Sprintf("feeder-%d", i%4)
				found.Txs = append(found.Txs, c.Join(homes[i], 2), c.Install(homes[i], 2))
			}
			commit(b, s, found)
			run := func() (wall, cpu time.Duration) {
				k := s.State().Next()
				orders, reports := interval(c, homes, k)
				runtime.GC() // what it cost to make the transactions is not the ledger's
				start, spent := time.Now(), cpuTime(b)
				commit(b, s, orders)
				commit(b, s, reports)
				return time.Since(start), cpuTime(b) - spent
			}
			// Few enough that the streets have about as long a history: each interval that is not
			// final is a leaf more to hash.
			rounds := min(40, max(6, 20_000/n))
			run() // the first one makes the pages
			written, live := s.WrittenBytes(), s.LiveBytes()
			times := make([]time.Duration, rounds)
			var cpu time.Duration
			for i := range times {
				var spent time.Duration
				times[i], spent = run()
				cpu += spent
			}
			grown, put := s.LiveBytes()-live, s.WrittenBytes()-written
			for b.Loop() { // b.N is not for intervals, which make the file grow
				_ = s.Height()
			}
			per := float64(rounds) * float64(n)
			b.ReportMetric(float64(put)/per, "written-B/household")
			b.ReportMetric(float64(grown)/per, "disk-B/household")
			slices.Sort(times)
			b.ReportMetric(float64(times[0].Nanoseconds())/float64(n), "ns/household")
			b.ReportMetric(float64(cpu.Nanoseconds())/per, "cpu-ns/household")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime is how long this process has kept processors busy.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// feeders is a network with limits and fees, of which some bind.
func feeders() []ledger.Node {
	nodes := []ledger.Node{{ID: ledger.RootNode}}
	for i := range 4 {
		nodes = append(nodes, ledger.Node{
			ID: fmt.Sprintf("feeder-%d", i), Parent: ledger.RootNode, ImportFee: 10_000, ExportFee: market.Price(i) * 1000,
			ExportLimitW: new(int64(200_000 * i)),
		})
	}
	return nodes
}

func interval(c *ledgertest.Community, homes []*ledgertest.Home, k market.Interval) (orders, reports ledger.Block) {
	for i, h := range homes {
		side, price := market.Bid, market.Price(300_000)
		if i%2 == 0 {
			side, price = market.Offer, 80_000
		}
		steps := ledger.Step{Price: price + market.Price(i%97)*100, WattHours: market.WattHours(100 + i%900)}
		orders.Txs = append(orders.Txs, c.Order(h, k, side, 1, steps))
		reports.Txs = append(reports.Txs, c.Report(h, k, 1))
	}
	orders.Txs = append(orders.Txs, ledger.NewTick(k, k, k))
	return orders, reports
}

func commit(b *testing.B, s *store.Store, block ledger.Block) {
	b.Helper()
	block.Verified = verified
	d, receipts, err := ledger.Apply(s.State(), block)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range receipts {
		if r.Refusal != nil {
			b.Fatal(r.Refusal)
		}
	}
	if err := s.Commit(s.Height()+1, d); err != nil {
		b.Fatal(err)
	}
	s.State().Absorb(d)
}
