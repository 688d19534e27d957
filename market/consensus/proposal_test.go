package consensus

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// judging is a scene with a node's judge.
func judging(s *scene) *app {
	n := &Node{pool: newPool(PoolLimits{Txs: 5000, Bytes: 4 << 20, Household: 2000, Own: 10})}
	return &app{n: n, trusted: map[[32]byte]ledger.Key{}, judged: map[[32]byte]*judgement{}}
}

// stuffed are orders of one home, each of the most steps that an order has.
func (s *scene) stuffed(h *home, n int) (txs [][]byte) {
	for range n {
		h.seq++
		o := &ledger.PlaceOrder{Interval: s.state.Next() + 1, Seq: h.seq, Side: market.Offer}
		for i := range market.MaxSteps {
			o.Steps = append(o.Steps, ledger.Step{Price: market.Price(100_000 + i), WattHours: 1 << 30})
		}
		txs = append(txs, o.Sign(s.chain, h.id, h.device))
	}
	return txs
}

// C3, C4: every kind of proposal that no honest validator makes is refused, for its reason.
func TestBadProposals(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	a := judging(s)
	h, k := s.homes[0], s.state.Next()
	gate := wallGate(s.state, k)
	length := wallGate(s.state, k+1).Sub(gate)
	order, other := s.order(h, k, 100), s.order(s.homes[1], k, 100)
	tick := ledger.NewTick(k, k, k)
	forged := slices.Clone(order)
	forged[len(forged)-1] ^= 1
	elsewhere := (&ledger.PlaceOrder{Interval: k, Seq: 99, Side: market.Offer, Steps: []ledger.Step{{Price: 1, WattHours: 1}}}).Sign("another-chain", h.id, h.device)
	many := make([][]byte, maxBlockTxs+1)
	stranger := newHome("stranger") // the ledger does not know its key, so nothing is verified
	for i := range many {
		many[i] = s.order(stranger, k, 100)
	}
	full := s.stuffed(stranger, 1)
	full = append(full, s.stuffed(stranger, maxBlockBytes/len(full[0]))...)
	for _, c := range []struct {
		reason, name string
		at           time.Duration // after the gate
		txs          [][]byte
	}{
		{"", "nothing", 0, nil},
		{"", "orders and a tick", 1, [][]byte{order, other, tick}},
		{"", "orders of which one is refused by the ledger: it is no reason", 0, [][]byte{s.order(h, k-5, 1)}},
		{reasonEarlyTick, "a tick before its gate", -Tolerance - 1, [][]byte{order, tick}},
		{reasonEarlyTick, "a span that ends before its gate", 0, [][]byte{ledger.NewTick(k, k+1, k)}},
		{reasonBadTick, "a gate that has been closed", 2 * length, [][]byte{ledger.NewTick(k-1, k, k)}},
		{reasonBadTick, "a gate left open", 2 * length, [][]byte{ledger.NewTick(k+1, k+1, k+1)}},
		{reasonMalformed, "a span without end", 2 * length, [][]byte{ledger.NewTick(k, k+ledger.MaxTickSpan, k)}},
		{reasonMalformed, "a span that falls", 2 * length, [][]byte{ledger.NewTick(k, k-1, k)}},
		{reasonMisplaced, "an order behind the tick", 1, [][]byte{order, tick, other}},
		{reasonMisplaced, "two ticks", 2 * length, [][]byte{tick, ledger.NewTick(k+1, k+1, k+1)}},
		{reasonTwice, "an order twice", 0, [][]byte{order, other, order}},
		{reasonTwice, "a tick twice", 1, [][]byte{order, order, tick}},
		{reasonMalformed, "a bell", 0, [][]byte{newBell().draw(1)}},
		{reasonMalformed, "an empty transaction", 0, [][]byte{{}}},
		{reasonMalformed, "half a transaction", 0, [][]byte{order[:len(order)/2]}},
		{reasonMalformed, "a byte too many", 0, [][]byte{append(slices.Clone(order), 0)}},
		{reasonForged, "a signature that is not the home's", 0, [][]byte{other, forged}},
		{reasonForged, "an order for another community", 0, [][]byte{elsewhere}},
		{reasonTooLarge, "one transaction that is too large", 0, [][]byte{make([]byte, ledger.MaxTxBytes+1)}},
		{reasonTooLarge, "more bytes than a block has", 0, full},
		{reasonTooMany, "more transactions than a block has", 0, many},
		{reasonTooMany, "many more", 0, append(slices.Clone(many), many...)},
	} {
		err := a.judge(s.state, c.txs, gate.Add(c.at), newJudgement(nil, len(c.txs)))
		reason := ""
		if e, ok := errors.AsType[*proposalError](err); ok {
			reason = e.reason
		}
		if reason != c.reason || err != nil && reason == "" {
			t.Errorf("%s: %v (%q), want %q", c.name, err, reason, c.reason)
		}
	}
}

// C3, C4: a proposal that is accepted once is accepted ever after in the same state, whatever
// the pool has by then, and whatever else has been judged meanwhile.
func TestProposalNeverTurns(t *testing.T) {
	t.Parallel()
	s := newScene(t, 3)
	k := s.state.Next()
	gate := wallGate(s.state, k)
	length := wallGate(s.state, k+1).Sub(gate)
	var parts [][]byte
	for _, h := range s.homes {
		parts = append(parts, s.order(h, k, 100), s.order(h, k+1, 100), s.preference(h))
		forged := s.order(h, k, 7)
		forged[len(forged)-1] ^= 1
		parts = append(parts, forged)
	}
	parts = append(parts, newBell().draw(1), nil, s.admission(newHome("another")))
	for i := range market.Interval(4) {
		parts = append(parts, ledger.NewTick(k, k+i, k), ledger.NewTick(k, k+i, k+i), ledger.NewTick(k+i, k+i, k+i+1))
	}
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		a := judging(s)
		proposal := rapid.SliceOfN(rapid.SampledFrom(parts), 0, 4).Draw(t, "proposal")
		if rapid.Bool().Draw(t, "ticks") {
			proposal = append(proposal, ledger.NewTick(k, k+market.Interval(rapid.IntRange(0, 3).Draw(t, "span")), k))
		}
		at := gate.Add(time.Duration(rapid.Int64Range(-int64(length), int64(5*length)).Draw(t, "at")))
		first := a.judge(s.state, proposal, at, newJudgement(nil, 0))
		if first == nil {
			accepted++
		}
		for range rapid.IntRange(1, 4).Draw(t, "times") {
			at = at.Add(time.Duration(rapid.Int64Range(0, int64(3*length)).Draw(t, "later")))
			for _, raw := range rapid.SliceOfN(rapid.SampledFrom(parts), 0, 5).Draw(t, "gossip") {
				if tx, err := ledger.DecodeTx(raw); err == nil && s.state.CheckTx(tx) == nil {
					if _, err := a.n.pool.add(tx, false, true, at); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = a.judge(s.state, rapid.SliceOfN(rapid.SampledFrom(parts), 0, 3).Draw(t, "another"), at, newJudgement(nil, 0))
			if again := a.judge(s.state, proposal, at, newJudgement(nil, 0)); first == nil && again != nil {
				t.Fatalf("accepted at first, refused later: %v", again)
			}
		}
	})
	if accepted == 0 {
		t.Error("no proposal was ever accepted: the test cannot fail")
	}
}
