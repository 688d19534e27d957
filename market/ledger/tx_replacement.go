package ledger

import (
	"crypto/ed25519"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// ReplaceMeter says that a household's meter, or the counter in it, is another one from
// the Interval From on: it was exchanged, repaired or reset. The household's device signs
// it and officers of the cooperative approve, because it breaks the chain of readings: what
// flowed between the last reading of the old counter and the first of the new one is
// proven by neither, and is settled on substitutes or by a correction.
//
// With the key that the meter has, a new epoch of it begins. With another key the household
// is settled on another meter; the old one can still report what it counted before.
type ReplaceMeter struct {
	_          struct{} `cbor:",toarray"`
	Meter      MeterID  // on which the household is settled until now
	From       market.Interval
	Epoch      uint32 // that of the new counter's readings; above the old one's if the key stays
	Key        Key
	SignedBy   SignedBy
	Definition string
	Reason     string
	Approvals  []Approval
}

type replacementDecision struct {
	_          struct{} `cbor:",toarray"`
	Household  market.HouseholdID
	Meter      MeterID
	From       market.Interval
	Epoch      uint32
	Key        Key
	SignedBy   SignedBy
	Definition string
	Reason     string
}

// ApprovalBytes is what officers sign to approve the replacement for the household.
func (r *ReplaceMeter) ApprovalBytes(chainID string, h market.HouseholdID) []byte {
	return append(domain("replacement-approval", chainID), encode(replacementDecision{
		Household: h, Meter: r.Meter, From: r.From, Epoch: r.Epoch, Key: r.Key, SignedBy: r.SignedBy,
		Definition: r.Definition, Reason: r.Reason,
	})...)
}

// Sign makes the transaction, with the household's device key.
func (r *ReplaceMeter) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindReplacement, chainID, h, r, device)
}

func (r *ReplaceMeter) shape() *Refusal {
	if r.From < 0 || r.From > market.MaxInterval {
		return refuse(CodeMalformed, "from", "got %d", r.From)
	}
	if refusal := checkMeterShape(r.SignedBy, r.Definition); refusal != nil {
		return refusal
	}
	if r.Reason == "" || len(r.Reason) > maxReasonBytes {
		return refuse(CodeMalformed, "reason", "got %d bytes, want 1 to %d", len(r.Reason), maxReasonBytes)
	}
	return checkApprovalShape(r.Approvals)
}

func (r *ReplaceMeter) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if refusal := d.staying(tx, h, r.From); refusal != nil {
		return refusal
	}
	m, ok := d.meter(h.Meter)
	if !h.HasMeter || !ok || h.Meter != r.Meter {
		return refuse(CodeUnknownMeter, "meter", "%s is not the meter of household %s", r.Meter, tx.env.Household)
	}
	if r.From <= m.Last || r.From > d.next() {
		return refuse(CodeAlreadyReported, "from", "got %d, want %d, the first that is not reported, to %d, the next gate's", r.From, m.Last+1, d.next())
	}
	switch {
	case r.Key != m.Key:
		if refusal := d.freeMeterKey(h, r.Key); refusal != nil {
			return refusal
		}
	case m.EpochKnown && r.Epoch <= m.Epoch:
		return refuse(CodeSequenceUsed, "epoch", "got %d, want above %d: the key stays", r.Epoch, m.Epoch)
	}
	return d.checkApprovals(r.Approvals)
}

func (r *ReplaceMeter) signer(d *draft, tx *Tx) (Key, *Refusal) { return d.deviceOf(tx) }

func (r *ReplaceMeter) verify(d *draft, tx *Tx) *Refusal {
	return d.verifyApprovals(r.Approvals, r.ApprovalBytes(d.base.chainID, tx.env.Household))
}

func (r *ReplaceMeter) apply(d *draft, tx *Tx) error {
	old, err := d.editMeter(r.Meter)
	if err != nil {
		return err
	}
	if r.Key == old.Key {
		if r.From > old.Last+1 {
			// The old counter may still report this, up to a boundary that nobody has named yet.
			old.Gaps = append(slices.Clip(old.Gaps), Gap{From: old.Last + 1, To: r.From - 1, Start: old.LastEnd})
		}
		old.SignedBy, old.Definition = r.SignedBy, r.Definition
		old.EpochKnown, old.Epoch, old.EpochFrom = true, r.Epoch, r.From
		old.Last, old.LastEnd = r.From-1, [32]byte{}
		return nil
	}
	h, err := d.editHousehold(tx.env.Household)
	if err != nil {
		return err
	}
	old.Until = r.From
	h.Meter = MeterIDOf(r.Key)
	d.meters[h.Meter] = &Meter{
		Key: r.Key, Household: tx.env.Household, SignedBy: r.SignedBy, Definition: r.Definition,
		From: r.From, Last: r.From - 1, EpochKnown: true, Epoch: r.Epoch, EpochFrom: r.From,
	}
	return nil
}
