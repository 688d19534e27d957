package ledger

import (
	"crypto/ed25519"
	"errors"

	"github.com/commonwatt/commonwatt/market"
)

// SetRules replaces the community's rules and tariff from an Interval on: the
// cooperative's decision. Orders that are on the ledger stay.
type SetRules struct {
	_         struct{} `cbor:",toarray"`
	Number    uint64   // of the decision, one above the last
	Officer   uint64   // who sends it, by the place in the genesis
	From      market.Interval
	Rules     Rules
	Approvals []Approval
}

type rulesDecision struct {
	_      struct{} `cbor:",toarray"`
	Number uint64
	From   market.Interval
	Rules  Rules
}

// ApprovalBytes is what officers sign to approve the decision.
func (s *SetRules) ApprovalBytes(chainID string) []byte {
	return append(domain("rules-decision", chainID), encode(rulesDecision{Number: s.Number, From: s.From, Rules: s.Rules})...)
}

// Sign makes the transaction, with the key of the officer who sends it.
func (s *SetRules) Sign(chainID string, officer ed25519.PrivateKey) []byte {
	return sign(KindRules, chainID, market.HouseholdID{}, s, officer)
}

func (s *SetRules) shape() *Refusal {
	if err := s.Rules.Validate(); err != nil {
		return refuseRules(err)
	}
	return checkApprovalShape(s.Approvals)
}

// refuseRules gives a tariff that contradicts itself a code of its own.
func refuseRules(err error) *Refusal {
	if errors.Is(err, market.ErrBadTariff) {
		return refuse(CodeBadTariff, "rules", "%v", err)
	}
	return refuse(CodeBadRules, "rules", "%v", err)
}

func (s *SetRules) check(d *draft, _ *Tx) *Refusal {
	if refusal := d.checkDecision(s.Number, s.From, d.rules.pending(d.next()), s.Approvals); refusal != nil {
		return refusal
	}
	first := &d.base.genesis.Rules
	switch {
	case s.Rules.IntervalS != first.IntervalS:
		return refuse(CodeBadRules, "interval_s", "got %d, want %d as the community was founded: the ledger counts time by it", s.Rules.IntervalS, first.IntervalS)
	case s.Rules.LeadS != first.LeadS:
		return refuse(CodeBadRules, "lead_s", "got %d, want %d as the community was founded: the ledger counts time by it", s.Rules.LeadS, first.LeadS)
	case s.Rules.Timezone != first.Timezone:
		return refuse(CodeBadRules, "timezone", "got %q, want %q as the community was founded: months are counted by it", s.Rules.Timezone, first.Timezone)
	case s.Rules.ApprovalsNeeded > len(d.base.genesis.Officers):
		return refuse(CodeBadRules, "approvals_needed", "got %d, want 1 to the %d officers", s.Rules.ApprovalsNeeded, len(d.base.genesis.Officers))
	}
	// The rules hold until the next ones that are decided, the network whenever it holds.
	for _, v := range d.networks.since(s.From) {
		if v.from == 0 && v.value != d.networkAt(s.From) {
			continue
		}
		if err := s.Rules.fits(v.value); err != nil {
			return refuseRules(err)
		}
	}
	return nil
}

func (s *SetRules) signer(d *draft, _ *Tx) (Key, *Refusal) { return d.officer(s.Officer) }

func (s *SetRules) verify(d *draft, _ *Tx) *Refusal {
	return d.verifyApprovals(s.Approvals, s.ApprovalBytes(d.base.chainID))
}

func (s *SetRules) apply(d *draft, _ *Tx) error {
	d.editClock().Decisions = s.Number
	rules := s.Rules
	d.rules = d.rules.with(s.From, &rules)
	return nil
}
