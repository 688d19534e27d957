package altered_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/agent/altered"
)

// write writes a file of its own and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stand.go")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBuild replaces a file of the program and one of the standard library; the program that
// comes out has both. It is a small one, so that it is built in no time.
func TestBuild(t *testing.T) {
	t.Parallel()
	list, err := altered.Standard(t.Context(), "container/list/list.go")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "altered")
	err = altered.Build(t.Context(), program, map[string]string{
		"agent/main.go": write(t, "package main\n\nimport \"container/list\"\n\nfunc main() { println(list.Altered) }\n"),
		list:            write(t, "package list\n\nconst Altered = \"altered\"\n"),
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program).CombinedOutput()
	if err != nil || string(out) != "altered\n" {
		t.Errorf("the program says %q, %v; want altered", out, err)
	}
}

// TestRefusals are what is wrong with a replacement, and the words for it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	good := write(t, "package main\n\nfunc main() {}\n")
	for name, c := range map[string]struct {
		old, stand, want string
		is               error
	}{
		"moved":     {"agent/gone.go", good, "agent/gone.go: no such file; it may have moved", altered.ErrNoFile},
		"a folder":  {"agent", good, "no such file", altered.ErrNoFile},
		"no stand":  {"agent/main.go", filepath.Join(t.TempDir(), "none.go"), "none.go: no such file", altered.ErrNoFile},
		"not go":    {"agent/main.go", write(t, "package main\n\nfunc main() { lie }\n"), "undefined: lie", nil},
		"elsewhere": {"/etc/hostname.go", good, "/etc/hostname.go: no such file", altered.ErrNoFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := altered.Build(t.Context(), filepath.Join(t.TempDir(), "altered"), map[string]string{c.old: c.stand})
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v; want %q", err, c.want)
			}
		})
	}
	if _, err := altered.Replacements(t.Context(), "no-such"); err == nil {
		t.Error("replacements that are not there: no error")
	}
}

// TestReplacements compiles every program of testdata.
func TestReplacements(t *testing.T) {
	t.Parallel()
	root, err := altered.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		replace, err := altered.Replacements(t.Context(), name.Name())
		if err != nil {
			t.Fatal(err)
		}
		if len(replace) == 0 {
			t.Errorf("testdata/%s replaces nothing", name.Name())
		}
		overlay := filepath.Join(t.TempDir(), "overlay.json")
		if err := altered.Overlay(root, overlay, replace); err != nil {
			t.Fatal(err)
		}
		// All but the link, which takes long and finds nothing more.
		cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "./agent/cli")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("testdata/%s: %v\n%s", name.Name(), err, out)
		}
	}
}
