package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// AskMembers asks whose gateways may connect: network keys, and nothing else of anybody.
const AskMembers Question = 30

// MembersQuestion asks for the network keys of all members, if they are others than those that
// the asker has.
type MembersQuestion struct {
	_    struct{} `cbor:",toarray"`
	Have [32]byte // SHA-256 of the Keys that it has; zeros: it has none
}

// MembersAnswer has them. No header proves them: a key is part of its household's record, and
// that is not given away. So they serve to decide whom to talk to, never whom to believe.
type MembersAnswer struct {
	_    struct{} `cbor:",toarray"`
	Same bool     // they are those that the asker has, and Keys is empty
	Keys []byte   // one after the other, in ascending order
}

// maxMembers bounds the list, at 2 MiB. There are no more leaves than that either.
const maxMembers = maxLeaves

func answerMembers(_ context.Context, n *Node, _ ed25519.PublicKey, q *MembersQuestion) (*MembersAnswer, error) {
	var keys []ledger.Key
	n.book.read(func(s *ledger.State) { keys = slices.Collect(s.Members()) })
	if len(keys) > maxMembers {
		return nil, fmt.Errorf("%w: there are %d members, more than the %d that can be given", ErrQuestion, len(keys), maxMembers)
	}
	slices.SortFunc(keys, func(a, b ledger.Key) int { return bytes.Compare(a[:], b[:]) })
	a := &MembersAnswer{Keys: make([]byte, 0, len(keys)*len(ledger.Key{}))}
	for _, k := range keys {
		a.Keys = append(a.Keys, k[:]...)
	}
	if sha256.Sum256(a.Keys) == q.Have {
		return &MembersAnswer{Same: true, Keys: []byte{}}, nil
	}
	return a, nil
}

// members reads the list strictly: one list has one spelling. The error wraps ErrAnswer.
func (a *MembersAnswer) members() (map[ledger.Key]bool, error) {
	const size = len(ledger.Key{})
	n := len(a.Keys) / size
	if len(a.Keys)%size != 0 || n == 0 || n > maxMembers {
		return nil, fmt.Errorf("%w: keys: %d bytes, want 1 to %d keys of %d", ErrAnswer, len(a.Keys), maxMembers, size)
	}
	all := make(map[ledger.Key]bool, n)
	for i := range n {
		at := a.Keys[i*size:]
		if i > 0 && bytes.Compare(a.Keys[(i-1)*size:i*size], at[:size]) >= 0 {
			return nil, fmt.Errorf("%w: keys[%d]: got one that is not after the one before it, want ascending order", ErrAnswer, i)
		}
		all[ledger.Key(at[:size])] = true
	}
	return all, nil
}
