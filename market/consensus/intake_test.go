package consensus

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// C12: honest nodes that are a block apart do not blame each other for a gateway that is
// replaced; whoever forges is blamed all the same, before, in between and after.
func TestVerdictsWhileKeysChange(t *testing.T) {
	t.Parallel()
	var hold atomic.Bool // nothing gets into a block
	s := newStreet(t, streetOptions{
		validators: 1, homes: 2, interval: time.Hour, rate: 1, next: 30 * time.Minute,
		tweak: func(_ int, c *Config) {
			c.faults.propose = func(_ int64, txs [][]byte) [][]byte {
				if hold.Load() {
					return nil
				}
				return txs
			}
		},
	})
	m, h := s.nodes[0], s.homes[0]
	m.start()
	s.awaitUp(m)
	s.admit(m, s.nodes, s.homes...)
	was, is, thief := *h, *h, *h
	is.device, is.network, thief.device = testKey("next device"), testKey("next network"), testKey("thief")
	k := m.next()
	verdict := func(what string, who *home, want Verdict) {
		t.Helper()
		h.seq++
		who.seq = h.seq
		raw := mustBundle(t, s.order(who, k, 100))
		for range 2 { // the second time without verifying
			if v := m.Validate(raw); v != want {
				t.Errorf("%s: %v, want %v", what, v, want)
			}
			if want == Accept {
				break
			}
		}
	}
	verdict("before, by the gateway", &was, Accept)
	verdict("before, by the next gateway", &is, Reject)
	verdict("before, forged", &thief, Reject)

	hold.Store(true)
	change := ledger.NewDevice(s.chain, h.id, 1, is.device, is.network).Sign(s.chain, h.id, h.cold)
	if v := m.Validate(mustBundle(t, change)); v != Accept {
		t.Fatalf("the change: %v, want accept", v)
	}
	verdict("while the change waits, by the gateway", &was, Accept)
	verdict("while the change waits, by the next gateway", &is, Ignore)
	verdict("while the change waits, forged", &thief, Reject)

	hold.Store(false)
	poke(m.bell.wake)
	s.awaitState("gateway replaced", s.nodes, func(st *ledger.State) bool {
		r, ok := st.Household(h.id)
		return ok && r.Device == publicKey(is.device)
	})
	verdict("after, by the gateway before", &was, Ignore)
	verdict("after, by the gateway", &is, Accept)
	verdict("after, forged", &thief, Reject)
	if _, ok := m.turns.formerDevice(h.id, time.Now().Add(turnFor+time.Second)); ok {
		t.Errorf("the former key is forgiven for more than %v", turnFor)
	}
}

// Which decisions hold is known a moment later in one place than in another.
func TestVerdictsAfterDecision(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	m, h := s.nodes[0], s.homes[0]
	m.start()
	s.awaitUp(m)
	s.admit(m, s.nodes, s.homes...)
	dear := func() []byte {
		h.seq++
		o := &ledger.PlaceOrder{Interval: m.next(), Seq: h.seq, Side: market.Bid, Steps: []ledger.Step{{Price: 1 << 39, WattHours: 1}}}
		return mustBundle(t, o.Sign(s.chain, h.id, h.device))
	}
	if v := m.Validate(dear()); v != Reject {
		t.Errorf("no decision lately: %v, want reject", v)
	}
	m.turns.note([]ledger.Receipt{{Kind: ledger.KindRules}}, nil, time.Now())
	if v := m.Validate(dear()); v != Ignore {
		t.Errorf("rules have just been decided: %v, want ignore", v)
	}
	if v := m.Validate(mustBundle(t, forged(s.order(h, m.next(), 1)))); v != Reject {
		t.Errorf("forged: %v, want reject", v)
	}
	m.turns.note([]ledger.Receipt{{Kind: ledger.KindRules}}, nil, time.Now().Add(-turnFor-time.Second))
	if v := m.Validate(dear()); v != Reject {
		t.Errorf("the decision is old: %v, want reject", v)
	}
}

// Nothing that costs signatures is verified for who has no room, and nothing twice.
func TestNoSignatureForNothing(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{
		validators: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute,
		tweak: func(_ int, c *Config) { c.Pool.Household = 3 },
	})
	m, h := s.nodes[0], s.homes[0]
	m.start()
	s.awaitUp(m)
	s.admit(m, s.nodes, h)
	k := m.next()
	for range 3 {
		if v := m.Validate(mustBundle(t, s.order(h, k, 1))); v != Accept {
			t.Fatalf("%v, want accept", v)
		}
	}
	// Its signature is wrong, which nobody finds out.
	if v := m.Validate(mustBundle(t, forged(s.order(h, k, 1)))); v != Ignore {
		t.Errorf("no room: %v, want ignore", v)
	}
	if r := m.Status().Rejected; r["pool-full"] != 1 || r["bad-signature"] != 0 {
		t.Errorf("refused %v, want one for the full pool and none for its signature", r)
	}
}

// Floods end at bounds: what a node remembers of refusals and of changes of keys.
func TestIntakeIsBounded(t *testing.T) {
	t.Parallel()
	p := newPool(PoolLimits{Txs: 1, Bytes: 1, Household: 1, Own: 1})
	for i := range 2 * spentSize {
		p.spend([32]byte{byte(i), byte(i >> 8), byte(i >> 16)}, Reject)
	}
	if len(p.spent) != spentSize {
		t.Errorf("%d refused ones remembered, want %d", len(p.spent), spentSize)
	}
	for i := range 3 * seenSize {
		p.remember([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if n := len(p.seen[0]) + len(p.seen[1]); n > 2*seenSize {
		t.Errorf("%d applied ones remembered, want at most %d", n, 2*seenSize)
	}
	p.settle(nil, false)
	if len(p.spent) != 0 {
		t.Errorf("%d refused ones remembered after a block, want 0", len(p.spent))
	}
	turns, now := turns{}, time.Now()
	id := func(i int) market.HouseholdID { return market.HouseholdID{byte(i), byte(i >> 8)} }
	for i := range 2 * maxTurns {
		turns.retire(id(i), formerKey{ledger.Key{1}, now.Add(turnFor + time.Duration(i))}, now)
	}
	if len(turns.former) != maxTurns {
		t.Errorf("%d former keys, want %d", len(turns.former), maxTurns)
	}
	for i := range 2 * maxTurns {
		if _, ok := turns.formerDevice(id(i), now); ok != (i >= maxTurns) {
			t.Fatalf("former key %d is there: %v, want the newest %d", i, ok, maxTurns)
		}
	}
	turns.retire(id(0), formerKey{ledger.Key{2}, now.Add(time.Hour)}, now.Add(2*turnFor))
	if len(turns.former) != 1 {
		t.Errorf("%d former keys after their time, want 1", len(turns.former))
	}
}

// FuzzValidate: whatever comes by gossip, nothing panics, there is a verdict, and what waits is bounded.
func FuzzValidate(f *testing.F) {
	s := newStreet(f, streetOptions{validators: 1, homes: 2, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	n, err := New(s.nodes[0].cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	})
	h := s.homes[0]
	f.Add(mustBundle(f, s.admission(h), s.meterAdmission(h), s.order(h, 5, 1)))
	f.Add(mustBundle(f, ledger.NewTick(1, 1, 1)))
	f.Add(mustBundle(f, forged(s.admission(s.homes[1])), []byte("no transaction")))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v := n.Validate(raw); v != Accept && v != Reject && v != Ignore {
			t.Errorf("%v is no verdict", v)
		}
		if l := n.pool.load(); l.txs > n.cfg.Pool.Household { // nobody is registered here
			t.Errorf("%d wait, want at most %d", l.txs, n.cfg.Pool.Household)
		}
	})
}
