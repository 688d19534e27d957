package consensus

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// scene is a ledger without a network: states are made by applying blocks directly.
type scene struct {
	*street
	state *ledger.State
}

// newScene has its homes registered, with meters.
func newScene(t testing.TB, homes int) *scene {
	t.Helper()
	s := &scene{street: newStreet(t, streetOptions{validators: 1, homes: homes, interval: time.Hour, rate: 1, next: 30 * time.Minute})}
	var err error
	if s.state, err = ledger.NewState(s.chain, s.genesis); err != nil {
		t.Fatal(err)
	}
	var households, meters [][]byte
	for _, h := range s.homes {
		households = append(households, s.admission(h))
		meters = append(meters, s.meterAdmission(h))
	}
	s.apply(households...)
	s.apply(meters...)
	return s
}

// apply makes a block, and wants all of it accepted.
func (s *scene) apply(txs ...[]byte) []ledger.Receipt {
	s.t.Helper()
	d, receipts, err := ledger.Apply(s.state, ledger.Block{Txs: txs})
	if err != nil {
		s.t.Fatal(err)
	}
	for i, r := range receipts {
		if r.Refusal != nil {
			s.t.Fatalf("transaction %d: %v", i, r.Refusal)
		}
	}
	s.state.Absorb(d)
	return receipts
}

// checked decodes a transaction that the state accepts.
func (s *scene) checked(raw []byte) *ledger.Tx {
	s.t.Helper()
	tx, err := ledger.DecodeTx(raw)
	if err == nil {
		err = s.state.CheckTx(tx)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return tx
}

func (s *scene) offer(h *home) *ledger.Tx {
	s.t.Helper()
	return s.checked(s.order(h, s.state.Next()+market.Interval(h.seq%90), 100))
}

func mustAdd(t testing.TB, p *pool, tx *ledger.Tx, own bool) {
	t.Helper()
	if added, err := p.add(tx, own, true, time.Now()); err != nil || !added {
		t.Fatalf("added %v, %v; want it in", added, err)
	}
}

// C5: nobody's flood takes another household's room, or the home's own.
func TestPoolBounds(t *testing.T) {
	t.Parallel()
	s := newScene(t, 4)
	flood, quiet, mine := s.homes[0], s.homes[1], s.homes[2]
	p := newPool(PoolLimits{Txs: 20, Bytes: 1 << 20, Household: 15, Own: 3})
	for range 15 {
		mustAdd(t, p, s.offer(flood), false)
	}
	if _, err := p.add(s.offer(flood), false, true, time.Now()); !isRefusal(err, CodePoolFull) {
		t.Fatalf("one household has 16: %v, want %v", err, CodePoolFull)
	}
	last := s.offer(s.homes[3])
	for range 4 {
		mustAdd(t, p, s.offer(s.homes[3]), false)
	}
	mustAdd(t, p, last, false)
	// Full: who has less still gets in, at the cost of the newest of who has most.
	for range 7 {
		mustAdd(t, p, s.offer(quiet), false)
	}
	if n := len(p.homes[flood.id]); n != 8 || p.count != 20 || len(p.homes[quiet.id]) != 7 {
		t.Errorf("flood has %d of %d, quiet %d; want 8 of 20, 7", n, p.count, len(p.homes[quiet.id]))
	}
	if _, err := p.add(s.offer(quiet), false, true, time.Now()); !isRefusal(err, CodePoolFull) {
		t.Errorf("equals crowd each other out: %v", err)
	}
	for range 3 {
		mustAdd(t, p, s.offer(mine), true)
	}
	if _, err := p.add(s.offer(mine), true, true, time.Now()); !isRefusal(err, CodePoolFull) {
		t.Errorf("own: %v, want its own bound", err)
	}
	if got := p.load(); got.txs != 23 {
		t.Errorf("%d wait, want 20 and 3 own", got.txs)
	}
}

func TestPoolBytesAreBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	first := s.offer(s.homes[0])
	p := newPool(PoolLimits{Txs: 100, Bytes: 3*len(first.Bytes()) + 20, Household: 50, Own: 1})
	mustAdd(t, p, first, false)
	for range 2 {
		mustAdd(t, p, s.offer(s.homes[0]), false)
	}
	if _, err := p.add(s.offer(s.homes[0]), false, true, time.Now()); !isRefusal(err, CodePoolFull) {
		t.Errorf("got %v, want %v", err, CodePoolFull)
	}
	mustAdd(t, p, s.offer(s.homes[1]), false)
	if got := p.load(); got.txs != 3 || got.bytes > p.limits.Bytes {
		t.Errorf("%+v, want 3 within %d bytes", got, p.limits.Bytes)
	}
}

// Households that nobody knows yet share the room of one.
func TestPoolNewcomersShareOneRoom(t *testing.T) {
	t.Parallel()
	s := newScene(t, 0)
	p := newPool(PoolLimits{Txs: 100, Bytes: 1 << 20, Household: 5, Own: 1})
	full := 0
	for i := range 8 {
		if _, err := p.add(s.checked(s.admission(newHome(fmt.Sprint("new", i)))), false, false, time.Now()); isRefusal(err, CodePoolFull) {
			full++
		}
	}
	if full != 3 {
		t.Errorf("%d of 8 refused, want 3", full)
	}
	if l := p.load(); l.urgent != 5 {
		t.Errorf("%d are urgent, want 5", l.urgent)
	}
}

// A proposal takes from each household in turn, whatever the ids, and keeps to its limits.
func TestPoolPickIsFair(t *testing.T) {
	t.Parallel()
	s := newScene(t, 3)
	p := newPool(PoolLimits{Txs: 100, Bytes: 1 << 20, Household: 50, Own: 50})
	for range 10 {
		mustAdd(t, p, s.offer(s.homes[0]), false)
	}
	mustAdd(t, p, s.offer(s.homes[1]), true)
	var admitted []*ledger.Tx
	admitted = append(admitted, s.offer(s.homes[2]), s.checked(s.preference(s.homes[2])))
	for _, tx := range admitted {
		mustAdd(t, p, tx, false)
	}
	first := map[market.HouseholdID]bool{}
	for height := range int64(40) {
		got := p.pick(saltOf(s.state.AppHash(), height), 4, 1<<20)
		if len(got) != 4 {
			t.Fatalf("picked %d, want 4", len(got))
		}
		of := map[market.HouseholdID]int{}
		for _, tx := range got[:3] {
			of[tx.Household()]++
		}
		if len(of) != 3 {
			t.Fatalf("height %d: first three are of %d households, want 3", height, len(of))
		}
		i := slices.IndexFunc(got, func(tx *ledger.Tx) bool { return tx.Household() == s.homes[2].id })
		if got[i].Kind() != ledger.KindPreference {
			t.Fatalf("height %d: %v first, want the preference before the order", height, got[i].Kind())
		}
		first[got[0].Household()] = true
		if again := p.pick(saltOf(s.state.AppHash(), height), 4, 1<<20); !slices.Equal(got, again) {
			t.Fatal("the same salt gives another order")
		}
	}
	if len(first) != 3 {
		t.Errorf("%d households are ever first, want all 3", len(first))
	}
	size := 0
	for _, tx := range p.pick(nil, 100, 1500) {
		size += len(tx.Bytes()) + blockOverhead
	}
	if size == 0 || size > 1500 {
		t.Errorf("picked %d bytes, want at most 1500", size)
	}
}

func TestPoolSettleAndRecheck(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	p := newPool(PoolLimits{Txs: 5000, Bytes: 4 << 20, Household: 2000, Own: 10})
	k := s.state.Next()
	inBlock := s.checked(s.order(s.homes[0], k, 100))
	later := s.checked(s.order(s.homes[0], k, 200)) // replaces it
	other := s.checked(s.order(s.homes[1], k, 300))
	for _, tx := range []*ledger.Tx{inBlock, later, other} {
		mustAdd(t, p, tx, false)
	}
	mine := s.checked(s.order(s.homes[1], k+1, 300))
	mustAdd(t, p, mine, true)

	p.settle(s.apply(later.Bytes()), false)
	if refusals := p.recheck(s.state.CheckTx); len(refusals) != 1 || !isRefusal(refusals[0], ledger.CodeSequenceUsed) {
		t.Errorf("refused %v, want the replaced order, by %v", refusals, ledger.CodeSequenceUsed)
	}
	if p.get(inBlock.Hash()) != nil || p.get(later.Hash()) != nil || p.get(other.Hash()) == nil {
		t.Error("want the applied and the replaced one gone, the other's still there")
	}
	if !p.known(later.Hash()) || p.known(inBlock.Hash()) {
		t.Error("want the applied one remembered, the refused one not")
	}
	if added, err := p.add(later, false, true, time.Now()); added || err != nil {
		t.Errorf("an applied transaction came back: %v, %v", added, err)
	}

	p.settle(s.apply(ledger.NewTick(k, k, k)), true)
	if refusals := p.recheck(s.state.CheckTx); len(refusals) != 1 || !isRefusal(refusals[0], ledger.CodeGateClosed) {
		t.Errorf("refused %v, want the order whose gate has closed", refusals)
	}
	if l := p.load(); l.txs != 1 || p.get(mine.Hash()) == nil {
		t.Errorf("%+v wait, want the own order for a later interval", l)
	}
}

// What a stolen gateway has sent goes from the pool with the block that names another, also
// what is this node's own, and what of it is verified counts for nothing.
func TestPoolDropsOldDevice(t *testing.T) {
	t.Parallel()
	s := newScene(t, 2)
	p := newPool(PoolLimits{Txs: 5000, Bytes: 4 << 20, Household: 2000, Own: 10})
	k, stolen := s.state.Next(), s.homes[0]
	theirs, mine := s.checked(s.order(stolen, k, 100)), s.checked(s.order(stolen, k+1, 100))
	other := s.checked(s.order(s.homes[1], k, 300))
	mustAdd(t, p, theirs, false)
	mustAdd(t, p, mine, true)
	mustAdd(t, p, other, false)
	change := ledger.NewDevice(s.chain, stolen.id, 1, testKey("new device"), testKey("new network"))
	p.settle(s.apply(change.Sign(s.chain, stolen.id, stolen.cold)), false)
	if refusals := p.recheck(s.state.CheckTx); len(refusals) != 2 || !isRefusal(refusals[0], ledger.CodeBadSignature) || !isRefusal(refusals[1], ledger.CodeBadSignature) {
		t.Errorf("refused %v, want both orders of the old device", refusals)
	}
	if p.get(theirs.Hash()) != nil || p.get(mine.Hash()) != nil || p.get(other.Hash()) == nil {
		t.Error("want the old device's orders gone, the other home's still there")
	}
	if err := s.state.VerifyTx(theirs, nil); !isRefusal(err, ledger.CodeBadSignature) {
		t.Errorf("in a proposal: got %v, want %v", err, ledger.CodeBadSignature)
	}
}

// Looking again is bounded per block, and what was applied meanwhile is not looked at.
func TestPoolRecheckIsBounded(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	p := newPool(PoolLimits{Txs: 5000, Bytes: 4 << 20, Household: 2000, Own: 10})
	var txs []*ledger.Tx
	for i := range 2*recheckAtOnce + 10 {
		tx := s.checked(s.order(s.homes[0], s.state.Next()+market.Interval(i%90), 100))
		txs = append(txs, tx)
		mustAdd(t, p, tx, false)
	}
	asked := map[[32]byte]int{}
	check := func(tx *ledger.Tx) error { asked[tx.Hash()]++; return nil }
	p.settle(nil, true)
	p.recheck(check)
	if len(asked) != recheckAtOnce {
		t.Fatalf("looked at %d, want %d", len(asked), recheckAtOnce)
	}
	var gone *ledger.Tx
	for _, tx := range txs {
		if asked[tx.Hash()] == 0 {
			gone = tx
			break
		}
	}
	p.drop(gone.Hash())
	for range 3 {
		p.recheck(check)
	}
	if len(asked) != len(txs)-1 || asked[gone.Hash()] != 0 {
		t.Errorf("looked at %d in the end, want all %d but the dropped one", len(asked), len(txs)-1)
	}
	for _, n := range asked {
		if n != 1 {
			t.Fatalf("looked at one %d times, want once", n)
		}
	}
}

// Own transactions are sent soon, then with growing pauses, until a block has them.
func TestPoolPublishesUntilApplied(t *testing.T) {
	t.Parallel()
	s := newScene(t, 1)
	p := newPool(PoolLimits{Txs: 10, Bytes: 1 << 20, Household: 10, Own: 10})
	now := time.Now()
	tx := s.offer(s.homes[0])
	if _, err := p.add(tx, false, true, now); err != nil { // by gossip first
		t.Fatal(err)
	}
	if due, _ := p.toPublish(now); len(due) != 0 {
		t.Fatal("others' transactions are not ours to send")
	}
	if _, err := p.add(tx, true, true, now); err != nil {
		t.Fatal(err)
	}
	if p.count != 0 || len(p.own) != 1 || p.load().txs != 1 {
		t.Errorf("%d of others, %d own; want it to have changed sides", p.count, len(p.own))
	}
	var pauses []time.Duration
	last := now
	for at := now; at.Before(now.Add(15 * time.Minute)); at = at.Add(time.Second) {
		if due, next := p.toPublish(at); len(due) > 0 {
			pauses = append(pauses, at.Sub(last))
			last = at
			if !next.After(at) {
				t.Fatalf("next at %v, want later", next)
			}
		}
	}
	want := []time.Duration{0, 2, 4, 8, 16, 32, 64, 128, 256, 300}
	for i := range want {
		want[i] *= time.Second
	}
	if !slices.Equal(pauses, want) {
		t.Errorf("sent after %v, want %v", pauses, want)
	}
	p.settle(s.apply(tx.Bytes()), false)
	if due, next := p.toPublish(last.Add(time.Hour)); len(due) != 0 || !next.IsZero() {
		t.Error("still sent after a block had it")
	}
}

func TestRefusalNames(t *testing.T) {
	t.Parallel()
	for code, want := range map[ledger.Code]string{
		CodePoolFull: "pool-full", ledger.CodeGateClosed: "gate-closed",
	} {
		if got := codeName(code); got != want {
			t.Errorf("code %d is %q, want %q", code, got, want)
		}
	}
	n := &Node{}
	n.refused(full("pool", 1, 1))
	n.refused(errors.New("not a refusal"))
	if got := n.counts.snapshot(); got["pool-full"] != 1 || got["other"] != 1 {
		t.Errorf("counted %v", got)
	}
}
