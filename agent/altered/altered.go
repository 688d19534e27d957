// Package altered builds the agent's program with some of its source files replaced, for
// tests that need a home which does not do what it should: one that lies, one whose clock is
// wrong, one that proposes blocks nobody can accept. What is in the repository stays as it
// is; the compiler reads other files in place of some (go build -overlay). So the program
// that people run has no switch for it, and the altered one is the real one but for a file.
//
// Invariants:
//
//   - a file that is replaced has to be there: when it moves, the build says so, and does not
//     quietly build the honest program, or one with both files;
//   - the program is built as a gateway has it, without C, also when the test runs under the
//     race detector.
//
// Replacements that are files of their own lie in testdata/NAME under the path of what they
// replace, and [Replacements] lists them; this package's test compiles all of them, so that a
// change of the product which they do not follow is found at once. A replacement of one line
// is better made of the file of the day, by the test that needs it.
//
// It needs the go command and this module's sources, and starts no goroutine.
package altered

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoFile is what Build returns for a file that is not there, to be replaced or to replace one.
var ErrNoFile = errors.New("no such file")

// Build builds the program of a home to out. A key of replace names a Go file that is read
// from elsewhere: by its path from the module's root (agent/main.go), or by its absolute path
// for one of the standard library ([Standard]). Its value is the path of the file that stands
// for it. The error has the compiler's words.
func Build(ctx context.Context, out string, replace map[string]string) error {
	root, err := Root(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "commonwatt-altered-")
	if err != nil {
		return fmt.Errorf("building an altered program: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a list of paths
	overlay := filepath.Join(dir, "overlay.json")
	if err := Overlay(root, overlay, replace); err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return fmt.Errorf("building an altered program: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", out, "./agent") //nolint:gosec // a test's own path
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building an altered program: %w\n%s", err, said)
	}
	return nil
}

// Overlay writes the file that go build, go vet and go test take with -overlay. Keys that are
// not absolute are paths from root, the module's.
func Overlay(root, file string, replace map[string]string) error {
	var list struct{ Replace map[string]string }
	list.Replace = make(map[string]string, len(replace))
	for old, stand := range replace {
		if !filepath.IsAbs(old) {
			old = filepath.Join(root, old)
		}
		if info, err := os.Stat(old); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("replacing %s: %w; it may have moved: give the path from the module's root %s, or that of a file of the standard library", old, ErrNoFile, root)
		}
		stand, err := filepath.Abs(stand)
		if err != nil {
			return fmt.Errorf("replacing %s: %w", old, err)
		}
		if info, err := os.Stat(stand); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("replacing %s by %s: %w", old, stand, ErrNoFile)
		}
		list.Replace[old] = stand
	}
	raw, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the overlay: %w", err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return fmt.Errorf("writing the overlay: %w", err)
	}
	return nil
}

// Replacements are those of testdata/name, for Build.
func Replacements(ctx context.Context, name string) (map[string]string, error) {
	root, err := Root(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "agent", "altered", "testdata", name)
	replace := make(map[string]string)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		old, err := filepath.Rel(dir, path)
		replace[old] = path
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("replacements %q: %w", name, err)
	}
	return replace, nil
}

// Root is the folder of this module's go.mod.
func Root(ctx context.Context) (string, error) {
	mod, err := goEnv(ctx, "GOMOD")
	if err != nil {
		return "", err
	}
	if filepath.Base(mod) != "go.mod" {
		return "", fmt.Errorf("looking for the module's root: not inside a module (go env GOMOD says %q)", mod)
	}
	return filepath.Dir(mod), nil
}

// Standard is the path of a file of the standard library, as time/time.go.
func Standard(ctx context.Context, file string) (string, error) {
	root, err := goEnv(ctx, "GOROOT")
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "src", file), nil
}

func goEnv(ctx context.Context, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", name) //nolint:gosec // two names
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go env %s: %w\n%s", name, err, errs.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}
