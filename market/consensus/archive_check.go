package consensus

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// ArchiveCheck verifies archives of one chain, the one with its first block first: every
// block follows from the one before, more than two thirds of its validators signed it, and
// executing it gives what its header and the history say. Several archives in a row, as a
// node that prunes writes them, make one history; blocks that two of them have count once.
type ArchiveCheck struct {
	anchor  *Anchor
	state   *ledger.State
	set     *types.ValidatorSet // of the next block
	after   *types.ValidatorSet // of the one behind it
	height  int64
	last    types.BlockID
	signers *types.ValidatorSet // of the last block
	results []byte              // hash of what the last block's transactions came to
	// Progress is told each block's height; nil: nobody is.
	Progress func(height int64)
}

// Height is that of the last block that was executed, and AppHash what it led to.
func (c *ArchiveCheck) Height() int64 { return c.height }

// AppHash is the hash of the state after the last block.
func (c *ArchiveCheck) AppHash() [32]byte { return c.state.AppHash() }

// Households says how many are registered at the end.
func (c *ArchiveCheck) Households() int { return len(c.state.Households()) }

// Take verifies the next archive. trust is the GenesisHash that it must have; nil: its own
// is taken. The error wraps ErrArchive and names the record.
func (c *ArchiveCheck) Take(from io.Reader, trust *[32]byte) (a Archived, err error) {
	r := &archiveReader{in: bufio.NewReaderSize(from, 1<<16), sum: sha256.New()}
	defer func() {
		if p := recover(); p != nil { // the engine's types do, on what no chain has
			err = fmt.Errorf("%w: record %d: %s", ErrArchive, r.records, firstLine(p))
		}
	}()
	head, err := r.head()
	if err != nil {
		return a, err
	}
	if err := c.begin(head, trust); err != nil {
		return a, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	var end archiveEnd
	if end.Blocks, err = c.blocks(r, head); err != nil {
		return a, err
	}
	if end.Lines, err = c.lines(r, head); err != nil {
		return a, err
	}
	if err := r.end(end); err != nil {
		return a, err
	}
	a = Archived{ChainID: c.anchor.chainID, GenesisHash: fmt.Sprintf("%x", c.anchor.hash), Base: head.Base, Height: head.Height, Lines: end.Lines, Bytes: r.bytes}
	a.Sum = [32]byte(r.sum.Sum(nil))
	return a, nil
}

// begin holds an archive's head against what is there.
func (c *ArchiveCheck) begin(h *archiveHead, trust *[32]byte) error {
	anchor, err := NewAnchor(h.Genesis)
	if err != nil {
		return err
	}
	switch {
	case trust != nil && anchor.hash != *trust:
		return fmt.Errorf("genesis: it hashes to %x, want %x", anchor.hash, *trust)
	case c.anchor != nil && anchor.hash != c.anchor.hash:
		return fmt.Errorf("genesis: it hashes to %x, that of the archive before to %x", anchor.hash, c.anchor.hash)
	case h.Base < 1 || h.Height < h.Base || h.Pruned < 0:
		return fmt.Errorf("head: blocks %d to %d, pruned month %d", h.Base, h.Height, h.Pruned)
	case h.Base > c.height+1:
		return fmt.Errorf("it begins with block %d, want %d or less: give the archives with the blocks before first", h.Base, c.height+1)
	case h.Height < c.height:
		return fmt.Errorf("it ends with block %d, and block %d was in the one before: give them in order", h.Height, c.height)
	}
	if c.anchor != nil {
		return nil
	}
	c.anchor = anchor
	c.set = anchor.set.Copy()
	c.after = c.set
	c.results = types.NewResults(nil).Hash()
	c.state, err = ledger.NewState(anchor.chainID, anchor.genesis)
	return err
}

// blocks executes those that are new.
func (c *ArchiveCheck) blocks(r *archiveReader, h *archiveHead) (n uint64, err error) {
	for height := h.Base; height <= h.Height; height++ {
		raw, err := r.want(recordBlock, maxArchiveBlock)
		if err != nil {
			return n, err
		}
		n++
		b, err := decodeBlock(raw)
		if err == nil && b.Height != height {
			err = fmt.Errorf("it is block %d", b.Height)
		}
		if err == nil && height > c.height {
			err = c.execute(b)
		}
		if err != nil {
			return n, fmt.Errorf("%w: block %d: %w", ErrArchive, height, err)
		}
		if c.Progress != nil {
			c.Progress(height)
		}
	}
	raw, err := r.want(recordCommit, maxLightBlock)
	if err != nil {
		return n, err
	}
	if err := c.signed(raw); err != nil {
		return n, fmt.Errorf("%w: signatures on block %d: %w", ErrArchive, h.Height, err)
	}
	return n, nil
}

func decodeBlock(raw []byte) (*types.Block, error) {
	p := new(cmtproto.Block)
	if err := p.Unmarshal(raw); err != nil {
		return nil, err
	}
	b, err := types.BlockFromProto(p)
	if err != nil {
		return nil, err
	}
	if err := b.ValidateBasic(); err != nil {
		return nil, err
	}
	again, err := b.ToProto()
	if err != nil {
		return nil, err
	}
	if same, err := again.Marshal(); err != nil || !bytes.Equal(same, raw) {
		return nil, errors.New("not in canonical form")
	}
	return b, nil
}

// execute checks a block against the one before and the state, and applies it.
func (c *ArchiveCheck) execute(b *types.Block) error {
	hash := c.state.AppHash()
	switch {
	case b.ChainID != c.anchor.chainID:
		return fmt.Errorf("chain_id: got %q, want %q", b.ChainID, c.anchor.chainID)
	case !b.LastBlockID.Equals(c.last):
		return fmt.Errorf("it follows block %v, want %v", b.LastBlockID, c.last)
	case !bytes.Equal(b.ValidatorsHash, c.set.Hash()):
		return fmt.Errorf("its validators hash to %s, want %X", b.ValidatorsHash, c.set.Hash())
	case !bytes.Equal(b.NextValidatorsHash, c.after.Hash()):
		return fmt.Errorf("the next validators hash to %s, want %X", b.NextValidatorsHash, c.after.Hash())
	case !bytes.Equal(b.AppHash, hash[:]):
		return fmt.Errorf("its header says AppHash %s, executing gives %x", b.AppHash, hash)
	case !bytes.Equal(b.LastResultsHash, c.results):
		return fmt.Errorf("its header says results %s, executing gives %X", b.LastResultsHash, c.results)
	}
	if c.height > 0 {
		if err := c.signers.VerifyCommit(c.anchor.chainID, c.last, c.height, b.LastCommit); err != nil {
			return fmt.Errorf("signatures on block %d: %w", c.height, err)
		}
	}
	delta, receipts, err := ledger.Apply(c.state, storedBlock(b))
	if err != nil {
		return err
	}
	parts, err := b.MakePartSet(types.BlockPartSizeBytes)
	if err != nil {
		return err
	}
	results := make([]*abci.ExecTxResult, len(receipts))
	for i, x := range receipts {
		results[i] = &abci.ExecTxResult{Code: uint32(x.Code())}
	}
	c.results = types.NewResults(results).Hash()
	c.state.Absorb(delta)
	c.last, c.height = types.BlockID{Hash: b.Hash(), PartSetHeader: parts.Header()}, b.Height
	c.signers, c.set, c.after = c.set, c.after, setOf(c.state)
	return nil
}

// setOf are the validators that a state names.
func setOf(s *ledger.State) *types.ValidatorSet {
	var keys []ledger.Key
	for _, v := range s.Validators() {
		keys = append(keys, v.Key)
	}
	return engineSet(keys)
}

// signed checks the signatures on the last block; the next one has those on any other.
func (c *ArchiveCheck) signed(raw []byte) error {
	p := new(cmtproto.Commit)
	if err := p.Unmarshal(raw); err != nil {
		return err
	}
	commit, err := types.CommitFromProto(p)
	if err != nil {
		return err
	}
	return c.signers.VerifyCommit(c.anchor.chainID, c.last, c.height, commit)
}

// lines holds the history against the state.
func (c *ArchiveCheck) lines(r *archiveReader, h *archiveHead) (n uint64, err error) {
	check := store.NewLineCheck(c.anchor.genesis, h.Pruned)
	for {
		kind, err := r.peek()
		if err != nil {
			return n, err
		}
		if kind != recordLine {
			break
		}
		raw, err := r.want(recordLine, maxArchiveLine)
		if err != nil {
			return n, err
		}
		var l archiveLine
		if err := decodeAnswer(raw, &l); err != nil {
			return n, r.bad("line %d: %v", n, err)
		}
		check.Take(l.Part, l.Line)
		n++
	}
	if wrong := check.End(c.state); len(wrong) > 0 {
		return n, fmt.Errorf("%w: %s", ErrArchive, wrong[0])
	}
	return n, nil
}

// archiveReader reads records and sums them.
type archiveReader struct {
	in      *bufio.Reader
	sum     hash.Hash
	bytes   int64
	records int
}

func (r *archiveReader) bad(format string, args ...any) error {
	return fmt.Errorf("%w: record %d: %s", ErrArchive, r.records, fmt.Sprintf(format, args...))
}

func (r *archiveReader) read(n int) ([]byte, error) {
	var b bytes.Buffer // no more is set aside than has come
	if m, err := io.CopyN(&b, r.in, int64(n)); err != nil {
		return nil, r.bad("it ends after %d of %d bytes", m, n)
	}
	r.sum.Write(b.Bytes())
	r.bytes += int64(n)
	return b.Bytes(), nil
}

func (r *archiveReader) peek() (byte, error) {
	b, err := r.in.Peek(1)
	if err != nil {
		return 0, r.bad("the file ends here")
	}
	return b[0], nil
}

// want reads the next record, which must be of a kind.
func (r *archiveReader) want(kind byte, most uint64) ([]byte, error) {
	r.records++
	b, err := r.read(1)
	if err != nil {
		return nil, err
	}
	if b[0] != kind {
		return nil, r.bad("got kind %d, want %d", b[0], kind)
	}
	var length []byte
	for len(length) < binary.MaxVarintLen64 {
		if b, err = r.read(1); err != nil {
			return nil, err
		}
		if length = append(length, b[0]); b[0] < 0x80 {
			break
		}
	}
	n, used := binary.Uvarint(length)
	if used != len(length) || n > most || len(binary.AppendUvarint(nil, n)) != used {
		return nil, r.bad("its length is %d, want at most %d", n, most)
	}
	return r.read(int(n)) //nolint:gosec // bounded by most
}

func (r *archiveReader) head() (*archiveHead, error) {
	magic, err := r.read(len(archiveMagic))
	if err != nil || string(magic) != archiveMagic {
		return nil, fmt.Errorf("%w: it does not begin with %q: it is no archive, or of another version", ErrArchive, archiveMagic[:len(archiveMagic)-1])
	}
	raw, err := r.want(recordHead, maxArchiveHead)
	if err != nil {
		return nil, err
	}
	h := new(archiveHead)
	if err := decodeAnswer(raw, h); err != nil {
		return nil, r.bad("%v", err)
	}
	return h, nil
}

// end wants the counts, the sum, and nothing behind it.
func (r *archiveReader) end(want archiveEnd) error {
	raw, err := r.want(recordEnd, 64)
	if err != nil {
		return err
	}
	var got archiveEnd
	if err := decodeAnswer(raw, &got); err != nil {
		return r.bad("%v", err)
	}
	if got != want {
		return r.bad("it says %d blocks and %d lines, there are %d and %d", got.Blocks, got.Lines, want.Blocks, want.Lines)
	}
	sum := r.sum.Sum(nil)
	if raw, err = r.want(recordSum, 32); err != nil {
		return err
	}
	if !bytes.Equal(raw, sum) {
		return r.bad("it says that all before it hashes to %x, it is %x", raw, sum)
	}
	if _, err := r.in.Peek(1); !errors.Is(err, io.EOF) {
		return r.bad("something follows it")
	}
	return nil
}
