package ledger_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// recordsGiven finds a leaf whose record the state does not give, whatever kind it is of.
func recordsGiven(s *ledger.State) error {
	for key, hash := range s.Leaves() {
		value, ok := s.Record(key)
		if !ok || sha256.Sum256(value) != hash {
			return fmt.Errorf("the state does not give the record %s", ledger.KeyText(key))
		}
	}
	return nil
}

// parts of a state: all leaves, and the records that keep says.
func partOf(t *testing.T, s *ledger.State, keep func(key string) bool) (*ledger.State, error) {
	t.Helper()
	var leaves []ledger.LeafHash
	for key, hash := range s.Leaves() {
		leaves = append(leaves, ledger.LeafHash{Key: key, Hash: hash})
	}
	return ledger.LoadPartial(s.ChainID(), s.Genesis(), leaves, func(key string) ([]byte, bool) {
		if !keep(key) {
			return nil, false
		}
		return s.Record(key)
	})
}

// traffic is a state with two homes.
func twoHomes(t *testing.T) (c *ledgertest.Community, s *ledger.State, a, b *ledgertest.Home) {
	t.Helper()
	c = ledgertest.New(ledger.DefaultRules())
	s = c.State()
	a, b = ledgertest.NewHome("ann"), ledgertest.NewHome("bob")
	d, receipts, err := ledger.Apply(s, ledger.Block{Txs: [][]byte{
		c.Join(a, 2), c.Join(b, 2), c.Install(a, 2), c.Install(b, 2), c.Order(a, c.First, market.Bid, 1, ledger.Step{Price: 200_000, WattHours: 500}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range receipts {
		if r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
	}
	s.Absorb(d)
	return c, s, a, b
}

// A partial state has the hash of the whole, proves what it holds as the whole does, and
// says of the rest that it does not know it.
func TestPartial(t *testing.T) {
	t.Parallel()
	_, s, a, b := twoHomes(t)
	hers, his := ledger.HouseholdKey(a.ID), ledger.HouseholdKey(b.ID)
	meterOf := func(h *ledgertest.Home) string {
		r, _ := s.Household(h.ID)
		return ledger.MeterKey(r.Meter)
	}
	p, err := partOf(t, s, func(key string) bool { return key != his && key != meterOf(b) })
	if err != nil {
		t.Fatal(err)
	}
	if p.AppHash() != s.AppHash() || !p.Partial() || s.Partial() {
		t.Fatalf("hash %x, want %x", p.AppHash(), s.AppHash())
	}
	leaf, proof, ok := p.Prove(hers)
	if whole := s.AppHash(); !ok || proof.Verify(whole[:], leaf) != nil {
		t.Error("the part does not prove the household that it holds")
	}
	if h, ok := p.Household(a.ID); !ok || !bytes.Equal(h.Encode(), mustRecord(t, s, hers)) || !p.Holds(hers) || p.Missing(hers) {
		t.Error("her record is not what the whole has")
	}
	if _, ok := p.Household(b.ID); ok || p.Holds(his) || !p.Missing(his) {
		t.Error("his record is there, want it missing")
	}
	if _, known := p.Balance(market.HouseholdAccount(b.ID)); known {
		t.Error("his balance is known")
	}
	if _, known := p.Balance(market.HouseholdAccount(a.ID)); !known {
		t.Error("her balance is not known")
	}
	if nobody := ledgertest.NewHome("carl"); p.Missing(ledger.HouseholdKey(nobody.ID)) {
		t.Error("somebody who is no member is missing, want it known that there is no such record")
	}
	if _, ok := p.Record(his); ok {
		t.Error("his record is given")
	}
	if _, _, err := ledger.Apply(p, ledger.Block{}); !errors.Is(err, ledger.ErrPartial) {
		t.Errorf("applying a block: %v, want ErrPartial", err)
	}
	if err := recordsGiven(s); err != nil {
		t.Error(err)
	}
}

func mustRecord(t *testing.T, s *ledger.State, key string) []byte {
	t.Helper()
	value, ok := s.Record(key)
	if !ok {
		t.Fatal("no record " + ledger.KeyText(key))
	}
	return value
}

// What is changed, out of order or of the charter and missing makes no partial state.
func TestPartialRefuses(t *testing.T) {
	t.Parallel()
	_, s, a, _ := twoHomes(t)
	for _, key := range []string{ledger.ClockKey, "g"} {
		if _, err := partOf(t, s, func(k string) bool { return k != key }); err == nil {
			t.Errorf("without %s: no error", ledger.KeyText(key))
		}
	}
	var leaves []ledger.LeafHash
	for key, hash := range s.Leaves() {
		leaves = append(leaves, ledger.LeafHash{Key: key, Hash: hash})
	}
	all := func(key string) ([]byte, bool) { return s.Record(key) }
	if _, err := ledger.LoadPartial(s.ChainID(), s.Genesis(), leaves, func(key string) ([]byte, bool) {
		value, ok := s.Record(key)
		if key == ledger.HouseholdKey(a.ID) {
			value = bytes.Clone(value)
			value[len(value)-1] ^= 1
		}
		return value, ok
	}); err == nil {
		t.Error("a changed record: no error")
	}
	leaves[1], leaves[2] = leaves[2], leaves[1]
	if _, err := ledger.LoadPartial(s.ChainID(), s.Genesis(), leaves, all); err == nil {
		t.Error("leaves out of order: no error")
	}
	leaves[1], leaves[2] = leaves[2], leaves[1]
	for i := range leaves {
		fewer := append(append([]ledger.LeafHash(nil), leaves[:i]...), leaves[i+1:]...)
		if p, err := ledger.LoadPartial(s.ChainID(), s.Genesis(), fewer, all); err == nil && p.AppHash() == s.AppHash() {
			t.Errorf("without leaf %d the hash is the same", i)
		}
	}
}
