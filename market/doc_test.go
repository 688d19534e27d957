package market_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every invariant that the package promises has a test that quotes its number.
func TestInvariantsAreQuoted(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	numbers := regexp.MustCompile(`(?m)^//\t(M\d+) `).FindAllStringSubmatch(string(doc), -1)
	if len(numbers) == 0 {
		t.Fatal("got no invariant in doc.go, want some")
	}
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	for _, n := range numbers {
		if !regexp.MustCompile(n[1] + `\b`).MatchString(tests.String()) {
			t.Errorf("%s: got no test that quotes it", n[1])
		}
	}
}
