package ledger_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// TestVerifyTx: signatures alone, known signers only, and never remembered as
// verified when not all of them were looked at.
func TestVerifyTx(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a, b := ledgertest.NewHome("A"), ledgertest.NewHome("B")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2), c.Install(a, 2), c.Join(b, 2), ledger.NewTick(c.First, c.First, c.First)}})
	stranger := ledgertest.NewHome("C")
	forgedReading := ledger.ReportMeter{From: c.First, Count: 1, Start: c.Reading(a, c.First), End: c.Reading(a, c.First+1)}
	forgedReading.End.Signature = make([]byte, ed25519.SignatureSize)
	forgedStart := ledger.ReportMeter{From: c.First, Count: 1, Start: c.Reading(a, c.First), End: c.Reading(a, c.First+1)}
	*forgedStart.Start.ImportWh -= min(*forgedStart.Start.ImportWh, 1000)
	forgedStart.Start.Signature = c.Reading(b, c.First).Signature
	for name, test := range map[string]struct {
		raw      []byte
		ok       bool
		verified bool
	}{
		"right":                       {c.Report(a, c.First, 1), true, true},
		"right, though too late":      {c.Order(a, c.First-5, market.Bid, 1, ledger.Step{Price: 1, WattHours: 1}), true, true},
		"forged":                      {forge(c.Prefer(a, 1, 1, 1)), false, false},
		"forged reading":              {forgedReading.Sign(ledgertest.ChainID, a.ID, a.Device), false, false},
		"forged first reading":        {forgedStart.Sign(ledgertest.ChainID, a.ID, a.Device), false, false},
		"too few approvals":           {c.Join(stranger, 1), true, true}, // how many the rules want is for check
		"forged, of a stranger":       {forge(c.Prefer(stranger, 1, 1, 1)), true, false},
		"forged, of an unknown meter": {forge(c.Report(b, c.First, 1)), true, false},
		"a tick":                      {ledger.NewTick(c.First, c.First, c.First), true, false},
	} {
		tx, err := ledger.DecodeTx(test.raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		err = r.state.VerifyTx(tx, nil)
		if _, verified := tx.VerifiedBy(); (err == nil) != test.ok || verified != test.verified {
			t.Errorf("%s: got %v, verified %v; want ok %v, verified %v", name, err, verified, test.ok, test.verified)
		}
		if err != nil && !errors.Is(err, &ledger.Refusal{Code: ledger.CodeBadSignature}) && !errors.Is(err, &ledger.Refusal{Code: ledger.CodeNotApproved}) {
			t.Errorf("%s: refused with %v, want a signature's code", name, err)
		}
	}
}

func forge(raw []byte) []byte {
	raw[len(raw)-1] ^= 1
	return raw
}

// TestSignatureBinds: a signature holds for one chain, one kind, one household, one body.
func TestSignatureBinds(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a, b := ledgertest.NewHome("A"), ledgertest.NewHome("B")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2), c.Install(a, 2), c.Join(b, 2), c.Install(b, 2)}})
	p := ledger.SetPreference{Seq: 1, MinSell: 1, MaxBuy: 1}
	for name, raw := range map[string][]byte{
		"another chain":     p.Sign("sim-other", a.ID, a.Device),
		"another household": p.Sign(ledgertest.ChainID, b.ID, a.Device),
		"the cold key":      p.Sign(ledgertest.ChainID, a.ID, a.Household),
		"another's meter":   signReport(c, a, b),
	} {
		tx, err := ledger.DecodeTx(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := r.state.CheckTx(tx); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestOneOfficerTwice: two good signatures of one officer are not those of two.
func TestOneOfficerTwice(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a := ledgertest.NewHome("A")
	r := newReplica(t, c.Genesis)
	for name, test := range map[string]struct {
		officers []uint64
		ok       bool
	}{
		"two":                     {[]uint64{0, 1}, true},
		"one twice":               {[]uint64{0, 0}, false},
		"the other way round":     {[]uint64{1, 0}, false},
		"one twice, and one more": {[]uint64{0, 1, 1}, false},
	} {
		join := ledger.RegisterHousehold{
			Key: ledgertest.Public(a.Household), Device: ledgertest.Public(a.Device), Network: ledgertest.Public(a.Network), Node: ledger.RootNode,
		}
		for _, i := range test.officers {
			join.Approvals = append(join.Approvals, ledger.Approval{Officer: i, Signature: ed25519.Sign(c.Officers[i], join.AdmissionBytes(ledgertest.ChainID))})
		}
		got := verdict(r.state, join.Sign(ledgertest.ChainID, a.Household))
		if want := "household: ok"; (got == want) != test.ok || !test.ok && !strings.HasPrefix(got, ledger.CodeNotApproved.String()) {
			t.Errorf("%s: got %q, want %q %v", name, got, want, test.ok)
		}
	}
}

// signReport is a's report of what b's meter read.
func signReport(c *ledgertest.Community, a, b *ledgertest.Home) []byte {
	r := ledger.ReportMeter{From: c.First, Count: 1, Start: c.Reading(b, c.First), End: c.Reading(b, c.First+1)}
	return r.Sign(ledgertest.ChainID, a.ID, a.Device)
}

// TestVerifiedSavesWork: Apply believes Verified for the signer's present key, and only
// for what the content of a block still has to pass.
func TestVerifiedSavesWork(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a := ledgertest.NewHome("A")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2)}})
	raw := forge(c.Prefer(a, 1, 1, 1))
	var asked []ledger.Key
	b := ledger.Block{Txs: [][]byte{raw}, Verified: func(_ [32]byte, by ledger.Key) bool {
		asked = append(asked, by)
		return true
	}}
	if _, receipts := r.apply(t, b); receipts[0].Refusal != nil {
		t.Errorf("got %v", receipts[0].Refusal)
	}
	if len(asked) != 1 || asked[0] != ledgertest.Public(a.Device) {
		t.Errorf("asked for %v, want the device's key once", asked)
	}
}

// FuzzDecodeTx: no panic, and what is decoded is the only spelling of itself.
func FuzzDecodeTx(f *testing.F) {
	c := ledgertest.New(ledger.DefaultRules())
	h := ledgertest.NewHome("A")
	for _, raw := range [][]byte{
		c.Join(h, 3), c.Install(h, 2), c.Prefer(h, 1, -5, 1<<40), c.Report(h, c.First, 3),
		c.Order(h, c.First, market.Bid, 1, ledger.Step{Price: -3, WattHours: 5}), ledger.NewTick(0, 5, 0),
		c.Device(h, 3, ledgertest.Key("d"), ledgertest.Key("n")), c.Revoke(h, 4),
		c.Leave(h, c.First, ledger.DepartByDevice, 0), c.Leave(h, c.First, ledger.DepartByOfficers, 2),
		c.Vote(h, 1, h.Validator, 2), c.Unvote(h.ID, 2, ledgertest.Public(h.Validator), 2),
		{},
		{0xf6},
	} {
		f.Add(raw)
	}
	state := c.State()
	f.Fuzz(func(t *testing.T, raw []byte) {
		tx, err := ledger.DecodeTx(raw)
		if err != nil {
			var refusal *ledger.Refusal
			if !errors.As(err, &refusal) || refusal.Code == ledger.CodeOK {
				t.Errorf("%T %v, want a refusal", err, err)
			}
			return
		}
		again, err := ledger.DecodeTx(tx.Bytes())
		if err != nil || again.Hash() != tx.Hash() || again.Kind() != tx.Kind() || again.Household() != tx.Household() {
			t.Errorf("decoded again: %v", err)
		}
		if string(ledger.Encoded(tx)) != string(raw) {
			t.Errorf("encodes to %x, was %x", ledger.Encoded(tx), raw)
		}
		_ = state.CheckTx(tx)       // no panic
		_ = state.VerifyTx(tx, nil) // no panic
	})
}

// bytesSource draws from the fuzzer's bytes, and zeros after their end.
type bytesSource struct{ rest []byte }

func (s *bytesSource) IntN(n int) int {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return int(b) % n
}

// FuzzApply: whatever traffic the bytes stand for, no broken invariant, and two
// machines agree.
func FuzzApply(f *testing.F) {
	f.Add([]byte("a street that shares its sun"))
	f.Add(make([]byte, 400))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1500 {
			return
		}
		c := ledgertest.New(shortRules())
		one, two := newReplica(t, c.Genesis), newReplica(t, c.Genesis)
		src := &bytesSource{rest: raw}
		traffic := ledgertest.NewTraffic(c, one.state, 3, src)
		for len(src.rest) > 0 {
			b := traffic.Block()
			d, _ := one.apply(t, b)
			traffic.Note(d)
			two.apply(t, b)
			two.restart(t)
			if two.state.AppHash() != d.AppHash() {
				t.Fatalf("AppHash %x and %x", d.AppHash(), two.state.AppHash())
			}
			for _, err := range one.state.Audit() {
				t.Error(err)
			}
		}
	})
}

// TestCheckTxs: together, transactions get the answers that each gets alone, and what is
// forged is found among what is not; nothing is remembered as verified that is not right.
func TestCheckTxs(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a, b := ledgertest.NewHome("A"), ledgertest.NewHome("B")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2), c.Install(a, 2), c.Join(b, 2), c.Install(b, 2)}})
	step := ledger.Step{Price: 1, WattHours: 1}
	all := [][]byte{
		c.Order(a, c.First, market.Bid, 1, step), c.Order(b, c.First, market.Bid, 1, step),
		c.Prefer(a, 1, 1, 1), c.Prefer(b, 1, 1, 1),
		c.Order(a, c.First-1, market.Bid, 1, step), c.Join(a, 2), c.Join(ledgertest.NewHome("C"), 2),
		ledger.NewTick(c.First, c.First, c.First),
	}
	for forged := -1; forged < len(all)-1; forged++ {
		var together, alone []*ledger.Tx
		for i, raw := range all {
			raw = slices.Clone(raw)
			if i == forged {
				forge(raw)
			}
			for _, list := range []*[]*ledger.Tx{&together, &alone} {
				tx, err := ledger.DecodeTx(raw)
				if err != nil {
					t.Fatal(err)
				}
				*list = append(*list, tx)
			}
		}
		for i, err := range r.state.CheckTxs(together) {
			want := r.state.CheckTx(alone[i])
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Errorf("forged %d, transaction %d: together %v, alone %v", forged, i, err, want)
			}
			_, got := together[i].VerifiedBy()
			if _, want := alone[i].VerifiedBy(); got != want {
				t.Errorf("forged %d, transaction %d: verified %v, alone %v", forged, i, got, want)
			}
		}
	}
}
