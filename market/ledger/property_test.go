package ledger_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// drawn lets rapid choose every number of a history, so that it can shrink one.
type drawn struct{ t *rapid.T }

func (d drawn) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "n") }

// shortRules let deadlines and windows pass within a short history.
func shortRules() ledger.Rules {
	r := ledger.DefaultRules()
	r.ReportDeadlineS, r.CorrectionWindowS = 3600, 3*3600
	r.CommunityFee, r.CreditLimit = 7_000, 500_000
	return r
}

// replica is one machine's ledger: the state, and the records as a disk keeps them.
type replica struct {
	state   *ledger.State
	genesis ledger.Genesis
	disk    map[string][]byte
}

func newReplica(tb interface{ Fatal(...any) }, g ledger.Genesis) *replica {
	state, first, err := ledger.Found(ledgertest.ChainID, g)
	if err != nil {
		tb.Fatal(err)
	}
	r := &replica{state: state, genesis: g, disk: map[string][]byte{}}
	r.save(first)
	return r
}

func (r *replica) save(d *ledger.Delta) {
	for _, rec := range d.Records {
		if rec.Value == nil {
			delete(r.disk, rec.Key)
		} else {
			r.disk[rec.Key] = rec.Value
		}
	}
}

// restart forgets the state and loads it from the disk, in whatever order a map has.
func (r *replica) restart(tb interface{ Fatal(...any) }) {
	s, err := ledger.LoadState(ledgertest.ChainID, r.genesis, func(yield func(string, []byte) bool) {
		for k, v := range r.disk {
			if !yield(k, v) {
				return
			}
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	r.state = s
}

func (r *replica) apply(tb interface{ Fatal(...any) }, b ledger.Block) (*ledger.Delta, []ledger.Receipt) {
	d, receipts, err := ledger.Apply(r.state, b)
	if err != nil {
		tb.Fatal(err)
	}
	r.save(d)
	r.state.Absorb(d)
	return d, receipts
}

// must is apply where nothing may be refused.
func (r *replica) must(tb interface{ Fatal(...any) }, b ledger.Block) *ledger.Delta {
	d, receipts := r.apply(tb, b)
	for _, receipt := range receipts {
		if receipt.Refusal != nil {
			tb.Fatal(receipt.Kind, receipt.Refusal)
		}
	}
	return d
}

// TestReplicasAgree: any history gives the same on two machines, one of which starts
// again now and then and has verified signatures before; after every block all
// invariants hold (L1, R10), and CheckTx agrees with the block.
func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := ledgertest.New(shortRules())
		one, two := newReplica(t, c.Genesis), newReplica(t, c.Genesis)
		traffic := ledgertest.NewTraffic(c, one.state, 4, drawn{t})
		set := newEngineSet(c.Genesis)
		for height := range rapid.IntRange(1, 25).Draw(t, "blocks") {
			b := traffic.Block()
			verified := verifyAll(two.state, b)
			d1, r1 := one.apply(t, b)
			traffic.Note(d1)
			b.Verified = func(hash [32]byte, by ledger.Key) bool { return verified[hash] == by }
			d2, r2 := two.apply(t, b)
			if d1.AppHash() != d2.AppHash() || one.state.AppHash() != d1.AppHash() {
				t.Fatalf("block %d: AppHash %x and %x", height, d1.AppHash(), d2.AppHash())
			}
			if diff := cmp.Diff(d1.Validators, d2.Validators); diff != "" {
				t.Fatalf("block %d: validator updates differ:\n%s", height, diff)
			}
			set.follow(t, d1, one.state)
			if diff := cmp.Diff(r1, r2); diff != "" {
				t.Fatalf("block %d: receipts differ:\n%s", height, diff)
			}
			if diff := cmp.Diff(events(d1), events(d2)); diff != "" {
				t.Fatalf("block %d: history differs:\n%s", height, diff)
			}
			for _, err := range one.state.Audit() {
				t.Errorf("block %d: %v", height, err)
			}
			checkMembers(t, one.state)
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				two.restart(t)
				checkMembers(t, two.state)
				set.compare(t, two.state)
				if two.state.AppHash() != one.state.AppHash() {
					t.Fatalf("block %d: AppHash after a restart %x, want %x", height, two.state.AppHash(), one.state.AppHash())
				}
			}
		}
	})
}

func verifyAll(s *ledger.State, b ledger.Block) map[[32]byte]ledger.Key {
	verified := map[[32]byte]ledger.Key{}
	for _, raw := range b.Txs {
		if tx, err := ledger.DecodeTx(raw); err == nil && s.VerifyTx(tx, nil) == nil {
			if key, ok := tx.VerifiedBy(); ok {
				verified[tx.Hash()] = key
			}
		}
	}
	return verified
}

func events(d *ledger.Delta) []string {
	var out []string
	for _, e := range d.History {
		switch {
		case e.Settlement != nil:
			out = append(out, fmt.Sprintf("%s %x", e.Settlement.Household, e.Settlement.Encode()))
		case e.Result != nil:
			out = append(out, fmt.Sprintf("%x", e.Result.Encode()))
		default:
			out = append(out, fmt.Sprintf("%s %d %x", e.Month.Household, e.Month.Number, e.Month.Month.Encode()))
		}
	}
	return out
}

// TestRefusedChangesNothing (L3): a block without what was refused in it comes to the
// same; and CheckTx says of a transaction alone what a block of it alone does.
func TestRefusedChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := ledgertest.New(shortRules())
		r := newReplica(t, c.Genesis)
		traffic := ledgertest.NewTraffic(c, r.state, 3, drawn{t})
		for range rapid.IntRange(1, 20).Draw(t, "blocks") {
			b := traffic.Block()
			for _, raw := range b.Txs {
				checkAgrees(t, r.state, raw)
			}
			_, receipts, err := ledger.Apply(r.state, b)
			if err != nil {
				t.Fatal(err)
			}
			var applied [][]byte
			for i, receipt := range receipts {
				if receipt.Refusal == nil {
					applied = append(applied, b.Txs[i])
				}
			}
			clean, receipts, err := ledger.Apply(r.state, ledger.Block{Seed: b.Seed, Txs: applied, Signed: b.Signed, Faulty: b.Faulty})
			if err != nil {
				t.Fatal(err)
			}
			for _, receipt := range receipts {
				if receipt.Refusal != nil {
					t.Fatalf("refused without its refused neighbours: %v", receipt.Refusal)
				}
			}
			d, _ := r.apply(t, b)
			traffic.Note(d)
			if d.AppHash() != clean.AppHash() {
				t.Fatalf("AppHash %x, without the refused %x", d.AppHash(), clean.AppHash())
			}
		}
	})
}

func checkAgrees(t *rapid.T, s *ledger.State, raw []byte) {
	_, receipts, err := ledger.Apply(s, ledger.Block{Txs: [][]byte{raw}})
	if err != nil {
		t.Fatal(err)
	}
	tx, err := ledger.DecodeTx(raw)
	if err == nil && tx.Kind() == ledger.KindTick {
		return // CheckTx refuses ticks from members
	}
	if err == nil {
		err = s.CheckTx(tx)
	}
	if want := receipts[0].Refusal; (err == nil) != (want == nil) || err != nil && err.Error() != want.Error() {
		t.Fatalf("CheckTx says %v, a block %v", err, want)
	}
	// What a block applies, VerifyTx never refuses.
	if tx != nil && receipts[0].Refusal == nil {
		if err := s.VerifyTx(tx, nil); err != nil {
			t.Fatalf("VerifyTx says %v of an applied transaction", err)
		}
	}
}

// TestLateEqualsInTime (M11, R5): whether reports come in time, or after substitutes,
// in whatever order, all balances are the same at last.
func TestLateEqualsInTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		c := ledgertest.New(shortRules())
		var homes []*ledgertest.Home
		var found ledger.Block
		for i := range 5 {
			h := ledgertest.NewHome(fmt.Sprintf("home/%d", i))
			homes = append(homes, h)
			found.Txs = append(found.Txs, c.Join(h, 2), c.Install(h, 2))
		}
		k := c.First
		for i, h := range homes {
			step := ledger.Step{Price: market.Price(80_000 + rng.IntN(220_000)), WattHours: market.WattHours(1 + rng.IntN(3000))}
			found.Txs = append(found.Txs, c.Order(h, k, []market.Side{market.Bid, market.Offer}[i%2], 1, step))
		}
		found.Txs = append(found.Txs, ledger.NewTick(k, k, k))
		inTime, late := newReplica(t, c.Genesis), newReplica(t, c.Genesis)
		inTime.must(t, found)
		late.must(t, found)
		var reports [][]byte
		for _, h := range homes {
			reports = append(reports, c.Report(h, k, 1))
		}
		inTime.must(t, ledger.Block{Txs: reports})

		rng.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		early := rng.IntN(len(reports))
		wait := ledger.NewTick(k+1, k+6, k+1) // the deadline passes
		late.must(t, ledger.Block{Txs: append(slices.Clone(reports[:early]), wait)})
		for _, r := range reports[early:] {
			late.must(t, ledger.Block{Txs: [][]byte{r}})
		}
		inTime.must(t, ledger.Block{Txs: [][]byte{wait}})
		// The Intervals k+1 to k+6 are settled alike where the deadline has passed.
		if diff := cmp.Diff(inTime.state.Accounts(), late.state.Accounts()); diff != "" {
			t.Errorf("balances (-in time +late):\n%s", diff)
		}
	})
}
