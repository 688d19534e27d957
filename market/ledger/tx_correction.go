package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"slices"

	"github.com/cometbft/cometbft/crypto/merkle"

	"github.com/commonwatt/commonwatt/market"
)

// maxPath bounds a path in the tree of an Interval's Settlements.
const maxPath = 32

// CorrectReport says what a household's meter should have counted in an Interval that is
// settled: the part of it that takes part here, as it stands in the Settlement. The
// household's device signs it and officers of the cooperative approve, because no
// reading proves it. Inside the correction window it makes new Transfers for the
// difference (R5).
//
// The ledger does not keep what it has settled, only its root: so the correction brings
// the Settlement that it corrects, and the path to the root. Where the ledger still has
// the entry (a substitute, or what was corrected before), both are empty.
type CorrectReport struct {
	_         struct{} `cbor:",toarray"`
	Interval  market.Interval
	Version   uint32 // of the Settlement that it corrects: a correction is for one of them
	Import    market.WattHours
	Export    market.WattHours
	Reason    string
	Old       []byte // encoded Settlement
	Index     int64  // its place among the leaves, and their number
	Total     int64
	Aunts     [][]byte
	Approvals []Approval
}

type correctionDecision struct {
	_         struct{} `cbor:",toarray"`
	Household market.HouseholdID
	Interval  market.Interval
	Version   uint32
	Import    market.WattHours
	Export    market.WattHours
	Reason    string
}

// ApprovalBytes is what officers sign to approve the correction for the household.
func (c *CorrectReport) ApprovalBytes(chainID string, h market.HouseholdID) []byte {
	return append(domain("correction-approval", chainID), encode(correctionDecision{
		Household: h, Interval: c.Interval, Version: c.Version, Import: c.Import, Export: c.Export, Reason: c.Reason,
	})...)
}

// Sign makes the transaction, with the household's device key.
func (c *CorrectReport) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindCorrection, chainID, h, c, device)
}

// ProveSettlement fills in what the correction needs of the Interval's first Settlements,
// all of them in the order of their households, of which at is the household's own.
func (c *CorrectReport) ProveSettlement(all []*Settlement, at int) {
	leaves := make([][]byte, len(all))
	for i, s := range all {
		leaves[i] = SettlementLeaf(s.Household, s.Encode())
	}
	_, proofs := merkle.ProofsFromByteSlices(leaves)
	c.Old, c.Index, c.Total, c.Aunts = all[at].Encode(), proofs[at].Index, proofs[at].Total, proofs[at].Aunts
}

func (c *CorrectReport) shape() *Refusal {
	switch {
	case c.Interval < 0 || c.Interval > market.MaxInterval:
		return refuse(CodeMalformed, "interval", "got %d", c.Interval)
	case c.Import < 0:
		return refuse(CodeBadQuantity, "import", "got %d Wh, want 0 or more", c.Import)
	case c.Export < 0:
		return refuse(CodeBadQuantity, "export", "got %d Wh, want 0 or more", c.Export)
	case c.Reason == "" || len(c.Reason) > maxReasonBytes:
		return refuse(CodeMalformed, "reason", "got %d bytes, want 1 to %d", len(c.Reason), maxReasonBytes)
	case len(c.Aunts) > maxPath || slices.ContainsFunc(c.Aunts, func(a []byte) bool { return len(a) != sha256.Size }):
		return refuse(CodeBadProof, "aunts", "want at most %d hashes of %d bytes", maxPath, sha256.Size)
	}
	return checkApprovalShape(c.Approvals)
}

func (c *CorrectReport) check(d *draft, tx *Tx) *Refusal {
	if _, refusal := d.member(tx); refusal != nil {
		return refusal
	}
	if c.Interval >= d.next() {
		return refuse(CodeNotCleared, "interval", "the gate of %d has not closed yet, the next is %d", c.Interval, d.next())
	}
	most := d.rulesAt(c.Interval).MaxWattHours
	if c.Import > most || c.Export > most {
		return refuse(CodeBadQuantity, "import", "got %d and %d Wh, want at most %d", c.Import, c.Export, most)
	}
	old, refusal := c.corrected(d, tx.env.Household)
	if refusal != nil {
		return refusal
	}
	if old.Version != c.Version {
		return refuse(CodeSequenceUsed, "version", "got %d, the newest settlement is version %d", c.Version, old.Version)
	}
	if old.Import == c.Import && old.Export == c.Export {
		return refuse(CodeBadQuantity, "import", "got %d and %d Wh, on which the interval is settled already", c.Import, c.Export)
	}
	return d.checkApprovals(c.Approvals)
}

// corrected finds the entry that is corrected: in the ledger, or proven by the root.
func (c *CorrectReport) corrected(d *draft, id market.HouseholdID) (Entry, *Refusal) {
	r, ok := d.interval(c.Interval)
	if !ok {
		return Entry{}, d.final(c.Interval)
	}
	if r.State != IntervalSettled {
		return Entry{}, refuse(CodeNotSettled, "interval", "%d is not settled yet: report what the meter counted", c.Interval)
	}
	if e, ok := d.entry(c.Interval, id); ok {
		return e, nil
	}
	s, err := DecodeSettlement(id, c.Old)
	if err != nil {
		return Entry{}, refuse(CodeBadProof, "old", "%v", err)
	}
	proof := merkle.Proof{Total: c.Total, Index: c.Index, Aunts: c.Aunts}
	leaf := SettlementLeaf(id, c.Old)
	proof.LeafHash = merkle.HashFromByteSlices([][]byte{leaf})
	if s.Interval != c.Interval || proof.Verify(r.Root[:], leaf) != nil {
		return Entry{}, refuse(CodeBadProof, "old", "is not the settlement of %s for interval %d", id, c.Interval)
	}
	return entryOf(s), nil
}

// entryOf is the entry that a first Settlement was made of, but for its orders' steps.
func entryOf(s *Settlement) Entry {
	e := Entry{
		Household: s.Household, BidSeq: s.BidSeq, OfferSeq: s.OfferSeq, Node: s.Node, Bought: s.Bought, Sold: s.Sold,
		Import: s.Import, Export: s.Export, Quality: s.Quality, StartSeq: s.StartSeq, EndSeq: s.EndSeq, Version: s.Version,
	}
	for _, m := range s.Moves {
		amount := m.Amount
		switch {
		case m.Kind == market.KindBuy && m.Debit == 0, m.Kind == market.KindSell && m.Credit == 0:
		case m.Kind == market.KindBuy, m.Kind == market.KindSell:
			amount = -amount // a negative price
		default:
			continue
		}
		if m.Kind == market.KindBuy {
			e.Buy = amount
		} else {
			e.Sell = amount
		}
	}
	return e
}

func (c *CorrectReport) signer(d *draft, tx *Tx) (Key, *Refusal) { return d.deviceOf(tx) }

func (c *CorrectReport) verify(d *draft, tx *Tx) *Refusal {
	return d.verifyApprovals(c.Approvals, c.ApprovalBytes(d.base.chainID, tx.env.Household))
}

func (c *CorrectReport) apply(d *draft, tx *Tx) error {
	old, refusal := c.corrected(d, tx.env.Household)
	if refusal != nil {
		return refusal // check has asked before
	}
	*d.editEntry(c.Interval, tx.env.Household) = old
	r := d.editInterval(c.Interval)
	i, _ := r.find(tx.env.Household)
	e := &r.Entries[i]
	e.Import, e.Export, e.Quality, e.StartSeq, e.EndSeq = c.Import, c.Export, QualityCorrected, 0, 0
	return d.correct(c.Interval, r, old, e)
}
