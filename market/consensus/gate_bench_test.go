package consensus

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// gateIntervals is how many gates BenchmarkGate looks at, after one to warm up.
const gateIntervals = 15

// BenchmarkGate/validators=4/light=20 is a street with a host of its own for each home, in
// this process: real engines in tunnels, real gossip, and light homes that verify what they
// are told. Every home orders for every interval. From the instant at which a gate closes to
// the one at which a home has the clearing, in a state that is decided (a validator) or
// proven by a header and confirmed by others (a light home), it takes
//
//	p50-ms, p99-ms   over all homes and gates
//	light-p99-ms     over the light homes alone
//	max-ms           the slowest
func BenchmarkGate(b *testing.B) {
	b.Run("validators=4/light=20", func(b *testing.B) { benchGate(b, 4, 20) })
}

func benchGate(b *testing.B, validators, light int) {
	b.Helper()
	s := newStreet(b, streetOptions{
		validators: validators, homes: light, interval: time.Minute, rate: 20, next: 3 * time.Second,
		listen: listenQUIC, rules: func(r *ledger.Rules) { r.ReportDeadlineS = 0 },
	})
	s.patient = true
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	follow := make([]follower, 0, validators+light)
	for _, m := range s.nodes {
		follow = append(follow, m)
	}
	lights := make([]*lightHome, light)
	var starting sync.WaitGroup
	for i, h := range s.homes {
		dir := b.TempDir()
		starting.Go(func() { lights[i] = s.newLightHome(h, dir, nil) })
	}
	starting.Wait()
	for _, l := range lights {
		l.level(s.nodes[0])
		follow = append(follow, l)
	}
	first := s.nodes[0].next() + 1
	last := first + gateIntervals
	known := make([]map[market.Interval]time.Duration, len(follow))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var following, ordering sync.WaitGroup
	for i, f := range follow {
		following.Go(func() { known[i] = gatesOf(f, first, last) })
	}
	for i, l := range lights {
		ordering.Go(func() { s.orderEach(ctx, s.homes[i], l, last) })
	}
	following.Wait()
	cancel()
	ordering.Wait()
	var all, ofLight []time.Duration
	for i := range follow {
		for k := first + 1; k <= last; k++ {
			all = append(all, known[i][k])
			if i >= validators {
				ofLight = append(ofLight, known[i][k])
			}
		}
	}
	for name, v := range map[string]time.Duration{
		"p50-ms": quantile(all, 50), "p99-ms": quantile(all, 99), "max-ms": quantile(all, 100), "light-p99-ms": quantile(ofLight, 99),
	} {
		b.ReportMetric(float64(v)/float64(time.Millisecond), name)
	}
	b.ReportMetric(0, "ns/op")
	s.allOrdered(lights[0], light, last)
}

// follower is a node or a light home.
type follower interface {
	Read(f func(*ledger.State))
	Subscribe() (<-chan Event, func())
	Submit(ctx context.Context, tx []byte) error
}

// gatesOf waits until the gates up to last are closed, and says how long after each of them
// that was known.
func gatesOf(f follower, from, last market.Interval) map[market.Interval]time.Duration {
	events, cancel := f.Subscribe()
	defer cancel()
	known := map[market.Interval]time.Duration{}
	for next := from; next <= last; {
		f.Read(func(st *ledger.State) {
			for now := time.Now(); next < st.Next(); next++ {
				known[next] = now.Sub(wallGate(st, next))
			}
		})
		if next > last {
			break
		}
		if _, open := <-events; !open {
			break
		}
	}
	return known
}

// orderEach orders for each interval up to last as soon as the one before it is closed.
func (s *street) orderEach(ctx context.Context, h *home, l *lightHome, last market.Interval) {
	events, cancel := l.Subscribe()
	defer cancel()
	for ordered := market.Interval(-1); ordered < last; {
		var next market.Interval
		l.Read(func(st *ledger.State) { next = st.Next() })
		if next > ordered {
			if err := l.Submit(ctx, s.order(h, next, 300)); err != nil && ctx.Err() == nil {
				s.t.Errorf("order of interval %d: %v", next, err)
			}
			ordered = next
		}
		select {
		case <-ctx.Done():
			return
		case <-events:
		}
	}
}

// allOrdered holds that the orders were in their blocks: what is fast and empty proves nothing.
func (s *street) allOrdered(l *lightHome, homes int, last market.Interval) {
	s.t.Helper()
	l.Read(func(st *ledger.State) {
		r, ok := st.Interval(last)
		if !ok {
			return // settled, and gone
		}
		n := 0
		for _, h := range s.homes {
			if e, ok := r.Entry(h.id); ok && e.OfferSeq > 0 {
				n++
			}
		}
		if n != homes {
			s.t.Errorf("interval %d has orders of %d homes, want %d", last, n, homes)
		}
	})
}

func quantile(all []time.Duration, percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}
