package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// household makes the node a home of its own: the household that brings its network key.
func (m *member) household(t *testing.T) *home {
	t.Helper()
	h := newHome(m.name)
	h.network = m.network
	return h
}

// vote makes the change that gives a home the vote of the node's validator key.
func (s *street) vote(h *home, m *member, number uint64) []byte {
	s.t.Helper()
	pub, err := LoadValidatorKey(m.cfg.ValidatorKeyFile)
	if err != nil {
		s.t.Fatal(err)
	}
	v := ledger.SetValidator{Number: number, Household: h.id, Key: ledger.KeyOf(pub)}
	if v.Possession, err = ProveValidatorKey(m.cfg.ValidatorKeyFile, s.chain, v); err != nil {
		s.t.Fatal(err)
	}
	return s.approved(v)
}

func (s *street) approved(v ledger.SetValidator) []byte {
	for i, o := range s.officers {
		v.Approvals = append(v.Approvals, ledger.Approval{Officer: uint64(i), Signature: ed25519.Sign(o, v.ApprovalBytes(s.chain))})
	}
	return v.Sign(s.chain, s.officers[0])
}

// voting says whether a key has signed the newest block that a node has.
func (m *member) voting(k ledger.Key) bool {
	e := m.engine.Load()
	if e == nil {
		return false
	}
	blocks := e.node.BlockStore()
	commit := blocks.LoadSeenCommit(blocks.Height())
	if commit == nil {
		return false
	}
	for _, s := range commit.Signatures {
		if s.BlockIDFlag == types.BlockIDFlagCommit && addressOf(s.ValidatorAddress) == ledger.AddressOf(k) {
			return true
		}
	}
	return false
}

// awaitVote makes blocks until a key signs, or with no a block that it has no part in.
func (s *street) awaitVote(via *member, nodes []*member, h *home, k ledger.Key, want bool) {
	s.t.Helper()
	await(s.t, 90*time.Second, fmt.Sprintf("%s votes: %v", k, want), func() bool {
		s.submit(via, s.preference(h))
		s.awaitState("preference committed", nodes, s.preferred(h))
		return via.voting(k) == want
	})
}

func (s *street) awaitValidators(nodes []*member, n int) {
	s.t.Helper()
	s.awaitState(fmt.Sprintf("%d validators", n), nodes, func(st *ledger.State) bool { return len(st.Validators()) == n })
}

func (m *member) validatorKey(t *testing.T) ledger.Key {
	t.Helper()
	pub, err := LoadValidatorKey(m.cfg.ValidatorKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.KeyOf(pub)
}

// The set of validators changes by transaction, with real engines: a fifth joins, one
// rotates its key, one is removed, and one that crashes around the block of a change comes
// back with the same set; all go on committing. Then a gateway is stolen: its key is
// refused at every node with the next block, and the others do without it.
func TestValidatorsChange(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, replicas: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	var crashAt atomic.Int64
	var crashStored atomic.Bool
	s.nodes[3].cfg.faults.commit = func(height int64, stored bool) error {
		if height == crashAt.Load() && stored == crashStored.Load() {
			return errPowerCut
		}
		return nil
	}
	for _, m := range s.nodes {
		s.homes = append(s.homes, m.household(t))
	}
	n, all := s.nodes, s.nodes
	s.start(all...)
	s.awaitUp(all...)
	s.admit(n[0], all, s.homes...)
	for _, v := range n[4].Status().Validators {
		if v.Self {
			t.Error("the replica is a validator before it is given a vote")
		}
	}

	anchor, err := NewAnchor(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	var headers []*SignedHeader // of before and after each change
	prove := func(changes int) {
		t.Helper()
		for _, m := range all {
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			h, err := m.Proof(ctx, func(*ledger.State) {})
			cancel()
			if err != nil {
				t.Fatalf("%s: %v", m.name, err)
			}
			if err := anchor.Check(h); err != nil || len(h.Changes) != changes {
				t.Errorf("%s: %v, with %d changes, want %d", m.name, err, len(h.Changes), changes)
			}
			headers = append(headers, h)
		}
	}
	prove(0)

	// A fifth.
	s.submit(n[0], s.vote(s.homes[4], n[4], 1))
	s.awaitValidators(all, 5)
	s.awaitVote(n[0], all, s.homes[0], n[4].validatorKey(t), true)
	if !n[4].Status().IsValidator || n[0].Status().ValidatorsTotal != 5 {
		t.Errorf("status: %+v", n[4].Status())
	}
	prove(1)

	// Another key for node 1, which takes it up when it starts again.
	old := n[1].validatorKey(t)
	n[1].cfg.ValidatorKeyFile, n[1].cfg.ValidatorStateFile = filepath.Join(n[1].cfg.Home, "second.key"), filepath.Join(n[1].cfg.Home, "second.state")
	if _, err := NewValidatorKey(n[1].cfg.ValidatorKeyFile, n[1].cfg.ValidatorStateFile); err != nil {
		t.Fatal(err)
	}
	s.submit(n[0], s.vote(s.homes[1], n[1], 2))
	s.awaitState("another key", all, func(st *ledger.State) bool { return !st.IsValidator(old) && len(st.Validators()) == 5 })
	if err := n[1].stop(); err != nil {
		t.Fatal(err)
	}
	n[1].start()
	s.awaitUp(all...)
	s.awaitVote(n[0], all, s.homes[0], n[1].validatorKey(t), true)
	prove(2)

	// Node 2 is removed, and node 3 crashes around the block with the change: before its
	// ledger has it, then after, when the engine has not noted it.
	for i, stored := range []bool{false, true} {
		height := s.settled(all...)
		crashStored.Store(stored)
		crashAt.Store(height + 1)
		change := s.approved(ledger.SetValidator{Number: 3, Household: s.homes[2].id, Key: n[2].validatorKey(t), Remove: true})
		if i == 1 {
			change = s.vote(s.homes[2], n[2], 4) // and back
		}
		s.submit(n[0], change)
		if err := <-n[3].done; err == nil {
			t.Fatal("node 3 did not crash")
		} else {
			n[3].done <- err
		}
		_ = n[3].stop()
		crashAt.Store(0)
		n[3].start()
		s.awaitUp(all...)
		s.awaitVote(n[0], all, s.homes[0], n[2].validatorKey(t), i == 1)
		s.awaitVote(n[0], all, s.homes[0], n[3].validatorKey(t), true)
		prove(3 + i)
	}
	// Node 2's key is in two hands: both sign, which the engine proves, and it is struck.
	s.equivocate(t, n[0], n[2])
	struck := func(st *ledger.State) bool { return st.FaultOf(n[2].validatorKey(t)) == ledger.FaultStruck }
	await(t, 90*time.Second, "node 2 is struck", func() (is bool) {
		s.submit(n[0], s.preference(s.homes[0])) // evidence alone makes no block
		s.awaitState("preference committed", all, s.preferred(s.homes[0]))
		n[0].Read(func(st *ledger.State) { is = struck(st) })
		return is
	})
	s.awaitState("struck", all, struck)
	s.awaitVote(n[0], all, s.homes[0], n[2].validatorKey(t), false)
	s.shown(t, n[0], n[2])
	if err := n[0].Submit(t.Context(), s.vote(s.homes[2], n[2], 5)); !isRefusal(err, ledger.CodeBadKey) {
		t.Errorf("its key is given a vote again: %v", err)
	}
	prove(5)

	// Four are left; of the five that there were, three would not be enough.
	if err := n[4].stop(); err != nil {
		t.Fatal(err)
	}
	rest := []*member{n[0], n[1], n[2], n[3]}
	s.submit(n[0], s.preference(s.homes[0]))
	s.awaitState("three of four commit", rest, s.preferred(s.homes[0]))
	n[4].start()
	s.awaitUp(all...)
	s.sameHashes(all...)

	s.sameTurns(t, n[0], anchor)
	s.stolen(t, n[3], s.homes[3])
	for _, h := range headers {
		if err := anchor.Check(h); err != nil {
			t.Errorf("block %d: what was proven before is not any more: %v", h.Header.Height, err)
		}
	}
	s.settled(n[0], n[1], n[2], n[4])
	for _, m := range all {
		if err := m.stop(); err != nil && m != n[3] {
			t.Fatal(err)
		}
	}
	s.checkedSets(t, n[0])
	stored, err := StoredConduct(t.Context(), n[0].cfg.Home)
	if err != nil {
		t.Fatal(err)
	}
	s.audited(t, stored, n[2])
	for _, m := range []*member{n[0], n[4]} {
		height, hash := m.book.tip()
		h, err := StoredProof(m.cfg.Home, height, hash)
		if err != nil {
			t.Fatal(err)
		}
		if err := anchor.Check(h); err != nil || len(h.Changes) != 5 {
			t.Errorf("%s, stopped: %v, with %d changes, want 5", m.name, err, len(h.Changes))
		}
		if at, pending := m.ChangesPending(); pending {
			t.Errorf("%s: the header of block %d is not kept", m.name, at)
		}
	}
}

// shown: who signed twice is shown while the node runs.
func (s *street) shown(t *testing.T, via, m *member) {
	t.Helper()
	address := m.validator.GetAddress().String()
	if d := via.Status().DoubleVoted; len(d) != 1 || d[0].Address != address || !d[0].Struck || d[0].Name != m.name {
		t.Errorf("the status has double votes %+v, want %s", d, address)
	}
	c, err := via.Conduct(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.audited(t, c, m)
}

// audited: the audit has the one who signed twice, and at which height, and nobody else.
func (s *street) audited(t *testing.T, c Conduct, m *member) {
	t.Helper()
	proposed := int64(0)
	for _, v := range c.Validators {
		proposed += v.Proposed
		if is := v.Address == m.validator.GetAddress().String(); is != (len(v.DoubleSigned) == 1) || is && (v.Votes || v.DoubleSigned[0] < 1) {
			t.Errorf("audit: %+v, want two blocks of one height by %s only, without a vote", v, m.name)
		}
	}
	if c.First != 1 || proposed != c.Last {
		t.Errorf("audit: %d blocks proposed of %d to %d", proposed, c.First, c.Last)
	}
}

// equivocate signs two votes of one block with a node's validator key and gives both to the
// evidence pool of another node's engine.
func (s *street) equivocate(t *testing.T, via, m *member) {
	t.Helper()
	key, err := loadKey(m.cfg.ValidatorKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	e := via.engine.Load()
	height := e.node.BlockStore().Height() - 1
	set, err := e.states.LoadValidators(height)
	if err != nil {
		t.Fatal(err)
	}
	at := e.node.BlockStore().LoadBlockMeta(height).Header.Time
	index, _ := set.GetByAddress(key.Address)
	vote := func(block string) *types.Vote {
		hash := crypto.Sha256([]byte(block))
		v := &types.Vote{
			Type: cmtproto.PrecommitType, Height: height, Timestamp: at, ValidatorAddress: key.Address, ValidatorIndex: index,
			BlockID: types.BlockID{Hash: hash, PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash}},
		}
		if v.Signature, err = key.PrivKey.Sign(types.VoteSignBytes(s.chain, v.ToProto())); err != nil {
			t.Fatal(err)
		}
		return v
	}
	evidence, err := types.NewDuplicateVoteEvidence(vote("one"), vote("another"), at, set)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.node.EvidencePool().AddEvidence(evidence); err != nil {
		t.Fatal(err)
	}
}

// sameTurns: from the changes that a node tells anybody who asks follows, for every block,
// who the validators are and whose turn it is, as the engine has it.
func (s *street) sameTurns(t *testing.T, m *member, a *Anchor) {
	t.Helper()
	ask := func(ctx context.Context, _ string, question []byte) ([]byte, error) {
		return m.Answer(ctx, m.network.Public().(ed25519.PublicKey), question)
	}
	way, err := a.moreChanges(t.Context(), ask, m.name, nil)
	if err != nil || len(way) != 5 {
		t.Fatalf("%d changes, %v, want 5", len(way), err)
	}
	if again, err := a.moreChanges(t.Context(), ask, m.name, way[:2]); err != nil || len(again) != 5 {
		t.Errorf("going on: %d changes, %v, want 5", len(again), err)
	}
	bent := liar(ask, m.name, func(_ Question, raw []byte) []byte {
		raw = bytes.Clone(raw)
		raw[len(raw)/2] ^= 1
		return raw
	})
	if _, err := a.moreChanges(t.Context(), bent, m.name, nil); err == nil {
		t.Error("bent changes are taken")
	}
	e := m.engine.Load()
	for h := int64(1); h+2 <= e.node.BlockStore().Height(); h++ {
		sets, err := a.setsAt(h, way)
		if err != nil {
			t.Fatal(err)
		}
		for i, set := range sets {
			want, err := e.states.LoadValidators(h + int64(i))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(set.Hash(), want.Hash()) || set.GetProposer().Address.String() != want.GetProposer().Address.String() {
				t.Fatalf("block %d: validators %v, want %v", h+int64(i), set, want)
			}
		}
	}
}

// checkedSets: the check of a stopped node derives the sets again, and finds what is not as
// its blocks say.
func (s *street) checkedSets(t *testing.T, m *member) {
	t.Helper()
	blocks := func(yield func(store.Committed, error) bool) {
		for b, err := range Blocks(m.cfg.Home) {
			if !yield(store.Committed{Height: b.Height, Block: b.Block, AppHash: b.AppHash}, err) {
				return
			}
		}
	}
	check := func() (store.Report, []error) {
		r, err := store.Check(LedgerFile(m.cfg.Home), s.chain, s.genesis, blocks)
		if err != nil {
			t.Fatal(err)
		}
		return r, CheckChanges(m.cfg.Home, s.doc, &r)
	}
	if r, bad := check(); !r.OK() || len(bad) > 0 || len(r.Sets) != 5 {
		t.Fatalf("%v, %v, %d changes, want 5", r.Differences, bad, len(r.Sets))
	}
	files, err := filepath.Glob(filepath.Join(changesDir(m.cfg.Home), "*.json"))
	if err != nil || len(files) != 5 {
		t.Fatalf("%d files, %v, want one for each change", len(files), err)
	}
	file := files[1]
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(good, []byte(`"signature":"`)) + 20
	for name, bend := range map[string]func() error{
		"gone":    func() error { return os.Remove(file) },
		"another": func() error { return os.WriteFile(file, bytes.Replace(good, good[at:at+1], []byte("x"), 1), 0o600) },
		"swapped": func() error { return os.Rename(files[2], file) },
	} {
		third, err := os.ReadFile(files[2])
		if err == nil {
			err = bend()
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, bad := check(); len(bad) == 0 {
			t.Errorf("%s: the check finds nothing: %v", name, r.Differences)
		}
		if err := errors.Join(os.WriteFile(file, good, 0o600), os.WriteFile(files[2], third, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// stolen: the household of a node brings another gateway, and the node is out.
func (s *street) stolen(t *testing.T, thief *member, h *home) {
	t.Helper()
	var rest []*member
	for _, m := range s.nodes {
		if m != thief {
			rest = append(rest, m)
		}
	}
	waits := s.order(h, rest[0].next(), 100) // of the thief: in the pools, for the next gate
	s.submit(thief, waits)
	s.awaitPool(1, s.nodes...)
	device := testKey("new device")
	change := ledger.NewDevice(s.chain, h.id, 1, device, testKey("new network"))
	s.submit(rest[0], change.Sign(s.chain, h.id, h.cold))
	s.awaitState("another gateway", rest, func(st *ledger.State) bool {
		r, ok := st.Household(h.id)
		return ok && r.DeviceSeq == 1 && !st.IsMember(thief.network.Public().(ed25519.PublicKey))
	})
	s.awaitPool(0, rest...)
	for _, m := range rest {
		if err := m.Submit(context.Background(), s.preference(h)); !isRefusal(err, ledger.CodeBadSignature) {
			t.Errorf("%s takes what the stolen device signs: %v", m.name, err)
		}
		m.host.Recheck()
	}
	await(t, 60*time.Second, "the stolen gateway is out", func() bool {
		for _, m := range rest {
			for _, p := range m.host.Peers() {
				if p.ID == thief.host.ID() {
					return false
				}
			}
			if e := m.engine.Load(); e == nil || e.node.Switch().Peers().Has(thief.engineID()) {
				return false
			}
		}
		return true
	})
	h.device = device
	s.submit(rest[0], s.preference(h))
	s.awaitState("the new gateway is heard", rest, s.preferred(h))
	s.sameHashes(rest...)
}
