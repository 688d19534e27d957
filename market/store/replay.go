package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// replay applies the blocks to the state before the first one and compares each step
// with the file. What is known to be damaged is not named again.
func (c *checker) replay(db *bolt.DB, blocks Blocks) {
	state, err := ledger.NewState(c.chainID, c.genesis)
	if err != nil {
		c.bad("genesis", "%v", err)
		return
	}
	c.compareBlock(db, 0, state.AppHash())
	last, ahead := int64(0), false
	for b, err := range blocks {
		record := fmt.Sprintf("chain at height %d", last+1)
		hash := state.AppHash()
		switch {
		case err != nil:
			c.bad(record, "%v", err)
			return
		case ahead:
			c.bad(record, "the ledger is at height %d, the chain at %d or more", c.report.Height, b.Height)
			return
		case b.Height != last+1:
			c.bad(record, "its next block is %d, so nothing can be replayed from there on", b.Height)
			return
		case !bytes.Equal(b.AppHash, hash[:]):
			c.bad(record, "the header says AppHash %x, replaying gives %x; the replay ends here", b.AppHash, hash)
			return
		}
		if b.Height > c.report.Height {
			ahead = true // consensus keeps a block before the ledger has it, but no two
			continue
		}
		delta, _, err := ledger.Apply(state, b.Block)
		if err != nil {
			c.bad(record, "%v", err)
			return
		}
		c.compareBlock(db, b.Height, delta.AppHash())
		c.compareHistory(db, b.Height, delta.History)
		state.Absorb(delta)
		last = b.Height
		c.report.Replayed = last
	}
	if last < c.report.Height {
		c.bad(fmt.Sprintf("chain at height %d", last+1), "is missing, the ledger is at height %d", c.report.Height)
		return
	}
	c.compareRecords(state)
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
