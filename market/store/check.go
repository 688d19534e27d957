package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// Committed is one block as consensus keeps it.
type Committed struct {
	Height  int64
	Block   ledger.Block
	AppHash []byte // in its header: the one after the block before
}

// Blocks yields the blocks of a chain from the first one on. An error ends it.
type Blocks = iter.Seq2[Committed, error]

// Difference is one thing that is not as it must be.
type Difference struct {
	Record string // in words: "history of household 3f2a..., interval 42, version 1"
	Text   string
}

// String joins both.
func (d Difference) String() string { return d.Record + ": " + d.Text }

// Report is what Check found. The numbers are of what could be read.
type Report struct {
	Height     int64 // of the last committed block
	Base       int64 // height of the snapshot that the file was made from; 0: it has all
	AppHash    []byte
	Households int
	Records    int // of the state
	History    int // settlements, corrections and results
	Replayed   int64
	// Followed counts blocks that were compared with the file by the AppHash in their
	// headers alone, because the state before them is not there any more.
	Followed int64
	// Sets are the validators after each block that changed them, of those replayed.
	Sets []SetChange
	// Differences is empty if all is well.
	Differences []Difference
}

// SetChange is a block that changed the validators.
type SetChange struct {
	Height int64
	Keys   []ledger.Key // of all after it, sorted
}

// OK says whether nothing was found.
func (r *Report) OK() bool { return len(r.Differences) == 0 }

// Check opens the file for reading and derives everything in it again: the pages and
// their free list, every checksum, canonical bytes, the AppHash, the sum of all
// accounts, each household's and the market's hash chain and balance from the history;
// then it replays the blocks, if not nil, and compares the AppHash of every height,
// every line of history and at last every record. Blocks that do not begin with the first
// cannot be replayed; the AppHash in their headers is compared. It lists every difference, whatever
// the damage. The error is about what keeps it from looking: no such file, ErrInUse.
func Check(path, chainID string, g ledger.Genesis, blocks Blocks) (Report, error) {
	c := &checker{chainID: chainID, genesis: g, named: map[string]bool{}, hist: newHistoryCheck(g)}
	c.hist.bad = c.bad
	db, err := openFile(path, true)
	switch {
	case errors.Is(err, ErrCorrupt):
		c.bad("file", "%v", err)
		return c.report, nil
	case err != nil:
		return c.report, err
	}
	err = c.run(path, db, blocks)
	return c.report, errors.Join(err, db.Close())
}

// checker is one run of Check.
type checker struct {
	chainID string
	genesis ledger.Genesis
	report  Report
	named   map[string]bool // records with a difference

	txid       uint64 // of the meta page
	meta       map[string][]byte
	records    []ledger.Record
	lost       bool // something of the state could not be read
	nextBlock  int64
	lastCommit []byte // the AppHash of the highest block
	hist       *historyCheck
}

func (c *checker) bad(record, format string, args ...any) {
	c.named[record] = true
	c.report.Differences = append(c.report.Differences, Difference{Record: record, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) run(path string, db *bolt.DB, blocks Blocks) error {
	file, err := os.Open(path) //nolint:gosec // the caller says which file
	if err != nil {
		return fmt.Errorf("checking ledger: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	c.meta = map[string][]byte{}
	c.readAhead(db)
	w := walker{file: file, pageSize: db.Info().PageSize, bad: c.bad, item: c.item}
	w.walk()
	c.txid = w.meta.txid
	pages := len(c.report.Differences) == 0
	if !c.checkMeta() {
		return nil
	}
	state := c.checkState()
	if pages {
		c.checkBolt(db)
	}
	c.checkCommit(state)
	if state != nil {
		c.report.Households = len(state.Households())
		c.hist.compare(state)
	}
	if blocks != nil {
		c.replay(db, blocks)
	}
	return nil
}

// readAhead reads which lines of the history do not count, and where the blocks begin: the
// walker meets both before it meets what says so. If that cannot be read, checkMeta says so.
func (c *checker) readAhead(db *bolt.DB) {
	_ = guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			if base, err := loadHeightOf(tx, keyBase); err == nil {
				c.report.Base, c.nextBlock = base, base
			}
			if v, wrong := lookup(tx, bucketMeta, keyPruned); wrong == "" {
				c.hist.pruned, _ = parsePruned(v)
			}
			return nil
		})
	})
}

// item takes one key and value from the walker.
func (c *checker) item(bucket, key, sealed []byte) {
	record := keyText(bucket, key)
	value, wrong := unseal(bucket, key, sealed)
	if wrong != "" {
		c.bad(record, "%s", wrong)
		c.lost = c.lost || string(bucket) == string(bucketState)
		return
	}
	switch string(bucket) {
	case string(bucketMeta):
		c.meta[string(key)] = value
	case string(bucketState):
		c.records = append(c.records, ledger.Record{Key: string(key), Value: value})
	case string(bucketBlocks):
		c.block(record, key, value)
	case string(bucketHistory):
		c.report.History++
		c.hist.line(record, key, value)
	case string(bucketMonths):
		c.hist.closedMonth(record, key, value)
	}
}

// block follows the heights, which rise by one.
func (c *checker) block(record string, key, value []byte) {
	height, ok := parseHeight(key)
	if !ok || len(value) != sha256.Size {
		c.bad(record, "%d bytes under a key of %d", len(value), len(key))
		return
	}
	c.missingBlocks(height)
	c.nextBlock, c.lastCommit = height+1, value
}

// missingBlocks names the heights from nextBlock on that are not there.
func (c *checker) missingBlocks(height int64) {
	if height <= c.nextBlock {
		return
	}
	for h := c.nextBlock; h < height; h++ {
		if record := keyText(bucketBlocks, heightKey(h)); !c.named[record] {
			c.bad(record, "is missing")
		}
	}
}

// checkMeta reads what the file says about itself. It returns false if the rest
// cannot be judged: it is another community's.
func (c *checker) checkMeta() bool {
	want := map[string]func([]byte) error{
		string(keyFormat): func(v []byte) error { return same(v, []byte(Format)) },
		string(keyChain):  func(v []byte) error { return same(v, []byte(c.chainID)) },
		string(keyTransaction): func(v []byte) error {
			return same(v, binary.BigEndian.AppendUint64(nil, c.txid))
		},
		string(keyPruned): func(v []byte) error {
			if _, ok := parsePruned(v); !ok {
				return fmt.Errorf("got %x, want 4 bytes of a month", v)
			}
			return nil
		},
		string(keyBase): func(v []byte) error {
			if h, ok := parseHeight(v); !ok || h > c.report.Height {
				return fmt.Errorf("got %x, want 8 bytes of a height up to %d", v, c.report.Height)
			}
			return nil
		},
		string(keyHeight): func(v []byte) error {
			h, ok := parseHeight(v)
			if !ok {
				return fmt.Errorf("got %x, want 8 bytes of a height", v)
			}
			c.report.Height = h
			return nil
		},
	}
	for _, key := range [][]byte{keyFormat, keyChain, keyTransaction, keyPruned, keyHeight, keyBase} {
		record := keyText(bucketMeta, key)
		v, ok := c.meta[string(key)]
		if !ok {
			if !c.named[record] {
				c.bad(record, "is missing")
			}
			continue
		}
		if err := want[string(key)](v); err != nil {
			c.bad(record, "%v", err)
		}
		delete(c.meta, string(key))
	}
	for _, key := range sortedKeys(c.meta) {
		c.bad(keyText(bucketMeta, []byte(key)), "has no meaning")
	}
	return !c.named[keyText(bucketMeta, keyChain)]
}

func same(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// checkState builds the state from what could be read, nil if that is impossible.
func (c *checker) checkState() *ledger.State {
	c.report.Records = len(c.records)
	state, err := buildState(c.chainID, c.genesis, c.records)
	if err != nil {
		c.bad("state", "%v", err)
		return nil
	}
	if !c.lost {
		hash := state.AppHash()
		c.report.AppHash = hash[:]
		for _, err := range state.Audit() {
			c.bad("state", "%v", err)
		}
	}
	return state
}

// checkCommit compares the state with what the last block committed.
func (c *checker) checkCommit(state *ledger.State) {
	height := c.report.Height
	c.missingBlocks(height + 1)
	if c.nextBlock > height+1 {
		c.bad(keyText(bucketMeta, keyHeight), "got %d, but there is block %d", height, c.nextBlock-1)
		return
	}
	if state == nil || c.lost || c.nextBlock != height+1 {
		return
	}
	if hash := state.AppHash(); !bytes.Equal(hash[:], c.lastCommit) {
		c.bad(keyText(bucketBlocks, heightKey(height)), "committed AppHash %x, the records hash to %x", c.lastCommit, hash)
	}
}

// checkBolt runs bbolt's own check, in a goroutine of bbolt where a damaged page
// could end the process: so only where the walker has found none.
func (c *checker) checkBolt(db *bolt.DB) {
	err := guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			for err := range tx.Check() {
				c.bad("pages", "%v", err)
			}
			return nil
		})
	})
	if err != nil {
		c.bad("pages", "%v", err)
	}
}
