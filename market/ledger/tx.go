package ledger

import (
	"crypto/ed25519"
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/commonwatt/commonwatt/market"
)

// MaxTxBytes bounds one transaction; the largest honest one (a household's
// admission with 64 approvals) has less.
const MaxTxBytes = 8192

// Kind says what a transaction does. Numbers are part of the protocol.
type Kind uint8

// The kinds; each has a file tx_<name>.go and a row in the table below.
const (
	KindHousehold   Kind = 1
	KindMeter       Kind = 2
	KindPreference  Kind = 3
	KindOrder       Kind = 4
	KindReport      Kind = 5
	KindTick        Kind = 6
	KindNetwork     Kind = 7
	KindRules       Kind = 8
	KindEnvelope    Kind = 9
	KindMembership  Kind = 10
	KindCorrection  Kind = 11
	KindReplacement Kind = 12
	KindDevice      Kind = 13
	KindDeparture   Kind = 14
	KindValidator   Kind = 15
)

// body is what a kind of transaction brings. The calls come in this order, and
// none but apply may change anything.
type body interface {
	// shape judges what needs no state: sizes, order of steps, keys.
	shape() *Refusal
	// check judges against the state: may this be done now?
	check(d *draft, tx *Tx) *Refusal
	// signer is the key whose signature the transaction needs in this state; a
	// refusal if this state does not know all keys that verify needs.
	signer(d *draft, tx *Tx) (Key, *Refusal)
	// verify judges the signatures inside the body (approvals, readings). With
	// the same signer its answer is the same in every state, which is why it can be
	// remembered: what a decision can change belongs into check.
	verify(d *draft, tx *Tx) *Refusal
	// apply changes the draft. An error is a broken invariant, not a refusal.
	apply(d *draft, tx *Tx) error
}

// kinds is the table of all transactions: adding one is a row here and a file.
var kinds = map[Kind]struct {
	name string
	from sender
	new  func() body
}{
	KindHousehold:   {"household", fromHousehold, func() body { return new(RegisterHousehold) }},
	KindMeter:       {"meter", fromHousehold, func() body { return new(RegisterMeter) }},
	KindPreference:  {"preference", fromHousehold, func() body { return new(SetPreference) }},
	KindOrder:       {"order", fromHousehold, func() body { return new(PlaceOrder) }},
	KindReport:      {"report", fromHousehold, func() body { return new(ReportMeter) }},
	KindTick:        {"tick", fromProposer, func() body { return new(Tick) }},
	KindNetwork:     {"network", fromOffice, func() body { return new(SetNetwork) }},
	KindRules:       {"rules", fromOffice, func() body { return new(SetRules) }},
	KindEnvelope:    {"envelope", fromOffice, func() body { return new(SetEnvelope) }},
	KindMembership:  {"membership", fromHousehold, func() body { return new(SetMembership) }},
	KindCorrection:  {"correction", fromHousehold, func() body { return new(CorrectReport) }},
	KindReplacement: {"replacement", fromHousehold, func() body { return new(ReplaceMeter) }},
	KindDevice:      {"device", fromHousehold, func() body { return new(SetDevice) }},
	KindDeparture:   {"departure", fromHousehold, func() body { return new(Depart) }},
	KindValidator:   {"validator", fromOffice, func() body { return new(SetValidator) }},
}

// sender says on whose behalf a kind comes.
type sender uint8

const (
	fromHousehold sender = iota // the envelope names it
	fromOffice                  // an officer or a grid operator, whom the body names: no household
	fromProposer                // neither household nor signature: the block is signed
)

// Kinds returns all kinds of the table, in order of their numbers.
func Kinds() []Kind { return slices.Sorted(maps.Keys(kinds)) }

// String returns the kind's name, which is also in its domain tag.
func (k Kind) String() string {
	if row, ok := kinds[k]; ok {
		return row.name
	}
	return "unknown"
}

// Decides says whether officers or a grid operator decide by this kind, or who belongs
// together changes.
func (k Kind) Decides() bool { return kinds[k].from == fromOffice || k == KindMembership }

// envelope is a transaction as it travels.
type envelope struct {
	_         struct{} `cbor:",toarray"`
	Kind      Kind
	Household market.HouseholdID // all zero unless the kind comes from a household
	Body      cbor.RawMessage
	Signature []byte // Ed25519 over signedBytes; empty in a tick
}

// Tx is a decoded transaction. It is not safe for concurrent CheckTx, since
// that remembers whose signature was found right.
type Tx struct {
	env        envelope
	body       body
	raw        []byte
	hash       [32]byte
	verifiedBy Key
	verified   bool
}

// DecodeTx reads one transaction strictly: canonical bytes, bounded size, known
// kind, plausible content. It verifies no signature. The error is a *Refusal.
func DecodeTx(b []byte) (*Tx, error) {
	if len(b) > MaxTxBytes {
		return nil, refuse(CodeOversized, "", "%d bytes, want at most %d", len(b), MaxTxBytes)
	}
	tx := &Tx{raw: b, hash: sha256.Sum256(b)}
	if err := decode(b, &tx.env); err != nil {
		return nil, refuse(CodeMalformed, "", "%v", err)
	}
	row, ok := kinds[tx.env.Kind]
	if !ok {
		return nil, refuse(CodeUnknownKind, "kind", "got %d", tx.env.Kind)
	}
	tx.body = row.new()
	if err := decode(tx.env.Body, tx.body); err != nil {
		return nil, refuse(CodeMalformed, row.name, "%v", err)
	}
	if err := tx.shape(); err != nil {
		return nil, err
	}
	return tx, nil
}

// shape judges what needs no state.
func (tx *Tx) shape() *Refusal {
	from := kinds[tx.env.Kind].from
	switch n := len(tx.env.Signature); {
	case from != fromProposer && n != ed25519.SignatureSize:
		return refuse(CodeBadSignature, "signature", "%d bytes, want %d", n, ed25519.SignatureSize)
	case from == fromOffice && tx.env.Household != market.HouseholdID{}:
		return refuse(CodeMalformed, "household", "got %s, want none in a transaction of this kind", tx.env.Household)
	case from == fromProposer && (tx.env.Household != market.HouseholdID{} || tx.env.Signature == nil || n != 0):
		// nil is null in CBOR: a second spelling of the empty signature
		return refuse(CodeMalformed, "tick", "has no household and an empty signature")
	}
	return tx.body.shape()
}

// Kind returns what the transaction does.
func (tx *Tx) Kind() Kind { return tx.env.Kind }

// OfOffice says whether officers or a grid operator decide by it.
func (tx *Tx) OfOffice() bool { return kinds[tx.env.Kind].from == fromOffice }

// NewDevice returns the device key that the transaction brings its household.
func (tx *Tx) NewDevice() (Key, bool) {
	switch b := tx.body.(type) {
	case *SetDevice:
		return b.Device, !b.revokes()
	case *RegisterHousehold:
		return b.Device, true
	}
	return Key{}, false
}

// Household returns on whose behalf it comes; zero if on no household's.
func (tx *Tx) Household() market.HouseholdID { return tx.env.Household }

// Hash returns the SHA-256 of its bytes.
func (tx *Tx) Hash() [32]byte { return tx.hash }

// Bytes returns the bytes it was decoded from; the caller must not change them.
func (tx *Tx) Bytes() []byte { return tx.raw }

// VerifiedBy returns the key with which CheckTx found all signatures right.
func (tx *Tx) VerifiedBy() (Key, bool) { return tx.verifiedBy, tx.verified }

// signedBytes are what the signature of a transaction covers: domain tag, chain
// and household, each ended by a zero byte or of fixed length, then the body.
func signedBytes(kind Kind, chainID string, h market.HouseholdID, body []byte) []byte {
	b := domain(kind.String(), chainID)
	b = append(b, h[:]...)
	return append(b, body...)
}

func domain(purpose, chainID string) []byte {
	return []byte("commonwatt/" + purpose + "/1\x00" + chainID + "\x00")
}

// sign makes a transaction. The bodies are this package's own types, so encoding
// cannot fail.
func sign(kind Kind, chainID string, h market.HouseholdID, b body, key ed25519.PrivateKey) []byte {
	raw := encode(b)
	return encode(envelope{
		Kind: kind, Household: h, Body: raw,
		Signature: ed25519.Sign(key, signedBytes(kind, chainID, h, raw)),
	})
}

// CheckTx says whether the transaction would be accepted by this state now, content
// and signatures. It changes nothing in the state. The error is a *Refusal.
func (s *State) CheckTx(tx *Tx) error {
	if tx.Kind() == KindTick {
		return refuse(CodeTickMisplaced, "kind", "a tick comes from the proposer of a block, not from a member")
	}
	if err := newDraft(s).judge(tx, nil); err != nil {
		return err
	}
	return nil
}

// VerifyTx judges the signatures alone. It answers by the state and the bytes,
// never by time, so a proposal may be refused by it. A signer or meter that the
// state does not know is no reason, since the transaction before it in the block
// may make it known; nothing is then remembered as verified.
func (s *State) VerifyTx(tx *Tx, known func(hash [32]byte, by Key) bool) error {
	if tx.Kind() == KindTick {
		return nil
	}
	d := newDraft(s)
	if _, err := tx.body.signer(d, tx); err != nil {
		return nil //nolint:nilerr // see above: unknown is not forged
	}
	if err := tx.verify(d, known); err != nil {
		return err
	}
	return nil
}

// verify judges all signatures of tx in the draft's state; known may say that
// they have been found right before with the same key.
func (tx *Tx) verify(d *draft, known func(hash [32]byte, by Key) bool) *Refusal {
	key, err := tx.body.signer(d, tx)
	if err != nil {
		return err
	}
	if tx.verified && tx.verifiedBy == key || known != nil && known(tx.hash, key) {
		return nil
	}
	msg := signedBytes(tx.env.Kind, d.base.chainID, tx.env.Household, tx.env.Body)
	if !d.signed(key, msg, tx.env.Signature) {
		return refuse(CodeBadSignature, "signature", "does not match key %s", key)
	}
	if err := tx.body.verify(d, tx); err != nil {
		return err
	}
	if d.batch != nil {
		d.batch.txs = append(d.batch.txs, signedTx{tx: tx, key: key})
		return nil
	}
	tx.verifiedBy, tx.verified = key, true
	return nil
}
