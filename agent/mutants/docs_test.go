package mutants_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named is a folder, or a test or fuzz target in the folder that was named last.
var named = regexp.MustCompile(`\b(?:agent|firmware-sim|market|meter|p2p)(?:/[a-z0-9-]+)*\b|\b(?:Test|Fuzz)[A-Z]\w*`)

// TestBadInputHasTests: the page of bad input names no test that is not there.
func TestBadInputHasTests(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, "docs", "bad-input.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		folder := ""
		for _, name := range named.FindAllString(cells[len(cells)-1], -1) {
			if !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") {
				folder = name
				continue
			}
			if len(cells) < 2 {
				continue
			}
			if found++; !slices.Contains(testsOf(t, folder), name) {
				t.Errorf("%s has no %s: %s", folder, name, strings.TrimSpace(line))
			}
		}
	}
	if found < 60 {
		t.Errorf("the page names %d tests, want all of them", found)
	}
}
