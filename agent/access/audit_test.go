package access

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func folder(t testing.TB, c *clock) *Folder {
	t.Helper()
	f, err := OpenFolder(t.TempDir(), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Two processes write at once: every line is there, and each follows from the one before.
func TestAuditOfTwoProcesses(t *testing.T) {
	t.Parallel()
	a := folder(t, newClock())
	b, err := OpenFolder(a.dir, a.now)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i, f := range []*Folder{a, b} {
		wg.Go(func() {
			for n := range 20 {
				if err := f.log.append(Actor{Name: fmt.Sprint(i)}, "test", "ok", fmt.Sprint(n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	trail, err := a.Audit(100)
	if err != nil || trail.Broken != "" || len(trail.Entries) != 40 || trail.First != 1 || trail.Last != 40 {
		t.Errorf("got %+v, %v", trail, err)
	}
}

// The chain goes on through older parts, of which the oldest go.
func TestAuditRotates(t *testing.T) {
	t.Parallel()
	f := folder(t, newClock())
	f.log.most = 2000
	for n := range 200 {
		if err := f.log.append(Actor{Name: "ada", Role: Homeowner, From: "192.168.1.20"}, "test", "ok", strings.Repeat("x", n)); err != nil {
			t.Fatal(err)
		}
	}
	trail, err := f.Audit(3)
	if err != nil || trail.Broken != "" || trail.Last != 200 || trail.First < 2 || len(trail.Entries) != 3 || trail.Entries[2].N != 200 {
		t.Errorf("got %+v, %v", trail, err)
	}
	parts, err := auditParts(f.dir)
	if err != nil || len(parts) != keptAudits {
		t.Errorf("there are %d older parts, want %d", len(parts), keptAudits)
	}
	for _, p := range parts {
		if info, err := os.Stat(p); err != nil || info.Size() > 2000 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
	// Another process goes on with the newest part alone, and with none but older ones.
	for _, gone := range []string{"", filepath.Join(f.dir, AuditFile)} {
		if gone != "" {
			if err := os.Remove(gone); err != nil {
				t.Fatal(err)
			}
		}
		again, err := OpenFolder(f.dir, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.log.append(Actor{Name: "bob"}, "test", "ok", ""); err != nil {
			t.Fatal(err)
		}
		if trail, err = again.Audit(1); err != nil || trail.Broken != "" {
			t.Errorf("%q: got %+v, %v", gone, trail, err)
		}
	}
	if err := os.Remove(parts[4]); err != nil {
		t.Fatal(err)
	}
	if trail, err = f.Audit(1); err != nil || !strings.Contains(trail.Broken, "after number") {
		t.Errorf("a part is missing: got %q, %v", trail.Broken, err)
	}
}

// A line that a power cut left unfinished goes, and the chain holds.
func TestAuditTornLine(t *testing.T) {
	t.Parallel()
	f := folder(t, newClock())
	for range 3 {
		if err := f.log.append(Actor{Name: "ada"}, "test", "ok", ""); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(f.dir, AuditFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(raw) - 1; cut > 0; cut -= 37 {
		if err := os.WriteFile(path, raw[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := OpenFolder(f.dir, f.now)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.log.append(Actor{Name: "bob"}, "test", "ok", ""); err != nil {
			t.Fatal(err)
		}
		want := int64(bytes.Count(raw[:cut], []byte("\n"))) + 1
		if trail, err := again.Audit(1); err != nil || trail.Broken != "" || trail.Last != want {
			t.Fatalf("cut at %d: got %+v, %v, want %d lines", cut, trail, err, want)
		}
	}
}

// Whatever is changed in the middle of the log is found, and what anybody called themselves is a
// line of its own length.
func TestAuditFindsChanges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		f, err := OpenFolder(dir, newClock().now)
		if err != nil {
			rt.Fatal(err)
		}
		n := rapid.IntRange(2, 5).Draw(rt, "lines")
		for range n {
			by := Actor{Name: rapid.String().Draw(rt, "who"), From: rapid.String().Draw(rt, "from")}
			if err := f.log.append(by, rapid.String().Draw(rt, "what"), "ok", rapid.StringN(0, 400, -1).Draw(rt, "detail")); err != nil {
				rt.Fatal(err)
			}
		}
		if trail, err := f.Audit(100); err != nil || trail.Broken != "" || len(trail.Entries) != n {
			rt.Fatalf("got %+v, %v", trail, err)
		}
		path := filepath.Join(dir, AuditFile)
		raw, err := os.ReadFile(path)
		if err != nil {
			rt.Fatal(err)
		}
		lines := bytes.SplitAfter(raw, []byte("\n"))[:n]
		i := rapid.IntRange(0, n-2).Draw(rt, "line")
		if len(lines[i]) > maxAuditLine {
			rt.Fatalf("a line of %d bytes", len(lines[i]))
		}
		switch rapid.SampledFrom([]string{"change", "remove", "swap", "repeat"}).Draw(rt, "how") {
		case "change":
			at := rapid.IntRange(0, len(lines[i])-2).Draw(rt, "at")
			lines[i] = bytes.Clone(lines[i])
			lines[i][at] ^= 1
		case "remove":
			lines = append(lines[:i:i], lines[i+1:]...)
			if i == 0 {
				return // as if it had been rotated away; the head in somebody's notes tells
			}
		case "swap":
			lines[i], lines[i+1] = lines[i+1], lines[i]
		case "repeat":
			lines = append(lines[:i+1:i+1], lines[i:]...)
		}
		if err := os.WriteFile(path, bytes.Join(lines, nil), 0o600); err != nil {
			rt.Fatal(err)
		}
		if trail, err := f.Audit(100); err != nil || trail.Broken == "" {
			rt.Fatalf("nothing is found in %s", bytes.Join(lines, nil))
		}
	})
}

// FuzzAuditLine: whatever a line is, the answer is an error or an entry whose hash is right.
func FuzzAuditLine(f *testing.F) {
	line, _, err := (&auditLog{now: newClock().now}).next(Actor{Name: "ada", Role: Homeowner, From: "::1"}, "login", "ok", "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.TrimSpace(line))
	f.Add([]byte("0 {}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if _, hash, err := parseLine(line); err == nil && !bytes.HasPrefix(line, []byte(hash+" ")) {
			t.Errorf("%q: got hash %s", line, hash)
		}
	})
}
