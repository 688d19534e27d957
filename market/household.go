package market

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// A HouseholdID is the pseudonym of a ledger member: the first 16 bytes of the
// SHA-256 of its public key. Its text is 32 lower-case hexadecimal digits.
type HouseholdID [16]byte

// HouseholdIDOf returns the id that belongs to a household's public key.
func HouseholdIDOf(pub ed25519.PublicKey) HouseholdID {
	sum := sha256.Sum256(pub)
	return HouseholdID(sum[:16])
}

// ParseHouseholdID reads what String writes, and nothing else: upper-case
// digits are refused, so that one household has one spelling.
func ParseHouseholdID(s string) (HouseholdID, error) {
	var id HouseholdID
	err := id.UnmarshalText([]byte(s))
	return id, err
}

// String returns 32 hexadecimal digits.
func (id HouseholdID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns String as bytes; the error is always nil.
func (id HouseholdID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 32 lower-case hexadecimal digits, or fails with ErrBadID
// and leaves the id as it was.
func (id *HouseholdID) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(id)) {
		return fmt.Errorf("reading household id: got %d characters, want %d: %w", len(text), hex.EncodedLen(len(id)), ErrBadID)
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("reading household id: got %q, want 32 digits of 0-9 and a-f: %w", text, ErrBadID)
		}
	}
	if _, err := hex.Decode(id[:], text); err != nil {
		return fmt.Errorf("reading household id: %w: %w", err, ErrBadID)
	}
	return nil
}
