package ledger

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/cometbft/cometbft/crypto/merkle"

	"github.com/commonwatt/commonwatt/market"
)

// State is the whole of what the ledger knows. It is not safe for concurrent use
// with Absorb; reading it concurrently is. What its methods return is shared and
// must not be written to.
type State struct {
	chainID    string
	genesis    Genesis
	clock      clockRecord
	accounts   map[market.Account]market.Money // all but the households'
	households map[market.HouseholdID]*Household
	meters     map[MeterID]*Meter
	intervals  map[market.Interval]*IntervalRecord

	members map[Key]bool        // network keys: founders and registered households
	values  map[string][32]byte // key of each record -> SHA-256 of its bytes
	keys    []string            // of values, sorted: the order of the leaves
	appHash [32]byte
}

// NewState is the state before the first block.
func NewState(chainID string, g Genesis) (*State, error) {
	s, _, err := Found(chainID, g)
	return s, err
}

// Found is NewState that also gives the records it starts with, for the store.
func Found(chainID string, g Genesis) (*State, *Delta, error) {
	s, err := emptyState(chainID, g)
	if err != nil {
		return nil, nil, err
	}
	d := newDraft(s)
	d.clock = &clockRecord{Next: g.Calendar().NextGate(g.Epoch)}
	delta := d.seal(nil)
	s.Absorb(delta)
	return s, delta, nil
}

func emptyState(chainID string, g Genesis) (*State, error) {
	if err := validateName(chainID); err != nil {
		return nil, fmt.Errorf("chain id: %w", err)
	}
	if err := g.Validate(); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	s := &State{
		chainID: chainID, genesis: g,
		accounts:   map[market.Account]market.Money{},
		households: map[market.HouseholdID]*Household{},
		meters:     map[MeterID]*Meter{},
		intervals:  map[market.Interval]*IntervalRecord{},
		members:    map[Key]bool{},
		values:     map[string][32]byte{},
	}
	for _, k := range g.Founders {
		s.members[k] = true
	}
	return s, nil
}

// Absorb makes s the state after the delta, which must come from Apply on this
// state, once: anything else would be a wrong ledger from here on, so it panics.
func (s *State) Absorb(d *Delta) {
	if s.appHash != d.base {
		panic(fmt.Sprintf("ledger: absorbing a delta of state %x into state %x", d.base, s.appHash))
	}
	if d.next == nil {
		return // it changes nothing
	}
	d.next(s)
	d.next = nil
}

// rootOf is the Merkle root (RFC 6962 shape) over the sorted records. A leaf is
// the length of the key, the key, and the hash of the value, so that neither
// can borrow bytes from the other.
func rootOf(keys []string, value func(string) [32]byte) [32]byte {
	leaves := make([][]byte, len(keys))
	for i, k := range keys {
		leaves[i] = Leaf(k, value(k))
	}
	return [32]byte(merkle.HashFromByteSlices(leaves))
}

// Leaf is one leaf of the tree whose root is the AppHash.
func Leaf(key string, valueHash [32]byte) []byte {
	leaf := make([]byte, 0, 1+len(key)+len(valueHash))
	leaf = append(leaf, byte(len(key))) //nolint:gosec // the longest key is an account of the market's own
	leaf = append(leaf, key...)
	return append(leaf, valueHash[:]...)
}

// AppHash commits to every record.
func (s *State) AppHash() [32]byte { return s.appHash }

// ChainID returns the chain's name, which is in every signature.
func (s *State) ChainID() string { return s.chainID }

// Genesis returns what the community started from.
func (s *State) Genesis() Genesis { return s.genesis }

// Rules returns the community's rules.
func (s *State) Rules() Rules { return s.genesis.Rules }

// Clock returns the community's clock.
func (s *State) Clock() market.Clock { return s.genesis.Clock() }

// Calendar returns the community's intervals.
func (s *State) Calendar() market.Calendar { return s.genesis.Calendar() }

// Settled returns how many MarketResults there are so far, and the hash chain over them.
func (s *State) Settled() (n uint64, chain [32]byte) { return s.clock.Settled, s.clock.Chain }

// Next returns the Interval whose gate closes next.
func (s *State) Next() market.Interval { return s.clock.Next }

// Household returns a member's record.
func (s *State) Household(h market.HouseholdID) (*Household, bool) {
	r, ok := s.households[h]
	return r, ok
}

// Households returns all members, sorted.
func (s *State) Households() []market.HouseholdID {
	return slices.SortedFunc(maps.Keys(s.households), compareHouseholds)
}

// Meter returns a meter's record.
func (s *State) Meter(m MeterID) (*Meter, bool) {
	r, ok := s.meters[m]
	return r, ok
}

// Interval returns an Interval that is open, cleared or waits for corrections.
func (s *State) Interval(k market.Interval) (*IntervalRecord, bool) {
	r, ok := s.intervals[k]
	return r, ok
}

// Intervals returns the unfinished Intervals, oldest first.
func (s *State) Intervals() []market.Interval {
	return slices.Sorted(maps.Keys(s.intervals))
}

// Balance returns an account's balance; unknown accounts have none, that is 0.
func (s *State) Balance(a market.Account) market.Money {
	if id, ok := a.Household(); ok {
		if h, ok := s.households[id]; ok {
			return h.Balance
		}
		return 0
	}
	return s.accounts[a]
}

// Accounts returns the balance of every account (L1: they add up to zero).
func (s *State) Accounts() map[market.Account]market.Money {
	all := maps.Clone(s.accounts)
	for id, h := range s.households {
		all[market.HouseholdAccount(id)] = h.Balance
	}
	return all
}

// IsMember says whether a network key may connect: founders and households.
func (s *State) IsMember(network ed25519.PublicKey) bool {
	return len(network) == ed25519.PublicKeySize && s.members[Key(network)]
}

func compareHouseholds(a, b market.HouseholdID) int {
	return bytes.Compare(a[:], b[:])
}

// Leaves yields the key of every record with the SHA-256 of its value, in the order
// of the leaves of the tree whose root is the AppHash (see Leaf).
func (s *State) Leaves() iter.Seq2[string, [32]byte] {
	return func(yield func(string, [32]byte) bool) {
		for _, k := range s.keys {
			if !yield(k, s.values[k]) {
				return
			}
		}
	}
}
