package store_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// verified spares the signatures: consensus has checked them when they came in.
func verified([32]byte, ledger.Key) bool { return true }

// BenchmarkCommit makes one interval of a street durable: a block with everyone's
// orders and the tick, and one with everyone's reports, which settles it.
// disk-B/household is what is written for it, file-B/household what the file grows by.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("households=%d", n), func(b *testing.B) {
			c := ledgertest.New(ledger.DefaultRules())
			s, err := store.Open(filepath.Join(b.TempDir(), "ledger.db"), ledgertest.ChainID, c.Genesis)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			homes := make([]*ledgertest.Home, n)
			var found ledger.Block
			for i := range homes {
				homes[i] = ledgertest.NewHome(fmt.Sprintf("home/%d", i))
				found.Txs = append(found.Txs, c.Join(homes[i], 2), c.Install(homes[i], 2))
			}
			commit(b, s, found)
			written, live := s.WrittenBytes(), s.LiveBytes()
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				k := s.State().Next()
				orders, reports := interval(c, homes, k)
				b.StartTimer()
				commit(b, s, orders)
				commit(b, s, reports)
			}
			per := float64(b.N) * float64(n)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/per, "ns/household")
			b.ReportMetric(float64(s.WrittenBytes()-written)/per, "disk-B/household")
			b.ReportMetric(float64(s.LiveBytes()-live)/per, "file-B/household")
		})
	}
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
