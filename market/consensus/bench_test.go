package consensus

import (
	"context"
	"crypto/ed25519"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// BenchmarkLedger/validators=4 is the whole way of an order on 4 nodes in this process, with
// real engines in tunnels and real gossip: signed beforehand, submitted at its own home's
// node, sent in bundles, checked, proposed, applied and committed on all four. It reports
//
//	orders/s      committed orders per second of wall time, on however many cores there are
//	us/order/node CPU time of the process per order and node
//	x-verify      the same, over the CPU time of one crypto/ed25519 verification of an order,
//	              measured in the same run: a number that holds on any machine
func BenchmarkLedger(b *testing.B) {
	b.Run("validators=4", func(b *testing.B) { benchLedger(b, 4) })
}

func benchLedger(b *testing.B, validators int) {
	b.Helper()
	const homes = 64
	s := newStreet(b, streetOptions{
		validators: validators, homes: homes, interval: time.Hour, rate: 1, next: 50 * time.Minute,
		rules: func(r *ledger.Rules) { r.MaxAhead = 10_000 },
		tweak: func(_ int, c *Config) {
			c.Pace.Backlog = 1 // every order asks for a block
			c.Pool = PoolLimits{Txs: 1 << 20, Bytes: 1 << 30, Household: 1 << 20, Own: 1 << 20}
		},
	})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	s.settled(s.nodes...)
	next := s.nodes[0].next()
	verify := verifyCost(s.order(s.homes[0], next, 1))
	orders := make([][][]byte, validators)
	last := next
	for i := range b.N {
		// Each order is for an interval of its own, so that none replaces another.
		last = next + market.Interval(i/homes)
		at := i % homes % validators
		orders[at] = append(orders[at], s.order(s.homes[i%homes], last, int64(1+i%1000)))
	}
	b.ResetTimer()
	cpu := cpuTime(b)
	var wg sync.WaitGroup
	for i, m := range s.nodes {
		wg.Go(func() {
			for _, tx := range orders[i] {
				if err := m.Submit(context.Background(), tx); err != nil {
					b.Errorf("submitting: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	await(b, 10*time.Minute, "all orders committed", func() bool {
		for _, m := range s.nodes {
			done := m.Status().Pool == 0
			m.Read(func(st *ledger.State) {
				done = done && hasOrder(st, s.homes[(b.N-1)%homes], last)
			})
			if !done {
				return false
			}
		}
		return true
	})
	wall := b.Elapsed()
	cpu = cpuTime(b) - cpu
	b.StopTimer()
	perNode := float64(cpu) / float64(b.N) / float64(validators)
	b.ReportMetric(float64(b.N)/wall.Seconds(), "orders/s")
	b.ReportMetric(perNode/1e3, "us/order/node")
	b.ReportMetric(perNode/verify, "x-verify")
	s.sameHashes(s.nodes...)
	for _, m := range s.nodes {
		if r := m.Status().Rejected; len(r) > 0 {
			b.Errorf("%s: refused %v", m.name, r)
		}
	}
}

// verifyCost is the CPU time in nanoseconds of one verification of a message as long as tx.
func verifyCost(tx []byte) float64 {
	key := testKey("verify")
	sig, pub := ed25519.Sign(key, tx), key.Public().(ed25519.PublicKey)
	const n = 2000
	var use, now syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &use)
	for range n {
		if !ed25519.Verify(pub, tx, sig) {
			panic("bad signature")
		}
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &now)
	return float64(cpuOf(now)-cpuOf(use)) / n
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return cpuOf(u)
}

func cpuOf(u syscall.Rusage) time.Duration {
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
