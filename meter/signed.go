package meter

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// SignedProof is a reading that a device signed, verified against the key that came with it. Whether that key is the
// one that the ledger knows for the meter is for the ledger to say.
type SignedProof struct {
	Reading Reading
	Key     ed25519.PublicKey
}

// signedMessage is a signed reading as it travels. It is JSON for the convenience of firmware; what is signed is not:
// the signature is over the CBOR that is made from these numbers again.
type signedMessage struct {
	Meter    string  `json:"meter"` // hex
	Seq      *uint64 `json:"seq"`
	Epoch    *uint32 `json:"epoch"`
	AtMs     *int64  `json:"at_ms"`
	ImportWh *uint64 `json:"import_wh"`
	ExportWh *uint64 `json:"export_wh"`
	Quality  *uint16 `json:"quality"`
	Prev     string  `json:"prev"` // hex
	PowerW   *int64  `json:"power_w,omitempty"`
	Key      string  `json:"key"` // base64
	Sig      string  `json:"sig"` // base64
}

// maxSigned bounds a message; a real one has about 500 bytes.
const maxSigned = 4 << 10

// maxAtMs is the year 9999: later times cannot be written as text.
const maxAtMs = 253402300799999

// EncodeSigned writes a signed reading as firmware publishes it under commonwatt/<device>/reading.
func EncodeSigned(r Reading, key ed25519.PublicKey) ([]byte, error) {
	if err := r.Verify(key); err != nil {
		return nil, fmt.Errorf("encoding a signed reading: %w", err)
	}
	atMs, quality := r.At.UnixMilli(), uint16(r.Quality)
	return json.Marshal(signedMessage{
		Meter: hex.EncodeToString(r.Meter[:]), Seq: &r.Seq, Epoch: &r.Epoch, AtMs: &atMs,
		ImportWh: r.ImportWh, ExportWh: r.ExportWh, Quality: &quality, Prev: hex.EncodeToString(r.Prev[:]),
		PowerW: r.PowerW, Key: base64.StdEncoding.EncodeToString(key), Sig: base64.StdEncoding.EncodeToString(r.Signature),
	})
}

// DecodeSigned reads and verifies what EncodeSigned writes. Unknown keys, missing fields and a signature that does not
// fit are errors.
func DecodeSigned(payload []byte) (SignedProof, error) {
	if len(payload) > maxSigned {
		return SignedProof{}, fmt.Errorf("signed reading: got %d bytes, expected at most %d: %w", len(payload), maxSigned, ErrPayload)
	}
	var m signedMessage
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return SignedProof{}, fmt.Errorf("signed reading: %w: %w", ErrPayload, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return SignedProof{}, fmt.Errorf("signed reading: got more after the object: %w", ErrPayload)
	}
	if m.Seq == nil || m.Epoch == nil || m.AtMs == nil || m.Quality == nil {
		return SignedProof{}, fmt.Errorf("signed reading: expected seq, epoch, at_ms and quality: %w", ErrPayload)
	}
	if *m.AtMs < 0 || *m.AtMs > maxAtMs {
		return SignedProof{}, fmt.Errorf("signed reading: at_ms: got %d, expected 0 to %d: %w", *m.AtMs, int64(maxAtMs), ErrPayload)
	}
	r := Reading{
		Seq: *m.Seq, Epoch: *m.Epoch, At: time.UnixMilli(*m.AtMs).UTC(), ImportWh: m.ImportWh, ExportWh: m.ExportWh,
		PowerW: m.PowerW, Quality: Quality(*m.Quality), SignedBy: SignedByDevice, Signature: make([]byte, ed25519.SignatureSize),
	}
	key := make([]byte, ed25519.PublicKeySize)
	for _, f := range []struct {
		name, text string
		into       []byte
		decode     func(string) ([]byte, error)
	}{
		{"meter", m.Meter, r.Meter[:], hex.DecodeString},
		{"prev", m.Prev, r.Prev[:], hex.DecodeString},
		{"key", m.Key, key, base64.StdEncoding.Strict().DecodeString},
		{"sig", m.Sig, r.Signature, base64.StdEncoding.Strict().DecodeString},
	} {
		b, err := f.decode(f.text)
		if err != nil || len(b) != len(f.into) {
			return SignedProof{}, fmt.Errorf("signed reading: %s: got %d characters, expected %d encoded bytes: %w", f.name, len(f.text), len(f.into), ErrPayload)
		}
		copy(f.into, b)
	}
	if err := r.Verify(key); err != nil {
		return SignedProof{}, fmt.Errorf("signed reading: %w: %w", ErrPayload, err)
	}
	return SignedProof{Reading: r, Key: key}, nil
}
