package ledger_test

import (
	"fmt"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// BenchmarkApply applies one interval of a street: a block with everyone's orders and
// the tick that clears it, and one with everyone's reports, which settles it. The
// signatures have been verified before, as in consensus.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("households=%d", n), func(b *testing.B) {
			c := ledgertest.New(ledger.DefaultRules())
			verified := func([32]byte, ledger.Key) bool { return true }
			s, cleared := c.State(), c.State()
			var found, orders, reports ledger.Block
			for i := range n {
				h := ledgertest.NewHome(fmt.Sprintf("home/%d", i))
				found.Txs = append(found.Txs, c.Join(h, 2), c.Install(h, 2))
				side, price := market.Bid, market.Price(300_000)
				if i%2 == 0 {
					side, price = market.Offer, 80_000
				}
				step := ledger.Step{Price: price + market.Price(i%97)*100, WattHours: market.WattHours(100 + i%900)}
				orders.Txs = append(orders.Txs, c.Order(h, c.First, side, 1, step))
				reports.Txs = append(reports.Txs, c.Report(h, c.First, 1))
			}
			orders.Txs = append(orders.Txs, ledger.NewTick(c.First, c.First, c.First))
			apply := func(s *ledger.State, block ledger.Block) *ledger.Delta {
				block.Verified = verified
				d, receipts, err := ledger.Apply(s, block)
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range receipts {
					if r.Refusal != nil {
						b.Fatal(r.Refusal)
					}
				}
				return d
			}
			s.Absorb(apply(s, found))
			cleared.Absorb(apply(cleared, found))
			cleared.Absorb(apply(cleared, orders))
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				apply(s, orders)
				apply(cleared, reports)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/household")
		})
	}
}
