package ledger

import (
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market"
)

const maxDefinitionBytes = 64

// RegisterMeter names the meter on which a household is settled. It is signed by
// the household's device and approved by officers. A household has one.
type RegisterMeter struct {
	_          struct{} `cbor:",toarray"`
	Key        Key      // signs the readings
	SignedBy   SignedBy
	Definition string // device definition and version, such as "eastron-sdm630@1"
	Approvals  []Approval
}

type meterAdmission struct {
	_          struct{} `cbor:",toarray"`
	Household  market.HouseholdID
	Key        Key
	SignedBy   SignedBy
	Definition string
}

// AdmissionBytes is what an officer signs to admit the household's meter.
func (r *RegisterMeter) AdmissionBytes(chainID string, h market.HouseholdID) []byte {
	return append(domain("meter-admission", chainID),
		encode(meterAdmission{Household: h, Key: r.Key, SignedBy: r.SignedBy, Definition: r.Definition})...)
}

// Sign makes the transaction, with the household's device key.
func (r *RegisterMeter) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindMeter, chainID, h, r, device)
}

func (r *RegisterMeter) shape() *Refusal {
	if refusal := checkMeterShape(r.SignedBy, r.Definition); refusal != nil {
		return refusal
	}
	return checkApprovalShape(r.Approvals)
}

func checkMeterShape(by SignedBy, definition string) *Refusal {
	if by != SignedByAgent && by != SignedByDevice {
		return refuse(CodeMalformed, "signed_by", "got %d, want 1 (agent) or 2 (device)", by)
	}
	if n := len(definition); n < 1 || n > maxDefinitionBytes {
		return refuse(CodeMalformed, "definition", "got %d bytes, want 1 to %d", n, maxDefinitionBytes)
	}
	return nil
}

func (r *RegisterMeter) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if refusal := d.staying(tx, h, d.next()); refusal != nil {
		return refusal
	}
	if h.HasMeter {
		return refuse(CodeAlreadyRegistered, "household", "%s already has meter %s", tx.env.Household, h.Meter)
	}
	if refusal := d.freeMeterKey(h, r.Key); refusal != nil {
		return refusal
	}
	return d.checkApprovals(r.Approvals)
}

// freeMeterKey wants a key that no meter has or had, and that is none of the household's own.
func (d *draft) freeMeterKey(h *Household, key Key) *Refusal {
	if key == h.Key || key == h.Device || key == h.Network {
		return refuse(CodeBadKey, "key", "is another key of the household: one key, one purpose")
	}
	if m, ok := d.meter(MeterIDOf(key)); ok {
		return refuse(CodeAlreadyRegistered, "key", "meter %s belongs to household %s", MeterIDOf(key), m.Household)
	}
	return nil
}

func (r *RegisterMeter) signer(d *draft, tx *Tx) (Key, *Refusal) { return d.deviceOf(tx) }

func (r *RegisterMeter) verify(d *draft, tx *Tx) *Refusal {
	return d.verifyApprovals(r.Approvals, r.AdmissionBytes(d.base.chainID, tx.env.Household))
}

func (r *RegisterMeter) apply(d *draft, tx *Tx) error {
	h, err := d.editHousehold(tx.env.Household)
	if err != nil {
		return err
	}
	h.Meter, h.HasMeter = MeterIDOf(r.Key), true
	d.meters[h.Meter] = &Meter{
		Key: r.Key, Household: tx.env.Household, SignedBy: r.SignedBy, Definition: r.Definition,
		From: d.next(), Last: d.next() - 1, EpochFrom: d.next(),
	}
	return nil
}

// member returns the record of the household that sent tx.
func (d *draft) member(tx *Tx) (*Household, *Refusal) {
	h, ok := d.household(tx.env.Household)
	if !ok {
		return nil, refuse(CodeUnknownHousehold, "household", "%s is not registered", tx.env.Household)
	}
	return h, nil
}

func (d *draft) deviceOf(tx *Tx) (Key, *Refusal) {
	h, refusal := d.member(tx)
	if refusal != nil {
		return Key{}, refusal
	}
	if h.Device == (Key{}) {
		return Key{}, refuse(CodeNoDevice, "household", "the gateway of %s is revoked: its recovery words bring another", tx.env.Household)
	}
	return h.Device, nil
}
