package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	dbm "github.com/cometbft/cometbft-db"
	cmtstore "github.com/cometbft/cometbft/store"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// Proof calls f with the state after the last block, as Read does, and returns the newest
// header that has this state's AppHash, which may come some moments later: the AppHash after
// a block is in the header of the next. That one is made at once if the block changed
// anything, so this waits for a quorum at most, or until ctx ends (ErrUnproven).
func (n *Node) Proof(ctx context.Context, f func(*ledger.State)) (*SignedHeader, error) {
	events, cancel := n.Subscribe()
	defer cancel()
	var height int64
	var hash [32]byte
	n.book.read(func(s *ledger.State) {
		f(s)
		height, hash = n.book.height, s.AppHash()
	})
	for {
		e := n.engine.Load()
		if e == nil {
			return nil, fmt.Errorf("%w: the ledger is not running", ErrUnproven)
		}
		s, err := newestHeader(e.node.BlockStore(), n.changes, height, hash)
		if err != nil || s != nil {
			return s, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: waiting for the header of block %d: %w", ErrUnproven, height+1, ctx.Err())
		case _, open := <-events:
			if !open {
				return nil, ErrClosed
			}
		}
	}
}

// newestHeader looks at the block behind the state's height, and at that block itself: an
// empty block leaves the AppHash as it was, and no other may follow for a long time. It
// returns nil if neither has the hash.
func newestHeader(blocks *cmtstore.BlockStore, c *changeBook, height int64, appHash [32]byte) (s *SignedHeader, err error) {
	err = sound("block store", func() error {
		for _, h := range []int64{height + 1, height} {
			meta := blocks.LoadBlockMeta(h)
			if meta == nil || !bytes.Equal(meta.Header.AppHash, appHash[:]) {
				continue
			}
			commit := blocks.LoadSeenCommit(h)
			if commit == nil {
				return fmt.Errorf("the validators' signatures on block %d are missing", h)
			}
			s, err = NewSignedHeader(meta.Header, commit, engineSet(c.setAt(h)))
			return err
		}
		return nil
	})
	if err == nil && s != nil {
		s.Changes, err = c.wayTo(s.Header.Height, blocks)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// StoredProof is Proof for the folder of a node that is not running: state is what its
// ledger holds, after the block at height. The error wraps ErrInUse, ErrCorrupt, or
// ErrUnproven if the node was stopped between a block and the one that proves it.
func StoredProof(home string, height int64, appHash [32]byte) (s *SignedHeader, err error) {
	raw, err := LoadGenesis(home)
	if err != nil {
		return nil, err
	}
	_, g, err := parseGenesis(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", genesisFile(home), err)
	}
	c, err := openChanges(home, g)
	if err != nil {
		return nil, err
	}
	var db dbm.DB
	if db, err = openReading(filepath.Join(home, "data"), "blockstore"); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = sound("block store", func() error {
		s, err = newestHeader(cmtstore.NewBlockStore(db), c, height, appHash)
		return err
	})
	if err == nil && s == nil {
		err = fmt.Errorf("%w: the ledger is at block %d, and block %d, whose header proves it, is not there", ErrUnproven, height, height+1)
	}
	return s, err
}
