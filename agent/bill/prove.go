package bill

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/crypto/merkle"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Evidence is what of a proof has to be taken from one state of the ledger.
type Evidence struct {
	account Account
	record  proven
	clock   clockRecord
	err     error
}

// EvidenceOf takes a household's account from a state, with the paths to the AppHash. It
// does not wait for anything.
func EvidenceOf(s *ledger.State, h market.HouseholdID) *Evidence {
	e := &Evidence{}
	if e.account, e.err = AccountOf(s, h); e.err != nil {
		return e
	}
	e.record, e.err = provenOf(s, ledger.HouseholdKey(h), e.account.Record.Encode())
	clock := s.ClockRecord()
	e.clock = clockRecord{
		Next: clock.Next, Settled: clock.Settled, Chain: consensus.Hash(clock.Chain[:]), Decisions: clock.Decisions, Validators: clock.Validators, Month: clock.Month,
	}
	var err error
	e.clock.Proof, err = provenOf(s, ledger.ClockKey, clock.Encode())
	e.err = errors.Join(e.err, err)
	return e
}

func provenOf(s *ledger.State, key string, value []byte) (proven, error) {
	hash := sha256.Sum256(value)
	leaf, proof, ok := s.Prove(key)
	if !ok || string(leaf) != string(ledger.Leaf(key, hash)) {
		return proven{}, fmt.Errorf("%w: %s is not what the state has", ErrLedger, ledger.KeyText(key))
	}
	return proven{Hash: hash[:], Path: pathOf(proof)}, nil
}

// pathOf says of each aunt on which side she is, which is all that her number and the
// number of leaves are good for.
func pathOf(p *merkle.Proof) []pathStep {
	steps := make([]pathStep, len(p.Aunts))
	index, total := p.Index, p.Total
	for i := len(p.Aunts) - 1; i >= 0; i-- { // from the root down
		split := int64(1)
		for split*2 < total {
			split *= 2
		}
		if index < split {
			steps[i].Right = p.Aunts[i]
			total = split
		} else {
			steps[i].Left = p.Aunts[i]
			index, total = index-split, total-split
		}
	}
	return steps
}

// Account is the account that the evidence is of, or what kept it from being taken.
func (e *Evidence) Account() (Account, error) { return e.account, e.err }

// NewProof makes a month's proof: signed must be a header that has the AppHash of the
// state that e was taken from. It is verified before it is handed out (B7).
func NewProof(e *Evidence, l *Ledger, signed *consensus.SignedHeader, genesis []byte) (*Proof, error) {
	if e.err != nil {
		return nil, e.err
	}
	p := &Proof{
		Format: ProofFormat, Community: l.ChainID, Household: l.Household, Month: l.Month.Month, Currency: Currency,
		Totals: monthOf(l.Month), Pruned: l.Pruned, Lines: make([]proofLine, len(l.Lines)),
		Record: householdOf(l.Record), Clock: e.clock, Signed: signed, Genesis: json.RawMessage(genesis),
	}
	p.Record.Proof = e.record
	if l.Closed != nil {
		p.Closed = &closedMonths{Before: consensus.Hash(l.Before[:]), Months: monthsOf(l.Closed)}
	}
	chain := ledger.ChainStart(l.Household, l.Month.Month)
	for i, s := range l.Lines {
		chain = ledger.NextChain(chain, s.Encode())
		p.Lines[i] = lineOf(l.Account, s, chain)
	}
	raw, err := p.Encode()
	if err != nil {
		return nil, err
	}
	trust, err := consensus.GenesisHash(genesis)
	if err != nil {
		return nil, err
	}
	if _, err := Verify(raw, trust, nil); err != nil {
		return nil, fmt.Errorf("%w: its proof does not verify: %w", ErrLedger, err)
	}
	return p, nil
}
