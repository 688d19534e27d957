package consensus

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/store"
)

// An archive is all that a node holds in one file: the genesis document, every block with
// the signatures on it, and the history. It is a stream of records, each a byte for its kind,
// its length, and its bytes; the last is the SHA-256 of all before it. It is written and
// read in one go, with memory for one block.
const (
	archiveMagic = "commonwatt-archive/1\n"

	recordHead   = 1 // archiveHead
	recordBlock  = 2 // the engine's Block; its last commit has the signatures on the one before
	recordCommit = 3 // the signatures on the last block
	recordLine   = 4 // archiveLine
	recordEnd    = 5 // archiveEnd
	recordSum    = 6 // 32 bytes

	// maxArchiveBlock bounds a block: what its evidence and framing add to its bytes.
	maxArchiveBlock = 2 * maxBlockBytes
	maxArchiveHead  = maxGenesisBytes + 1<<10
	maxArchiveLine  = 3 * store.ChunkBytes
)

// ErrArchive means that a file is not an archive, or not the one that it was when it was written. The
// text names the record.
var ErrArchive = errors.New("archive does not verify")

type archiveHead struct {
	_       struct{} `cbor:",toarray"`
	Genesis []byte
	Base    int64 // of the first block
	Height  int64 // of the last one, which is the ledger's
	Pruned  market.Month
}

type archiveLine struct {
	_    struct{} `cbor:",toarray"`
	Part store.Part
	Line store.Line
}

type archiveEnd struct {
	_      struct{} `cbor:",toarray"`
	Blocks uint64
	Lines  uint64
}

// Archived is what an archive has.
type Archived struct {
	ChainID     string   `json:"chain_id"`
	GenesisHash string   `json:"genesis_hash"`
	Base        int64    `json:"first_block"`
	Height      int64    `json:"last_block"`
	Lines       uint64   `json:"lines"`
	Bytes       int64    `json:"bytes"`
	Sum         [32]byte `json:"-"` // SHA-256 of the whole file
}

// WriteArchive writes the archive of a node that is not running. Its blocks are verified as
// Blocks does, and its ledger as store.OpenReadOnly does. progress is told each block's
// height; nil: nobody is.
func WriteArchive(home string, to io.Writer, progress func(height int64)) (a Archived, err error) {
	raw, err := LoadGenesis(home)
	if err != nil {
		return a, err
	}
	chain, g, err := ParseGenesis(raw)
	if err != nil {
		return a, err
	}
	s, err := store.OpenReadOnly(LedgerFile(home), chain, g)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	w := newArchiveWriter(to)
	c := &archiveBlocks{w: w, s: s, genesis: raw, progress: progress}
	if err := c.blocks(home); err != nil {
		return a, fmt.Errorf("writing archive: %w", err)
	}
	if err := s.Lines(func(p store.Part, l store.Line) error {
		c.end.Lines++
		return w.record(recordLine, archiveLine{Part: p, Line: l})
	}); err != nil {
		return a, fmt.Errorf("writing archive: %w", err)
	}
	if err := w.record(recordEnd, c.end); err != nil {
		return a, fmt.Errorf("writing archive: %w", err)
	}
	if a.Sum, err = w.finish(); err != nil {
		return a, fmt.Errorf("writing archive: %w", err)
	}
	genesisHash, err := GenesisHash(raw)
	a.ChainID, a.GenesisHash = chain, fmt.Sprintf("%x", genesisHash)
	a.Base, a.Height, a.Lines, a.Bytes = c.head.Base, c.head.Height, c.end.Lines, w.bytes
	return a, err
}

// archiveBlocks writes the blocks of a node's folder.
type archiveBlocks struct {
	w        *archiveWriter
	s        *store.Store
	genesis  []byte
	progress func(int64)
	head     archiveHead
	end      archiveEnd
}

func (c *archiveBlocks) blocks(home string) error {
	pruned, err := c.s.Pruned()
	if err != nil {
		return err
	}
	c.head = archiveHead{Genesis: c.genesis, Height: c.s.Height(), Pruned: pruned}
	var last *StoredBlock
	for b, err := range Blocks(home) {
		if err != nil {
			return err
		}
		if last == nil {
			c.head.Base = b.Height
			if err := c.w.record(recordHead, c.head); err != nil {
				return err
			}
		}
		if b.Height > c.head.Height {
			break // the engine has one block that the ledger has not
		}
		last = &b
		if err := c.block(&b); err != nil {
			return err
		}
	}
	if last == nil || last.Height != c.head.Height {
		return fmt.Errorf("%w: the ledger is at block %d, and that block is not here", ErrCorrupt, c.head.Height)
	}
	if last.commit == nil {
		return fmt.Errorf("%w: the signatures on block %d are missing", ErrCorrupt, last.Height)
	}
	p, err := last.commit.ToProto().Marshal()
	if err != nil {
		return err
	}
	return c.w.raw(recordCommit, p)
}

func (c *archiveBlocks) block(b *StoredBlock) error {
	p, err := b.block.ToProto()
	if err != nil {
		return err
	}
	raw, err := p.Marshal()
	if err != nil {
		return err
	}
	c.end.Blocks++
	if c.progress != nil {
		c.progress(b.Height)
	}
	return c.w.raw(recordBlock, raw)
}

// archiveWriter writes records and sums them.
type archiveWriter struct {
	to    *bufio.Writer
	sum   hash.Hash
	bytes int64
	err   error
}

func newArchiveWriter(to io.Writer) *archiveWriter {
	w := &archiveWriter{to: bufio.NewWriterSize(to, 1<<16), sum: sha256.New()}
	w.write([]byte(archiveMagic))
	return w
}

func (w *archiveWriter) write(b []byte) {
	if w.err != nil {
		return
	}
	w.sum.Write(b)
	w.bytes += int64(len(b))
	_, w.err = w.to.Write(b)
}

func (w *archiveWriter) raw(kind byte, b []byte) error {
	w.write(binary.AppendUvarint([]byte{kind}, uint64(len(b))))
	w.write(b)
	return w.err
}

func (w *archiveWriter) record(kind byte, v any) error {
	b, err := bundleEnc.Marshal(v)
	if err != nil {
		return err
	}
	return w.raw(kind, b)
}

// finish writes the sum, and returns that of the whole file.
func (w *archiveWriter) finish() (sum [32]byte, err error) {
	if err := w.raw(recordSum, w.sum.Sum(nil)); err != nil {
		return sum, err
	}
	return [32]byte(w.sum.Sum(nil)), w.to.Flush()
}
