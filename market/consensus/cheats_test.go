package consensus

import (
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// C10, C11, with real engines: one of four leaves a home's orders out of all its blocks, and it
// is the one whose block before the gate comes first. Every order is in before its gate; it is
// counted against nobody else.
func TestOneProposerLeavesAHomeOut(t *testing.T) {
	t.Parallel()
	const gates = 3
	s := newStreet(t, streetOptions{
		validators: 4, homes: 2, interval: time.Minute, rate: 5, next: 14 * time.Second,
		tweak: func(_ int, c *Config) { c.Pace.BeforeGate = 6 * time.Second },
	})
	victim, liar := s.homes[0], atomic.Int32{}
	liar.Store(-1)
	for i, m := range s.nodes {
		m.cfg.faults.propose = func(_ int64, txs [][]byte) [][]byte {
			return slices.DeleteFunc(txs, func(raw []byte) bool {
				tx, err := ledger.DecodeTx(raw)
				if err != nil || tx.Kind() != ledger.KindOrder || tx.Household() != victim.id {
					return false
				}
				return liar.CompareAndSwap(-1, int32(i)) || liar.Load() == int32(i)
			})
		}
	}
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	k := s.nodes[0].next()
	s.awaitState("first gate closed", s.nodes, func(st *ledger.State) bool { return st.Next() > k })
	for i := range gates {
		k = s.nodes[0].next()
		s.submit(s.nodes[i], s.order(victim, k, 100))
		s.submit(s.nodes[3-i], s.order(s.homes[1], k, 100))
		in := false
		s.awaitState("gate closed", s.nodes[:1], func(st *ledger.State) bool {
			in = in || hasOrder(st, victim, k)
			return st.Next() > k
		})
		if !in {
			t.Errorf("interval %d: the order that %d leaves out missed its gate", k, liar.Load())
		}
	}
	s.settled(s.nodes...)
	if liar.Load() < 0 {
		t.Fatal("nobody left an order out")
	}
	cheat := s.nodes[liar.Load()].validator.GetAddress().String()
	counted := uint64(0)
	for i, m := range s.nodes {
		for proposer, n := range m.Status().Omitted {
			if proposer != cheat {
				t.Errorf("%s counts %d orders against %s, who leaves nothing out", m.name, n, proposer)
			}
			if i != int(liar.Load()) {
				counted = max(counted, n)
			}
		}
	}
	if counted == 0 {
		t.Error("nothing is counted against who leaves orders out")
	}
	t.Logf("%d of %d orders in; %d omissions counted", gates, gates, counted)
	s.sameHashes(s.nodes...)
}

// L13: a validator's key in two homes, whose guards are out of order: both sign, which is proven
// in a block; the key loses its vote, both homes go on without it, and no two blocks are decided.
func TestClonedValidator(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, replicas: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	original, clone := s.nodes[3], s.nodes[4]
	key, err := os.ReadFile(original.cfg.ValidatorKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	clone.cfg.ValidatorKeyFile = filepath.Join(clone.cfg.Home, "cloned.key")
	clone.cfg.ValidatorStateFile = filepath.Join(clone.cfg.Home, "cloned.state")
	if _, err := NewValidatorKey(clone.cfg.ValidatorKeyFile, clone.cfg.ValidatorStateFile); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(clone.cfg.ValidatorKeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	original.cfg.faults.unguarded, clone.cfg.faults.unguarded = true, true
	clone.cfg.faults.propose = func(int64, [][]byte) [][]byte { return nil } // not what the original proposes
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	honest := s.nodes[:3]
	s.admit(honest[0], honest, s.homes...)
	began := time.Now()
	cheat := original.validatorKey(t)
	await(t, 120*time.Second, "the key is struck", func() (struck bool) {
		s.prefer(honest[0], honest...)
		honest[0].Read(func(st *ledger.State) { struck = st.FaultOf(cheat) == ledger.FaultStruck })
		return struck
	})
	t.Logf("struck %v after both sign", time.Since(began))
	for i := range 6 {
		s.prefer(honest[i%3], s.nodes...)
	}
	s.settled(s.nodes...)
	s.sameHashes(s.nodes...)
	for _, m := range s.nodes {
		if st := m.Status(); st.ValidatorsTotal != 3 || len(st.DoubleVoted) != 1 || !st.DoubleVoted[0].Struck {
			t.Errorf("%s: %d validators, double votes %+v, want 3 and one", m.name, st.ValidatorsTotal, st.DoubleVoted)
		}
	}
	c, err := honest[1].Conduct(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.audited(t, c, original)
}

// A backlog of missed gates is closed in one block, and one of more than a tick spans in as few
// as it takes: half the validators are away meanwhile.
func TestBacklogClosesInOneBlock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		intervals market.Interval
		ticks     int
	}{{"a day", 24, 1}, {"more than a tick spans", ledger.MaxTickSpan + 2000, 2}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64
			s := newStreet(t, streetOptions{
				validators: 4, homes: 1, interval: time.Minute, rate: 1, next: 10 * time.Minute,
				tweak: func(_ int, c *Config) {
					c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				},
			})
			s.start(s.nodes...)
			s.awaitUp(s.nodes...)
			s.admit(s.nodes[0], s.nodes, s.homes...)
			s.settled(s.nodes...)
			k := s.nodes[0].next()
			for _, m := range s.nodes[2:] {
				if err := m.stop(); err != nil {
					t.Fatal(err)
				}
			}
			var gate time.Time
			s.nodes[0].Read(func(st *ledger.State) { gate = wallGate(st, k+c.intervals-1) })
			ahead.Store(int64(time.Until(gate) + time.Second))
			before := s.nodes[0].Status().Height
			events, cancel := s.nodes[0].Subscribe()
			defer cancel()
			s.start(s.nodes[2:]...)
			took := s.awaitState("the backlog is closed", s.nodes, func(st *ledger.State) bool { return st.Next() >= k+c.intervals })
			height := s.settled(s.nodes...)
			ticks := 0
			for len(events) > 0 {
				for _, r := range (<-events).Receipts {
					if r.Kind == ledger.KindTick && r.Refusal == nil {
						ticks++
					}
				}
			}
			t.Logf("%d missed gates closed in %d blocks (%d with their proofs), %v after the quorum was back", c.intervals, ticks, height-before, took)
			if ticks != c.ticks {
				t.Errorf("%d blocks with a tick, want %d", ticks, c.ticks)
			}
			s.sameHashes(s.nodes...)
		})
	}
}
