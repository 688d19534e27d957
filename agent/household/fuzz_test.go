package household

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// FuzzFounding: whatever community.yaml is, the answer is a community that can be founded, or a *ConfigError with a line
// of the file.
func FuzzFounding(f *testing.F) {
	for _, text := range []string{
		"name: Sun Street\nofficers: []\nhomes:\n  - name: A\n    address: 192.0.2.1\n    meter: {definition: sunspec-meter, address: 'tcp://192.0.2.9:502', unit: 1}\n",
		"name: x\nnetwork: [{id: root}, {id: f1, parent: root, import_limit_w: 5, import_fee: '0.012'}]\nhomes: [{name: A, node: f1}]\n",
		"name: x\nrules: {rule: uniform, tariff: {import_price: '0.30', export_price: -1}}\nsimulation: {rate: 90}\n",
		"", "- a", "name: *b", "name: &b [*b]", "homes: {a: b}", "---\n---\n", "\xff", "homes: [[[[[[", "rules: {rules: {rules: {}}}", "name: 1e999999999",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		file, err := parseFounding("community.yaml", raw)
		if err == nil {
			if _, err := file.Founding(); err != nil {
				t.Fatalf("accepted, but %v", err)
			}
			return
		}
		ce := (*ConfigError)(nil)
		if !errors.As(err, &ce) || ce.File != "community.yaml" || ce.Text == "" || ce.Line < 0 || ce.Line > strings.Count(string(raw), "\n")+strings.Count(string(raw), "\r")+2 {
			t.Fatalf("got %#v", err)
		}
	})
}

// FuzzAdmission: a line of an admission's file is a transaction that makes this home a member, or is refused.
func FuzzAdmission(f *testing.F) {
	c := ledgertest.New(ledger.DefaultRules())
	own, other := ledgertest.NewHome("A"), ledgertest.NewHome("B")
	for _, raw := range [][]byte{c.Join(own, 2), c.Install(own, 2), c.Join(other, 2), c.Prefer(own, 1, 1, 1)} {
		f.Add(hex.EncodeToString(raw))
	}
	f.Add("zz")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAdmission(text, own.ID)
		if err != nil {
			return
		}
		tx, err := ledger.DecodeTx(a.raw)
		if err != nil || tx.Household() != own.ID || tx.Kind() != a.kind || !strings.EqualFold(text, hex.EncodeToString(a.raw)) {
			t.Errorf("%q was taken: %v, %v", text, a.kind, err)
		}
	})
}
