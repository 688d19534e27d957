package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// ErrOtherGenesis is wrapped by LoadState's error when the records are of another
// community, or of this one under other rules.
var ErrOtherGenesis = errors.New("the ledger was founded with another genesis")

// LoadState builds a state from its records, as the store kept them. It trusts
// nothing: unknown keys and bytes that are not canonical are errors that name
// the record.
func LoadState(chainID string, g Genesis, records func(yield func(key string, value []byte) bool)) (*State, error) {
	s, err := emptyState(chainID, g)
	if err != nil {
		return nil, err
	}
	var bad error
	records(func(key string, value []byte) bool {
		if err := s.load(key, value); err != nil {
			bad = fmt.Errorf("record %s: %w", KeyText(key), err)
			return false
		}
		return true
	})
	if bad != nil {
		return nil, bad
	}
	for _, key := range []byte{prefixClock, prefixGenesis} {
		if _, ok := s.values[string(key)]; !ok {
			return nil, fmt.Errorf("record %s: missing", KeyText(string(key)))
		}
	}
	s.keys = slices.Sorted(maps.Keys(s.values))
	s.appHash = rootOf(s.keys, func(k string) [32]byte { return s.values[k] })
	return s, nil
}

// load puts one encoded record where it belongs.
func (s *State) load(key string, value []byte) error {
	if key == "" {
		return fmt.Errorf("empty key")
	}
	if err := s.place(key[0], key[1:], value); err != nil {
		return err
	}
	s.values[key] = sha256.Sum256(value)
	return nil
}

func (s *State) place(prefix byte, rest string, value []byte) error {
	switch prefix {
	case prefixGenesis:
		// It ties the AppHash to the rules: with others these records mean something else.
		if rest != "" {
			return fmt.Errorf("key has %d bytes, want 1", 1+len(rest))
		}
		if !bytes.Equal(value, encodeGenesis(s.chainID, s.genesis)) {
			return ErrOtherGenesis
		}
	case prefixClock:
		if rest != "" {
			return fmt.Errorf("key has %d bytes, want 1", 1+len(rest))
		}
		return decode(value, &s.clock)
	case prefixAccount:
		return s.placeAccount(market.Account(rest), value)
	case prefixFounder:
		return s.placeFounder(rest, value)
	case prefixValidator:
		return s.placeValidator(rest, value)
	case prefixHousehold:
		return s.placeHousehold(rest, value)
	case prefixMeter:
		return s.placeMeter(rest, value)
	case prefixInterval:
		return s.placeInterval(rest, value)
	case prefixNetwork, prefixOperator, prefixRules:
		return s.placeCharter(prefix, rest, value)
	default:
		return fmt.Errorf("unknown type %q", prefix)
	}
	return nil
}

func (s *State) placeAccount(a market.Account, value []byte) error {
	if _, ok := a.Household(); ok {
		return fmt.Errorf("a household's balance is in its own record")
	}
	var m market.Money
	if err := decode(value, &m); err != nil {
		return err
	}
	s.accounts[a] = m
	return nil
}

func (s *State) placeHousehold(rest string, value []byte) error {
	h := new(Household)
	if err := decode(value, h); err != nil {
		return err
	}
	id := market.HouseholdIDOf(h.Key.Public())
	if rest != string(id[:]) {
		return fmt.Errorf("holds the key of household %s", id)
	}
	s.households[id] = h
	if h.Network != (Key{}) {
		s.members[h.Network] = id
	}
	return nil
}

func (s *State) placeValidator(rest string, value []byte) error {
	v := new(validatorRecord)
	if err := decode(value, v); err != nil {
		return err
	}
	if len(rest) != len(Key{}) {
		return fmt.Errorf("key has %d bytes, want %d", len(rest), len(Key{}))
	}
	if v.Fault > FaultStruck {
		return fmt.Errorf("fault %d, want at most %d", v.Fault, FaultStruck)
	}
	s.validators[Key([]byte(rest))] = v
	return nil
}

func (s *State) placeFounder(rest string, value []byte) error {
	var id market.HouseholdID
	if err := decode(value, &id); err != nil {
		return err
	}
	if len(rest) != len(Key{}) || !slices.Contains(s.genesis.Founders, Key([]byte(rest))) {
		return fmt.Errorf("the genesis has no founder of this key")
	}
	k := Key([]byte(rest))
	s.founders[k] = id
	if s.members[k] == (market.HouseholdID{}) {
		delete(s.members, k) // unless it is still its household's
	}
	return nil
}

func (s *State) placeMeter(rest string, value []byte) error {
	m := new(Meter)
	if err := decode(value, m); err != nil {
		return err
	}
	id := MeterIDOf(m.Key)
	if rest != string(id[:]) {
		return fmt.Errorf("holds the key of meter %s", id)
	}
	s.meters[id] = m
	return nil
}

func (s *State) placeInterval(rest string, value []byte) error {
	k, err := intervalOfKey(rest)
	if err != nil {
		return err
	}
	r := new(IntervalRecord)
	if err := decode(value, r); err != nil {
		return err
	}
	if r.State > IntervalDelivered {
		return fmt.Errorf("state %d, want at most %d", r.State, IntervalDelivered)
	}
	for i := 1; i < len(r.Entries); i++ {
		if compareHouseholds(r.Entries[i-1].Household, r.Entries[i].Household) >= 0 {
			return fmt.Errorf("entry %d is not after the one before it", i)
		}
	}
	s.intervals[k] = r
	return nil
}

// placeCharter puts a decision or a grid operator's record where it belongs.
func (s *State) placeCharter(prefix byte, rest string, value []byte) error {
	k, err := intervalOfKey(rest)
	if err != nil {
		return err
	}
	switch prefix {
	case prefixRules:
		r := new(Rules)
		if err := decode(value, r); err != nil {
			return err
		}
		if err := r.Validate(); err != nil {
			return err
		}
		s.rules = s.rules.with(k, r)
	case prefixNetwork:
		var nodes []Node
		if err := decode(value, &nodes); err != nil {
			return err
		}
		n, err := newNetwork(nodes)
		if err != nil {
			return err
		}
		s.networks = s.networks.with(k, n)
	default:
		o := new(Operator)
		if err := decode(value, o); err != nil {
			return err
		}
		if k >= market.Interval(len(s.genesis.Operators)) {
			return fmt.Errorf("the genesis has %d grid operators", len(s.genesis.Operators))
		}
		s.operators[uint64(k)] = o //nolint:gosec // never negative
	}
	return nil
}

func intervalOfKey(rest string) (market.Interval, error) {
	if len(rest) != 8 {
		return 0, fmt.Errorf("interval key has %d bytes, want 8", len(rest))
	}
	k := binary.BigEndian.Uint64([]byte(rest))
	if k > uint64(market.MaxInterval) {
		return 0, fmt.Errorf("interval %d, want at most %d", k, market.MaxInterval)
	}
	return market.Interval(k), nil
}
