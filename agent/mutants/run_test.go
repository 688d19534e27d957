//go:build mutants

package mutants_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/altered"
)

// testTimeout bounds one run of one mutant's tests. Whoever runs into it has caught nothing.
const testTimeout = 5 * time.Minute

// tried and caught count planted bugs. TestMain says them last.
var tried, caught int

func TestMain(m *testing.M) {
	code := m.Run()
	if tried > 0 {
		fmt.Printf("%d of %d planted bugs caught\n", caught, tried)
	}
	os.Exit(code)
}

// TestMutants plants every bug in turn. A named test must fail on it, and pass without it.
func TestMutants(t *testing.T) {
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	g := garden{root: top, sound: map[string]bool{}}
	for _, m := range load(t) {
		t.Run(m.name, func(t *testing.T) {
			tried++
			began := time.Now()
			g.sane(t, &m)
			by := g.plant(t, &m)
			caught++
			fmt.Printf("%-28s %3.0f s  caught by %s: %s\n", m.name, time.Since(began).Seconds(), by, m.bug)
		})
	}
}

// A garden is where bugs are planted.
type garden struct {
	root  string
	sound map[string]bool // package and pattern whose tests have passed without a bug
}

// sane fails unless the mutant's tests pass without it.
func (g *garden) sane(t *testing.T, m *mutant) {
	t.Helper()
	key := m.pkg + " " + m.run
	if g.sound[key] {
		return
	}
	out, err := g.run(t, m, g.build(t, m, ""))
	if err != nil || !bytes.Contains(out, []byte("--- PASS: ")) {
		t.Fatalf("without the bug, go test -run '%s' ./%s: %v, want at least one test that passes\n%s", m.run, m.pkg, err, out)
	}
	g.sound[key] = true
}

// plant returns the tests that fail with the bug, innermost names first.
func (g *garden) plant(t *testing.T, m *mutant) string {
	t.Helper()
	source, err := m.planted()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	changed, overlay := filepath.Join(dir, "source.go"), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(changed, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := altered.Overlay(g.root, overlay, map[string]string{m.file: changed}); err != nil {
		t.Fatal(err)
	}
	out, err := g.run(t, m, g.build(t, m, overlay))
	if err == nil {
		t.Fatalf("nobody noticed: %s\ngo test -run '%s' ./%s passes with it. Write the test that is missing there", m.bug, m.run, m.pkg)
	}
	if bytes.Contains(out, []byte("panic: test timed out")) {
		t.Fatalf("the tests ran for more than %v, which catches nothing:\n%s", testTimeout, out)
	}
	by := failed(string(out))
	if len(by) == 0 {
		t.Fatalf("no test failed by its name, but: %v\n%s", err, out)
	}
	return strings.Join(by, ", ")
}

// build makes the test program of the mutant's package. A mutant that does not compile is no mutant.
func (g *garden) build(t *testing.T, m *mutant, overlay string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "a.test")
	args := []string{"test", "-c", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, "./"+m.pkg)...)
	cmd.Dir = g.root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the tests of %s, overlay %q: %v\n%s", m.pkg, overlay, err, out)
	}
	return program
}

func (g *garden) run(t *testing.T, m *mutant, program string) ([]byte, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run", m.run, "-test.failfast", "-test.timeout", testTimeout.String())
	cmd.Dir = filepath.Join(g.root, m.pkg)
	cmd.Env = append(os.Environ(), "RAPID_NOFAILFILE=1") // what fails here is not for later runs
	return cmd.CombinedOutput()
}

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// failed returns the tests that failed, each by its longest name, at most three.
func failed(out string) []string {
	var names []string
	for _, found := range failLine.FindAllStringSubmatch(out, -1) {
		name := found[1]
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name+"/") }) {
			names = append(names, name)
		}
	}
	// A test is printed before its parts.
	names = slices.DeleteFunc(names, func(n string) bool {
		return slices.ContainsFunc(names, func(other string) bool { return strings.HasPrefix(other, n+"/") })
	})
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("and %d more", len(names)-3))
	}
	return names
}
