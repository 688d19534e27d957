package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// replay applies the blocks to the state before the first one and compares each step
// with the file. What is known to be damaged is not named again. If the first blocks are
// not there, because the file was made from a snapshot or they have been pruned, it follows
// the AppHashes instead.
func (c *checker) replay(db *bolt.DB, blocks Blocks) {
	state, err := ledger.NewState(c.chainID, c.genesis)
	if err != nil {
		c.bad("genesis", "%v", err)
		return
	}
	r := &replayer{c: c, db: db, state: state}
	first := state.AppHash()
	for b, err := range blocks {
		if err != nil {
			c.bad(fmt.Sprintf("chain at height %d", r.last+1), "%v", err)
			return
		}
		if r.last == 0 && b.Height > 1 {
			r.follows, r.last = true, b.Height-1
		} else if r.last == 0 {
			c.compareBlock(db, 0, first)
		}
		if !r.take(b) {
			return
		}
	}
	if r.last < c.report.Height {
		c.bad(fmt.Sprintf("chain at height %d", r.last+1), "is missing, the ledger is at height %d", c.report.Height)
		return
	}
	if !r.follows {
		c.compareRecords(r.state)
	}
}

// replayer is one walk over the blocks.
type replayer struct {
	c       *checker
	db      *bolt.DB
	state   *ledger.State
	last    int64 // height of the block before
	ahead   bool  // the chain has the one block more that the ledger may lack
	follows bool  // the first blocks are not there
}

// take compares the next block. It returns false if there is no point in going on.
func (r *replayer) take(b Committed) bool {
	c := r.c
	record := fmt.Sprintf("chain at height %d", r.last+1)
	switch {
	case r.ahead:
		c.bad(record, "the ledger is at height %d, the chain at %d or more", c.report.Height, b.Height)
		return false
	case b.Height != r.last+1:
		c.bad(record, "its next block is %d, so nothing can be replayed from there on", b.Height)
		return false
	}
	if b.Height > c.report.Height {
		r.ahead = true // consensus keeps a block before the ledger has it, but no two
	}
	if r.follows {
		if b.Height > c.report.Base {
			c.compare(r.db, bucketBlocks, heightKey(b.Height-1), b.AppHash)
		}
		r.last = b.Height
		c.report.Followed++
		return true
	}
	hash := r.state.AppHash()
	if !bytes.Equal(b.AppHash, hash[:]) {
		c.bad(record, "the header says AppHash %x, replaying gives %x; the replay ends here", b.AppHash, hash)
		return false
	}
	if r.ahead {
		return true
	}
	delta, _, err := ledger.Apply(r.state, b.Block)
	if err != nil {
		c.bad(record, "%v", err)
		return false
	}
	c.compareBlock(r.db, b.Height, delta.AppHash())
	c.compareHistory(r.db, b.Height, delta.History)
	r.state.Absorb(delta)
	if len(delta.Validators) > 0 {
		set := SetChange{Height: b.Height}
		for _, v := range r.state.Validators() {
			set.Keys = append(set.Keys, v.Key)
		}
		c.report.Sets = append(c.report.Sets, set)
	}
	r.last = b.Height
	c.report.Replayed = r.last
	return true
}

func (c *checker) compareBlock(db *bolt.DB, height int64, want [32]byte) {
	c.compare(db, bucketBlocks, heightKey(height), want[:])
}

func (c *checker) compareHistory(db *bolt.DB, height int64, events []ledger.Event) {
	for _, e := range events {
		if e.Settlement != nil && c.hist.month(e.Settlement.Interval) <= c.hist.pruned {
			continue
		}
		bucket, key, value := EncodeEvent(e, height)
		c.compare(db, []byte(bucket), key, value)
	}
}

func (c *checker) compare(db *bolt.DB, bucket, key, want []byte) {
	record := keyText(bucket, key)
	if c.named[record] {
		return
	}
	var got []byte
	var wrong string
	err := guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			got, wrong = lookup(tx, bucket, key)
			return nil
		})
	})
	switch {
	case err != nil:
		c.bad(record, "%v", err)
	case wrong != "":
		c.bad(record, "%s", wrong)
	case !bytes.Equal(got, want):
		c.bad(record, "is %x, replaying gives %x", got, want)
	}
}

// compareRecords holds every record of the file against the replayed state.
func (c *checker) compareRecords(state *ledger.State) {
	have := make(map[string][32]byte, len(c.records))
	for _, r := range c.records {
		have[r.Key] = sha256.Sum256(r.Value)
	}
	for key, want := range state.Leaves() {
		record := keyText(bucketState, []byte(key))
		got, ok := have[key]
		delete(have, key)
		switch {
		case c.named[record]:
		case !ok:
			c.bad(record, "is missing")
		case got != want:
			c.bad(record, "differs from what replaying the chain gives")
		}
	}
	for _, key := range sortedKeys(have) {
		c.bad(keyText(bucketState, []byte(key)), "is not there when the chain is replayed")
	}
}
