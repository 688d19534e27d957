package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// rules let deadlines and windows pass within a short history.
func rules() ledger.Rules {
	r := ledger.DefaultRules()
	r.ReportDeadlineS, r.CorrectionWindowS = 3600, 3*3600
	r.CommunityFee = 7_000
	return r
}

// street is a ledger file with the blocks that made it.
type street struct {
	*ledgertest.Community
	path    string
	store   *store.Store
	traffic *ledgertest.Traffic
	chain   []store.Committed
}

func open(tb testing.TB, path string, c *ledgertest.Community) *store.Store {
	tb.Helper()
	s, err := store.Open(path, ledgertest.ChainID, c.Genesis)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// newStreet opens a new file; the test closes it at its end if it is still open.
func newStreet(tb testing.TB, seed uint64) *street {
	tb.Helper()
	c := ledgertest.New(rules())
	s := &street{Community: c, path: filepath.Join(tb.TempDir(), "ledger.db")}
	s.store = open(tb, s.path, c)
	tb.Cleanup(func() { s.close(tb) })
	s.traffic = ledgertest.NewTraffic(c, s.store.State(), 4, rand.New(rand.NewPCG(seed, 0)))
	return s
}

func (s *street) close(tb testing.TB) {
	tb.Helper()
	if s.store == nil {
		return
	}
	if err := s.store.Close(); err != nil {
		tb.Error(err)
	}
	s.store = nil
}

func (s *street) reopen(tb testing.TB) {
	tb.Helper()
	s.close(tb)
	s.store = open(tb, s.path, s.Community)
	s.traffic.State = s.store.State()
}

// next makes the next block and what it changes.
func (s *street) next(tb testing.TB) (store.Committed, *ledger.Delta) {
	tb.Helper()
	b := store.Committed{Height: s.store.Height() + 1, Block: s.traffic.Block(), AppHash: s.store.AppHash()}
	// Replaying a chain again and again would spend all its time on signatures.
	verified := map[[32]byte]ledger.Key{}
	for _, raw := range b.Block.Txs {
		if tx, err := ledger.DecodeTx(raw); err == nil && s.store.State().VerifyTx(tx, nil) == nil {
			if key, ok := tx.VerifiedBy(); ok {
				verified[tx.Hash()] = key
			}
		}
	}
	b.Block.Verified = func(hash [32]byte, by ledger.Key) bool { return verified[hash] == by }
	d, _, err := ledger.Apply(s.store.State(), b.Block)
	if err != nil {
		tb.Fatal(err)
	}
	return b, d
}

func (s *street) commit(tb testing.TB, b store.Committed, d *ledger.Delta) {
	tb.Helper()
	if err := s.store.Commit(b.Height, d); err != nil {
		tb.Fatal(err)
	}
	s.store.State().Absorb(d)
	s.traffic.Note(d)
	s.chain = append(s.chain, b)
}

func (s *street) grow(tb testing.TB, blocks int) {
	tb.Helper()
	for range blocks {
		b, d := s.next(tb)
		s.commit(tb, b, d)
	}
}

// blocks yields the chain as consensus would.
func (s *street) blocks(yield func(store.Committed, error) bool) {
	for _, b := range s.chain {
		if !yield(b, nil) {
			return
		}
	}
}

func (s *street) check(tb testing.TB, path string) store.Report {
	tb.Helper()
	r, err := store.Check(path, ledgertest.ChainID, s.Genesis, s.blocks)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func texts(r store.Report) string {
	var lines []string
	for _, d := range r.Differences {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

// content is everything that the reading methods give.
type content struct {
	Height  int64
	AppHash []byte
	Hashes  [][]byte
	Leaves  map[string][32]byte
	History []string
}

func read(s *store.Store) (content, error) {
	c := content{Height: s.Height(), AppHash: s.AppHash(), Leaves: map[string][32]byte{}}
	for h := range s.Height() + 1 {
		hash, ok := s.AppHashAt(h)
		if !ok {
			return c, fmt.Errorf("%w: a block has no AppHash", store.ErrCorrupt)
		}
		c.Hashes = append(c.Hashes, hash)
	}
	maps.Insert(c.Leaves, s.State().Leaves())
	add := func(e ledger.Event, height int64) {
		_, key, value := store.EncodeEvent(e, height)
		c.History = append(c.History, string(key)+string(value))
	}
	for _, h := range s.State().Households() {
		if err := s.Settlements(h, 0, func(e *ledger.Settlement) bool { add(ledger.Event{Settlement: e}, e.Height); return true }); err != nil {
			return c, err
		}
		months, err := s.Months(h)
		if err != nil {
			return c, err
		}
		for _, m := range months {
			c.History = append(c.History, h.String()+string(m.Encode()))
		}
	}
	err := s.Results(0, func(e *ledger.MarketResult) bool { add(ledger.Event{Result: e}, e.Height); return true })
	return c, err
}

func mustRead(tb testing.TB, s *store.Store) content {
	tb.Helper()
	c, err := read(s)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func copyFile(tb testing.TB, to, from string) {
	tb.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// oracle is a copy of the history in memory.
type oracle map[market.HouseholdID][]ledger.Settlement

func (o oracle) add(d *ledger.Delta, height int64) {
	for _, e := range d.History {
		if s := e.Settlement; s != nil {
			kept := *s
			kept.Height = height
			o[s.Household] = append(o[s.Household], kept)
		}
	}
}

// of returns what Settlements must yield from an Interval on.
func (o oracle) of(h market.HouseholdID, from market.Interval) []ledger.Settlement {
	var all []ledger.Settlement
	for _, s := range o[h] {
		if s.Interval >= from {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b ledger.Settlement) int {
		if a.Interval != b.Interval {
			return int(a.Interval - b.Interval)
		}
		return int(a.Version) - int(b.Version)
	})
	return all
}

func apply(t *testing.T, s *store.Store, b store.Committed) *ledger.Delta {
	t.Helper()
	d, err := applyTo(s, b.Block)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func applyTo(s *store.Store, b ledger.Block) (*ledger.Delta, error) {
	d, _, err := ledger.Apply(s.State(), b)
	return d, err
}
