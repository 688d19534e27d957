package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market/consensus"
)

// A home that is still fetching its ledger has no page: status reads what it wrote, as long
// as that is fresh.
func TestStatusWhileJoining(t *testing.T) {
	dir := t.TempDir()
	w := &joinWatch{file: filepath.Join(dir, joinFile), log: slog.New(slog.DiscardHandler)}
	if raw, v := joiningNow(dir); raw != nil || v != nil {
		t.Error("a home that does not join says that it does")
	}
	w.note(consensus.JoinProgress{Step: "state", Height: 512, Newest: 700, Bytes: 131072, Of: 400000, Provider: "12D3KooW", Trouble: "the other one is busy"})
	raw, v := joiningNow(dir)
	if v == nil {
		t.Fatal("nothing is said")
	}
	var out bytes.Buffer
	s := streams{out: &out}
	if err := printJoining(s, "table", raw, v); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"state, of block 512 (the chain is at 700)", "131072 bytes (the state has 400000), 0 lines", "from    12D3KooW", "trouble the other one is busy"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%s\nwant %q", &out, want)
		}
	}
	out.Reset()
	if err := printJoining(s, "json", raw, v); err != nil || !json.Valid(out.Bytes()) {
		t.Errorf("%v, %s", err, &out)
	}
	old, err := json.Marshal(joinView{At: time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{string(old), "{", strings.Repeat(" ", maxStatusBytes+1)} {
		if err := os.WriteFile(w.file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, v := joiningNow(dir); v != nil {
			t.Errorf("%.20q passes for news", bad)
		}
	}
	w.end()
	if _, err := os.Stat(w.file); !os.IsNotExist(err) {
		t.Error("the file is still there")
	}
}
