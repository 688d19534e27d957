package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// stored makes a chain of some blocks and leaves it on the disk of a stopped node.
func stored(t *testing.T) (s *street, height int64) {
	t.Helper()
	s = newStreet(t, streetOptions{validators: 2, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	for i := range 5 {
		s.prefer(s.nodes[i%2], s.nodes...)
	}
	for _, err := range Blocks(s.nodes[0].cfg.Home) {
		if !errors.Is(err, ErrInUse) {
			t.Errorf("of a running node: %v, want ErrInUse", err)
		}
	}
	s.settled(s.nodes...)
	for _, m := range s.nodes {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
	height, _ = s.nodes[0].book.tip()
	return s, height
}

// What is stored replays to the hashes in the headers, block by block.
func TestBlocksReplay(t *testing.T) {
	t.Parallel()
	s, height := stored(t)
	for _, m := range s.nodes {
		raw, err := LoadGenesis(m.cfg.Home)
		if err != nil {
			t.Fatal(err)
		}
		chain, g, err := ParseGenesis(raw)
		if err != nil {
			t.Fatal(err)
		}
		state, err := ledger.NewState(chain, g)
		if err != nil {
			t.Fatal(err)
		}
		var last int64
		for b, err := range Blocks(m.cfg.Home) {
			if err != nil {
				t.Fatal(err)
			}
			if b.Height != last+1 {
				t.Fatalf("block %d after %d", b.Height, last)
			}
			last = b.Height
			if hash := state.AppHash(); !bytes.Equal(hash[:], b.AppHash) {
				t.Fatalf("block %d says %x, replayed to %x", b.Height, b.AppHash, hash)
			}
			d, _, err := ledger.Apply(state, b.Block)
			if err != nil {
				t.Fatal(err)
			}
			state.Absorb(d)
		}
		if last != height {
			t.Errorf("%s: %d blocks, want %d", m.name, last, height)
		}
		if r, ok := state.Household(s.homes[0].id); !ok || r.PreferenceSeq != s.homes[0].seq {
			t.Errorf("%s: replayed to %+v", m.name, r)
		}
	}
	for _, err := range Blocks(s.nodes[0].cfg.Home) {
		if err != nil {
			t.Error(err)
		}
		break // and the databases are given back
	}
	s.nodes[0].start()
	await(t, 20*time.Second, "node runs again", func() bool { return s.nodes[0].engine.Load() != nil })
	for _, err := range Blocks(t.TempDir()) {
		if err == nil || !strings.Contains(err.Error(), "genesis") {
			t.Errorf("of an empty folder: %v", err)
		}
	}
}

// saying is what a stored block says; where its parts are in memory is no matter.
func saying(b StoredBlock) string {
	b.block, b.commit = nil, nil
	return fmt.Sprint(b)
}

// A flipped byte anywhere in the block store's tables and logs is reported; none makes a
// wrong block.
func TestBlocksCorrupt(t *testing.T) {
	t.Parallel()
	s, height := stored(t)
	home := s.nodes[0].cfg.Home
	var want []StoredBlock
	for b, err := range Blocks(home) {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, b)
	}
	if int64(len(want)) != height {
		t.Fatalf("%d blocks, want %d", len(want), height)
	}
	files, err := filepath.Glob(filepath.Join(home, "data", "blockstore.db", "*"))
	if err != nil {
		t.Fatal(err)
	}
	flips, named := 0, 0
	for _, f := range files {
		if ext := filepath.Ext(f); ext != ".log" && ext != ".ldb" {
			continue
		}
		good, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for at := 40; at < len(good)-60; at += max(1, len(good)/12) {
			bad := bytes.Clone(good)
			bad[at] ^= 0x10
			if err := os.WriteFile(f, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			flips++
			found := 0
			for b, err := range Blocks(home) {
				switch {
				case err == nil && saying(b) != saying(want[b.Height-1]):
					t.Fatalf("byte %d of %s flipped: block %d is another one", at, f, b.Height)
				case err == nil:
				case !errors.Is(err, ErrCorrupt):
					t.Fatalf("byte %d of %s flipped: %v, want ErrCorrupt", at, f, err)
				default:
					found++
					if strings.Contains(err.Error(), "block ") {
						named++
					}
				}
			}
			if found == 0 {
				t.Errorf("byte %d of %s (%d bytes) flipped: nothing found", at, filepath.Base(f), len(good))
			}
		}
		if err := os.WriteFile(f, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if flips < 10 || named == 0 {
		t.Errorf("%d flips, of which %d named a block; want 10 at least and some", flips, named)
	}
	t.Logf("%d flips, all found, %d named a block", flips, named)
}

// Blocks that other validators committed are not taken for this chain's.
func TestBlocksOfOthers(t *testing.T) {
	t.Parallel()
	s, height := stored(t)
	// The same chain by name, with another validator set in its genesis document.
	other := newStreet(t, streetOptions{validators: 2, interval: time.Hour, rate: 1, next: time.Minute})
	doc := bytes.ReplaceAll(other.doc, []byte(other.chain), []byte(s.chain))
	home := s.nodes[0].cfg.Home
	if err := os.WriteFile(genesisFile(home), doc, 0o600); err != nil {
		t.Fatal(err)
	}
	var errs []error
	blocks := 0
	for _, err := range Blocks(home) {
		if err != nil {
			errs = append(errs, err)
		} else {
			blocks++
		}
	}
	if len(errs) == 0 || !errors.Is(errs[0], ErrCorrupt) || !strings.Contains(errs[0].Error(), "block 1: its validators") || int64(blocks) != height {
		t.Errorf("%d blocks, %v; want ErrCorrupt at block 1 about its validators", blocks, errs)
	}
}
