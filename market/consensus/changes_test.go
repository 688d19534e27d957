package consensus

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// way is a chain of headers signed by test keys, with changes of their set.
type way struct {
	t      testing.TB
	chain  string
	doc    []byte
	keys   map[ledger.Key]ed25519.PrivateKey
	set    []ledger.Key // sorted
	height int64
	all    []Change
}

// newWay begins with the four validators of a street that does not run.
func newWay(t testing.TB) (*way, *Anchor) {
	t.Helper()
	w := &way{t: t, keys: map[ledger.Key]ed25519.PrivateKey{}, height: 10}
	var validators []Validator
	for i := range 8 {
		k := testKey("validator", i)
		w.keys[publicKey(k)] = k
		if i < 4 {
			validators = append(validators, Validator{Name: "v", PubKey: k.Public().(ed25519.PublicKey), Power: 1})
			w.set = append(w.set, publicKey(k))
		}
	}
	slices.SortFunc(w.set, compareKeys)
	s := newStreet(t, streetOptions{validators: 1, interval: time.Hour, rate: 1, next: time.Hour})
	w.chain = s.chain
	s.genesis.Validators = nil
	var err error
	if w.doc, err = GenesisDoc(s.chain, s.genesis, validators, time.Now()); err != nil {
		t.Fatal(err)
	}
	a, err := NewAnchor(w.doc)
	if err != nil {
		t.Fatal(err)
	}
	return w, a
}

// sign makes the header of a block whose votes set gives, and which names next.
func (w *way) sign(height int64, set, next []ledger.Key) *SignedHeader {
	w.t.Helper()
	of, hash := engineSet(set), func(text string) []byte { return crypto.Sha256([]byte(text)) }
	at := time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	h := types.Header{
		ChainID: w.chain, Height: height, Time: at,
		LastBlockID:    types.BlockID{Hash: hash("last"), PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash("parts")}},
		LastCommitHash: hash("commit"), DataHash: hash("data"), ValidatorsHash: of.Hash(), NextValidatorsHash: engineSet(next).Hash(),
		ConsensusHash: hash("params"), AppHash: hash("app"), LastResultsHash: hash("results"), EvidenceHash: hash("evidence"),
		ProposerAddress: of.Validators[0].Address,
	}
	h.Version.Block, h.Version.App = 11, 1
	commit := &types.Commit{Height: height, BlockID: types.BlockID{Hash: h.Hash(), PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash("its")}}}
	for _, v := range of.Validators {
		commit.Signatures = append(commit.Signatures, types.CommitSig{BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: v.Address, Timestamp: at})
	}
	for i, v := range of.Validators {
		key := w.keys[ledger.KeyOf(ed25519.PublicKey(v.PubKey.(cmted25519.PubKey)))]
		commit.Signatures[i].Signature = ed25519.Sign(key, commit.VoteSignBytes(w.chain, int32(i)))
	}
	out, err := NewSignedHeader(h, commit, of)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// change goes on with another set.
func (w *way) change(next ...ledger.Key) {
	w.t.Helper()
	slices.SortFunc(next, compareKeys)
	s := w.sign(w.height, w.set, next)
	w.all = append(w.all, Change{Header: s.Header, Commit: s.Commit, Next: next})
	w.set = next
	w.height++
}

// newest is a header of today's set with the way to it.
func (w *way) newest() *SignedHeader {
	s := w.sign(w.height, w.set, w.set)
	s.Changes = slices.Clone(w.all)
	return s
}

func copyHeader(t *testing.T, s *SignedHeader) *SignedHeader {
	t.Helper()
	out := new(SignedHeader)
	if err := json.Unmarshal(encodeHeader(t, s), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// The way from the genesis document to today's validators, and everything that is none.
func TestAnchorFollowsChanges(t *testing.T) {
	t.Parallel()
	w, a := newWay(t)
	first := w.newest()
	if err := a.Check(first); err != nil || bytes.Contains(encodeHeader(t, first), []byte(`"changes"`)) {
		t.Fatalf("without a change: %v", err)
	}
	k := func(i int) ledger.Key { return publicKey(testKey("validator", i)) }
	w.change(k(0), k(1), k(2), k(3), k(4)) // a fifth, at once followed by another change
	w.change(k(0), k(1), k(2), k(4))
	w.height += 100
	w.change(k(4), k(5), k(6), k(7)) // all but one are others
	w.height += 100
	good := w.newest()
	if err := a.Check(good); err != nil {
		t.Fatal(err)
	}
	old := w.sign(9, firstSet(a), firstSet(a)) // a block of before the changes needs none
	if err := a.Check(old); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*SignedHeader)
		is     error
		says   string
	}{
		"no way":            {func(s *SignedHeader) { s.Changes = nil }, ErrHeader, "header.validators_hash"},
		"the last missing":  {func(s *SignedHeader) { s.Changes = s.Changes[:2] }, ErrHeader, "header.validators_hash"},
		"one missing":       {func(s *SignedHeader) { s.Changes = slices.Delete(s.Changes, 1, 2) }, ErrHeader, "changes[1]: header.validators_hash"},
		"the first missing": {func(s *SignedHeader) { s.Changes = s.Changes[1:] }, ErrHeader, "changes[0]: header.validators_hash"},
		"one twice":         {func(s *SignedHeader) { s.Changes = slices.Insert(s.Changes, 0, s.Changes[0]) }, ErrHeader, "changes[1]: header.height"},
		"swapped":           {func(s *SignedHeader) { s.Changes[0], s.Changes[1] = s.Changes[1], s.Changes[0] }, ErrHeader, "changes[0]: header.validators_hash"},
		"too many":          {func(s *SignedHeader) { s.Changes = make([]Change, MaxChanges+1) }, ErrHeader, "changes: got 2049"},
		"another key":       {func(s *SignedHeader) { s.Changes[0].Next[0][0] ^= 1 }, ErrHeader, "changes[0]: next"},
		"keys swapped":      {func(s *SignedHeader) { n := s.Changes[0].Next; n[0], n[1] = n[1], n[0] }, ErrHeader, "changes[0]: next: [1]"},
		"a key twice":       {func(s *SignedHeader) { n := s.Changes[0].Next; n[1] = n[0] }, ErrHeader, "changes[0]: next: [1]"},
		"no keys":           {func(s *SignedHeader) { s.Changes[0].Next = nil }, ErrHeader, "changes[0]: next: got 0"},
		"too many keys":     {func(s *SignedHeader) { s.Changes[0].Next = make([]ledger.Key, 33) }, ErrHeader, "changes[0]: next: got 33"},
		"vote":              {func(s *SignedHeader) { s.Changes[1].Commit.Votes[2].Signature[0] ^= 1 }, ErrSignature, "changes[1]: commit.votes[2]"},
		"no quorum": {func(s *SignedHeader) {
			for i := range 2 {
				v := &s.Changes[1].Commit.Votes[i]
				v.For, v.Time, v.Signature = voteAbsent, nil, nil
			}
		}, ErrSignature, "changes[1]: commit.votes: 3 of 5"},
		"absent and not": {func(s *SignedHeader) { s.Changes[2].Commit.Votes[0].For = voteAbsent }, ErrSignature, "in changes[2]"},
		"a later one":    {func(s *SignedHeader) { s.Changes = append(s.Changes, w.later(good)) }, ErrHeader, "changes[3]: header.height"},
		"that is none":   {func(s *SignedHeader) { s.Changes = append(s.Changes, w.none()) }, ErrHeader, "changes[3]: next: is the set"},
		"the old ones'":  {func(s *SignedHeader) { *s = *w.sign(s.Header.Height, firstSet(a), firstSet(a)); s.Changes = w.all }, ErrHeader, "header.validators_hash"},
		"their own next": {func(s *SignedHeader) { s.Changes[2] = w.usurped() }, ErrHeader, "changes[2]: header.validators_hash"},
	} {
		bad := copyHeader(t, good)
		c.change(bad)
		if err := a.Check(bad); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", name, err, c.is, c.says)
		}
	}
}

// firstSet is the set of the genesis document.
func firstSet(a *Anchor) (keys []ledger.Key) {
	for _, v := range a.genesis.Validators {
		keys = append(keys, v.Key)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// later is a right change of after the header.
func (w *way) later(s *SignedHeader) Change {
	next := w.set[:3]
	x := w.sign(s.Header.Height, w.set, next)
	return Change{Header: x.Header, Commit: x.Commit, Next: next}
}

// none is a header that changes nothing.
func (w *way) none() Change {
	x := w.sign(w.height-1, w.set, w.set)
	return Change{Header: x.Header, Commit: x.Commit, Next: w.set}
}

// usurped is a change that those sign who would come by it.
func (w *way) usurped() Change {
	x := w.sign(w.all[2].Header.Height, w.set, w.set)
	return Change{Header: x.Header, Commit: x.Commit, Next: w.set}
}

// Whatever character of the way is changed, it proves nothing.
func TestChangesEachCharacter(t *testing.T) {
	t.Parallel()
	w, a := newWay(t)
	k := func(i int) ledger.Key { return publicKey(testKey("validator", i)) }
	w.change(k(0), k(1), k(2))
	w.change(k(1), k(2), k(5))
	raw := encodeHeader(t, w.newest())
	if err := checkText(a, raw); err != nil {
		t.Fatal(err)
	}
	from := bytes.Index(raw, []byte(`"changes"`))
	for i := from; i < len(raw); i++ {
		other := byte('7')
		if c := raw[i]; c >= '0' && c <= '9' || c >= 'a' && c < 'f' {
			other = c + 1
		}
		if other == raw[i] {
			continue
		}
		bad := bytes.Clone(raw)
		bad[i] = other
		if err := checkText(a, bad); err == nil {
			t.Fatalf("character %d changed from %q to %q, and it verifies: %s", i, raw[i], other, bad[max(0, i-60):min(len(bad), i+30)])
		}
	}
}

// What a node keeps of changes, over crashes at each point, and damage.
func TestChangeBook(t *testing.T) {
	t.Parallel()
	w, a := newWay(t)
	k := func(i int) ledger.Key { return publicKey(testKey("validator", i)) }
	dir := t.TempDir()
	open := func() *changeBook {
		t.Helper()
		c, err := openChanges(dir, a.genesis)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	add := []ledger.ValidatorUpdate{{Key: k(4), Power: 1}}
	swap := []ledger.ValidatorUpdate{{Key: k(0)}, {Key: k(5), Power: 1}}
	for range 2 { // the second time: replayed after a crash before the ledger had it
		for h, updates := range map[int64][]ledger.ValidatorUpdate{9: add, 8: nil} {
			if err := c.decided(h, updates); err != nil {
				t.Fatal(err)
			}
		}
		c = open()
	}
	if err := c.decided(10, swap); err != nil {
		t.Fatal(err)
	}
	c = open()
	w.change(k(0), k(1), k(2), k(3), k(4)) // by the header of block 10
	w.change(k(1), k(2), k(3), k(4), k(5))
	for h, want := range map[int64][]ledger.Key{1: firstSet(a), 10: firstSet(a), 11: w.all[0].Next, 12: w.all[1].Next, 99: w.all[1].Next} {
		if got := c.setAt(h); !slices.Equal(got, want) {
			t.Errorf("block %d: got %v, want %v", h, got, want)
		}
	}
	if h, ok := c.pendingFrom(); !ok || h != 10 {
		t.Errorf("still needed from block %d, %v, want 10", h, ok)
	}
	if err := AdoptChanges(dir, w.doc, w.all); err != nil {
		t.Fatal(err)
	}
	c = open()
	if _, ok := c.pendingFrom(); ok {
		t.Error("something is pending though all is kept")
	}
	for h, n := range map[int64]int{10: 0, 11: 1, 12: 2, 1000: 2} {
		if way, err := c.wayTo(h, nil); err != nil || len(way) != n {
			t.Errorf("the way to block %d: %d changes, %v, want %d", h, len(way), err, n)
		}
	}
	good := w.newest()
	good.Changes, _ = c.wayTo(good.Header.Height, nil)
	if err := a.Check(good); err != nil {
		t.Error(err)
	}
	if err := AdoptChanges(dir, w.doc, w.all[1:]); !errors.Is(err, ErrHeader) {
		t.Errorf("adopting half a way: %v, want ErrHeader", err)
	}
	file := c.file(10)
	for name, raw := range map[string]string{
		"nothing": "", "unknown key": `{"height":10,"next":[],"x":1}`, "no keys": `{"height":10,"next":[],"signed":null}`,
		"another block": `{"height":11,"next":["` + k(1).String() + `"],"signed":null}`, "large": strings.Repeat(" ", maxChangeFile+1),
	} {
		if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openChanges(dir, a.genesis); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Errorf("%s: got %v, want ErrCorrupt that names the file", name, err)
		}
	}
	if err := os.Rename(file, filepath.Join(changesDir(dir), "x.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := openChanges(dir, a.genesis); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a foreign name: got %v, want ErrCorrupt", err)
	}
}

// FuzzSignedHeader: bytes of strangers never make a check panic, and none verifies that is
// not written as the good one is.
func FuzzSignedHeader(f *testing.F) {
	w, a := newWay(f)
	w.change(publicKey(testKey("validator", 0)), publicKey(testKey("validator", 1)))
	good := encodeHeader(f, w.newest())
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := checkText(a, raw); err == nil && !bytes.Equal(raw, good) {
			t.Errorf("verifies: %s", raw)
		}
	})
}
