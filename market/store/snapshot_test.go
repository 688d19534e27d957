package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// snapshot makes one of the street's last block.
func (s *street) snapshot(tb testing.TB) *store.Snapshot {
	tb.Helper()
	c, err := s.store.BeginSnapshot()
	if err != nil {
		tb.Fatal(err)
	}
	sn, err := c.Write(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	return sn
}

// stream reads all chunks of a snapshot.
func stream(tb testing.TB, sn *store.Snapshot) []byte {
	tb.Helper()
	var all []byte
	for i := range sn.Manifest.Chunks {
		b, err := sn.Chunk(i)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// begin starts a ledger file from a snapshot of the street.
func (s *street) begin(tb testing.TB, path string, sn *store.Snapshot) *store.Joining {
	tb.Helper()
	m := sn.Manifest
	j, err := store.BeginJoining(path, ledgertest.ChainID, s.Genesis, m, m.AppHash, nil, bytes.NewReader(stream(tb, sn)))
	if err != nil {
		tb.Fatal(err)
	}
	return j
}

// fill takes all pages from a store, each by the way of its bytes.
func fill(j *store.Joining, from *store.Store) error {
	for w, ok := j.Next(); ok; w, ok = j.Next() {
		p, err := from.Page(w)
		if err != nil {
			return err
		}
		if p, err = store.DecodePage(p.Encode()); err != nil {
			return err
		}
		if _, err := j.Add("neighbour", p); err != nil {
			return err
		}
	}
	return nil
}

// provable is the content of a store without what a snapshot cannot prove: the AppHashes of
// earlier blocks, and the heights of the lines.
func provable(tb testing.TB, s *store.Store) []string {
	tb.Helper()
	var all []string
	for _, h := range append(s.State().Households(), market.HouseholdID{}) {
		if err := s.Settlements(h, 0, func(e *ledger.Settlement) bool {
			all = append(all, fmt.Sprintf("%s %d %x", h, e.Version, e.Encode()))
			return true
		}); err != nil && h != (market.HouseholdID{}) {
			tb.Fatal(err)
		}
		if h == (market.HouseholdID{}) {
			continue
		}
		months, err := s.Months(h)
		if err != nil {
			tb.Fatal(err)
		}
		for _, m := range months {
			all = append(all, fmt.Sprintf("%s %x", h, m.Encode()))
		}
	}
	if err := s.Results(0, func(r *ledger.MarketResult) bool {
		all = append(all, fmt.Sprintf("%x", r.Encode()))
		return true
	}); err != nil {
		tb.Fatal(err)
	}
	return all
}

// A ledger made from a snapshot is the ledger: same records, same history, and the same
// blocks lead on to the same hashes, while the one it came from went on meanwhile.
func TestSnapshotJoin(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := newStreet(t, 100+seed)
		s.grow(t, 1+rng.IntN(60))
		sn := s.snapshot(t)
		want := provable(t, s.store)
		s.grow(t, rng.IntN(20))
		path := filepath.Join(t.TempDir(), "joined.db")
		j := s.begin(t, path, sn)
		if err := fill(j, s.store); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Finish(); err != nil {
			t.Fatal(err)
		}
		joined := open(t, path, s.Community)
		if joined.Height() != sn.Manifest.Height || joined.Base() != joined.Height() || [32]byte(joined.AppHash()) != sn.Manifest.AppHash {
			t.Fatalf("joined at %d with %x, base %d, want %d and %x", joined.Height(), joined.AppHash(), joined.Base(), sn.Manifest.Height, sn.Manifest.AppHash)
		}
		if diff := cmp.Diff(want, provable(t, joined)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for _, b := range s.chain[joined.Height():] {
			d := apply(t, joined, b)
			if err := joined.Commit(b.Height, d); err != nil {
				t.Fatal(err)
			}
			joined.State().Absorb(d)
		}
		if !bytes.Equal(joined.AppHash(), s.store.AppHash()) {
			t.Fatalf("ended at %x, want %x", joined.AppHash(), s.store.AppHash())
		}
		if diff := cmp.Diff(provable(t, s.store), provable(t, joined)); diff != "" {
			t.Fatalf("after going on (-want +got):\n%s", diff)
		}
		if err := joined.Close(); err != nil {
			t.Fatal(err)
		}
		base := sn.Manifest.Height
		r, err := store.Check(path, ledgertest.ChainID, s.Genesis, func(yield func(store.Committed, error) bool) {
			for _, b := range s.chain[base:] {
				if !yield(b, nil) {
					return
				}
			}
		})
		if err != nil || !r.OK() || r.Base != base || r.Followed != int64(len(s.chain))-base {
			t.Fatalf("check: %v, base %d, followed %d:\n%s", err, r.Base, r.Followed, texts(r))
		}
	}
}

// Two machines make the same state of the same block, whatever they keep of the history,
// also one that has itself joined by a snapshot.
func TestSnapshotsAgree(t *testing.T) {
	s := newStreet(t, 5)
	s.grow(t, 40)
	sn := s.snapshot(t)
	path := filepath.Join(t.TempDir(), "second.db")
	j := s.begin(t, path, sn)
	if err := fill(j, s.store); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Finish(); err != nil {
		t.Fatal(err)
	}
	second := open(t, path, s.Community)
	c, err := second.BeginSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	again, err := c.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Manifest.ID() != sn.Manifest.ID() {
		t.Errorf("manifests differ:\n%+v\n%+v", sn.Manifest, again.Manifest)
	}
	if listed, err := store.Snapshots(dir, ledgertest.ChainID); err != nil || len(listed) != 1 || listed[0].Manifest.ID() != sn.Manifest.ID() {
		t.Errorf("listed %v, %v", listed, err)
	}
	third := s.begin(t, filepath.Join(t.TempDir(), "third.db"), again)
	if err := fill(third, second); err != nil {
		t.Error(err)
	}
	if _, err := third.Finish(); err != nil {
		t.Error(err)
	}
	if err := errors.Join(again.Remove(), second.Close()); err != nil {
		t.Fatal(err)
	}
	if listed, err := store.Snapshots(dir, ledgertest.ChainID); err != nil || len(listed) != 0 {
		t.Errorf("listed %v, %v after removing it", listed, err)
	}
}

// A flipped bit anywhere in the state is refused before there is a file, and one in the
// history is refused with the section it is in; taking it from another then goes well.
func TestSnapshotFlips(t *testing.T) {
	s := newStreet(t, 6)
	s.grow(t, 60)
	sn := s.snapshot(t)
	state := stream(t, sn)
	m := sn.Manifest
	rng := rand.New(rand.NewPCG(9, 0))
	path := filepath.Join(t.TempDir(), "flipped.db")
	for range 200 {
		b := bytes.Clone(state)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if rng.IntN(8) == 0 {
			b = b[:rng.IntN(len(b))]
		}
		_, err := store.BeginJoining(path, ledgertest.ChainID, s.Genesis, m, m.AppHash, nil, bytes.NewReader(b))
		if !errors.Is(err, store.ErrSnapshot) {
			t.Fatalf("got %v, want ErrSnapshot", err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("there is a file: %v", err)
		}
	}
	other := *m
	other.AppHash[3] ^= 1
	if _, err := store.BeginJoining(path, ledgertest.ChainID, s.Genesis, &other, m.AppHash, nil, bytes.NewReader(state)); !errors.Is(err, store.ErrSnapshot) {
		t.Errorf("a manifest that is not the header's: %v", err)
	}
	for i := range 60 {
		flippedHistory(t, s, sn, filepath.Join(t.TempDir(), "history.db"), rand.New(rand.NewPCG(uint64(i), 1)))
	}
}

// flippedHistory changes one page and wants to hear about it.
func flippedHistory(t *testing.T, s *street, sn *store.Snapshot, path string, rng *rand.Rand) {
	t.Helper()
	j := s.begin(t, path, sn)
	refused, lied := 0, false
	for n, flip := 0, rng.IntN(4); ; n++ {
		w, ok := j.Next()
		if !ok {
			break
		}
		p, err := s.store.Page(w)
		if err != nil {
			t.Fatal(err)
		}
		from := "honest"
		if n == flip {
			from = "liar"
			tamper(p, rng)
			lied = len(p.Lines) > 0
		}
		switch suspects, err := j.Add(from, p); {
		case err == nil: // of a page that says that there is more, the end of the section tells
		case !errors.Is(err, store.ErrSnapshot) && !errors.Is(err, store.ErrPruned), !slices.Contains(suspects, "liar"):
			t.Fatalf("suspects %v, %v", suspects, err)
		default:
			refused++
		}
	}
	if _, err := j.Finish(); err != nil || lied && refused == 0 {
		t.Fatalf("after %d refusals: %v", refused, err)
	}
}

// tamper does one of the things that a liar, or a bit, may do to a page.
func tamper(p *store.Page, rng *rand.Rand) {
	if len(p.Lines) == 0 {
		return
	}
	i := rng.IntN(len(p.Lines))
	l := &p.Lines[i]
	switch rng.IntN(6) {
	case 0:
		l.Value[rng.IntN(len(l.Value))] ^= 1 << rng.IntN(8)
	case 1:
		l.Key[rng.IntN(len(l.Key))] ^= 1 << rng.IntN(8)
	case 2:
		p.Lines = append(p.Lines[:i], p.Lines[i+1:]...)
	case 3:
		p.Lines = append(p.Lines, *l)
	case 4:
		p.Lines, p.More = p.Lines[:i], i > 0
		if i > 0 {
			p.Lines[i-1].Value[0] ^= 0xff
		}
	default:
		l.Value = nil
	}
}

// A crash between any two steps leaves a file that goes on where it was, and that is no
// ledger before its end.
func TestJoiningCrashes(t *testing.T) {
	s := newStreet(t, 11)
	s.grow(t, 50)
	sn := s.snapshot(t)
	path := filepath.Join(t.TempDir(), "joined.db")
	j := s.begin(t, path, sn)
	steps := 0
	for ; ; steps++ {
		// Killed, and started again.
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		if store.Finished(path, ledgertest.ChainID, s.Genesis) {
			t.Fatal("an unfinished file passes for a ledger")
		}
		var err error
		if j, err = store.ResumeJoining(path, ledgertest.ChainID, s.Genesis, sn.Manifest); err != nil {
			t.Fatal(err)
		}
		w, ok := j.Next()
		if !ok {
			break
		}
		p, err := s.store.Page(w)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Lines) > 7 { // many small pages
			p.Lines, p.More = p.Lines[:7], true
		}
		if _, err := j.Add(fmt.Sprint("neighbour ", steps%3), p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Finish(); err != nil {
		t.Fatal(err)
	}
	t.Log(steps, "steps")
	if !store.Finished(path, ledgertest.ChainID, s.Genesis) {
		t.Error("a finished file does not pass for a ledger")
	}
	if _, err := store.ResumeJoining(path, ledgertest.ChainID, s.Genesis, sn.Manifest); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("resuming a finished file: %v", err)
	}
	other := *sn.Manifest
	other.Height++
	j = s.begin(t, path, sn)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.ResumeJoining(path, ledgertest.ChainID, s.Genesis, &other); !errors.Is(err, store.ErrSnapshot) {
		t.Errorf("resuming with another manifest: %v", err)
	}
}

// Damage of any page of an unfinished file is found: by going on, or at the end.
func TestJoiningFlips(t *testing.T) {
	s := newStreet(t, 12)
	s.grow(t, 50)
	sn := s.snapshot(t)
	path := filepath.Join(t.TempDir(), "joined.db")
	j := s.begin(t, path, sn)
	for range 2 {
		w, _ := j.Next()
		p, err := s.store.Page(w)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.Add("neighbour", p); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	original := readFile(t, path)
	rng := rand.New(rand.NewPCG(13, 0))
	found := 0
	for range 25 {
		b := bytes.Clone(original)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := store.ResumeJoining(path, ledgertest.ChainID, s.Genesis, sn.Manifest)
		if err == nil {
			if err = fill(j, s.store); err == nil {
				_, err = j.Finish()
			}
			err = errors.Join(err, j.Close())
		}
		if err != nil {
			found++
			continue
		}
		got := open(t, path, s.Community)
		if diff := cmp.Diff(provable(t, s.store), provable(t, got)); diff != "" {
			t.Fatalf("silently wrong:\n%s", diff)
		}
		if err := got.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 25 flips were found, the others hit what is not in use", found)
}

// FuzzManifest: what is decoded is what encodes to the same bytes, and fits itself.
func FuzzManifest(f *testing.F) {
	s := newStreet(f, 1)
	s.grow(f, 10)
	f.Add(s.snapshot(f).Manifest.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := store.DecodeManifest(raw, ledgertest.ChainID)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Encode(), raw) {
			t.Error("it encodes to other bytes")
		}
		sum := int64(0)
		for i := range m.Chunks {
			n := m.ChunkSize(i)
			if n < 1 || n > store.ChunkBytes {
				t.Errorf("chunk %d has %d bytes", i, n)
			}
			sum += n
		}
		if sum != m.Bytes {
			t.Errorf("chunks have %d bytes together, want %d", sum, m.Bytes)
		}
	})
}

// FuzzPage: whatever a page says, adding it never panics, and never leaves a ledger that
// is not the street's.
func FuzzPage(f *testing.F) {
	s := newStreet(f, 2)
	s.grow(f, 30)
	sn := s.snapshot(f)
	state := stream(f, sn)
	j := s.begin(f, filepath.Join(f.TempDir(), "seeds.db"), sn)
	for w, ok := j.Next(); ok; w, ok = j.Next() {
		p, err := s.store.Page(w)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.Encode())
		if _, err := j.Add("", p); err != nil {
			f.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := store.DecodePage(raw)
		if err != nil {
			return
		}
		m := sn.Manifest
		j, err := store.BeginJoining(filepath.Join(t.TempDir(), "joined.db"), ledgertest.ChainID, s.Genesis, m, m.AppHash, nil, bytes.NewReader(state))
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for range 3 {
			if _, err := j.Add("", p); err != nil {
				if !errors.Is(err, store.ErrSnapshot) && !errors.Is(err, store.ErrPruned) {
					t.Fatal(err)
				}
				break
			}
		}
		if err := fill(j, s.store); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Finish(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzState: no stream of records makes a panic or a ledger but the right one.
func FuzzState(f *testing.F) {
	s := newStreet(f, 3)
	s.grow(f, 20)
	sn := s.snapshot(f)
	state := stream(f, sn)
	f.Add(state)
	f.Add(state[:len(state)/2])
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := sn.Manifest
		j, err := store.BeginJoining(filepath.Join(t.TempDir(), "joined.db"), ledgertest.ChainID, s.Genesis, m, m.AppHash, nil, io.MultiReader(bytes.NewReader(raw)))
		if err == nil {
			err = j.Close()
			if !bytes.Equal(raw, state) {
				t.Error("other bytes passed")
			}
		} else if errors.Is(err, store.ErrSnapshot) {
			err = nil
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}
