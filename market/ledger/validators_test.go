package ledger_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// engineSet is the set of validators as an engine keeps it, which hears of changes only.
type engineSet map[ledger.Key]int64

type fatal interface{ Fatalf(string, ...any) }

func newEngineSet(g ledger.Genesis) engineSet {
	e := engineSet{}
	for _, v := range g.Validators {
		e[v.Key] = 1
	}
	return e
}

// follow takes over what a block changes, as strictly as the engine does, and compares.
func (e engineSet) follow(tb fatal, d *ledger.Delta, s *ledger.State) {
	for i, u := range d.Validators {
		_, there := e[u.Key]
		switch {
		case i > 0 && string(d.Validators[i-1].Key[:]) >= string(u.Key[:]):
			tb.Fatalf("updates are not sorted, each key once: %v", d.Validators)
		case u.Power == 0 && !there:
			tb.Fatalf("removes %s, which is not in the set", u.Key)
		case u.Power != 0 && (u.Power != 1 || there):
			tb.Fatalf("adds %s with power %d, which is in the set: %v", u.Key, u.Power, there)
		case u.Power == 0:
			delete(e, u.Key)
		default:
			e[u.Key] = u.Power
		}
	}
	e.compare(tb, s)
}

// compare holds the state's set against it: the same keys, never none, one of a home.
func (e engineSet) compare(tb fatal, s *ledger.State) {
	got := engineSet{}
	homes := map[market.HouseholdID]bool{}
	for _, v := range s.Validators() {
		got[v.Key] = v.Power
		if homes[v.Household] && v.Household != (market.HouseholdID{}) {
			tb.Fatalf("household %s has two votes", v.Household)
		}
		homes[v.Household] = true
		if !s.IsValidator(v.Key) {
			tb.Fatalf("%s is in the set and is not", v.Key)
		}
	}
	if !maps.Equal(got, e) || len(got) == 0 || len(got) > ledger.MaxValidators {
		tb.Fatalf("the state has %v, an engine that followed %v", got, e)
	}
}

// TestPossessionOfVote: a vote goes to a key that has agreed to this very change.
func TestPossessionOfVote(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a, b := ledgertest.NewHome("A"), ledgertest.NewHome("B")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2), c.Join(b, 2)}})
	tx := func(change func(*ledger.SetValidator)) []byte {
		s := ledger.SetValidator{Number: 1, Household: a.ID, Key: ledgertest.Public(a.Validator)}
		s.Possession = ledgertestSign(a, s.PossessionBytes(ledgertest.ChainID))
		change(&s)
		s.Approvals = c.Approve(s.ApprovalBytes(ledgertest.ChainID), 2)
		return s.Sign(ledgertest.ChainID, c.Officers[0])
	}
	for name, change := range map[string]func(*ledger.SetValidator){
		"another household": func(s *ledger.SetValidator) { s.Household = b.ID },
		"another number":    func(s *ledger.SetValidator) { s.Number = 2 },
		"another key":       func(s *ledger.SetValidator) { s.Key = ledgertest.Public(b.Validator) },
	} {
		if got := verdict(r.state, tx(change)); !slices.Contains([]string{"bad-signature: possession: does not match key " + ledgertest.Public(a.Validator).String(), "bad-signature: possession: does not match key " + ledgertest.Public(b.Validator).String()}, got) {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if got := verdict(r.state, tx(func(*ledger.SetValidator) {})); got != "validator: ok" {
		t.Errorf("got %q", got)
	}
}

// TestValidatorHomes: whose gateway is behind a validator, before its household is
// registered, after, with another gateway, and with none; also after a restart.
func TestValidatorHomes(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	h := ledgertest.NewHome("home/0")
	r := newReplica(t, c.Genesis)
	find := func() ledger.Validator {
		for _, v := range r.state.Validators() {
			if v.Key == ledgertest.Public(h.Validator) {
				return v
			}
		}
		t.Fatal("the validator is gone")
		return ledger.Validator{}
	}
	check := func(what string, network ledger.Key, id market.HouseholdID) {
		t.Helper()
		for range 2 {
			if v := find(); v.Network != network || v.Household != id || v.Power != 1 {
				t.Errorf("%s: got %+v, want network %s of household %s", what, v, network, id)
			}
			r.restart(t)
		}
	}
	check("founder", ledgertest.Public(h.Network), market.HouseholdID{})
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(h, 2)}})
	check("registered", ledgertest.Public(h.Network), h.ID)
	r.must(t, ledger.Block{Txs: [][]byte{c.Device(h, 1, ledgertest.Key("d"), ledgertest.Key("n"))}})
	check("another gateway", ledgertest.Public(ledgertest.Key("n")), h.ID)
	r.must(t, ledger.Block{Txs: [][]byte{c.Revoke(h, 2)}})
	check("revoked", ledger.Key{}, h.ID)
}
