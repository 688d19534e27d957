package consensus

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cmtstate "github.com/cometbft/cometbft/state"
	cmtstore "github.com/cometbft/cometbft/store"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// archiveOf writes the archive of a stopped node.
func archiveOf(t *testing.T, m *member) ([]byte, Archived) {
	t.Helper()
	var b bytes.Buffer
	a, err := WriteArchive(m.cfg.Home, &b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.Bytes != int64(b.Len()) {
		t.Errorf("it says %d bytes, there are %d", a.Bytes, b.Len())
	}
	return b.Bytes(), a
}

// archives checks them in a row.
func archives(trust *[32]byte, all ...[]byte) (*ArchiveCheck, error) {
	c := &ArchiveCheck{}
	for _, raw := range all {
		if _, err := c.Take(bytes.NewReader(raw), trust); err != nil {
			return c, err
		}
	}
	return c, nil
}

// prune removes blocks of a stopped node, as the engine does.
func prune(t *testing.T, m *member, below int64) {
	t.Helper()
	err := withStores(filepath.Join(m.cfg.Home, "data"), func(blocks *cmtstore.BlockStore, states cmtstate.Store) error {
		state, err := states.Load()
		if err != nil {
			return err
		}
		base := blocks.Base()
		_, kept, err := blocks.PruneBlocks(below, state)
		if err != nil {
			return err
		}
		return states.PruneStates(base, below, kept)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An archive is executed again from the genesis on; those before and after a pruning are
// one history in a row; no changed bit and no missing block goes unseen.
func TestArchives(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{
		validators: 1, homes: 2, interval: 15 * time.Minute, rate: 1800, next: 3 * time.Second,
		rules: func(r *ledger.Rules) { r.ReportDeadlineS, r.CorrectionWindowS = 900, 3600 },
		tweak: func(_ int, c *Config) { c.Pace.Backlog = 1 },
	})
	m := s.nodes[0]
	m.start()
	s.awaitUp(m)
	s.admit(m, s.nodes, s.homes...)
	s.awaitState("settled", s.nodes, func(st *ledger.State) bool { n, _ := st.Settled(); return n >= 3 })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	first, a := archiveOf(t, m)
	trust, err := GenesisHash(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	c, err := archives(&trust, first)
	if err != nil {
		t.Fatal(err)
	}
	if hash, _ := m.AppHashAt(c.Height()); c.Height() != a.Height || a.Lines == 0 || a.Base != 1 || hash != nil && !bytes.Equal(hash, m.Status().AppHash) {
		t.Errorf("%+v, checked up to %d", a, c.Height())
	}
	if again, _ := archiveOf(t, m); !bytes.Equal(again, first) {
		t.Error("writing it again gives other bytes")
	}
	prune(t, m, a.Height-2)
	checkFolder(t, s, m)
	m.start()
	s.prefer(m, m)
	s.awaitState("settled more", s.nodes, func(st *ledger.State) bool { n, _ := st.Settled(); return n >= 5 })
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	second, b := archiveOf(t, m)
	if b.Base != a.Height-2 {
		t.Errorf("the second begins with block %d, want %d", b.Base, a.Height-2)
	}
	if c, err = archives(&trust, first, second); err != nil || c.Height() != b.Height {
		t.Fatalf("in a row: %v", err)
	}
	other := trust
	other[0] ^= 1
	for name, row := range map[string]struct {
		trust *[32]byte
		all   [][]byte
		want  string
	}{
		"the second alone":    {nil, [][]byte{second}, "give the archives with the blocks before first"},
		"in the wrong order":  {nil, [][]byte{first, second, first}, "give them in order"},
		"another community":   {&other, [][]byte{first}, "genesis: it hashes to"},
		"nothing":             {nil, [][]byte{nil}, "does not begin with"},
		"something behind it": {nil, [][]byte{append(bytes.Clone(first), 0)}, "something follows it"},
	} {
		if _, err := archives(row.trust, row.all...); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 150 {
		raw := bytes.Clone(first)
		if at := rng.IntN(len(raw)); rng.IntN(5) == 0 {
			raw = raw[:at]
		} else {
			raw[at] ^= 1 << rng.IntN(8)
		}
		if _, err := archives(&trust, raw); !errors.Is(err, ErrArchive) {
			t.Fatalf("a changed archive: %v", err)
		}
	}
}

// FuzzArchive: no file makes a panic, or passes.
func FuzzArchive(f *testing.F) {
	s := newStreet(f, streetOptions{validators: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	var b bytes.Buffer
	w := newArchiveWriter(&b)
	if err := errors.Join(w.record(recordHead, archiveHead{Genesis: s.doc, Base: 1, Height: 1}), w.raw(recordBlock, []byte{10, 2, 8, 1})); err != nil {
		f.Fatal(err)
	}
	if _, err := w.finish(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(archiveMagic))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := archives(nil, raw); !errors.Is(err, ErrArchive) {
			t.Errorf("got %v", err)
		}
	})
}
