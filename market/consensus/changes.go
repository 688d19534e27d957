package consensus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	cmtstore "github.com/cometbft/cometbft/store"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// A Change is one step from the genesis document's validators to those of today: a header
// that its own validators signed and that names the next ones, with these. The set decided
// by block h is named by the header of block h+1 and holds from block h+2 on.
type Change struct {
	Header Header       `json:"header"`
	Commit Commit       `json:"commit"`
	Next   []ledger.Key `json:"next"` // sorted
}

// MaxChanges bounds the way from the genesis document: one change a week for 39 years.
const MaxChanges = 2048

// maxChangeFile bounds one change on disk: 32 votes and keys have some 13 kB.
const maxChangeFile = 64 << 10

// changeBook keeps the way from the genesis document's validators to today's in a folder of
// its own, a file for each change, so that pruning blocks takes nothing from it. The file is
// there before the ledger has the block that decides the change, first without the header,
// which comes with the next block; to write it again changes nothing.
//
// It is safe for concurrent use.
type changeBook struct {
	dir   string
	first []ledger.Key // of the genesis document, sorted

	mu  sync.Mutex
	all []noted // by height
}

// noted is a change that was decided.
type noted struct {
	height int64 // of the block that decided it
	next   []ledger.Key
	signed bool // its file has the header
}

// noteFile is what a file holds.
type noteFile struct {
	Height int64         `json:"height"`
	Next   []ledger.Key  `json:"next"`
	Signed *SignedHeader `json:"signed"` // of the block after; null until it is there
}

func changesDir(home string) string { return filepath.Join(home, "validators") }

// openChanges reads what a node has kept. What is not as it was written is ErrCorrupt.
func openChanges(home string, g ledger.Genesis) (*changeBook, error) {
	c := &changeBook{dir: changesDir(home)}
	for _, v := range g.Validators {
		c.first = append(c.first, v.Key)
	}
	slices.SortFunc(c.first, compareKeys)
	entries, err := os.ReadDir(c.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading changes of validators: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue // what a crash left of writing one
		}
		height, err := strconv.ParseInt(name, 10, 64)
		if err != nil || height < 1 {
			return nil, fmt.Errorf("%w: changes of validators: %s is not the name of a block", ErrCorrupt, e.Name())
		}
		f, err := c.read(height)
		if err != nil {
			return nil, err
		}
		c.all = append(c.all, noted{height: height, next: f.Next, signed: f.Signed != nil})
	}
	slices.SortFunc(c.all, func(a, b noted) int { return int(a.height - b.height) })
	return c, nil
}

func compareKeys(a, b ledger.Key) int { return bytes.Compare(a[:], b[:]) }

func (c *changeBook) file(height int64) string {
	return filepath.Join(c.dir, fmt.Sprintf("%020d.json", height))
}

func (c *changeBook) read(height int64) (*noteFile, error) {
	file := c.file(height)
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("reading changes of validators: %w", err)
	}
	if info.Size() > maxChangeFile {
		return nil, fmt.Errorf("%w: %s has %d bytes, want at most %d", ErrCorrupt, file, info.Size(), maxChangeFile)
	}
	raw, err := os.ReadFile(file) //nolint:gosec // the node's own folder
	if err != nil {
		return nil, fmt.Errorf("reading changes of validators: %w", err)
	}
	f := new(noteFile)
	if err := strictJSON(raw, f); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, file, err)
	}
	if err := sortedSet(f.Next); err != nil || f.Height != height {
		return nil, fmt.Errorf("%w: %s is of block %d, with %d validators: %w", ErrCorrupt, file, f.Height, len(f.Next), err)
	}
	return f, nil
}

// sortedSet wants 1 to MaxValidators keys, rising.
func sortedSet(keys []ledger.Key) error {
	if len(keys) < 1 || len(keys) > ledger.MaxValidators {
		return fmt.Errorf("got %d keys, want 1 to %d", len(keys), ledger.MaxValidators)
	}
	for i := 1; i < len(keys); i++ {
		if compareKeys(keys[i-1], keys[i]) >= 0 {
			return fmt.Errorf("[%d]: want the keys rising, each once", i)
		}
	}
	return nil
}

func (c *changeBook) write(f *noteFile) error {
	raw, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("keeping change of validators: %w", err)
	}
	return writeSynced(c.file(f.Height), raw, 0o600)
}

// decided notes the set after a block that changes it. Called before the ledger commits the
// block, and again if that is replayed after a crash.
func (c *changeBook) decided(height int64, updates []ledger.ValidatorUpdate) error {
	if len(updates) == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	i, known := slices.BinarySearchFunc(c.all, height, func(n noted, h int64) int { return int(n.height - h) })
	next := slices.Clone(c.before(height))
	for _, u := range updates {
		at, there := slices.BinarySearchFunc(next, u.Key, compareKeys)
		switch {
		case u.Power == 0 && there:
			next = slices.Delete(next, at, at+1)
		case u.Power != 0 && !there:
			next = slices.Insert(next, at, u.Key)
		}
	}
	if known && slices.Equal(c.all[i].next, next) {
		return nil
	}
	if err := c.write(&noteFile{Height: height, Next: next}); err != nil {
		return err
	}
	n := noted{height: height, next: next}
	if known {
		c.all[i] = n
	} else {
		c.all = slices.Insert(c.all, i, n)
	}
	return nil
}

// before is the set that block h changes: that of the change before it. The caller holds
// the lock.
func (c *changeBook) before(height int64) []ledger.Key {
	for _, n := range slices.Backward(c.all) {
		if n.height < height {
			return n.next
		}
	}
	return c.first
}

// setAt is the set whose votes block h needs.
func (c *changeBook) setAt(height int64) []ledger.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.before(height - 1)
}

// pendingFrom is the first block that is still needed for a change whose header is not
// kept; ok is false if there is none.
func (c *changeBook) pendingFrom() (height int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.all {
		if !n.signed {
			return n.height + 1, true
		}
	}
	return 0, false
}

// keep writes the headers that have come since into the files of their changes.
func (c *changeBook) keep(blocks *cmtstore.BlockStore) error {
	c.mu.Lock()
	all := slices.Clone(c.all)
	c.mu.Unlock()
	for _, n := range all {
		if n.signed {
			continue
		}
		signed, err := c.header(blocks, n)
		if err != nil || signed == nil {
			return err // nil: it will come
		}
		c.mu.Lock()
		i, known := slices.BinarySearchFunc(c.all, n.height, func(n noted, h int64) int { return int(n.height - h) })
		if known && slices.Equal(c.all[i].next, n.next) {
			if err = c.write(&noteFile{Height: n.height, Next: n.next, Signed: signed}); err == nil {
				c.all[i].signed = true
			}
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// header reads from the engine's blocks the header that names the set of a change; nil if
// it is not there yet.
func (c *changeBook) header(blocks *cmtstore.BlockStore, n noted) (s *SignedHeader, err error) {
	err = sound("block store", func() error {
		meta := blocks.LoadBlockMeta(n.height + 1)
		commit := blocks.LoadBlockCommit(n.height + 1)
		if commit == nil {
			commit = blocks.LoadSeenCommit(n.height + 1)
		}
		if meta == nil || commit == nil {
			return nil
		}
		s, err = NewSignedHeader(meta.Header, commit, engineSet(c.setAt(n.height+1)))
		return err
	})
	return s, err
}

// wayTo returns the changes that lead to the set of block h.
func (c *changeBook) wayTo(height int64, blocks *cmtstore.BlockStore) ([]Change, error) {
	c.mu.Lock()
	all := slices.Clone(c.all)
	c.mu.Unlock()
	var way []Change
	for _, n := range all {
		if n.height+2 > height {
			break
		}
		var signed *SignedHeader
		var err error
		if n.signed {
			f, rerr := c.read(n.height)
			if rerr != nil {
				return nil, rerr
			}
			signed = f.Signed
		} else if blocks == nil {
			return nil, fmt.Errorf("%w: %s lacks the header of block %d", ErrCorrupt, c.file(n.height), n.height+1)
		} else if signed, err = c.header(blocks, n); err != nil {
			return nil, err
		}
		if signed == nil {
			return nil, fmt.Errorf("%w: the header of block %d, which names the validators after a change, is not here", ErrUnproven, n.height+1)
		}
		way = append(way, Change{Header: signed.Header, Commit: signed.Commit, Next: n.next})
	}
	return way, nil
}

// Changes returns the way from the genesis document's validators to those of block h: what
// an Anchor needs beside a header of that block. Nil if nothing has changed.
func (n *Node) Changes(height int64) ([]Change, error) {
	e := n.engine.Load()
	if e == nil {
		return nil, fmt.Errorf("%w: the ledger is not running", ErrUnproven)
	}
	return n.changes.wayTo(height, e.node.BlockStore())
}

// ChangesPending returns the first block that has to stay in the block store because the
// header that names a new set of validators is not kept apart yet; ok is false if none has.
func (n *Node) ChangesPending() (height int64, ok bool) { return n.changes.pendingFrom() }

// keepChanges keeps the headers of changes, each as soon as it has come.
func (n *Node) keepChanges(ctx context.Context, e *engine) error {
	blocks, cancel := n.Subscribe()
	defer cancel()
	for {
		if err := n.changes.keep(e.node.BlockStore()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-blocks:
			if !open {
				return nil
			}
		}
	}
}

// AdoptChanges takes over the way to a set of validators that another node gave, for a node
// that begins with a snapshot and has no blocks of before. It is proven first. The folder
// must be of a node that has not run.
func AdoptChanges(home string, genesis []byte, way []Change) error {
	a, err := NewAnchor(genesis)
	if err != nil {
		return err
	}
	if _, err := a.follow(way); err != nil {
		return err
	}
	c, err := openChanges(home, a.genesis)
	if err != nil {
		return err
	}
	for _, x := range way {
		f := &noteFile{Height: x.Header.Height - 1, Next: x.Next, Signed: &SignedHeader{Header: x.Header, Commit: x.Commit}}
		if err := c.write(f); err != nil {
			return err
		}
	}
	return nil
}
