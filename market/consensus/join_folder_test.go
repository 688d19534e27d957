package consensus

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// folder reads all files below a folder.
func folder(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tear makes a folder what a crash may have left of it: the files that have changed since
// before are cut in half, or gone if they are new.
func tear(t *testing.T, dir string, before map[string][]byte) {
	t.Helper()
	for path, now := range folder(t, dir) {
		was, known := before[path]
		switch {
		case known && string(was) == string(now):
		case known:
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Fatal(err)
			}
		default:
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
}
