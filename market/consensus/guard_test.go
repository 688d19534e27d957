package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

// copyOf copies a node's folder, as somebody might who moves a home to a new machine.
func (s *street) copyOf(m *member, name string) *member {
	s.t.Helper()
	from := filepath.Dir(m.cfg.Home)
	dir := filepath.Join(s.t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		s.t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chmod(path, 0o600) // CopyFS has its own idea
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	c := &member{s: s, name: name, network: m.network, cfg: m.cfg}
	place := func(path string) string {
		inside, err := filepath.Rel(from, path)
		if err != nil {
			s.t.Fatal(err)
		}
		return filepath.Join(dir, inside)
	}
	c.cfg.Home, c.cfg.ValidatorKeyFile, c.cfg.ValidatorStateFile = place(m.cfg.Home), place(m.cfg.ValidatorKeyFile), place(m.cfg.ValidatorStateFile)
	c.cfg.Log = testLog(s.t, name)
	return c
}

// refused waits until a node ends because its key is at work elsewhere, and checks what it says.
func (m *member) refused(want string) {
	t := m.s.t
	t.Helper()
	select {
	case err := <-m.done:
		m.cancel()
		m.cancel = nil
		if !errors.Is(err, ErrElsewhere) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s ended with %v, want ErrElsewhere that says %q", m.name, err, want)
		}
	case <-time.After(patience):
		t.Fatalf("%s goes on for %v, want it refused", m.name, patience)
	}
	if err := m.host.Close(); err != nil {
		t.Error(err)
	}
	m.host = nil
}

// noEvidence checks that no block holds evidence of a validator that signed twice, nor is any
// pending.
func (s *street) noEvidence(nodes ...*member) {
	s.t.Helper()
	for _, m := range nodes {
		e := m.engine.Load()
		store := e.node.BlockStore()
		for height := max(store.Base(), 1); height <= store.Height(); height++ {
			if b := store.LoadBlock(height); len(b.Evidence.Evidence) > 0 {
				s.t.Errorf("%s: block %d has evidence: %v", m.name, height, b.Evidence.Evidence)
			}
		}
		if pending, _ := e.node.EvidencePool().PendingEvidence(-1); len(pending) > 0 {
			s.t.Errorf("%s: evidence is pending: %v", m.name, pending)
		}
	}
}

// C8: a copied folder that is started while the original runs never signs, and says why; as
// a replica it may run. The original goes on.
func TestCopiedFolderRefused(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]string{"tcp": listenTCP, "quic": listenQUIC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, streetOptions{validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute, listen: listen})
			s.start(s.nodes...)
			s.awaitUp(s.nodes...)
			s.admitOrPrefer(s.nodes)
			s.settled(s.nodes...)
			original := s.nodes[3]
			signed := original.guard.signed()
			s.nodes = s.nodes[:3:3] // whom the copy calls; there is nobody else who could refuse it
			c := s.copyOf(original, "copy")
			s.nodes = append(s.nodes, original)
			c.start()
			c.refused("another process that has this home's network key")
			if got := c.guard.signed(); got.compare(signed) > 0 {
				t.Errorf("the copy has signed up to %+v, the original was at %+v", got, signed)
			}
			for range 3 {
				s.prefer(s.nodes[0], s.nodes...)
			}
			s.noEvidence(s.nodes...)
			if got := original.guard.signed(); got.compare(signed) <= 0 {
				t.Error("the original does not sign any more")
			}
		})
	}
}

// C8: the validator key of another home, in a home of one's own.
func TestCopiedKeyRefused(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, replicas: 1, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute})
	validators, thief := s.nodes[:4], s.nodes[4]
	s.start(validators...)
	s.awaitUp(validators...)
	s.admitOrPrefer(validators)
	raw, err := os.ReadFile(validators[3].cfg.ValidatorKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(thief.cfg.ValidatorKeyFile, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	thief.start()
	thief.refused("this validator key is at work elsewhere: home ")
	if got := thief.guard.signed(); got.height != 0 {
		t.Errorf("it has signed up to %+v", got)
	}
	// As a replica it may run.
	thief.cfg.Replica = true
	thief.start()
	s.prefer(validators[0], s.nodes...)
	if st := thief.Status(); st.IsValidator {
		t.Errorf("a replica with a validator's key: %+v, want no validator", st)
	}
	s.noEvidence(s.nodes...)
}

// C8: an older state of the validator key is noticed by the home's own blocks, and an older
// folder by what the others have.
func TestRestoredBackupRefused(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admitOrPrefer(s.nodes)
	s.settled(s.nodes...)
	m := s.nodes[3]
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	state, err := os.ReadFile(m.cfg.ValidatorStateFile)
	if err != nil {
		t.Fatal(err)
	}
	backup := s.copyOf(m, "backup")
	m.start()
	s.awaitUp(s.nodes...)
	for signed := m.guard.signed(); m.guard.signed().height < signed.height+2; {
		s.prefer(s.nodes[0], s.nodes...)
	}
	s.settled(s.nodes...)
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	backup.start()
	backup.refused("and this home has signed no further than block ")
	if err := os.WriteFile(m.cfg.ValidatorStateFile, state, 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	m.refused("has its signature, and this home has signed no further than block ")
	s.prefer(s.nodes[0], s.nodes[:3]...)
	s.noEvidence(s.nodes[:3]...)
}

// C8: what speaks against a validator must be proven, and a repetition is no new signature.
func TestGuardUnit(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 2, interval: time.Hour, rate: 1, next: time.Minute})
	n, err := New(s.nodes[0].cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.network = alone{}
	vote := func(height int64, kind cmtproto.SignedMsgType) *cmtproto.Vote {
		hash := make([]byte, 32)
		return &cmtproto.Vote{
			Type: kind, Height: height, Timestamp: time.Unix(height, 0).UTC(), ValidatorAddress: n.validator.GetAddress(),
			BlockID: cmtproto.BlockID{Hash: hash, PartSetHeader: cmtproto.PartSetHeader{Total: 1, Hash: hash}},
		}
	}
	early := make(chan error, 1)
	first := vote(5, cmtproto.PrevoteType)
	go func() { early <- n.guard.SignVote(s.chain, first) }()
	await(t, patience, "a signature waits", func() bool { return n.guard.waiting.Load() == 1 })
	if first.Signature != nil || n.guard.signed() != (step{}) {
		t.Fatal("signed before the guard was open")
	}
	close(n.guard.open)
	if err := <-early; err != nil || n.guard.signed() != (step{5, 0, 2}) {
		t.Fatalf("%v, signed up to %+v", err, n.guard.signed())
	}
	var nonce [workNonce]byte
	answer := func(v *cmtproto.Vote) *WorkAnswer {
		raw, err := v.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return &WorkAnswer{Vote: raw}
	}
	foreign := vote(9, cmtproto.PrecommitType)
	signature, err := n.validator.Key.PrivKey.Sign(types.VoteSignBytes(s.chain, foreign))
	if err != nil {
		t.Fatal(err)
	}
	foreign.Signature = signature
	forged := vote(10, cmtproto.PrecommitType)
	forged.Signature = signature
	same, err := n.validator.Key.PrivKey.Sign(n.workMessage(nonce))
	if err != nil {
		t.Fatal(err)
	}
	other := nonce
	other[0] = 1
	for name, c := range map[string]struct {
		answer *WorkAnswer
		nonce  [workNonce]byte
		want   bool
	}{
		"nothing":               {&WorkAnswer{}, nonce, false},
		"our own vote":          {answer(first), nonce, false},
		"a vote of another":     {answer(foreign), nonce, true},
		"a forged vote":         {answer(forged), nonce, false},
		"no vote":               {&WorkAnswer{Vote: []byte("vote")}, nonce, false},
		"a long vote":           {&WorkAnswer{Vote: make([]byte, maxVote+1)}, nonce, false},
		"the same key":          {&WorkAnswer{Same: same}, nonce, true},
		"of another time":       {&WorkAnswer{Same: same}, other, false},
		"a signature of nobody": {&WorkAnswer{Same: make([]byte, 64)}, nonce, false},
		"runs of nobody":        {&WorkAnswer{Runs: [][]byte{make([]byte, 80), nil}}, nonce, false},
		"too many runs":         {&WorkAnswer{Runs: make([][]byte, maxRuns+1), Same: same}, nonce, false},
	} {
		if err := n.judgeWork("peer", c.nonce, c.answer); errors.Is(err, ErrElsewhere) != c.want || err != nil && !c.want {
			t.Errorf("%s: %v, want it refused: %v", name, err, c.want)
		}
	}
	// A node that ends signs nothing more, and one that has no key in the set need not ask.
	waits := newGuard(n.validator)
	go func() { early <- waits.SignProposal(s.chain, &cmtproto.Proposal{Height: 6}) }()
	await(t, patience, "a proposal waits", func() bool { return waits.waiting.Load() == 1 })
	close(waits.done)
	if err := <-early; !errors.Is(err, errNotCleared) {
		t.Errorf("a guard that ends: %v, want errNotCleared", err)
	}
	if _, err := n.Answer(context.Background(), ed25519.PublicKey(make([]byte, 32)), []byte{byte(AskWork), 0x82, 0x58}); !errors.Is(err, ErrQuestion) {
		t.Errorf("half a question: %v, want ErrQuestion", err)
	}
}
