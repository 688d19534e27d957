package p2p

import (
	"crypto/ed25519"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// KeyOf returns the network key that an identity belongs to: the reverse of IDOf.
func KeyOf(id PeerID) (ed25519.PublicKey, error) {
	decoded, err := peer.Decode(string(id))
	if err != nil {
		return nil, fmt.Errorf("reading peer id: %w", err)
	}
	key, err := decoded.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("reading peer id %s: %w", id, err)
	}
	raw, err := key.Raw()
	if err != nil {
		return nil, fmt.Errorf("reading peer id %s: %w", id, err)
	}
	if len(raw) != ed25519.PublicKeySize || key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("reading peer id %s: it is of another kind of key, want Ed25519", id)
	}
	return raw, nil
}
