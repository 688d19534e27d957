package ledger

import (
	"crypto/ed25519"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// SetDevice puts another gateway in the place of a household's: the old one was lost,
// broken or stolen. The household's cold key signs it, because the device key may be in
// wrong hands. From the next transaction on the old device key signs nothing and the old
// network key is no member's. Both keys zero revoke the gateway until another SetDevice
// brings one.
//
// The new keys sign as well: else a household could take a key that another home is about
// to bring, and so keep it out.
type SetDevice struct {
	_            struct{} `cbor:",toarray"`
	Seq          uint64   // above the last one's
	Device       Key
	Network      Key
	DeviceProof  []byte // by Device over PossessionBytes; null when the gateway is revoked
	NetworkProof []byte // by Network
}

type possession struct {
	_         struct{} `cbor:",toarray"`
	Household market.HouseholdID
	Seq       uint64
	Device    Key
	Network   Key
}

// PossessionBytes is what the new keys sign to show that the gateway has them.
func (s *SetDevice) PossessionBytes(chainID string, h market.HouseholdID) []byte {
	return append(domain("device-possession", chainID),
		encode(possession{Household: h, Seq: s.Seq, Device: s.Device, Network: s.Network})...)
}

// NewDevice is the SetDevice of a gateway that has these keys.
func NewDevice(chainID string, h market.HouseholdID, seq uint64, device, network ed25519.PrivateKey) *SetDevice {
	s := &SetDevice{Seq: seq, Device: publicOf(device), Network: publicOf(network)}
	msg := s.PossessionBytes(chainID, h)
	s.DeviceProof, s.NetworkProof = ed25519.Sign(device, msg), ed25519.Sign(network, msg)
	return s
}

func publicOf(k ed25519.PrivateKey) Key {
	return KeyOf(k.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
}

// Sign makes the transaction, with the household's cold key.
func (s *SetDevice) Sign(chainID string, h market.HouseholdID, household ed25519.PrivateKey) []byte {
	return sign(KindDevice, chainID, h, s, household)
}

func (s *SetDevice) revokes() bool { return s.Device == Key{} && s.Network == Key{} }

func (s *SetDevice) shape() *Refusal {
	if s.revokes() {
		if s.DeviceProof != nil || s.NetworkProof != nil {
			return refuse(CodeMalformed, "device_proof", "got one, want none where no gateway comes")
		}
		return nil
	}
	if refusal := checkGatewayKeys(s.Device, s.Network); refusal != nil {
		return refusal
	}
	for _, x := range []struct {
		name  string
		proof []byte
	}{{"device_proof", s.DeviceProof}, {"network_proof", s.NetworkProof}} {
		if len(x.proof) != ed25519.SignatureSize {
			return refuse(CodeBadSignature, x.name, "%d bytes, want %d", len(x.proof), ed25519.SignatureSize)
		}
	}
	return nil
}

// checkGatewayKeys wants two keys: all zero means that there is none.
func checkGatewayKeys(device, network Key) *Refusal {
	switch {
	case device == Key{}:
		return refuse(CodeBadKey, "device", "is all zero, want a key")
	case network == Key{}:
		return refuse(CodeBadKey, "network", "is all zero, want a key")
	case device == network:
		return refuse(CodeBadKey, "network", "is the device key as well: one key, one purpose")
	}
	return nil
}

func (s *SetDevice) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if s.Seq <= h.DeviceSeq {
		return refuse(CodeSequenceUsed, "seq", "got %d, want above %d", s.Seq, h.DeviceSeq)
	}
	if d.closed(h) {
		return refuse(CodeLeft, "household", "%s has left, and its last month is closed", tx.env.Household)
	}
	if s.revokes() {
		return nil
	}
	for _, x := range []struct {
		field string
		key   Key
	}{{"device", s.Device}, {"network", s.Network}} {
		if use := d.useOf(x.key); use != "" {
			return refuse(CodeBadKey, x.field, "is %s: a new gateway has keys of its own", use)
		}
	}
	return nil
}

// useOf says in words whose key it is in this state, "" if nobody's. It looks at every
// household: one key has one purpose, and one gateway.
func (d *draft) useOf(key Key) string {
	g := &d.base.genesis
	for _, list := range []struct {
		keys  []Key
		words string
	}{{g.Officers, "an officer's key"}, {g.Operators, "a grid operator's key"}, {g.Founders, "a founder's network key"}} {
		if slices.Contains(list.keys, key) {
			return list.words
		}
	}
	if v, ok := d.validator(key); ok {
		if !v.votes() {
			return "that of a validator who has signed two blocks of one height"
		}
		return "a validator's key"
	}
	if m, ok := d.meter(MeterIDOf(key)); ok {
		return "the key of a meter of household " + m.Household.String()
	}
	for id, h := range d.allHouseholds() {
		switch key {
		case h.Key:
			return "the key of household " + id.String()
		case h.Device:
			return "the device key of household " + id.String()
		case h.Network:
			return "the network key of household " + id.String()
		}
	}
	return ""
}

func (s *SetDevice) signer(d *draft, tx *Tx) (Key, *Refusal) {
	h, refusal := d.member(tx)
	if refusal != nil {
		return Key{}, refusal
	}
	return h.Key, nil
}

func (s *SetDevice) verify(d *draft, tx *Tx) *Refusal {
	if s.revokes() {
		return nil
	}
	msg := s.PossessionBytes(d.base.chainID, tx.env.Household)
	if !d.signed(s.Device, msg, s.DeviceProof) {
		return refuse(CodeBadSignature, "device_proof", "does not match key %s", s.Device)
	}
	if !d.signed(s.Network, msg, s.NetworkProof) {
		return refuse(CodeBadSignature, "network_proof", "does not match key %s", s.Network)
	}
	return nil
}

func (s *SetDevice) apply(d *draft, tx *Tx) error {
	h, err := d.editHousehold(tx.env.Household)
	if err != nil {
		return err
	}
	h.DeviceSeq, h.Device, h.Network = s.Seq, s.Device, s.Network
	return nil
}
