package ledger

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/commonwatt/commonwatt/market"
)

// ErrPartial is what comes of asking a partial State for a record that it does not hold.
var ErrPartial = errors.New("this state holds only a part of the records")

// LeafHash is a record's key and the SHA-256 of its value: what a leaf is made of.
type LeafHash struct {
	Key  string
	Hash [32]byte
}

// LoadPartial builds a State that knows the leaf of every record, and so the AppHash, but
// holds only those values that record returns (ok is false for one that is not held). Each
// value is checked against its leaf; the AppHash is for the caller to compare with a header.
//
// A partial State answers for what it holds as a whole one does, and proves it (Prove). Of
// the rest it says that it does not know: Holds is false, Missing is true, Balance is
// unknown; Apply fails with ErrPartial. Only households and meters may be missing: what holds
// for an Interval follows from all decisions and envelopes, and a list of Intervals of which
// some are not known would be read as one of those that there are.
func LoadPartial(chainID string, g Genesis, leaves []LeafHash, record func(key string) (value []byte, ok bool)) (*State, error) {
	s, err := emptyState(chainID, g)
	if err != nil {
		return nil, err
	}
	s.partial = true
	s.held = map[string]bool{}
	s.keys = make([]string, 0, len(leaves))
	for i, l := range leaves {
		if i > 0 && l.Key <= leaves[i-1].Key {
			return nil, fmt.Errorf("leaf %s: is not after the one before it", KeyText(l.Key))
		}
		s.keys = append(s.keys, l.Key)
		s.values[l.Key] = l.Hash
		value, ok := record(l.Key)
		if !ok {
			if !MayMiss(l.Key) {
				return nil, fmt.Errorf("record %s: missing", KeyText(l.Key))
			}
			continue
		}
		if sha256.Sum256(value) != l.Hash {
			return nil, fmt.Errorf("record %s: is not what its leaf says", KeyText(l.Key))
		}
		if err := s.load(l.Key, value); err != nil {
			return nil, fmt.Errorf("record %s: %w", KeyText(l.Key), err)
		}
		s.held[l.Key] = true
	}
	for _, key := range []byte{prefixClock, prefixGenesis} {
		if !s.held[string(key)] {
			return nil, fmt.Errorf("record %s: missing", KeyText(string(key)))
		}
	}
	s.appHash = rootOf(s.keys, func(k string) [32]byte { return s.values[k] })
	return s, nil
}

// MayMiss says whether a partial State can do without a record: those of households and
// meters, of which a home needs its own.
func MayMiss(key string) bool {
	return key != "" && (key[0] == prefixHousehold || key[0] == prefixMeter)
}

// Partial says whether this State holds a part of the records only.
func (s *State) Partial() bool { return s.partial }

// Holds says whether this State knows a record's value.
func (s *State) Holds(key string) bool {
	if s.partial {
		return s.held[key]
	}
	_, ok := s.values[key]
	return ok
}

// Missing says whether there is such a record, but this State does not know what is in it:
// that Household or Interval does not find it then means nothing.
func (s *State) Missing(key string) bool {
	_, ok := s.values[key]
	return ok && s.partial && !s.held[key]
}

// Record returns the bytes of a record: those of which the leaf has the SHA-256. ok is
// false if there is none, or if this State does not hold it.
func (s *State) Record(key string) (value []byte, ok bool) {
	if key == "" || !s.Holds(key) {
		return nil, false
	}
	if key[0] == prefixGenesis {
		return encodeGenesis(s.chainID, s.genesis), true
	}
	v, ok := s.recordOf(key[0], key[1:])
	if !ok {
		return nil, false
	}
	return encode(v), true
}

// recordOf finds what is encoded under a key of any prefix but the genesis's.
func (s *State) recordOf(prefix byte, rest string) (any, bool) {
	switch prefix {
	case prefixClock:
		return &s.clock, true
	case prefixAccount:
		m, ok := s.accounts[market.Account(rest)]
		return m, ok
	case prefixFounder:
		if len(rest) != len(Key{}) {
			return nil, false
		}
		id, ok := s.founders[Key([]byte(rest))]
		return id, ok
	case prefixValidator:
		if len(rest) != len(Key{}) {
			return nil, false
		}
		v, ok := s.validators[Key([]byte(rest))]
		return v, ok
	case prefixHousehold:
		if len(rest) != len(market.HouseholdID{}) {
			return nil, false
		}
		h, ok := s.households[market.HouseholdID([]byte(rest))]
		return h, ok
	case prefixMeter:
		if len(rest) != len(MeterID{}) {
			return nil, false
		}
		m, ok := s.meters[MeterID([]byte(rest))]
		return m, ok
	}
	k, err := intervalOfKey(rest)
	if err != nil {
		return nil, false
	}
	switch prefix {
	case prefixInterval:
		r, ok := s.intervals[k]
		return r, ok
	case prefixRules:
		r := s.rules.find(k)
		return r, r != nil
	case prefixNetwork:
		n := s.networks.find(k)
		if n == nil {
			return nil, false
		}
		return n.Nodes, true
	case prefixOperator:
		o, ok := s.operators[uint64(k)] //nolint:gosec // never negative
		return o, ok
	}
	return nil, false
}

// ValueHash is what a leaf has of a record.
func ValueHash(value []byte) [32]byte { return sha256.Sum256(value) }

// LeavesHash is the AppHash that leaves in the order of their keys come to.
func LeavesHash(leaves []LeafHash) [32]byte {
	keys, hashes := make([]string, len(leaves)), make(map[string][32]byte, len(leaves))
	for i, l := range leaves {
		keys[i], hashes[l.Key] = l.Key, l.Hash
	}
	return rootOf(keys, func(k string) [32]byte { return hashes[k] })
}
