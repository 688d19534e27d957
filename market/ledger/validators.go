package ledger

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// MaxValidators bounds the validators of a community: each vote of each of them goes to
// all others, and stands in every header that proves something.
const MaxValidators = 32

// GenesisValidator is one of those who commit blocks from the beginning.
type GenesisValidator struct {
	Network Key `json:"network"` // of its home; the household that brings this key is the validator's
	Key     Key `json:"key"`
}

// Validator is one of those who commit blocks.
type Validator struct {
	Key       Key
	Network   Key                // of its home's gateway; zero while that is revoked, or if the genesis names none
	Household market.HouseholdID // zero: its home, a founder's, is no household yet
	Power     int64              // 1: nobody has more than an equal share
}

// ValidatorUpdate is a change of the set of validators; Power 0 takes the key out of it.
type ValidatorUpdate struct {
	Key   Key
	Power int64
}

// ValidatorPower is the weight of each.
const ValidatorPower = 1

// Fault says whether a validator is proven to have signed two blocks of one height.
type Fault uint8

// A faulty validator is struck as soon as the others can do without it, see draft.strike.
const (
	FaultNone   Fault = 0
	FaultProven Fault = 1 // it votes still
	FaultStruck Fault = 2 // it is no validator any more; its key never will be again
)

// validatorRecord is kept under the validator's key.
type validatorRecord struct {
	_         struct{} `cbor:",toarray"`
	Household market.HouseholdID
	Network   Key // as the genesis named it; zero in later ones
	Fault     Fault
}

func (v *validatorRecord) votes() bool { return v.Fault != FaultStruck }

// ValidatorAddress is how the consensus engine names a validator: the first 20 bytes of the
// SHA-256 of its key.
type ValidatorAddress [20]byte

// AddressOf derives the address from the key.
func AddressOf(k Key) ValidatorAddress {
	sum := sha256.Sum256(k[:])
	return ValidatorAddress(sum[:20])
}

func compareKeys(a, b Key) int { return bytes.Compare(a[:], b[:]) }

// Validators returns those who commit blocks, sorted by key. The engine follows two blocks
// later: what block h decides holds from block h+2 on.
func (s *State) Validators() []Validator {
	var all []Validator
	for _, k := range slices.SortedFunc(maps.Keys(s.validators), compareKeys) {
		r := s.validators[k]
		if !r.votes() {
			continue
		}
		v := Validator{Key: k, Network: r.Network, Household: r.Household, Power: ValidatorPower}
		if h, ok := s.households[r.Household]; ok {
			v.Network = h.Network
		} else if s.Missing(householdKey(r.Household)) {
			v.Network = Key{} // a partial State does not know what it is by now
		}
		all = append(all, v)
	}
	return all
}

// IsValidator says whether a key is in the set.
func (s *State) IsValidator(k Key) bool {
	r, ok := s.validators[k]
	return ok && r.votes()
}

// FaultOf says what is proven against a validator's key.
func (s *State) FaultOf(k Key) Fault {
	if r, ok := s.validators[k]; ok {
		return r.Fault
	}
	return FaultNone
}

// FaultyValidator is a key that is proven to have signed two blocks of one height.
type FaultyValidator struct {
	Key       Key
	Household market.HouseholdID // zero: its home, a founder's, is no household yet
	Fault     Fault
}

// Faulty returns those, sorted by key; what is proven is never forgotten.
func (s *State) Faulty() (all []FaultyValidator) {
	for _, k := range slices.SortedFunc(maps.Keys(s.validators), compareKeys) {
		if r := s.validators[k]; r.Fault != FaultNone {
			all = append(all, FaultyValidator{Key: k, Household: r.Household, Fault: r.Fault})
		}
	}
	return all
}

// ValidatorChanges returns how many changes of the set officers have decided: the next has
// the number above.
func (s *State) ValidatorChanges() uint64 { return s.clock.Validators }

func validateValidators(g *Genesis) error {
	if len(g.Validators) > MaxValidators {
		return fmt.Errorf(": got %d, want at most %d", len(g.Validators), MaxValidators)
	}
	keys, homes := map[Key]bool{}, map[Key]bool{}
	for i, v := range g.Validators {
		switch {
		case v.Key == Key{}:
			return fmt.Errorf("[%d].key: is all zero, want a key", i)
		case keys[v.Key]:
			return fmt.Errorf("[%d].key: %s is there twice", i, v.Key)
		case v.Network != Key{} && homes[v.Network]:
			return fmt.Errorf("[%d].network: %s is there twice: a home has one vote", i, v.Network)
		case v.Network != Key{} && !slices.Contains(g.Founders, v.Network):
			return fmt.Errorf("[%d].network: %s is not among the founders", i, v.Network)
		case slices.Contains(g.Officers, v.Key) || slices.Contains(g.Operators, v.Key) || slices.Contains(g.Founders, v.Key):
			return fmt.Errorf("[%d].key: %s has another purpose: one key, one purpose", i, v.Key)
		}
		keys[v.Key], homes[v.Network] = true, true
	}
	return nil
}

// validator returns the record of a key, with the changes of the draft.
func (d *draft) validator(k Key) (*validatorRecord, bool) {
	if v, ok := d.validators[k]; ok {
		return v, v != nil
	}
	v, ok := d.base.validators[k]
	return v, ok
}

// voters returns the keys of the set, sorted.
func (d *draft) voters() []Key {
	var keys []Key
	for k, v := range d.base.validators {
		if _, changed := d.validators[k]; !changed && v.votes() {
			keys = append(keys, k)
		}
	}
	for k, v := range d.validators {
		if v != nil && v.votes() {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// voterOf returns the key of a household in the set; ok is false if it has none.
func (d *draft) voterOf(h market.HouseholdID) (Key, bool) {
	for _, k := range d.voters() {
		if v, _ := d.validator(k); v.Household == h {
			return k, true
		}
	}
	return Key{}, false
}

// dismiss takes a key out of the set. What is proven against it is not forgotten.
func (d *draft) dismiss(k Key) {
	v, ok := d.validator(k)
	if !ok {
		return
	}
	if v.Fault == FaultNone {
		d.validators[k] = nil
		return
	}
	struck := *v
	struck.Fault = FaultStruck
	d.validators[k] = &struck
}

// blame notes what a block proves against validators.
func (d *draft) blame(faulty []ValidatorAddress) {
	if len(faulty) == 0 {
		return
	}
	for _, k := range d.voters() {
		v, _ := d.validator(k)
		if v.Fault == FaultNone && slices.Contains(faulty, AddressOf(k)) {
			proven := *v
			proven.Fault = FaultProven
			d.validators[k] = &proven
		}
	}
}

// strike takes faulty validators out of the set, each as soon as more than two thirds of
// the rest have signed the block before: the ledger must not lose its quorum by it, and
// who signed is all that it knows of who is there. Until then a faulty one stays, and
// officers may put another in its place. The last one is never struck.
func (d *draft) strike(signed []ValidatorAddress) {
	for _, k := range d.voters() {
		if v, _ := d.validator(k); v.Fault != FaultProven {
			continue
		}
		rest, there := 0, 0
		for _, other := range d.voters() {
			if other == k {
				continue
			}
			rest++
			if slices.Contains(signed, AddressOf(other)) {
				there++
			}
		}
		if rest > 0 && 3*there > 2*rest {
			d.dismiss(k)
		}
	}
}

// validatorUpdates says what the draft changes in the set, sorted by key.
func (d *draft) validatorUpdates() []ValidatorUpdate {
	var out []ValidatorUpdate
	for _, k := range slices.SortedFunc(maps.Keys(d.validators), compareKeys) {
		was, wasThere := d.base.validators[k]
		is := d.validators[k]
		before, after := wasThere && was.votes(), is != nil && is.votes()
		switch {
		case after && !before:
			out = append(out, ValidatorUpdate{Key: k, Power: ValidatorPower})
		case before && !after:
			out = append(out, ValidatorUpdate{Key: k})
		}
	}
	return out
}

// auditValidators looks for what no set can be.
func (s *State) auditValidators() error {
	homes := map[market.HouseholdID]bool{}
	all := s.Validators()
	if len(all) > MaxValidators || len(all) == 0 && len(s.genesis.Validators) > 0 {
		return fmt.Errorf("got %d validators, want 1 to %d", len(all), MaxValidators)
	}
	for _, v := range all {
		if v.Household == (market.HouseholdID{}) {
			continue
		}
		h, ok := s.households[v.Household]
		switch {
		case !ok:
			return fmt.Errorf("validator %s: household %s is not registered", v.Key, v.Household)
		case homes[v.Household]:
			return fmt.Errorf("validator %s: household %s has another vote", v.Key, v.Household)
		case !h.Takes(s.clock.Next):
			return fmt.Errorf("validator %s: household %s has left", v.Key, v.Household)
		}
		homes[v.Household] = true
	}
	return nil
}

// house gives the validator of a founder's home its household.
func (d *draft) house(network Key, h market.HouseholdID) {
	for _, g := range d.base.genesis.Validators {
		if v, ok := d.validator(g.Key); ok && g.Network == network && v.Network == network {
			housed := *v
			housed.Household = h
			d.validators[g.Key] = &housed
		}
	}
}
