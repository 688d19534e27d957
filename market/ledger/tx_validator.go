package ledger

import (
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market"
)

// SetValidator changes the set of those who commit blocks: the cooperative's decision. It
// gives a household a vote, puts another key in the place of the one that it has, or with
// Remove takes its vote away. A household has one vote at most, and all are equal.
//
// A key that comes signs as well: a household cannot name another's, and no vote is given
// to a key that nobody has.
type SetValidator struct {
	_          struct{} `cbor:",toarray"`
	Number     uint64   // of the change, one above the last
	Officer    uint64   // who sends it, by the place in the genesis
	Household  market.HouseholdID
	Key        Key
	Remove     bool
	Possession []byte // by Key over PossessionBytes; null with Remove
	Approvals  []Approval
}

type validatorDecision struct {
	_         struct{} `cbor:",toarray"`
	Number    uint64
	Household market.HouseholdID
	Key       Key
	Remove    bool
}

func (s *SetValidator) decision() []byte {
	return encode(validatorDecision{Number: s.Number, Household: s.Household, Key: s.Key, Remove: s.Remove})
}

// ApprovalBytes is what officers sign to approve the change.
func (s *SetValidator) ApprovalBytes(chainID string) []byte {
	return append(domain("validator-decision", chainID), s.decision()...)
}

// PossessionBytes is what the validator's key signs to show that it is there.
func (s *SetValidator) PossessionBytes(chainID string) []byte {
	return append(domain("validator-possession", chainID), s.decision()...)
}

// Sign makes the transaction, with the key of the officer who sends it.
func (s *SetValidator) Sign(chainID string, officer ed25519.PrivateKey) []byte {
	return sign(KindValidator, chainID, market.HouseholdID{}, s, officer)
}

func (s *SetValidator) shape() *Refusal {
	switch {
	case s.Key == Key{}:
		return refuse(CodeBadKey, "key", "is all zero, want a validator's key")
	case s.Remove && s.Possession != nil:
		return refuse(CodeMalformed, "possession", "got one, want none where a vote is taken away")
	case !s.Remove && len(s.Possession) != ed25519.SignatureSize:
		return refuse(CodeBadSignature, "possession", "%d bytes, want %d", len(s.Possession), ed25519.SignatureSize)
	}
	return checkApprovalShape(s.Approvals)
}

func (s *SetValidator) check(d *draft, _ *Tx) *Refusal {
	if want := d.clockNow().Validators + 1; s.Number != want {
		return refuse(CodeSequenceUsed, "number", "got %d, want %d", s.Number, want)
	}
	if s.Remove {
		if refusal := s.checkRemoval(d); refusal != nil {
			return refusal
		}
		return d.checkApprovals(s.Approvals)
	}
	h, ok := d.household(s.Household)
	switch {
	case !ok:
		return refuse(CodeUnknownHousehold, "household", "%s is not registered", s.Household)
	case h.Left != 0:
		return refuse(CodeLeft, "household", "%s leaves the community with interval %d", s.Household, h.Left)
	case h.Network == Key{}:
		return refuse(CodeNoDevice, "household", "the gateway of %s is revoked: it cannot be reached", s.Household)
	}
	if use := d.useOf(s.Key); use != "" {
		return refuse(CodeBadKey, "key", "is %s: want one that the home has made for this", use)
	}
	if _, rotates := d.voterOf(s.Household); !rotates && len(d.voters()) >= MaxValidators {
		return refuse(CodeTooManyValidators, "household", "there are %d validators, want at most %d", len(d.voters()), MaxValidators)
	}
	return d.checkApprovals(s.Approvals)
}

func (s *SetValidator) checkRemoval(d *draft) *Refusal {
	v, ok := d.validator(s.Key)
	switch {
	case !ok || !v.votes():
		return refuse(CodeNotValidator, "key", "%s is no validator's", s.Key)
	case v.Household != s.Household:
		return refuse(CodeNotValidator, "household", "got %s, the key is that of %s", s.Household, v.Household)
	}
	return d.checkLastVoter()
}

// checkLastVoter refuses to take away the last vote: nobody could ever give another.
func (d *draft) checkLastVoter() *Refusal {
	if len(d.voters()) == 1 {
		return refuse(CodeLastValidator, "key", "it is the last validator: give another household a vote first")
	}
	return nil
}

func (s *SetValidator) signer(d *draft, _ *Tx) (Key, *Refusal) { return d.officer(s.Officer) }

func (s *SetValidator) verify(d *draft, _ *Tx) *Refusal {
	if !s.Remove && !d.signed(s.Key, s.PossessionBytes(d.base.chainID), s.Possession) {
		return refuse(CodeBadSignature, "possession", "does not match key %s", s.Key)
	}
	return d.verifyApprovals(s.Approvals, s.ApprovalBytes(d.base.chainID))
}

func (s *SetValidator) apply(d *draft, _ *Tx) error {
	d.editClock().Validators = s.Number
	if s.Remove {
		d.dismiss(s.Key)
		return nil
	}
	if old, ok := d.voterOf(s.Household); ok {
		d.dismiss(old)
	}
	d.validators[s.Key] = &validatorRecord{Household: s.Household}
	return nil
}
