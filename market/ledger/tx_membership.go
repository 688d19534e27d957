package ledger

import (
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market"
)

// SetMembership says where a household hangs in the network and with which part of its
// meter it takes part, from the next gate on. The household's device signs it, and
// officers of the cooperative approve.
type SetMembership struct {
	_             struct{} `cbor:",toarray"`
	Seq           uint64   // above the last one's
	Node          string
	Participation []Participation // communities in rising order, this one among them; none: all of the meter
	ShareKey      int64           // its static part under the rule sharing; 0: none
	Approvals     []Approval
}

type membership struct {
	_             struct{} `cbor:",toarray"`
	Household     market.HouseholdID
	Seq           uint64
	Node          string
	Participation []Participation
	ShareKey      int64
}

// ApprovalBytes is what officers sign to approve it for the household.
func (s *SetMembership) ApprovalBytes(chainID string, h market.HouseholdID) []byte {
	return append(domain("membership-approval", chainID),
		encode(membership{Household: h, Seq: s.Seq, Node: s.Node, Participation: s.Participation, ShareKey: s.ShareKey})...)
}

// Sign makes the transaction, with the household's device key.
func (s *SetMembership) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindMembership, chainID, h, s, device)
}

// maxShareKey keeps a sum of keys far from the end of its 64 bits.
const maxShareKey = 1 << 32

func (s *SetMembership) shape() *Refusal {
	if s.ShareKey < 0 || s.ShareKey > maxShareKey {
		return refuse(CodeBadShare, "share_key", "got %d, want 0 to %d", s.ShareKey, int64(maxShareKey))
	}
	if len(s.Participation) > MaxCommunities {
		return refuse(CodeBadShare, "participation", "got %d communities, want at most %d", len(s.Participation), MaxCommunities)
	}
	total := 0
	for i, p := range s.Participation {
		if err := validateName(p.Community); err != nil {
			return refuse(CodeBadShare, "participation", "community %q: %v", p.Community, err)
		}
		if i > 0 && s.Participation[i-1].Community >= p.Community {
			return refuse(CodeBadShare, "participation", "got %q after %q, want rising names", p.Community, s.Participation[i-1].Community)
		}
		if p.Permille < 1 || p.Permille > wholeMeter {
			return refuse(CodeBadShare, "participation", "got %d per mille in %q, want 1 to %d", p.Permille, p.Community, wholeMeter)
		}
		total += int(p.Permille)
	}
	if total > wholeMeter {
		return refuse(CodeBadShare, "participation", "got %d per mille of the meter in all, want at most %d", total, wholeMeter)
	}
	return checkApprovalShape(s.Approvals)
}

func (s *SetMembership) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if refusal := d.staying(tx, h, d.next()); refusal != nil {
		return refusal
	}
	if s.Seq <= h.MembershipSeq {
		return refuse(CodeSequenceUsed, "seq", "got %d, want above %d", s.Seq, h.MembershipSeq)
	}
	here := Household{Participation: s.Participation}
	if from, to := here.span(d.base.genesis.Name); from == to {
		return refuse(CodeBadShare, "participation", "%q is not among the communities", d.base.genesis.Name)
	}
	if refusal := d.checkApprovals(s.Approvals); refusal != nil {
		return refusal
	}
	return d.checkNode(s.Node)
}

func (s *SetMembership) signer(d *draft, tx *Tx) (Key, *Refusal) { return d.deviceOf(tx) }

func (s *SetMembership) verify(d *draft, tx *Tx) *Refusal {
	return d.verifyApprovals(s.Approvals, s.ApprovalBytes(d.base.chainID, tx.env.Household))
}

func (s *SetMembership) apply(d *draft, tx *Tx) error {
	h, err := d.editHousehold(tx.env.Household)
	if err != nil {
		return err
	}
	h.MembershipSeq, h.Node, h.Participation, h.ShareKey = s.Seq, s.Node, s.Participation, s.ShareKey
	return nil
}

// MaxCommunities is how many communities a household may take part in.
const MaxCommunities = 5

// Participation is the part of a household's meter that takes part in a community.
type Participation struct {
	_         struct{} `cbor:",toarray"`
	Community string   // its name
	Permille  uint16   // of the meter, 1 to 1000
}

// wholeMeter is all of a meter, in permille.
const wholeMeter = 1000

// span is where a community's part of the meter lies, in permille from 0 to 1000:
// the parts stand one after the other in the order of the communities' names, so that
// what communities count of a meter adds up to what it counted (see market.ShareOf).
func (h *Household) span(community string) (from, to uint16) {
	if len(h.Participation) == 0 {
		return 0, wholeMeter
	}
	for _, p := range h.Participation {
		if p.Community == community {
			return from, from + p.Permille
		}
		from += p.Permille
	}
	return from, from
}
