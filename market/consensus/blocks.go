package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"syscall"
	"time"

	dbm "github.com/cometbft/cometbft-db"
	cmtstate "github.com/cometbft/cometbft/state"
	cmtstore "github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// StoredBlock is a block as the engine keeps it.
type StoredBlock struct {
	Height int64
	Time   time.Time    // of its header: stale after idling, for people only
	Block  ledger.Block // exactly what FinalizeBlock was given
	// AppHash is what the header says: the hash after the block before it.
	AppHash []byte

	block  *types.Block
	commit *types.Commit // the signatures on it
}

// Blocks yields the blocks that the node in home has stored, from the oldest, each verified:
// the databases' checksums, the block against its hash and its parts, the chain of
// LastBlockIDs, the validator sets from the genesis document on, and the signatures of
// more than two thirds of them on each block. The node must not be running.
//
// An error wraps ErrCorrupt, or ErrInUse, and names the database or the block. It comes with
// a zero StoredBlock; iteration goes on behind it as long as there is a block to go on with.
func Blocks(home string) iter.Seq2[StoredBlock, error] {
	return func(yield func(StoredBlock, error) bool) {
		c := &chain{yield: yield}
		defer c.close()
		if err := c.open(home); err != nil {
			c.report(err)
			return
		}
		c.walk()
	}
}

// chain is one walk over the stored blocks.
type chain struct {
	yield   func(StoredBlock, error) bool
	stopped bool // the caller has had enough
	doc     *types.GenesisDoc
	dbs     []dbm.DB
	blocks  *cmtstore.BlockStore
	states  cmtstate.Store
	changes *changeBook
	base    int64               // the first stored block: what was before it has been pruned, or never was here
	last    types.BlockID       // of the block before
	nextSet []byte              // hash of the validators that the block before announced
	lastSet *types.ValidatorSet // of the block before; nil if it cannot be known
}

func (c *chain) report(err error) {
	if !c.stopped && !c.yield(StoredBlock{}, err) {
		c.stopped = true
	}
}

func (c *chain) close() {
	for _, db := range c.dbs {
		_ = db.Close() // opened for reading only
	}
}

func (c *chain) open(home string) error {
	raw, err := LoadGenesis(home)
	if err != nil {
		return err
	}
	var g ledger.Genesis
	if c.doc, g, err = parseGenesis(raw); err != nil {
		return fmt.Errorf("%s: %w", genesisFile(home), err)
	}
	if c.changes, err = openChanges(home, g); err != nil {
		return err
	}
	dir := filepath.Join(home, "data")
	blocks, err := c.openDB(dir, "blockstore")
	if err != nil {
		return err
	}
	states, err := c.openDB(dir, "state")
	if err != nil {
		return err
	}
	if _, err := c.openDB(dir, "evidence"); err != nil {
		return err
	}
	c.states = cmtstate.NewStore(states, cmtstate.StoreOptions{DiscardABCIResponses: true})
	return sound("block store", func() error {
		c.blocks = cmtstore.NewBlockStore(blocks)
		return nil
	})
}

// openDB opens a database for reading and reads all of it. Strict opening refuses the
// first wrong checksum; that is reported, and then it is opened as far as it goes, so that
// the blocks that are hit can be named.
func (c *chain) openDB(dir, name string) (dbm.DB, error) {
	db, err := openReading(dir, name)
	if err != nil {
		if errors.Is(err, ErrInUse) || errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		c.report(err)
		db, err = dbm.NewGoLevelDBWithOpts(name, dir, &opt.Options{ReadOnly: true, ErrorIfMissing: true, Strict: opt.NoStrict})
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err)
		}
	}
	c.dbs = append(c.dbs, db)
	if err := sound(name, func() error { return readAll(db) }); err != nil {
		c.report(err)
	}
	return db, nil
}

// openReading opens a database that nobody writes to. The first wrong checksum that it meets
// is an error.
func openReading(dir, name string) (dbm.DB, error) {
	db, err := dbm.NewGoLevelDBWithOpts(name, dir, &opt.Options{ReadOnly: true, ErrorIfMissing: true, Strict: opt.StrictAll})
	switch {
	case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK):
		return nil, fmt.Errorf("%w: %s", ErrInUse, filepath.Join(dir, name+".db"))
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, name, err)
	}
	return db, nil
}

// sound calls f and makes an error of a panic, which is how the engine's stores meet data
// that they cannot read.
func sound(what string, f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %s: %s", ErrCorrupt, what, firstLine(r))
		}
	}()
	if err := f(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return nil
}

// readAll reads every value, and so every checksum.
func readAll(db dbm.DB) error {
	it, err := db.Iterator(nil, nil)
	if err != nil {
		return err
	}
	for ; it.Valid(); it.Next() {
		_ = it.Value()
	}
	return errors.Join(it.Error(), it.Close())
}

func (c *chain) walk() {
	var base, height int64
	if base, height = c.blocks.Base(), c.blocks.Height(); height == 0 {
		return
	}
	c.base = base
	c.begin()
	for h := base; h <= height && !c.stopped; h++ {
		var b *types.Block
		if err := sound(fmt.Sprintf("block %d", h), func() (err error) {
			b, err = c.load(h)
			return err
		}); err != nil {
			c.report(err)
			return
		}
		if err := sound(fmt.Sprintf("block %d", h), func() error { return c.follow(b) }); err != nil {
			c.report(err)
		}
		if h == height {
			if err := sound(fmt.Sprintf("block %d", h), func() error { return c.committed(c.blocks.LoadSeenCommit(h), h) }); err != nil {
				c.report(err)
			}
		}
		if c.stopped {
			return
		}
		out := StoredBlock{
			Height: h, Time: b.Time, AppHash: b.AppHash,
			Block: storedBlock(b), block: b,
		}
		if err := sound(fmt.Sprintf("block %d", h), func() error {
			if out.commit = c.blocks.LoadBlockCommit(h); out.commit == nil {
				out.commit = c.blocks.LoadSeenCommit(h)
			}
			return nil
		}); err != nil {
			c.report(err)
		}
		c.stopped = c.stopped || !c.yield(out, nil)
	}
}

// begin finds the validators of the first stored block, and of the one before it.
func (c *chain) begin() {
	c.nextSet, c.lastSet = engineSet(c.changes.setAt(c.base)).Hash(), engineSet(c.changes.setAt(c.base-1))
}

// load reads one block and compares it with its hash and its parts.
func (c *chain) load(h int64) (*types.Block, error) {
	meta := c.blocks.LoadBlockMeta(h)
	if meta == nil {
		return nil, errors.New("its header is missing")
	}
	b := c.blocks.LoadBlock(h)
	if b == nil {
		return nil, errors.New("a part of it is missing")
	}
	if err := b.ValidateBasic(); err != nil { // content against the header's hashes
		return nil, err
	}
	if !bytes.Equal(b.Hash(), meta.BlockID.Hash) {
		return nil, fmt.Errorf("it hashes to %X, stored as %X", b.Hash(), meta.BlockID.Hash)
	}
	parts, err := b.MakePartSet(types.BlockPartSizeBytes)
	if err != nil {
		return nil, err
	}
	if !parts.Header().Equals(meta.BlockID.PartSetHeader) {
		return nil, fmt.Errorf("its parts hash to %v, stored as %v", parts.Header(), meta.BlockID.PartSetHeader)
	}
	if b.Height != h || b.ChainID != c.doc.ChainID {
		return nil, fmt.Errorf("it says that it is block %d of %q, want %d of %q", b.Height, b.ChainID, h, c.doc.ChainID)
	}
	return b, nil
}

// follow checks that a block follows the one before, and that that one was committed.
func (c *chain) follow(b *types.Block) error {
	var errs []error
	if b.Height > c.doc.InitialHeight {
		if b.Height == c.base {
			c.last = b.LastBlockID // the block itself is not there, the signatures on it are
		}
		if !b.LastBlockID.Equals(c.last) {
			errs = append(errs, fmt.Errorf("it follows block %v, want %v", b.LastBlockID, c.last))
		}
		errs = append(errs, c.committed(b.LastCommit, b.Height-1))
	}
	if !bytes.Equal(b.ValidatorsHash, c.nextSet) {
		errs = append(errs, fmt.Errorf("its validators hash to %X, the block before announced %X", b.ValidatorsHash, c.nextSet))
	}
	if want := engineSet(c.changes.setAt(b.Height)).Hash(); !bytes.Equal(b.ValidatorsHash, want) {
		errs = append(errs, fmt.Errorf("its validators hash to %X, by the changes that are kept they would to %X", b.ValidatorsHash, want))
	}
	set, err := c.states.LoadValidators(b.Height)
	switch {
	case err != nil:
		errs = append(errs, err)
		set = nil
	case !bytes.Equal(set.Hash(), b.ValidatorsHash):
		errs = append(errs, fmt.Errorf("its validators hash to %X, stored ones to %X", b.ValidatorsHash, set.Hash()))
		set = nil
	}
	c.last = c.blocks.LoadBlockMeta(b.Height).BlockID
	c.nextSet, c.lastSet = b.NextValidatorsHash, set
	return errors.Join(errs...)
}

// committed checks the signatures on the block that was followed last.
func (c *chain) committed(commit *types.Commit, h int64) error {
	if commit == nil {
		return fmt.Errorf("the validators' signatures on block %d are missing", h)
	}
	if c.lastSet == nil {
		return nil // has been reported
	}
	if err := c.lastSet.VerifyCommit(c.doc.ChainID, c.last, h, commit); err != nil {
		return fmt.Errorf("signatures on block %d: %w", h, err)
	}
	return nil
}
