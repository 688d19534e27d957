package meter

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// readingTag separates the signature of a reading from every other signature of the system.
const readingTag = "commonwatt/reading/1"

// Who signed a reading.
const (
	SignedByAgent  = "agent"
	SignedByDevice = "device"
)

// Errors of signed readings.
var (
	// ErrBadSignature is returned by Verify when the signature does not fit the reading and the key.
	ErrBadSignature = errors.New("bad signature")
	// ErrWrongKey is returned by Verify and Sign when the reading names another meter than the key's.
	ErrWrongKey = errors.New("key is not the meter's")
)

// MeterID names a meter: the first 16 bytes of SHA-256 over its Ed25519 public key.
//
//nolint:revive // Meter is the field of a reading; this is the function that makes one.
func MeterID(pub ed25519.PublicKey) [16]byte {
	sum := sha256.Sum256(pub)
	return [16]byte(sum[:16])
}

// Reading is a sample that counts: numbered, chained and signed. Counters are Wh; nil is unknown.
type Reading struct {
	Meter [16]byte
	// Seq rises by one with each reading of the meter and is never used again.
	Seq uint64
	// Epoch rises when the counter was replaced or reset by an approved act; counters of different epochs are
	// never subtracted from each other.
	Epoch uint32
	// At is UTC, whole milliseconds.
	At                 time.Time
	ImportWh, ExportWh *uint64
	// PowerW is not part of the signed bytes.
	PowerW  *int64
	Quality Quality
	// Source is the definition and its version; not part of the signed bytes.
	Source string
	// Prev is the Hash of the reading before; zero for the first.
	Prev      [32]byte
	Signature []byte
	// SignedBy is SignedByAgent or SignedByDevice.
	SignedBy string
	// DeviceAt and Clock are as in the Sample; not part of the signed bytes, where an unsure clock is a Quality.
	DeviceAt *time.Time
	Clock    ClockState
}

// signedReading fixes order and types of what is signed. It is a contract with the ledger: never change it, add a new tag.
type signedReading struct {
	_        struct{} `cbor:",toarray"`
	Meter    [16]byte
	Seq      uint64
	Epoch    uint32
	AtMs     int64
	ImportWh *uint64
	ExportWh *uint64
	Quality  uint16
	Prev     [32]byte
}

var canonical = func() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants of the library
	}
	return mode
}()

// SignedBytes returns the domain tag followed by the canonical CBOR of the signed fields.
func (r Reading) SignedBytes() []byte {
	body, err := canonical.Marshal(signedReading{
		Meter: r.Meter, Seq: r.Seq, Epoch: r.Epoch, AtMs: r.At.UnixMilli(),
		ImportWh: r.ImportWh, ExportWh: r.ExportWh, Quality: uint16(r.Quality), Prev: r.Prev,
	})
	if err != nil {
		panic(fmt.Sprintf("encoding a reading: %v", err)) // integers and byte arrays cannot fail
	}
	return append([]byte(readingTag), body...)
}

// Hash is SHA-256 over the signed bytes and the signature; the next reading of the meter names it as Prev.
func (r Reading) Hash() [32]byte {
	return sha256.Sum256(append(r.SignedBytes(), r.Signature...))
}

// Sign sets the signature. The reading must name the key's meter.
func (r *Reading) Sign(priv ed25519.PrivateKey) error {
	if len(priv) != ed25519.PrivateKeySize {
		return fmt.Errorf("signing reading %d: got a key of %d bytes, expected %d", r.Seq, len(priv), ed25519.PrivateKeySize)
	}
	if r.Meter != MeterID(priv.Public().(ed25519.PublicKey)) {
		return fmt.Errorf("signing reading %d of meter %x: %w", r.Seq, r.Meter, ErrWrongKey)
	}
	r.Signature = ed25519.Sign(priv, r.SignedBytes())
	return nil
}

// Verify reports whether the reading was signed by the meter's key pub.
func (r Reading) Verify(pub ed25519.PublicKey) error {
	if len(pub) != ed25519.PublicKeySize {
		return fmt.Errorf("verifying reading %d: got a key of %d bytes, expected %d: %w", r.Seq, len(pub), ed25519.PublicKeySize, ErrWrongKey)
	}
	if r.Meter != MeterID(pub) {
		return fmt.Errorf("verifying reading %d of meter %x: %w", r.Seq, r.Meter, ErrWrongKey)
	}
	if len(r.Signature) != ed25519.SignatureSize || !ed25519.Verify(pub, r.SignedBytes(), r.Signature) {
		return fmt.Errorf("verifying reading %d of meter %x: %w", r.Seq, r.Meter, ErrBadSignature)
	}
	return nil
}
