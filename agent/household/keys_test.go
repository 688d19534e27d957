package household

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Keys are made once, differ, are readable by their owner only, and are loaded again.
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, err := CreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := CreateKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made, again) + cmp.Diff(made, loaded); diff != "" {
		t.Error(diff)
	}
	seen := map[string]string{}
	for name, key := range made.files() {
		if other, ok := seen[string(*key)]; ok {
			t.Errorf("%s and %s are the same", name, other)
		}
		seen[string(*key)] = name
	}
	entries, err := os.ReadDir(filepath.Join(dir, "keys"))
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files, %v: want 4", len(entries), err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("0a", ed25519.SeedSize)
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"readable by the group": {good, 0o640, "others can read it (mode 0640): make it yours alone with `chmod 600 "},
		"readable by all":       {good, 0o604, "others can read it (mode 0604)"},
		"writable by others":    {good, 0o602, "others can read it (mode 0602)"},
		"empty":                 {"", 0o600, "want 64 hexadecimal digits"},
		"too short":             {good[2:], 0o600, "want 64 hexadecimal digits"},
		"too long":              {good + "00", 0o600, "want 64 hexadecimal digits"},
		"no digits":             {"x" + good[1:], 0o600, "want 64 hexadecimal digits"},
		"a megabyte":            {strings.Repeat("0a", 1<<19), 0o600, "want 64 hexadecimal digits"},
		"good":                  {" " + good + "\n", 0o600, ""},
	} {
		path := filepath.Join(t.TempDir(), "a.key")
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		key, err := LoadKey(path)
		if c.want == "" {
			if err != nil || !bytes.Equal(key.Seed(), bytes.Repeat([]byte{10}, ed25519.SeedSize)) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if c.text != "" && err != nil && strings.Contains(err.Error(), good[2:]) {
			t.Errorf("%s: the error tells the key: %v", name, err)
		}
	}
	if _, err := LoadKeys(t.TempDir()); err == nil || !strings.Contains(err.Error(), "keys") {
		t.Errorf("no keys: got %v", err)
	}
	if err := CreateKey(filepath.Join(t.TempDir(), "nowhere", "a.key")); err == nil {
		t.Error("a key was made where there is no folder")
	}
}

// Found makes what each home needs and nothing more: private keys stay where they are used.
func TestFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := Founding{
		Name: "sim-street", Dir: filepath.Join(dir, "cooperative"), Epoch: dawn, Start: dawn, Rate: 60, Rules: ledger.DefaultRules(),
	}
	for i := range 3 {
		f.Homes = append(f.Homes, Founder{
			Name: fmt.Sprintf("home-%d", i), Dir: filepath.Join(dir, fmt.Sprintf("home-%d", i)), Validator: i < 2,
			Meter: ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: "eastron-sdm630@1"},
		})
	}
	if err := Found(f); err != nil {
		t.Fatal(err)
	}
	var doc []byte
	for _, h := range f.Homes {
		keys, err := LoadKeys(h.Dir)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(h.Dir, CommunityFile))
		if err != nil || doc != nil && !bytes.Equal(raw, doc) {
			t.Errorf("%s: %v, or another genesis document", h.Name, err)
		}
		doc = raw
		txs, err := loadAdmission(h.Dir, keys.ID())
		if err != nil || len(txs) != 2 || txs[0].kind != ledger.KindHousehold || txs[1].kind != ledger.KindMeter {
			t.Errorf("%s: admission %+v, %v", h.Name, txs, err)
		}
		for _, key := range keys.files() {
			for _, public := range []string{CommunityFile, AdmissionFile} {
				text, err := os.ReadFile(filepath.Join(h.Dir, public))
				if err != nil || strings.Contains(string(text), fmt.Sprintf("%x", key.Seed())) {
					t.Errorf("%s holds a private key, or %v", public, err)
				}
			}
		}
	}
	_, g, err := consensus.ParseGenesis(doc)
	if err != nil || len(g.Officers) != officerCount || len(g.Founders) != 3 || g.Rate != 60 || !strings.Contains(string(doc), `"home-1"`) || strings.Contains(string(doc), `"home-2"`) {
		t.Errorf("genesis %+v, %v", g, err)
	}
	f.Dir, f.Homes[0].Dir, f.Homes = filepath.Join(dir, "other"), filepath.Join(dir, "other-home"), f.Homes[:1]
	f.Rules.ApprovalsNeeded = officerCount + 1
	if err := Found(f); err == nil || !strings.Contains(err.Error(), "approvals_needed") {
		t.Errorf("more approvals than officers: got %v", err)
	}
}
