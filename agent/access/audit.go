package access

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of the audit log. Older parts are audit-N.log, N being the number of their first line.
const (
	maxAuditLine = 1 << 10
	maxAuditFile = 1 << 20
	keptAudits   = 9 // older parts
	maxDetail    = 200
)

// Entry is one line of the audit log.
type Entry struct {
	N      int64     `json:"n" doc:"Counts from 1"`
	At     time.Time `json:"at"`
	Who    string    `json:"who" doc:"The account; - is nobody, local a command on the gateway"`
	Role   Role      `json:"role"`
	From   string    `json:"from" doc:"The address"`
	What   string    `json:"what"`
	Result string    `json:"result" doc:"ok, refused, or the status of the answer"`
	Detail string    `json:"detail,omitempty"`
	Prev   string    `json:"prev" doc:"SHA-256 of the line before; hex"`
}

// Actor is who did something, and from where.
type Actor struct {
	Name string
	Role Role
	From string
}

// auditLog appends lines and chains them: a line is the SHA-256 of its JSON, a space, and the
// JSON, which has the hash of the line before.
type auditLog struct {
	dir  string
	now  func() time.Time
	most int64 // of a file; 0: maxAuditFile

	mu   sync.Mutex
	last Entry
	hash string
	seen fs.FileInfo // the file that ends with last
}

// append notes something, and returns when it is on the disk.
func (l *auditLog) append(by Actor, what, result, detail string) error {
	unlock, err := lock(l.dir)
	if err != nil {
		return err
	}
	defer unlock()
	return l.appendLocked(by, what, result, detail)
}

// appendLocked is append for who has the folder's lock.
func (l *auditLog) appendLocked(by Actor, what, result, detail string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	path := filepath.Join(l.dir, AuditFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND|noFollow, 0o600) //nolint:gosec // in the home's own folder
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // what was written is synced before
	info, err := f.Stat()
	if err == nil && (l.seen == nil || !os.SameFile(l.seen, info) || l.seen.Size() != info.Size()) {
		if err = giveToOwner(f, l.dir); err == nil {
			info, err = l.resume(f)
		}
	}
	if err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	line, entry, err := l.next(by, what, result, detail)
	if err != nil {
		return err
	}
	most := l.most
	if most == 0 {
		most = maxAuditFile
	}
	if info.Size() > 0 && info.Size()+int64(len(line)) > most {
		next, err := l.rotate(f)
		if err != nil {
			return fmt.Errorf("rotating the audit log: %w", err)
		}
		f = next
	}
	_, err = f.Write(line)
	if err = errors.Join(err, f.Sync()); err != nil {
		l.seen = nil // how much of it is there is read next time
		return fmt.Errorf("writing the audit log: %w", err)
	}
	if l.seen, err = f.Stat(); err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	l.last, l.hash = entry, string(line[:2*sha256.Size])
	return nil
}

// next is the line that comes after the last.
func (l *auditLog) next(by Actor, what, result, detail string) ([]byte, Entry, error) {
	e := Entry{
		N: l.last.N + 1, At: l.now().UTC(), Who: bounded(by.Name, 64), Role: by.Role, From: bounded(by.From, 64),
		What: bounded(what, 64), Result: bounded(result, 32), Detail: bounded(detail, maxDetail), Prev: l.hash,
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, e, err
	}
	sum := sha256.Sum256(raw)
	return fmt.Appendf(nil, "%x %s\n", sum, raw), e, nil
}

// bounded keeps what a stranger typed to a length, and to what can be shown.
func bounded(text string, most int) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u2029' || r == '<' || r == '>' || r == '&' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(clean) > most {
		clean = strings.ToValidUTF8(clean[:most-3], "") + "…"
	}
	return clean
}

// resume finds the last line of the log, in the file or the newest older part. A line that a
// power cut left unfinished was not acknowledged to anybody and goes.
func (l *auditLog) resume(f *os.File) (fs.FileInfo, error) {
	l.last, l.hash = Entry{}, strings.Repeat("0", 2*sha256.Size)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end, err := endOfLines(f, info.Size())
	if err != nil {
		return nil, err
	}
	if end < info.Size() {
		if err := f.Truncate(end); err != nil {
			return nil, err
		}
		if info, err = f.Stat(); err != nil {
			return nil, err
		}
	}
	if end > 0 {
		return info, l.readLast(f, end)
	}
	parts, err := auditParts(l.dir)
	if err != nil || len(parts) == 0 {
		return info, err
	}
	older, err := os.Open(parts[len(parts)-1])
	if err != nil {
		return nil, err
	}
	defer older.Close() //nolint:errcheck // only read from
	size, err := older.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return info, l.readLast(older, size)
}

// endOfLines is where the last whole line ends.
func endOfLines(f io.ReaderAt, size int64) (int64, error) {
	b := make([]byte, min(size, maxAuditLine))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	i := bytes.LastIndexByte(b, '\n')
	if i < 0 && int64(len(b)) < size {
		return 0, fmt.Errorf("%w: %s ends with a line of more than %d bytes", ErrDamaged, AuditFile, maxAuditLine)
	}
	return size - int64(len(b)) + int64(i) + 1, nil
}

// readLast reads the line that ends at an offset.
func (l *auditLog) readLast(f io.ReaderAt, end int64) error {
	b := make([]byte, min(end, maxAuditLine+1))
	if _, err := f.ReadAt(b, end-int64(len(b))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	line := bytes.TrimSuffix(b, []byte("\n"))
	line = line[bytes.LastIndexByte(line, '\n')+1:]
	e, hash, err := parseLine(line)
	if err != nil {
		return fmt.Errorf("%w: its last line: %w", ErrDamaged, err)
	}
	l.last, l.hash = e, hash
	return nil
}

// rotate makes the file an older part and begins a new one; the oldest part goes.
func (l *auditLog) rotate(f *os.File) (*os.File, error) {
	first, err := firstNumber(f)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(l.dir, AuditFile)
	if err := os.Rename(path, filepath.Join(l.dir, fmt.Sprintf("audit-%010d.log", first))); err != nil {
		return nil, err
	}
	parts, err := auditParts(l.dir)
	if err != nil {
		return nil, err
	}
	for _, old := range parts[:max(0, len(parts)-keptAudits)] {
		if err := os.Remove(old); err != nil {
			return nil, err
		}
	}
	next, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, 0o600) //nolint:gosec // in the home's own folder
	if err != nil {
		return nil, err
	}
	return next, errors.Join(f.Close(), giveToOwner(next, l.dir), syncDir(l.dir))
}

func firstNumber(f io.ReaderAt) (int64, error) {
	line, err := bufio.NewReaderSize(io.NewSectionReader(f, 0, maxAuditLine), maxAuditLine).ReadSlice('\n')
	if err != nil {
		return 0, fmt.Errorf("%w: its first line: %w", ErrDamaged, err)
	}
	e, _, err := parseLine(bytes.TrimSuffix(line, []byte("\n")))
	return e.N, err
}

// auditParts are the older parts, the oldest first.
func auditParts(dir string) ([]string, error) {
	parts, err := filepath.Glob(filepath.Join(dir, "audit-[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9].log"))
	slices.Sort(parts)
	return parts, err
}

// parseLine reads one line and checks its hash.
func parseLine(line []byte) (e Entry, hash string, err error) {
	sum, raw, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(sum) != 2*sha256.Size || len(line) > maxAuditLine {
		return e, "", errors.New("is no line of the audit log")
	}
	want := sha256.Sum256(raw)
	if hash = hex.EncodeToString(want[:]); hash != string(sum) {
		return e, "", errors.New("was changed: its hash is another one")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, "", err
	}
	return e, hash, nil
}
