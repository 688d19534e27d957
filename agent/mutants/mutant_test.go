package mutants_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// root is that of the module, from this folder.
const root = "../.."

// A mutant is one planted bug.
type mutant struct {
	name     string
	bug      string
	file     string // from the root of the module
	pkg      string // folder of the tests, likewise
	run      string
	old, new string // whole lines
}

// load reads testdata/*.txtar, in the order of their names.
func load(t *testing.T) []mutant {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: got %d mutants, %v", len(files), err)
	}
	all := make([]mutant, 0, len(files))
	for _, file := range files {
		m, err := parse(file)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, m)
	}
	return all
}

func parse(file string) (mutant, error) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		return mutant{}, err
	}
	m := mutant{name: strings.TrimSuffix(filepath.Base(file), ".txtar")}
	fields := map[string]*string{"bug": &m.bug, "file": &m.file, "package": &m.pkg, "run": &m.run}
	for line := range strings.Lines(string(archive.Comment)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		into := fields[key]
		if !ok || into == nil || *into != "" {
			return mutant{}, fmt.Errorf("got the line %q, want one each of bug, file, package and run, with a colon", line)
		}
		*into = strings.TrimSpace(value)
	}
	for key, value := range fields {
		if *value == "" {
			return mutant{}, fmt.Errorf("%s: is missing", key)
		}
	}
	if len(archive.Files) != 2 || archive.Files[0].Name != "old" || archive.Files[1].Name != "new" {
		return mutant{}, fmt.Errorf("got %d files, want two: old and new", len(archive.Files))
	}
	m.old, m.new = string(archive.Files[0].Data), string(archive.Files[1].Data)
	return m, nil
}

// planted returns the source file with the bug in it.
func (m *mutant) planted() (string, error) {
	source, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		return "", fmt.Errorf("stale: %s has the old text %d times, want once: write testdata/%s.txtar anew", m.file, n, m.name)
	}
	return strings.Replace(string(source), m.old, m.new, 1), nil
}

// TestMutantsFit holds the mutants to the code as it is, without running any: each has its place, is Go, and names
// tests that exist. So a change that makes one stale is seen where it is made.
func TestMutantsFit(t *testing.T) {
	for _, m := range load(t) {
		t.Run(m.name, func(t *testing.T) {
			if m.old == m.new || strings.HasSuffix(m.file, "_test.go") {
				t.Fatalf("old and new are the same, or %s is a test: a mutant changes what is shipped", m.file)
			}
			source, err := m.planted()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := parser.ParseFile(token.NewFileSet(), m.file, source, parser.SkipObjectResolution); err != nil {
				t.Errorf("with the bug in it: %v", err)
			}
			// The first part of the pattern is the test; the rest names its parts, which only a run knows.
			top, _, _ := strings.Cut(m.run, "/")
			pattern, err := regexp.Compile(top)
			if err != nil {
				t.Fatalf("run: %v", err)
			}
			if names := testsOf(t, m.pkg); !slices.ContainsFunc(names, pattern.MatchString) {
				t.Errorf("run: %q names none of the %d tests of %s", top, len(names), m.pkg)
			}
		})
	}
}

// known are the tests of the folders that testsOf has read.
var known = map[string][]string{}

// testsOf returns the tests and fuzz targets in a folder.
func testsOf(t *testing.T, pkg string) []string {
	t.Helper()
	if names, ok := known[pkg]; ok {
		return names
	}
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				names = append(names, f.Name.Name)
			}
		}
	}
	known[pkg] = names
	return names
}
