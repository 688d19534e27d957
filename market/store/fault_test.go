package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// TestFlips flips bits of a real ledger. Whatever they hit, nothing is ever silently
// wrong: either Open refuses, or Check names a difference, or all records are what
// they were. Nothing panics.
func TestFlips(t *testing.T) {
	const flips = 300
	s := newStreet(t, 7)
	s.grow(t, 80)
	want := mustRead(t, s.store)
	s.close(t)
	if r := s.check(t, s.path); !r.OK() {
		t.Fatal(texts(r))
	}
	original, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(8, 0))
	path := filepath.Join(t.TempDir(), "flipped.db")
	counts := map[string]int{}
	for i := range flips {
		b := bytes.Clone(original)
		at, bit := rng.IntN(len(b)), rng.IntN(8)
		if rng.IntN(4) == 0 { // headers and elements are where damage is worst
			at = at/4096*4096 + rng.IntN(200)
		}
		b[at] ^= 1 << bit
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		where := fmt.Sprintf("bit %d of byte %d (page %d, byte %d)", bit, at, at/4096, at%4096)
		var chain store.Blocks // the file alone must tell, mostly
		if i%8 == 0 {
			chain = s.blocks
		}
		r, err := store.Check(path, ledgertest.ChainID, s.Genesis, chain)
		if err != nil {
			t.Fatal(err)
		}
		got, err := openAndRead(path, s.Community)
		same := cmp.Equal(want, got)
		switch {
		case r.OK() && (err != nil || !same):
			t.Errorf("%s: Check finds nothing, but: %v, same content: %v", where, err, same)
		case err == nil && !same && !older(got, want):
			t.Errorf("%s: opened with other content; Check says:\n%s", where, texts(r))
		case r.OK():
			counts["harmless"]++
		case errors.Is(err, store.ErrCorrupt):
			counts["refused and named"]++
		case err != nil:
			t.Errorf("%s: %v, want ErrCorrupt", where, err)
		case same:
			counts["named, content the same"]++
		default:
			counts["named, opened at the block before"]++
		}
	}
	t.Log(counts)
	if counts["harmless"] == flips || counts["refused and named"] < flips/20 {
		t.Errorf("the flips prove little: %v", counts)
	}
}

// older says whether it is the whole content of one block before: what is left when
// the newer meta page is damaged. Consensus then replays that block.
func older(got, want content) bool {
	return got.Height == want.Height-1 && bytes.Equal(got.AppHash, want.Hashes[got.Height])
}

func openAndRead(path string, c *ledgertest.Community) (content, error) {
	s, err := store.Open(path, ledgertest.ChainID, c.Genesis)
	if err != nil {
		return content{}, err
	}
	got, err := read(s)
	return got, errors.Join(err, s.Close())
}

// TestCommitFaults is the crash table of Commit. bbolt writes the pages of a block
// first, none of them in use by the block before, then syncs, then writes a meta page
// and syncs again. A crash leaves any part of the pages, and only after all of them
// the meta page. Two more rows are of a disk that lies about its order.
func TestCommitFaults(t *testing.T) {
	const page = 4096
	for seed := range uint64(6) {
		s := newStreet(t, 20+seed)
		s.grow(t, 30)
		before := readFile(t, s.path)
		old := mustRead(t, s.store)
		b, d := s.next(t)
		for len(d.Records) == 0 {
			s.commit(t, b, d)
			before, old = readFile(t, s.path), mustRead(t, s.store)
			b, d = s.next(t)
		}
		s.commit(t, b, d)
		done := mustRead(t, s.store)
		s.close(t)
		after := readFile(t, s.path)
		meta := 0
		if !bytes.Equal(before[page:2*page], after[page:2*page]) {
			meta = 1
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		parts := func(pages float64, metaBytes int) []byte {
			img := bytes.Clone(before)
			if len(img) < len(after) {
				img = append(img, make([]byte, len(after)-len(img))...)
			}
			for at := 2 * page; at < len(after); at += page {
				if rng.Float64() < pages {
					copy(img[at:at+page], after[at:at+page])
				}
			}
			copy(img[meta*page:meta*page+metaBytes], after[meta*page:])
			return img
		}
		for name, row := range map[string]struct {
			image []byte
			want  content
			lies  bool
		}{
			"failed: nothing written":          {before, old, false},
			"failed: half of the pages":        {parts(0.5, 0), old, false},
			"failed: all pages, no meta":       {parts(1, 0), old, false},
			"failed: all pages, a torn meta":   {parts(1, 40), old, false},
			"failed but persisted":             {after, done, false},
			"the disk lies: meta, no pages":    {parts(0, page), done, true},
			"the disk lies: meta, half of all": {parts(0.5, page), done, true},
		} {
			t.Run(fmt.Sprintf("%d/%s", seed, name), func(t *testing.T) {
				recovered(t, s, row.image, row.want, row.lies)
			})
		}
	}
}

// recovered opens what a crash left: the block is there whole or not at all, and the
// ledger goes on from there. Of a disk that lied it is only asked not to be silent.
func recovered(t *testing.T, s *street, image []byte, want content, lies bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "crashed.db")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := openAndRead(path, s.Community)
	if lies {
		if r := s.check(t, path); r.OK() && !cmp.Equal(want, got) || err == nil && !cmp.Equal(want, got) && r.OK() {
			t.Errorf("silently wrong: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	// Replaying what is missing ends where the machine that did not crash is.
	again := open(t, path, s.Community)
	for _, b := range s.chain[want.Height:] {
		d := apply(t, again, b)
		if err := again.Commit(b.Height, d); err != nil {
			t.Fatal(err)
		}
		again.State().Absorb(d)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if r := s.check(t, path); !r.OK() {
		t.Errorf("after recovery:\n%s", texts(r))
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
