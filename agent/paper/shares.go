package paper

import (
	"errors"
	"fmt"
	"io"
)

// MaxShares bounds how many shares a secret is split into.
const MaxShares = 16

// Share is one of several, of which Need are enough to get the secret back.
type Share struct {
	Number byte // 1 and up: where the polynomials are evaluated
	Need   byte
	Value  [32]byte
}

// Split makes n shares of a secret, of which any need are enough (Shamir,
// https://doi.org/10.1145/359168.359176, over GF(2^8), a polynomial for each byte).
func Split(secret [32]byte, n, need int, random io.Reader) ([]Share, error) {
	if n < 2 || n > MaxShares {
		return nil, fmt.Errorf("shares: got %d, want 2 to %d", n, MaxShares)
	}
	if need < 2 || need > n {
		return nil, fmt.Errorf("shares needed: got %d, want 2 to %d", need, n)
	}
	coefficients := make([][32]byte, need)
	coefficients[0] = secret
	for i := 1; i < need; i++ {
		if _, err := io.ReadFull(random, coefficients[i][:]); err != nil {
			return nil, fmt.Errorf("making shares: %w", err)
		}
	}
	shares := make([]Share, n)
	for i := range shares {
		s := Share{Number: byte(i + 1), Need: byte(need)} //nolint:gosec // at most 16
		for j := range s.Value {
			for k := need - 1; k >= 0; k-- { // Horner
				s.Value[j] = mul256(s.Value[j], s.Number) ^ coefficients[k][j]
			}
		}
		shares[i] = s
	}
	return shares, nil
}

// ErrShares says that these shares do not give a secret.
var ErrShares = errors.New("shares")

// Combine finds the secret. Shares of different secrets give a wrong one: who combines
// compares the result with what it should belong to.
func Combine(shares []Share) (secret [32]byte, err error) {
	if len(shares) == 0 {
		return secret, fmt.Errorf("%w: got none", ErrShares)
	}
	need := int(shares[0].Need)
	seen := map[byte]bool{}
	for _, s := range shares {
		switch {
		case s.Number < 1 || s.Number > MaxShares:
			return secret, fmt.Errorf("%w: got number %d, want 1 to %d", ErrShares, s.Number, MaxShares)
		case int(s.Need) != need:
			return secret, fmt.Errorf("%w: share %d is one of which %d are needed, share %d one of which %d are: they were made at different times",
				ErrShares, shares[0].Number, need, s.Number, s.Need)
		case seen[s.Number]:
			return secret, fmt.Errorf("%w: share %d is there twice, want %d different ones", ErrShares, s.Number, need)
		}
		seen[s.Number] = true
	}
	if need < 2 || need > MaxShares || len(shares) < need {
		return secret, fmt.Errorf("%w: got %d, want %d", ErrShares, len(shares), need)
	}
	shares = shares[:need]
	for i, s := range shares {
		weight := byte(1) // Lagrange at 0
		for k, o := range shares {
			if k != i {
				weight = mul256(weight, mul256(o.Number, inverse256(o.Number^s.Number)))
			}
		}
		for j := range secret {
			secret[j] ^= mul256(weight, s.Value[j])
		}
	}
	return secret, nil
}

// mul256 multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, in the same time for all values.
func mul256(a, b byte) (p byte) {
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse256 is the 254th power.
func inverse256(a byte) byte {
	r := byte(1)
	for range 7 {
		a = mul256(a, a)
		r = mul256(r, a)
	}
	return r
}
