package store

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
)

// A snapshot lets another machine begin at a block without the ones before it. It has
// two parts:
//
//   - the state: a copy of every record, in a file beside the ledger, cut into chunks. It
//     is the same, byte for byte, on every machine at that height, so that chunks may come
//     from several. The records hash to the AppHash, which a header has.
//   - the history: read from the ledger itself, page by page (see Page), because it only
//     grows. What of it is there depends on a machine's retention; the hash chains in the
//     records of the households and the clock prove what comes.
//
// Neither blocks Commit: the copy is made from a read transaction, each page from one of
// its own.

// ErrSnapshot means that what was received is not a part of the snapshot that it should be. The
// text says which.
var ErrSnapshot = errors.New("not what the snapshot must be")

// ErrPruned means that a machine does not keep the lines that are wanted.
var ErrPruned = errors.New("not kept any more")

// ErrNoSnapshot means that there is none of that height here.
var ErrNoSnapshot = errors.New("no such snapshot")

const (
	// ChunkBytes is the size of every chunk of the state but the last, and about that of
	// a page of the history.
	ChunkBytes = 128 << 10
	// maxChunks bounds the state: 512 MiB.
	maxChunks = 4096
	// MaxManifestBytes bounds an encoded Manifest.
	MaxManifestBytes = maxChunks*34 + 512

	snapshotFormat = 1
	maxKeyBytes    = 255      // as ledger.Leaf has it
	maxValueBytes  = 64 << 20 // of one record
)

// Manifest describes the state of a snapshot. It is the same on every machine that makes a
// snapshot at that height; that it is right is known when the records hash to AppHash and
// AppHash is in the header of the block after Height.
type Manifest struct {
	_       struct{} `cbor:",toarray"`
	Format  uint8
	Chain   string
	Height  int64
	AppHash [32]byte
	Bytes   int64      // of all chunks together
	Chunks  [][32]byte // SHA-256 of each
}

// Encode gives the manifest's only spelling.
func (m *Manifest) Encode() []byte { return encode(m) }

// ID stands for all of the manifest: SHA-256 of its bytes.
func (m *Manifest) ID() [32]byte { return sha256.Sum256(m.Encode()) }

// ChunkSize is how many bytes a chunk has.
func (m *Manifest) ChunkSize(i int) int64 {
	if i == len(m.Chunks)-1 {
		return m.Bytes - int64(i)*ChunkBytes
	}
	return ChunkBytes
}

// DecodeManifest reads what Encode gave, for the chain that is named. The error wraps
// ErrSnapshot.
func DecodeManifest(raw []byte, chainID string) (*Manifest, error) {
	m := new(Manifest)
	if len(raw) > MaxManifestBytes {
		return nil, fmt.Errorf("%w: manifest: %d bytes, want at most %d", ErrSnapshot, len(raw), MaxManifestBytes)
	}
	if err := decode(raw, m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrSnapshot, err)
	}
	bad := func(field string, got, want any) (*Manifest, error) {
		return nil, fmt.Errorf("%w: manifest: %s: got %v, want %v", ErrSnapshot, field, got, want)
	}
	n := int64(len(m.Chunks))
	switch {
	case m.Format != snapshotFormat:
		return bad("format", m.Format, snapshotFormat)
	case m.Chain != chainID:
		return bad("chain", strconv.Quote(m.Chain), strconv.Quote(chainID))
	case m.Height < 1 || m.Height > 1<<62:
		return bad("height", m.Height, "1 or more")
	case n < 1 || n > maxChunks:
		return bad("chunks", n, fmt.Sprintf("1 to %d", maxChunks))
	case m.Bytes <= (n-1)*ChunkBytes || m.Bytes > n*ChunkBytes:
		return bad("bytes", m.Bytes, fmt.Sprintf("what fills %d chunks of %d", n, ChunkBytes))
	}
	return m, nil
}

// SnapshotCopy is a snapshot that is being made: of the block that was the last when
// BeginSnapshot was called, whatever is committed meanwhile.
type SnapshotCopy struct {
	tx *bolt.Tx
}

// BeginSnapshot fixes what the snapshot is of. It costs next to nothing. The caller must
// call Write, from any goroutine, or Cancel. While the copy is being made commits go on, but
// the file keeps the pages that it reads, and a commit that has to map a larger file waits.
func (s *Store) BeginSnapshot() (*SnapshotCopy, error) {
	tx, err := s.db.Begin(false)
	if err != nil {
		return nil, fmt.Errorf("beginning snapshot: %w", err)
	}
	return &SnapshotCopy{tx: tx}, nil
}

// Cancel ends a copy that is not wanted.
func (c *SnapshotCopy) Cancel() error { return c.tx.Rollback() }

// Write makes the snapshot's files in a folder. A crash leaves it whole or not at all.
func (c *SnapshotCopy) Write(dir string) (*Snapshot, error) {
	m := new(Manifest)
	tmp, err := c.writeState(dir, m)
	if err = errors.Join(err, c.tx.Rollback()); err != nil {
		if tmp != "" {
			err = errors.Join(err, os.Remove(tmp))
		}
		return nil, fmt.Errorf("writing snapshot: %w", err)
	}
	s := newSnapshot(dir, m)
	// The manifest comes last: without it the state's file is no snapshot.
	err = os.Rename(tmp, s.statePath)
	if err == nil {
		err = writeWhole(s.manifestPath, m.Encode())
	}
	if err != nil {
		return nil, fmt.Errorf("writing snapshot: %w", err)
	}
	return s, nil
}

func (c *SnapshotCopy) writeState(dir string, m *Manifest) (path string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return "", err
	}
	err = guard(func() error {
		chain, err := get(c.tx, bucketMeta, keyChain)
		if err != nil {
			return err
		}
		m.Format, m.Chain = snapshotFormat, string(chain)
		if m.Height, err = loadHeight(c.tx); err != nil {
			return err
		}
		hash, err := get(c.tx, bucketBlocks, heightKey(m.Height))
		if err != nil {
			return err
		}
		copy(m.AppHash[:], hash)
		w := &chunkWriter{to: bufio.NewWriterSize(f, ChunkBytes), m: m}
		err = c.tx.Bucket(bucketState).ForEach(func(k, v []byte) error {
			raw, wrong := unseal(bucketState, k, v)
			if wrong != "" {
				return damaged(bucketState, k, wrong)
			}
			return writeRecord(w, k, raw)
		})
		if err != nil {
			return err
		}
		return w.end()
	})
	return f.Name(), errors.Join(err, f.Close())
}

// chunkWriter notes the hash of each chunk that passes.
type chunkWriter struct {
	to    *bufio.Writer
	m     *Manifest
	chunk []byte
}

func (w *chunkWriter) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), ChunkBytes-len(w.chunk))
		w.chunk = append(w.chunk, rest[:n]...)
		rest = rest[n:]
		if len(w.chunk) == ChunkBytes {
			if err := w.cut(); err != nil {
				return 0, err
			}
		}
	}
	return len(b), nil
}

func (w *chunkWriter) cut() error {
	if len(w.m.Chunks) == maxChunks {
		return fmt.Errorf("the state has more than %d bytes, the most that a snapshot holds", maxChunks*ChunkBytes)
	}
	w.m.Chunks = append(w.m.Chunks, sha256.Sum256(w.chunk))
	w.m.Bytes += int64(len(w.chunk))
	_, err := w.to.Write(w.chunk)
	w.chunk = w.chunk[:0]
	return err
}

func (w *chunkWriter) end() error {
	if len(w.chunk) > 0 {
		if err := w.cut(); err != nil {
			return err
		}
	}
	return w.to.Flush()
}

// Snapshot is one whose state is in a folder. It is safe for concurrent use.
type Snapshot struct {
	Manifest                *Manifest
	statePath, manifestPath string
}

const (
	stateFile    = "state-"
	manifestFile = "manifest-"
)

func newSnapshot(dir string, m *Manifest) *Snapshot {
	height := strconv.FormatInt(m.Height, 10)
	return &Snapshot{Manifest: m, statePath: filepath.Join(dir, stateFile+height), manifestPath: filepath.Join(dir, manifestFile+height)}
}

// Snapshots lists the snapshots of a chain that a folder has, the newest first. What is not
// one is left alone; no folder, no snapshots.
func Snapshots(dir, chainID string) ([]*Snapshot, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for snapshots: %w", err)
	}
	var all []*Snapshot
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), manifestFile) {
			continue
		}
		raw, err := readBounded(filepath.Join(dir, e.Name()), MaxManifestBytes)
		if err != nil {
			return nil, fmt.Errorf("looking for snapshots: %w", err)
		}
		m, err := DecodeManifest(raw, chainID)
		if err != nil {
			continue // damaged, or an older format: the next one takes its place
		}
		s := newSnapshot(dir, m)
		if info, err := os.Stat(s.statePath); err == nil && info.Size() == m.Bytes && filepath.Base(s.manifestPath) == e.Name() {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *Snapshot) int { return int(b.Manifest.Height - a.Manifest.Height) })
	return all, nil
}

// Remove deletes the snapshot.
func (s *Snapshot) Remove() error {
	return errors.Join(os.Remove(s.manifestPath), os.Remove(s.statePath))
}

// Chunk reads a chunk of the state. The error wraps ErrCorrupt if it is not what was written.
func (s *Snapshot) Chunk(i int) (b []byte, err error) {
	if i < 0 || i >= len(s.Manifest.Chunks) {
		return nil, fmt.Errorf("%w: chunk %d, want 0 to %d", ErrNoSnapshot, i, len(s.Manifest.Chunks)-1)
	}
	f, err := os.Open(s.statePath)
	if err != nil {
		return nil, fmt.Errorf("reading snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b = make([]byte, s.Manifest.ChunkSize(i))
	if _, err := f.ReadAt(b, int64(i)*ChunkBytes); err != nil {
		return nil, fmt.Errorf("reading snapshot: %w", err)
	}
	if sha256.Sum256(b) != s.Manifest.Chunks[i] {
		return nil, fmt.Errorf("%w: chunk %d of %s", ErrCorrupt, i, s.statePath)
	}
	return b, nil
}

func readBounded(path string, most int64) (raw []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // a file of the home's own folder
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw, err = io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return raw, err
}

// writeWhole writes a file whole or not at all.
func writeWhole(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already if all went well
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
