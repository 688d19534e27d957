package ledger_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market/ledger"
)

var update = flag.Bool("update", false, "rewrite the scripts in testdata with what happens now")

// TestScripts runs testdata/*.txt. A script is a list of steps, each a command with
// its arguments, lines of input, ---- and the output until an empty line. Lines that
// begin with # between steps are comments. The commands are those of street.run.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

// TestEveryKindHasScript fails when a row of the table has no script of its name in
// which the kind is both applied and refused.
func TestEveryKindHasScript(t *testing.T) {
	for _, kind := range ledger.Kinds() {
		script, err := os.ReadFile(filepath.Join("testdata", kind.String()+".txt"))
		if err != nil {
			t.Errorf("kind %d (%s) has no script: %v", kind, kind, err)
			continue
		}
		for _, want := range []string{kind.String() + ": ok\n", kind.String() + ": "} {
			if !bytes.Contains(script, []byte(want)) {
				t.Errorf("testdata/%s.txt: no output %q", kind, want)
			}
		}
	}
}

func runScript(t *testing.T, file string) {
	t.Helper()
	script, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	s := newStreet(nil)
	lines := strings.Split(strings.TrimRight(string(script), "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		got.WriteString(line + "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		start := i
		var input []string
		for i++; i < len(lines) && lines[i] != "----"; i++ {
			input = append(input, lines[i])
			got.WriteString(lines[i] + "\n")
		}
		if i == len(lines) {
			t.Fatalf("%s:%d: no ---- after the command", file, start+1)
		}
		for i++; i < len(lines) && lines[i] != ""; i++ { // what was expected
		}
		out, err := s.run(strings.Fields(line), input)
		if err != nil {
			t.Fatalf("%s:%d: %v", file, start+1, err)
		}
		fmt.Fprintf(&got, "----\n%s", out)
		if i < len(lines) {
			got.WriteString("\n")
		}
	}
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(script), got.String()); diff != "" {
		t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", file, diff)
	}
}
