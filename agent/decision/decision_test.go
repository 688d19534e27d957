package decision_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

const chain = "elm-street"

func key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(name string) string { return ledger.KeyOf(key(name).Public().(ed25519.PublicKey)).String() }

func genesis() (g ledger.Genesis) {
	for _, o := range []string{"officer-1", "officer-2", "officer-3"} {
		g.Officers = append(g.Officers, ledger.KeyOf(key(o).Public().(ed25519.PublicKey)))
	}
	g.Rules = ledger.DefaultRules()
	return g
}

func household() market.HouseholdID {
	return market.HouseholdIDOf(key("household").Public().(ed25519.PublicKey))
}

func admission() *decision.Admission {
	return &decision.Admission{
		Name: "Elm Street 5", Key: public("household"), Device: public("device"), Network: public("network"), Node: "root",
		Meter: &decision.Meter{Key: public("meter"), SignedBy: "agent", Definition: "eastron-sdm630@1"},
	}
}

// community are the kinds that are on no household's behalf.
var community = []ledger.Kind{ledger.KindRules, ledger.KindNetwork, ledger.KindValidator}

func rules() *ledger.Rules {
	r := ledger.DefaultRules()
	r.CommunityFee = 5_000
	return &r
}

func newFile(t *testing.T, kind ledger.Kind, m decision.Matter) *decision.File {
	t.Helper()
	h := household()
	if slices.Contains(community, kind) {
		h = market.HouseholdID{}
	}
	f, err := decision.New(kind, chain, h, m)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// every kind of the table, with content.
func every(t *testing.T) map[ledger.Kind]*decision.File {
	return map[ledger.Kind]*decision.File{
		ledger.KindHousehold: newFile(t, ledger.KindHousehold, admission()),
		ledger.KindMeter:     newFile(t, ledger.KindMeter, admission().Meter),
		ledger.KindReplacement: newFile(t, ledger.KindReplacement, &decision.Replacement{
			Meter: ledger.MeterIDOf(ledger.KeyOf(key("meter").Public().(ed25519.PublicKey))).String(), From: 7, Epoch: 1,
			Key: public("meter"), SignedBy: "agent", Definition: "eastron-sdm630@1", Reason: "it was broken",
		}),
		ledger.KindRules:   newFile(t, ledger.KindRules, &decision.Rules{Number: 1, From: 9, Rules: rules()}),
		ledger.KindNetwork: newFile(t, ledger.KindNetwork, &decision.Network{Number: 2, From: 9, Nodes: []ledger.Node{{ID: "feeder-2", Parent: "root"}}, Remove: []string{"feeder-3"}}),
		ledger.KindMembership: newFile(t, ledger.KindMembership, &decision.Membership{
			Seq: 1, Node: "feeder-2", Participation: []decision.Participation{{Community: chain, Permille: 600}},
		}),
		ledger.KindCorrection: newFile(t, ledger.KindCorrection, &decision.Correction{
			Interval: 7, Version: 1, Import: 120, Reason: "it was off",
			Proof: &decision.Proof{Settlement: "80", Total: 2, Aunts: []string{strings.Repeat("ab", 32)}},
		}),
		ledger.KindDeparture: newFile(t, ledger.KindDeparture, &decision.Exclusion{From: 9, Reason: "moved away"}),
		ledger.KindValidator: newFile(t, ledger.KindValidator, &decision.Validator{
			Number: 1, Household: household().String(), Key: public("validator"), Possession: strings.Repeat("cd", 64),
		}),
	}
}

func TestSignedByOfficersOnDifferentMachines(t *testing.T) {
	for kind, f := range every(t) {
		path := filepath.Join(t.TempDir(), "decision.json")
		if err := f.Write(path); err != nil {
			t.Fatal(err)
		}
		first, err := decision.Read(path)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		second, err := decision.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Approve(0, key("officer-1")); err != nil {
			t.Fatal(err)
		}
		if err := first.Approve(0, key("officer-1")); !errors.Is(err, decision.ErrSigned) {
			t.Errorf("%s: signed twice: %v", kind, err)
		}
		if err := second.Approve(2, key("officer-3")); err != nil {
			t.Fatal(err)
		}
		if n, err := first.Merge(second, genesis()); n != 1 || err != nil {
			t.Errorf("%s: merging: %d, %v", kind, n, err)
		}
		if n, err := first.Merge(second, genesis()); n != 0 || err != nil {
			t.Errorf("%s: merging again: %d, %v", kind, n, err)
		}
		raw, err := first.Transactions(func(k ledger.Kind) (decision.Signer, error) {
			if k == ledger.KindHousehold {
				return decision.Signer{Key: key("household")}, nil
			}
			return decision.Signer{Key: key("device")}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range raw {
			tx, err := ledger.DecodeTx(b)
			if err != nil {
				t.Fatalf("%s: transaction %d: %v", kind, i, err)
			}
			want := household()
			if slices.Contains(community, kind) {
				want = market.HouseholdID{}
			}
			if i == 0 && tx.Kind() != kind || tx.Household() != want {
				t.Errorf("%s: transaction %d is of kind %s, household %s", kind, i, tx.Kind(), tx.Household())
			}
		}
		m, h, err := first.Matter()
		if err != nil {
			t.Fatal(err)
		}
		if words := m.Words(h, genesis()); !strings.HasSuffix(words, "\n") || !slices.Contains(community, kind) && !strings.HasPrefix(words, "household "+household().String()+" ") {
			t.Errorf("%s: words: %s", kind, words)
		}
		if !strings.Contains(decision.Makers(), "`"+first.MadeBy()+"`") {
			t.Errorf("%s: made by %s, which is not among %s", kind, first.MadeBy(), decision.Makers())
		}
	}
}

// TestEveryKindHasContent fails when a row of the table has no content above.
func TestEveryKindHasContent(t *testing.T) {
	have := every(t)
	for _, kind := range ledger.Kinds() {
		_, err := decision.Parse([]byte(`{"kind":"` + kind.String() + `","community":"x","content":{},"approvals":[]}`))
		if known := err == nil || !strings.HasPrefix(err.Error(), "kind: "); known && have[kind] == nil {
			t.Errorf("kind %s is in the table and has no test", kind)
		}
	}
}

// TestWordsOfRules: an officer sees every rule, and what was different when the community was founded.
func TestWordsOfRules(t *testing.T) {
	r := rules()
	r.Tariff = nil
	r.IslandTariff = &ledger.Tariff{ImportPrice: 2, ExportPrice: 1}
	g := genesis()
	words := (&decision.Rules{Number: 3, From: 9, Rules: r}).Words(market.HouseholdID{}, g)
	for _, want := range []string{
		"decision 3 asks for these rules from 1970-01-01T02:15:00Z (interval 9) on\n",
		"community_fee        5000   (was 0 when the community was founded)\n",
		`island_tariff        {"import_price":2,"export_price":1}   (not set when the community was founded)` + "\n",
		`tariff               null   (was {"import_price":300000,"export_price":80000} when the community was founded)` + "\n",
		`rule                 "uniform"` + "\n",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, words)
		}
	}
}

func TestWhatWasChangedIsNotWhatWasSigned(t *testing.T) {
	f := newFile(t, ledger.KindHousehold, admission())
	other := admission()
	other.Node = "feeder-2"
	changed := newFile(t, ledger.KindHousehold, other)
	if err := changed.Approve(1, key("officer-2")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Merge(changed, genesis()); err == nil || !strings.Contains(err.Error(), "decides something else") {
		t.Errorf("another node: %v", err)
	}
	forged := newFile(t, ledger.KindHousehold, admission())
	if err := forged.Approve(1, key("a thief")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Merge(forged, genesis()); err == nil || !strings.Contains(err.Error(), "the signature of officer 2 does not match") {
		t.Errorf("forged: %v", err)
	}
	if len(f.Approvals) != 0 {
		t.Errorf("%d approvals were taken", len(f.Approvals))
	}
}

func TestBadFiles(t *testing.T) {
	good := newFile(t, ledger.KindHousehold, admission())
	if err := good.Approve(0, key("officer-1")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "good.json")
	if err := good.Write(path); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decision.Parse(raw); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"kind":          {`"kind": "household"`, `"kind": "houshold"`, `kind: got "houshold", want household, meter, network, rules, membership, correction, replacement, departure, validator`},
		"other kind":    {`"kind": "household"`, `"kind": "meter"`, "content: json: unknown field"},
		"unknown field": {`"community"`, `"comunity"`, "unknown field"},
		"household":     {`"household": "` + household().String(), `"household": "00`, "household: got"},
		"of another":    {household().String(), strings.Repeat("ab", 16), "content.key: is that of household"},
		"key":           {`"device": "`, `"device": "zz`, "content.device: got"},
		"signed by":     {`"signed_by": "agent"`, `"signed_by": "me"`, `content.meter.signed_by: got "me", want agent or device`},
		"name":          {"Elm Street 5", `a\u0007b`, "content.name: got"},
		"officer":       {`"officer": 0`, `"officer": 64`, "approvals[0].officer: got 64, want 0 to 63"},
		"signature":     {`"signatures": [`, `"signatures": ["00",`, "approvals[0].signatures: got 3, want 2"},
		"more":          {`"kind"`, `"kind":"x","kind"`, ""},
	} {
		b := bytes.Replace(raw, []byte(c.old), []byte(c.new), 1)
		if bytes.Equal(b, raw) {
			t.Fatalf("%s: nothing changed", name)
		}
		_, err := decision.Parse(b)
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := decision.Parse(append(raw, "{}"...)); err == nil {
		t.Error("something behind the object was taken")
	}
	if _, err := decision.Parse(make([]byte, 300<<10)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("too large: %v", err)
	}
}

// FuzzFile: what is read is written and read the same, and signs without panic.
func FuzzFile(f *testing.F) {
	for _, m := range []struct {
		kind ledger.Kind
		m    decision.Matter
	}{{ledger.KindHousehold, admission()}, {ledger.KindMeter, admission().Meter}} {
		d, err := decision.New(m.kind, chain, household(), m.m)
		if err != nil {
			f.Fatal(err)
		}
		path := filepath.Join(f.TempDir(), "d.json")
		if err := d.Write(path); err != nil {
			f.Fatal(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"kind":"replacement","content":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := decision.Parse(raw)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "d.json")
		if err := d.Write(path); err != nil {
			t.Fatal(err)
		}
		again, err := decision.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Approve(63, key("x")); err != nil && !errors.Is(err, decision.ErrSigned) {
			t.Fatal(err)
		}
		txs, err := again.Transactions(func(ledger.Kind) (decision.Signer, error) { return decision.Signer{Key: key("x")}, nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range txs {
			_ = hex.EncodeToString(tx)
		}
	})
}
