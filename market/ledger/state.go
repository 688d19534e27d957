package ledger

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/cometbft/cometbft/crypto/merkle"

	"github.com/commonwatt/commonwatt/market"
)

// State is the whole of what the ledger knows. It is not safe for concurrent use
// with Absorb; reading it concurrently is. What its methods return is shared and
// must not be written to.
type State struct {
	charter
	chainID    string
	genesis    Genesis
	clock      clockRecord
	accounts   map[market.Account]market.Money // all but the households'
	households map[market.HouseholdID]*Household
	meters     map[MeterID]*Meter
	intervals  map[market.Interval]*IntervalRecord

	validators map[Key]*validatorRecord
	founders   map[Key]market.HouseholdID // founders' network keys that a household has brought
	members    map[Key]market.HouseholdID // network keys of who may connect; zero: a founder who is no household yet
	values     map[string][32]byte        // key of each record -> SHA-256 of its bytes
	keys       []string                   // of values, sorted: the order of the leaves
	appHash    [32]byte

	signatures signatures

	partial bool            // see LoadPartial
	held    map[string]bool // the records that it has; nil unless partial
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
	first := g.Calendar().NextGate(g.Epoch)
	d.clock = &clockRecord{Next: first, Month: g.Calendar().MonthOf(first, g.Rules.Zone())}
	for _, v := range g.Validators {
		d.validators[v.Key] = &validatorRecord{Network: v.Network}
	}
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
	network, err := newNetwork(g.Network)
	if err != nil {
		return nil, fmt.Errorf("genesis: network: %w", err)
	}
	s := &State{
		charter: charter{
			rules: versions[Rules]{{value: &g.Rules}}, networks: versions[Network]{{value: network}},
			operators: map[uint64]*Operator{},
		},
		chainID: chainID, genesis: g,
		accounts:   map[market.Account]market.Money{},
		households: map[market.HouseholdID]*Household{},
		meters:     map[MeterID]*Meter{},
		intervals:  map[market.Interval]*IntervalRecord{},
		validators: map[Key]*validatorRecord{},
		founders:   map[Key]market.HouseholdID{},
		members:    map[Key]market.HouseholdID{},
		values:     map[string][32]byte{},
		signatures: newSignatures(),
	}
	for _, k := range g.Founders {
		s.members[k] = market.HouseholdID{}
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

// Rules returns the community's rules for the Interval whose gate closes next.
func (s *State) Rules() Rules { return *s.rulesAt(s.clock.Next) }

// RulesAt returns those of an Interval that is not final yet, or is to come. They are
// shared and must not be written to.
func (s *State) RulesAt(k market.Interval) *Rules { return s.rulesAt(k) }

// NetworkAt returns the network of an Interval that is not final yet, or is to come.
func (s *State) NetworkAt(k market.Interval) *Network { return s.networkAt(k) }

// TariffAt returns what the grid charges and pays at a node in an Interval, fees
// included; nil when islanded, or if there is no such node.
func (s *State) TariffAt(k market.Interval, node string) *market.Tariff {
	i, ok := s.networkAt(k).Index(node)
	if !ok {
		return nil
	}
	return s.tariffAt(k, i)
}

// LimitAt returns what binds at a node in an Interval: Envelopes, else its own limits.
func (s *State) LimitAt(k market.Interval, node string) Limit {
	network := s.networkAt(k)
	i, ok := network.Index(node)
	if !ok {
		return Limit{}
	}
	return s.limitsAt(k)[node].over(&network.Nodes[i])
}

// PreferenceAt returns a household's standing Preference in an Interval: what it has
// set, or the no-regret pair of the tariff at its node.
func (s *State) PreferenceAt(k market.Interval, id market.HouseholdID) (market.Preference, bool) {
	h, ok := s.households[id]
	if !ok {
		return market.Preference{}, false
	}
	node, ok := s.networkAt(k).Index(h.Node)
	if !ok {
		return market.Preference{}, false
	}
	return s.preferenceAt(k, h, node), true
}

// Operator returns the record of a grid operator, by its place in the genesis.
func (s *State) Operator(i uint64) (*Operator, bool) {
	o, ok := s.operators[i]
	return o, ok
}

// Decisions returns how many decisions the cooperative has made: the next has the number
// above.
func (s *State) Decisions() uint64 { return s.clock.Decisions }

// OpenMonth returns the oldest month that is not closed: all before it are final.
func (s *State) OpenMonth() market.Month { return s.clock.Month }

// Zone returns the community's time zone, that of its days and months.
func (s *State) Zone() *time.Location { return s.genesis.Rules.Zone() }

// Prove returns a record and the path from it to the AppHash; ok is false if there is
// no such record. It costs as much as hashing all records' keys.
func (s *State) Prove(key string) (leaf []byte, proof *merkle.Proof, ok bool) {
	at, ok := slices.BinarySearch(s.keys, key)
	if !ok {
		return nil, nil, false
	}
	leaves := make([][]byte, len(s.keys))
	for i, k := range s.keys {
		leaves[i] = Leaf(k, s.values[k])
	}
	_, proofs := merkle.ProofsFromByteSlices(leaves)
	return leaves[at], proofs[at], true
}

// Clock returns the community's clock.
func (s *State) Clock() market.Clock { return s.genesis.Clock() }

// Calendar returns the community's intervals.
func (s *State) Calendar() market.Calendar { return s.genesis.Calendar() }

// Settled returns how many MarketResults there are so far, and the hash chain over them.
func (s *State) Settled() (n uint64, chain [32]byte) { return s.clock.Settled, s.clock.Chain }

// Next returns the Interval whose gate closes next.
func (s *State) Next() market.Interval { return s.clock.Next }

// Household returns a member's record. A partial State holds few of them, see Missing.
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

// Balance returns an account's balance; accounts that nothing was ever booked on have none,
// that is 0. known is false if a partial State does not hold the record.
func (s *State) Balance(a market.Account) (balance market.Money, known bool) {
	if id, ok := a.Household(); ok {
		if s.Missing(householdKey(id)) {
			return 0, false
		}
		if h, ok := s.households[id]; ok {
			return h.Balance, true
		}
		return 0, true
	}
	return s.accounts[a], !s.Missing(accountKey(a))
}

// Accounts returns the balance of every account (L1: they add up to zero), of a partial
// State of those that it holds.
func (s *State) Accounts() map[market.Account]market.Money {
	all := maps.Clone(s.accounts)
	for id, h := range s.households {
		all[market.HouseholdAccount(id)] = h.Balance
	}
	return all
}

// IsMember says whether a network key may connect: it is that of a household's gateway, or
// of a founder whose household is not registered yet. A founder's key that a household
// brought and has replaced since is no member's.
func (s *State) IsMember(network ed25519.PublicKey) bool {
	if len(network) != ed25519.PublicKeySize {
		return false
	}
	_, ok := s.members[Key(network)]
	return ok
}

// HouseholdByNetwork returns whose gateway has a network key; ok is false if it is
// nobody's, or a founder's whose household is not registered yet.
func (s *State) HouseholdByNetwork(network ed25519.PublicKey) (id market.HouseholdID, ok bool) {
	if len(network) != ed25519.PublicKeySize {
		return id, false
	}
	id = s.members[Key(network)]
	return id, id != market.HouseholdID{}
}

// Members yields the network keys of all who may connect, in no order.
func (s *State) Members() iter.Seq[Key] { return maps.Keys(s.members) }

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
