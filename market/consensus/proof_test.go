package consensus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

func encodeHeader(t testing.TB, s *SignedHeader) []byte {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// checkText is what a program does with a header from a file: exact, then proven.
func checkText(a *Anchor, raw []byte) error {
	var s SignedHeader
	if err := strictJSON(raw, &s); err != nil {
		return err
	}
	again, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, raw) {
		return errors.New("written otherwise")
	}
	return a.Check(&s)
}

// A header proves the newest state, from a running node and from its folder; one that is
// changed in any character proves nothing.
func TestProof(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	if err := s.nodes[3].stop(); err != nil {
		t.Fatal(err)
	}
	nodes := s.nodes[:3] // a quorum, with one vote absent
	s.prefer(nodes[0], nodes...)
	anchor, err := NewAnchor(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	var first *SignedHeader
	for _, m := range nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var hash [32]byte
		h, err := m.Proof(ctx, func(st *ledger.State) { hash = st.AppHash() })
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(h.Header.AppHash, hash[:]) {
			t.Errorf("%s: the header has %s, the state %x", m.name, h.Header.AppHash, hash)
		}
		if err := anchor.Check(h); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
		first = h
	}
	raw := encodeHeader(t, first)
	if err := checkText(anchor, raw); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	changeEach(t, anchor, raw)

	s.settled(nodes...)
	if _, err := StoredProof(nodes[0].cfg.Home, 1, [32]byte{}); !errors.Is(err, ErrInUse) {
		t.Errorf("of a running node: %v, want ErrInUse", err)
	}
	for _, m := range nodes {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		height, hash := m.book.tip()
		h, err := StoredProof(m.cfg.Home, height, hash)
		if err != nil {
			t.Fatal(err)
		}
		if err := anchor.Check(h); err != nil || !bytes.Equal(h.Header.AppHash, hash[:]) {
			t.Errorf("%s: %v, of %s, want %x", m.name, err, h.Header.AppHash, hash)
		}
		hash[0] ^= 1
		if _, err := StoredProof(m.cfg.Home, height, hash); !errors.Is(err, ErrUnproven) {
			t.Errorf("another state: %v, want ErrUnproven", err)
		}
		if _, err := m.Proof(t.Context(), func(*ledger.State) {}); !errors.Is(err, ErrUnproven) {
			t.Errorf("of a node that has ended: %v, want ErrUnproven", err)
		}
	}
	if _, err := StoredProof(t.TempDir(), 1, [32]byte{}); err == nil {
		t.Error("of an empty folder: no error")
	}
}

// changeEach changes every character of a header's text to others of its kind.
func changeEach(t *testing.T, anchor *Anchor, raw []byte) {
	t.Helper()
	for i, c := range raw {
		for _, other := range []byte("0a5fA-\" ") {
			if other == c {
				continue
			}
			bad := bytes.Clone(raw)
			bad[i] = other
			if err := checkText(anchor, bad); err == nil {
				t.Fatalf("character %d changed from %q to %q, and it verifies: %s", i, c, other, bad[max(0, i-60):min(len(bad), i+30)])
			}
		}
	}
}

// Each thing that can be wrong with a header has words of its own.
func TestProofForged(t *testing.T) {
	t.Parallel()
	s, _ := stored(t)
	home := s.nodes[0].cfg.Home
	height, hash := s.nodes[0].book.tip()
	anchor, err := NewAnchor(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	good, err := StoredProof(home, height, hash)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*SignedHeader)
		is     error
		says   string
	}{
		"chain":          {func(h *SignedHeader) { h.Header.ChainID = "sim-other" }, ErrHeader, "header.chain_id"},
		"height":         {func(h *SignedHeader) { h.Header.Height++ }, ErrHeader, "commit.height"},
		"heights":        {func(h *SignedHeader) { h.Header.Height++; h.Commit.Height++ }, ErrHeader, "hashes to"},
		"no height":      {func(h *SignedHeader) { h.Header.Height = 0 }, ErrHeader, "header.height"},
		"validators":     {func(h *SignedHeader) { h.Header.ValidatorsHash = make(Hash, 32) }, ErrHeader, "header.validators_hash"},
		"app hash":       {func(h *SignedHeader) { h.Header.AppHash[5] ^= 1 }, ErrHeader, "hashes to"},
		"short hash":     {func(h *SignedHeader) { h.Header.DataHash = h.Header.DataHash[1:] }, ErrHeader, "header"},
		"round":          {func(h *SignedHeader) { h.Commit.Round++ }, ErrSignature, "commit.votes[0]"},
		"parts":          {func(h *SignedHeader) { h.Commit.Block.Parts++ }, ErrSignature, "commit.votes[0]"},
		"signature":      {func(h *SignedHeader) { h.Commit.Votes[1].Signature[9] ^= 1 }, ErrSignature, "commit.votes[1]"},
		"time":           {func(h *SignedHeader) { h.Commit.Votes[1].Time.Time = h.Header.Time.Time }, ErrSignature, "commit.votes[1]"},
		"address":        {func(h *SignedHeader) { h.Commit.Votes[0].Validator[0] ^= 1 }, ErrSignature, "commit.votes[0].validator"},
		"swapped":        {func(h *SignedHeader) { v := h.Commit.Votes; v[0], v[1] = v[1], v[0] }, ErrSignature, "commit.votes[0].validator"},
		"one fewer":      {func(h *SignedHeader) { h.Commit.Votes = h.Commit.Votes[:1] }, ErrSignature, "commit.votes: got 1"},
		"no quorum":      {func(h *SignedHeader) { v := &h.Commit.Votes[0]; v.For, v.Time, v.Signature = voteAbsent, nil, nil }, ErrSignature, "more than two thirds"},
		"absent and not": {func(h *SignedHeader) { h.Commit.Votes[0].For = voteAbsent }, ErrSignature, "is absent, but"},
		"for nothing":    {func(h *SignedHeader) { h.Commit.Votes[0].For = voteNil }, ErrSignature, "commit.votes[0]"},
		"for what":       {func(h *SignedHeader) { h.Commit.Votes[0].For = "me" }, ErrSignature, `"me"`},
		"no time":        {func(h *SignedHeader) { h.Commit.Votes[0].Time = nil }, ErrSignature, "no time"},
		"nothing":        {func(h *SignedHeader) { *h = SignedHeader{} }, ErrHeader, "header.chain_id"},
	} {
		var h SignedHeader
		if err := json.Unmarshal(encodeHeader(t, good), &h); err != nil {
			t.Fatal(err)
		}
		c.change(&h)
		if err := anchor.Check(&h); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", name, err, c.is, c.says)
		}
	}
}

func TestGenesisHash(t *testing.T) {
	a, err := GenesisHash([]byte(`{"a": 1, "b": [ 2 ]}`))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := GenesisHash([]byte("{\n\t\"a\":1,\"b\":[2]}\n")); err != nil || a != b {
		t.Errorf("white space counts: %x, %x, %v", a, b, err)
	}
	if b, err := GenesisHash([]byte(`{"a": 1, "b": [ 3 ]}`)); err != nil || a == b {
		t.Errorf("a digit does not count: %x, %v", b, err)
	}
	if _, err := GenesisHash([]byte(`{"a"`)); !errors.Is(err, ErrGenesis) {
		t.Errorf("of half a document: %v, want ErrGenesis", err)
	}
}
