package bill_test

import (
	"bytes"
	"crypto/ed25519"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/types"
	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// street is a ledger on disk, with the validators that sign it.
type street struct {
	t          testing.TB
	community  *ledgertest.Community
	homes      []*ledgertest.Home
	store      *store.Store
	doc        []byte
	validators []ed25519.PrivateKey // of today
	changes    []consensus.Change
	height     int64
}

var march = mustMonth("2026-03")

func mustMonth(text string) market.Month {
	m, err := market.ParseMonth(text)
	if err != nil {
		panic(err)
	}
	return m
}

// newStreet founds three homes on the evening before the clocks go forward. A home's
// report of every seventh interval comes late, so that a correction follows.
func newStreet(t testing.TB, change func(*ledger.Rules)) *street {
	t.Helper()
	return newStreetAt(t, time.Date(2026, time.March, 28, 22, 0, 0, 0, time.UTC), change)
}

func newStreetAt(t testing.TB, epoch time.Time, change func(*ledger.Rules)) *street {
	t.Helper()
	rules := ledger.DefaultRules()
	rules.CommunityFee = 3_000
	rules.ReportDeadlineS, rules.CorrectionWindowS = 3600, 6*3600
	if change != nil {
		change(&rules)
	}
	s := &street{t: t, community: ledgertest.New(rules)}
	g := &s.community.Genesis
	g.Epoch = epoch
	g.Start = g.Epoch
	s.community.First = g.Calendar().NextGate(g.Epoch)
	var validators []consensus.Validator
	g.Validators = nil // those of the document
	for i := range 4 {
		key := ledgertest.Key(fmt.Sprint("validator/", i))
		s.validators = append(s.validators, key)
		validators = append(validators, consensus.Validator{Name: fmt.Sprint("v", i), PubKey: key.Public().(ed25519.PublicKey), Power: 1})
	}
	var err error
	if s.doc, err = consensus.GenesisDoc(ledgertest.ChainID, *g, validators, g.Start); err != nil {
		t.Fatal(err)
	}
	if _, *g, err = consensus.ParseGenesis(s.doc); err != nil {
		t.Fatal(err)
	}
	if s.store, err = store.Open(filepath.Join(t.TempDir(), "ledger.db"), ledgertest.ChainID, *g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	var txs [][]byte
	for i := range 3 {
		h := ledgertest.NewHome(fmt.Sprint("home/", i))
		s.homes = append(s.homes, h)
		txs = append(txs, s.community.Join(h, 2))
	}
	s.apply(txs...)
	txs = nil
	for _, h := range s.homes {
		txs = append(txs, s.community.Install(h, 2))
	}
	s.apply(txs...)
	return s
}

// overMonths is a street whose March is closed and whose April has begun.
func overMonths(t testing.TB) *street {
	t.Helper()
	s := newStreetAt(t, time.Date(2026, time.March, 31, 14, 0, 0, 0, time.UTC), nil)
	s.live(70)
	return s
}

// apply commits a block. No transaction may be refused.
func (s *street) apply(txs ...[]byte) {
	s.t.Helper()
	s.height++
	d, receipts, err := ledger.Apply(s.store.State(), ledger.Block{Seed: [32]byte{byte(s.height)}, Txs: txs})
	if err != nil {
		s.t.Fatal(err)
	}
	for i, r := range receipts {
		if r.Refusal != nil {
			s.t.Fatalf("block %d: transaction %d (%s): %v", s.height, i, r.Kind, r.Refusal)
		}
	}
	if err := s.store.Commit(s.height, d); err != nil {
		s.t.Fatal(err)
	}
	s.store.State().Absorb(d)
}

// live goes on for n intervals: orders, the gate, reports of the interval two before.
func (s *street) live(n int) {
	s.t.Helper()
	var late [][]byte
	for range n {
		k := s.store.State().Next()
		seq := uint64(k)
		offer := []ledger.Step{{Price: 100_000, WattHours: 600}, {Price: 150_000, WattHours: 300}}
		bid := []ledger.Step{{Price: 250_000, WattHours: 333}, {Price: 120_000, WattHours: market.WattHours(k%400) + 1}}
		if s.store.State().Rules().Rule == market.RuleMcAfee { // it takes one step
			offer, bid = offer[:1], bid[:1]
		}
		s.apply(
			s.community.Order(s.homes[0], k, market.Offer, seq, offer...),
			s.community.Order(s.homes[1], k, market.Bid, seq, bid...),
			s.community.Order(s.homes[2], k, market.Bid, seq, ledger.Step{Price: 200_000, WattHours: 251}),
			ledger.NewTick(k, k, k),
		)
		if k < s.community.First+2 {
			continue
		}
		var txs [][]byte
		for i, h := range s.homes {
			tx := s.community.Report(h, k-2, 1)
			if (int(k)+i)%7 == 0 {
				late = append(late, tx)
				continue
			}
			txs = append(txs, tx)
		}
		if len(late) > 8 { // some hours later
			txs = append(txs, late...)
			late = nil
		}
		s.apply(txs...)
	}
}

// month reads a household's month.
func (s *street) month(h market.HouseholdID, m market.Month) *bill.Ledger {
	s.t.Helper()
	a, err := bill.AccountOf(s.store.State(), h)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := a.Read(s.store, m)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *street) statement(h market.HouseholdID, m market.Month) *bill.Statement {
	s.t.Helper()
	st, err := bill.NewStatement(s.month(h, m))
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// proof makes a household's proof.
func (s *street) proof(h market.HouseholdID, m market.Month) []byte {
	s.t.Helper()
	e := bill.EvidenceOf(s.store.State(), h)
	a, err := e.Account()
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := a.Read(s.store, m)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := bill.NewProof(e, l, s.sign(s.store.State().AppHash()), s.doc)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := p.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

func (s *street) trust() [32]byte {
	s.t.Helper()
	hash, err := consensus.GenesisHash(s.doc)
	if err != nil {
		s.t.Fatal(err)
	}
	return hash
}

// sign makes the header behind the newest block, with the signatures of all validators but
// one, as the engine makes it.
func (s *street) sign(appHash [32]byte) *consensus.SignedHeader {
	s.t.Helper()
	out := s.header(s.height+1, appHash[:], setOf(s.validators))
	out.Changes = s.changes
	return out
}

// setOf is the engine's set of keys.
func setOf(keys []ed25519.PrivateKey) *types.ValidatorSet {
	var all []*types.Validator
	for _, k := range keys {
		all = append(all, types.NewValidator(cmted25519.PubKey(k.Public().(ed25519.PublicKey)), 1))
	}
	return types.NewValidatorSet(all)
}

// changeValidators puts other keys in the place of today's, as the engine's headers have it.
func (s *street) changeValidators(next ...ed25519.PrivateKey) {
	s.t.Helper()
	s.apply() // the block that decides it
	signed := s.header(s.height+1, make([]byte, 32), setOf(next))
	c := consensus.Change{Header: signed.Header, Commit: signed.Commit}
	for _, k := range next {
		c.Next = append(c.Next, ledgertest.Public(k))
	}
	slices.SortFunc(c.Next, func(a, b ledger.Key) int { return bytes.Compare(a[:], b[:]) })
	s.changes, s.validators = append(s.changes, c), next
	s.apply()
}

// header makes a header that names the next validators, signed by those of today.
func (s *street) header(height int64, appHash []byte, next *types.ValidatorSet) *consensus.SignedHeader {
	s.t.Helper()
	set := setOf(s.validators)
	hash := func(text string) []byte { return crypto.Sha256([]byte(text)) }
	at := time.Date(2026, 4, 1, 12, 0, 0, 123_000_000, time.UTC)
	h := types.Header{
		ChainID: ledgertest.ChainID, Height: height, Time: at,
		LastBlockID:    types.BlockID{Hash: hash("last"), PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash("parts")}},
		LastCommitHash: hash("commit"), DataHash: hash("data"), ValidatorsHash: set.Hash(), NextValidatorsHash: next.Hash(),
		ConsensusHash: hash("params"), AppHash: appHash, LastResultsHash: hash("results"), EvidenceHash: hash("evidence"),
		ProposerAddress: set.Validators[0].Address,
	}
	h.Version.Block, h.Version.App = 11, 1
	id := types.BlockID{Hash: h.Hash(), PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash("its parts")}}
	commit := &types.Commit{Height: h.Height, Round: 0, BlockID: id}
	for i := range set.Validators {
		commit.Signatures = append(commit.Signatures, types.CommitSig{
			BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: set.Validators[i].Address, Timestamp: at.Add(time.Duration(i) * time.Millisecond),
		})
	}
	commit.Signatures[2] = types.NewCommitSigAbsent()
	for i, sig := range commit.Signatures {
		if sig.BlockIDFlag == types.BlockIDFlagAbsent {
			continue
		}
		own := slices.IndexFunc(s.validators, func(k ed25519.PrivateKey) bool {
			return string(cmted25519.PubKey(k.Public().(ed25519.PublicKey)).Address()) == string(sig.ValidatorAddress)
		})
		commit.Signatures[i].Signature = ed25519.Sign(s.validators[own], commit.VoteSignBytes(ledgertest.ChainID, int32(i)))
	}
	out, err := consensus.NewSignedHeader(h, commit, set)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// golden compares with a file under testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s differs (-want +got); look at it, then go test -update:\n%s", path, diff)
	}
}
