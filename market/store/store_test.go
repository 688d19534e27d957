package store_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// TestSimulation runs a long history with restarts against a copy in memory.
func TestSimulation(t *testing.T) {
	s := newStreet(t, 1)
	want := oracle{}
	results := uint64(0)
	for height := range 150 {
		b, d := s.next(t)
		s.commit(t, b, d)
		want.add(d, b.Height)
		if height%10 == 0 {
			s.reopen(t)
		}
		if hash, ok := s.store.AppHashAt(b.Height - 1); !ok || string(hash) != string(b.AppHash) {
			t.Fatalf("AppHash at %d is %x, want %x", b.Height-1, hash, b.AppHash)
		}
	}
	for _, h := range s.store.State().Households() {
		from := s.First + 20
		for _, from := range []int64{int64(from), 0, -1} {
			var got []ledger.Settlement
			if err := s.store.Settlements(h, market.Interval(from), func(e *ledger.Settlement) bool { got = append(got, *e); return true }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.of(h, market.Interval(from)), got); diff != "" {
				t.Errorf("settlements of %s from %d (-want +got):\n%s", h, from, diff)
			}
		}
		n := 0
		if err := s.store.Settlements(h, 0, func(*ledger.Settlement) bool { n++; return n < 2 }); err != nil || n > 2 {
			t.Errorf("did not stop: %d, %v", n, err)
		}
	}
	if err := s.store.Results(0, func(*ledger.MarketResult) bool { results++; return true }); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.store.State().Settled(); n != results || n < 100 {
		t.Errorf("got %d results, want %d, at least 100", results, n)
	}
	s.close(t)
	r := s.check(t, s.path)
	if !r.OK() || r.Replayed != 150 || r.Height != 150 {
		t.Errorf("replayed %d of %d:\n%s", r.Replayed, r.Height, texts(r))
	}
}

// TestCommitWhileReading: the reading methods hold no transaction while they call.
func TestCommitWhileReading(t *testing.T) {
	s := newStreet(t, 2)
	s.grow(t, 100)
	commits := 0
	err := s.store.Results(0, func(*ledger.MarketResult) bool {
		s.grow(t, 1)
		commits++
		return commits < 50
	})
	if err != nil || commits != 50 {
		t.Errorf("%d commits, %v", commits, err)
	}
}

// TestOpen: what is not this community's whole ledger is refused, by name.
func TestOpen(t *testing.T) {
	s := newStreet(t, 3)
	s.grow(t, 5)
	if _, err := store.Open(s.path, ledgertest.ChainID, s.Genesis); !errors.Is(err, store.ErrInUse) {
		t.Errorf("of an open file: %v, want ErrInUse", err)
	}
	if _, err := store.Check(s.path, ledgertest.ChainID, s.Genesis, nil); !errors.Is(err, store.ErrInUse) {
		t.Errorf("check of an open file: %v, want ErrInUse", err)
	}
	s.close(t)
	other := ledgertest.New(ledger.DefaultRules())
	empty := filepath.Join(t.TempDir(), "empty")
	text := filepath.Join(t.TempDir(), "text")
	cut := filepath.Join(t.TempDir(), "cut")
	for path, content := range map[string]string{empty: "", text: strings.Repeat("no ledger at all\n", 2000)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, cut, s.path)
	if err := os.Truncate(cut, 3*4096+100); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		path, chain string
		genesis     ledger.Genesis
		want        error
	}{
		"another chain":      {s.path, "sim-other", s.Genesis, store.ErrForeign},
		"another genesis":    {s.path, ledgertest.ChainID, other.Genesis, store.ErrForeign},
		"an empty file":      {empty, ledgertest.ChainID, s.Genesis, store.ErrCorrupt},
		"a text":             {text, ledgertest.ChainID, s.Genesis, store.ErrCorrupt},
		"a file cut short":   {cut, ledgertest.ChainID, s.Genesis, store.ErrCorrupt},
		"a folder":           {t.TempDir(), ledgertest.ChainID, s.Genesis, store.ErrCorrupt},
		"no such folder":     {filepath.Join(s.path, "x", "y"), ledgertest.ChainID, s.Genesis, fs.ErrInvalid},
		"an invalid genesis": {filepath.Join(t.TempDir(), "new"), ledgertest.ChainID, ledger.Genesis{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, open := range []func(string, string, ledger.Genesis) (*store.Store, error){store.Open, store.OpenReadOnly} {
				got, err := open(test.path, test.chain, test.genesis)
				if err == nil {
					t.Error("opened", got.Close())
				} else if test.want != nil && test.want != fs.ErrInvalid && !errors.Is(err, test.want) { //nolint:errorlint // which row it is
					t.Errorf("got %v, want %v", err, test.want)
				}
			}
		})
	}
	s.reopen(t)
	if s.store.Height() != 5 {
		t.Errorf("height %d, want 5", s.store.Height())
	}
}

// TestReadOnly: two may read at once, and neither can commit.
func TestReadOnly(t *testing.T) {
	s := newStreet(t, 4)
	s.grow(t, 40)
	want := mustRead(t, s.store)
	_, d := s.next(t)
	s.close(t)
	if _, err := store.OpenReadOnly(s.path+"x", ledgertest.ChainID, s.Genesis); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	var readers []*store.Store
	for range 2 {
		r, err := store.OpenReadOnly(s.path, ledgertest.ChainID, s.Genesis)
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
	}
	for _, r := range readers {
		if diff := cmp.Diff(want, mustRead(t, r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := r.Commit(41, d); !errors.Is(err, store.ErrFailed) {
			t.Errorf("commit: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestHeights: they rise by one, and a wrong one does no harm.
func TestHeights(t *testing.T) {
	s := newStreet(t, 5)
	s.grow(t, 3)
	b, d := s.next(t)
	for _, h := range []int64{-1, 0, 3, 5} {
		if err := s.store.Commit(h, d); err == nil {
			t.Errorf("took height %d after 3", h)
		}
	}
	s.commit(t, b, d)
}

// TestNewFile: whatever an interrupted start left behind, a ledger begins whole, and
// nothing is left lying about.
func TestNewFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	c := ledgertest.New(ledger.DefaultRules())
	s := open(t, path, c)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("got %v, %v, want the ledger alone", entries, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v, %v, want 0600", info.Mode(), err)
	}
}

// TestNeverNoSync guards S4 in the source: a ledger without fsync loses blocks that
// consensus believes to be kept.
func TestNeverNoSync(t *testing.T) {
	if new(bolt.Options).NoSync {
		t.Fatal("bbolt's zero options do not sync")
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") && strings.Contains(string(src), "NoSync:") {
			t.Errorf("%s sets NoSync", file)
		}
	}
}
