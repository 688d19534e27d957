package access

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Trail is the audit log as it was found.
type Trail struct {
	Entries []Entry `json:"entries" nullable:"false" doc:"The newest, oldest first"`
	First   int64   `json:"first" doc:"Number of the oldest line that is kept; 0: there is none"`
	Last    int64   `json:"last" doc:"Number of the newest line"`
	Head    string  `json:"head" doc:"SHA-256 of the newest line: who noted it earlier sees whether lines before it were changed; hex"`
	Broken  string  `json:"broken,omitempty" doc:"Where the chain of hashes does not hold, in words; empty: it holds"`
}

// Audit reads the log, checks the whole chain, and keeps the newest lines, at most so many.
func (f *Folder) Audit(newest int) (Trail, error) {
	unlock, err := lock(f.dir)
	if err != nil {
		return Trail{}, err
	}
	defer unlock()
	parts, err := auditParts(f.dir)
	if err != nil {
		return Trail{}, err
	}
	t := Trail{Entries: []Entry{}, Head: strings.Repeat("0", 2*sha256.Size)}
	for _, path := range append(parts, filepath.Join(f.dir, AuditFile)) {
		err := t.read(path, newest)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return t, err
		}
	}
	return t, nil
}

// read goes on with one file.
func (t *Trail) read(path string, newest int) error {
	f, err := os.Open(path) //nolint:gosec // in the home's own folder
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read from
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 0, 4*maxAuditLine), 4*maxAuditLine)
	for n := 1; lines.Scan(); n++ {
		if err := t.add(lines.Bytes(), newest); err != nil {
			t.breaks(fmt.Sprintf("%s, line %d: %v", filepath.Base(path), n, err))
		}
	}
	if err := lines.Err(); err != nil {
		t.breaks(fmt.Sprintf("%s: %v", filepath.Base(path), err))
	}
	return nil
}

// breaks keeps the first place.
func (t *Trail) breaks(where string) {
	if t.Broken == "" {
		t.Broken = where
	}
}

// add takes the next line. After a break it goes on with what is there.
func (t *Trail) add(line []byte, newest int) error {
	e, hash, err := parseLine(bytes.TrimSpace(line))
	if err != nil {
		return err
	}
	switch {
	case t.First == 0 && e.N == 1 && e.Prev != t.Head:
		err = errors.New("is the first, and names one before it")
	case t.First != 0 && e.N != t.Last+1:
		err = fmt.Errorf("has number %d after number %d", e.N, t.Last)
	case t.First != 0 && e.Prev != t.Head:
		err = fmt.Errorf("does not follow from line number %d", t.Last)
	}
	if t.First == 0 {
		t.First = e.N
	}
	t.Last, t.Head = e.N, hash
	if newest > 0 {
		if len(t.Entries) >= newest {
			t.Entries = append(t.Entries[:0], t.Entries[1:]...)
		}
		t.Entries = append(t.Entries, e)
	}
	return err
}
