package consensus

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// StateQuestion asks for the leaves of the newest state that a header proves.
type StateQuestion struct {
	_ struct{} `cbor:",toarray"`
	// Have is the AppHash of the leaves that the asker has: what changed since is enough.
	// Zeros: it has none.
	Have [32]byte
	// Want are prefixes of the keys whose records are wanted along.
	Want [][]byte
}

// StateAnswer has them. With the changes, those that the asker has must come to AppHash.
type StateAnswer struct {
	_       struct{} `cbor:",toarray"`
	Height  int64    // of the header with this AppHash
	AppHash [32]byte
	Full    bool         // Leaves are all there are, not what changed
	Leaves  []LeafChange // in the order of the keys
	Records []Record     // those wanted of the leaves above, as many as there is room for
}

// LeafChange is a leaf that is new or changed, or is gone.
type LeafChange struct {
	_    struct{} `cbor:",toarray"`
	Key  []byte
	Hash []byte // SHA-256 of the record; empty: it is gone
}

// Record is the record of a leaf.
type Record struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value []byte
}

// RecordsQuestion asks for records that had no room in a StateAnswer.
type RecordsQuestion struct {
	_    struct{} `cbor:",toarray"`
	Keys [][]byte
}

// RecordsAnswer has as many of them as there is room for, of the newest state.
type RecordsAnswer struct {
	_       struct{} `cbor:",toarray"`
	AppHash [32]byte
	Records []Record
}

const (
	maxWant    = 256
	maxKeySize = 64 // an account's name has less
	maxLeaves  = 1 << 16
)

func answerState(ctx context.Context, n *Node, _ ed25519.PublicKey, q *StateQuestion) (*StateAnswer, error) {
	if err := checkKeys("want", q.Want); err != nil {
		return nil, err
	}
	a := &StateAnswer{}
	signed, err := n.Proof(ctx, func(s *ledger.State) {
		*a = StateAnswer{AppHash: s.AppHash()}
		changed, known := n.book.changes.since(q.Have, a.AppHash)
		if a.Full = !known; a.Full {
			for key, hash := range s.Leaves() {
				a.Leaves = append(a.Leaves, LeafChange{Key: []byte(key), Hash: hash[:]})
			}
		} else {
			a.Leaves = changed
		}
		keys := make([][]byte, 0, len(a.Leaves))
		for _, l := range a.Leaves {
			if len(l.Hash) > 0 && wanted(string(l.Key), q.Want) {
				keys = append(keys, l.Key)
			}
		}
		a.Records = recordsOf(s, keys)
	})
	if err != nil {
		return nil, err
	}
	if len(a.Leaves) > maxLeaves {
		return nil, fmt.Errorf("%w: the state has %d leaves, more than the %d that can be given", ErrQuestion, len(a.Leaves), maxLeaves)
	}
	a.Height = signed.Header.Height
	return a, nil
}

func answerRecords(_ context.Context, n *Node, _ ed25519.PublicKey, q *RecordsQuestion) (*RecordsAnswer, error) {
	if err := checkKeys("keys", q.Keys); err != nil {
		return nil, err
	}
	a := &RecordsAnswer{}
	n.book.read(func(s *ledger.State) {
		a.AppHash = s.AppHash()
		a.Records = recordsOf(s, q.Keys)
	})
	return a, nil
}

func checkKeys(field string, keys [][]byte) error {
	if len(keys) > maxWant {
		return fmt.Errorf("%w: %s: got %d, want at most %d", ErrQuestion, field, len(keys), maxWant)
	}
	for i, k := range keys {
		if len(k) == 0 || len(k) > maxKeySize {
			return fmt.Errorf("%w: %s[%d]: %d bytes, want 1 to %d", ErrQuestion, field, i, len(k), maxKeySize)
		}
	}
	return nil
}

func wanted(key string, prefixes [][]byte) bool {
	return slices.ContainsFunc(prefixes, func(p []byte) bool { return strings.HasPrefix(key, string(p)) })
}

// recordsOf reads records as far as a page has room.
func recordsOf(s *ledger.State, keys [][]byte) []Record {
	var out []Record
	size := 0
	for _, key := range keys {
		value, ok := s.Record(string(key))
		if !ok {
			continue
		}
		if size += len(key) + len(value); size > pageBytes && len(out) > 0 {
			break
		}
		out = append(out, Record{Key: key, Value: value})
	}
	return out
}

// changes are the leaves that the newest blocks changed, so that whoever asks often need not
// be told everything each time. The lock is the book's.
type changes struct {
	blocks []blockChanges
	leaves int
}

type blockChanges struct {
	before, after [32]byte // AppHashes
	leaves        map[string][32]byte
	gone          map[string]bool
}

const (
	keptChanges      = 64      // blocks
	keptChangeLeaves = 1 << 15 // over all of them
)

func (c *changes) add(before [32]byte, d *ledger.Delta) {
	if d.AppHash() == before {
		return
	}
	b := blockChanges{before: before, after: d.AppHash(), leaves: map[string][32]byte{}, gone: map[string]bool{}}
	for _, r := range d.Records {
		if r.Value == nil {
			b.gone[r.Key] = true
			continue
		}
		b.leaves[r.Key] = ledger.ValueHash(r.Value)
	}
	c.blocks = append(c.blocks, b)
	c.leaves += len(d.Records)
	for len(c.blocks) > keptChanges || c.leaves > keptChangeLeaves {
		c.leaves -= len(c.blocks[0].leaves) + len(c.blocks[0].gone)
		c.blocks = slices.Delete(c.blocks, 0, 1)
	}
}

// since returns what changed between two states; ok is false if that is not known here.
func (c *changes) since(have, now [32]byte) (leaves []LeafChange, ok bool) {
	if have == now {
		return nil, true
	}
	at := slices.IndexFunc(c.blocks, func(b blockChanges) bool { return b.before == have })
	if at < 0 || c.blocks[len(c.blocks)-1].after != now {
		return nil, false
	}
	all := map[string][]byte{}
	for _, b := range c.blocks[at:] {
		for key, hash := range b.leaves {
			all[key] = hash[:]
		}
		for key := range b.gone {
			all[key] = []byte{}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		leaves = append(leaves, LeafChange{Key: []byte(key), Hash: all[key]})
	}
	return leaves, true
}
