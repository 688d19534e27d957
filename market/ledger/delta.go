package ledger

import (
	"crypto/sha256"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// Record is one changed record; a nil Value deletes it.
type Record struct {
	Key   string
	Value []byte
}

// Delta is what a block changed, as data: the caller makes it durable, whole or
// not at all, before it calls Absorb.
type Delta struct {
	Records    []Record          // sorted by key
	History    []Event           // in the order in which it happened
	Validators []ValidatorUpdate // sorted by key
	base       [32]byte          // AppHash of the state that it changes
	appHash    [32]byte
	next       func(*State)
}

// AppHash commits to every record after the delta.
func (d *Delta) AppHash() [32]byte { return d.appHash }

// seal encodes the changes, hashes the state after them and gives the delta.
func (d *draft) seal(history []Event) *Delta {
	values := d.encodeChanges()
	records := make([]Record, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		records = append(records, Record{Key: key, Value: values[key]})
	}
	keys, hashes := d.mergeKeys(records)
	delta := &Delta{Records: records, History: history, Validators: d.validatorUpdates(), base: d.base.appHash}
	if len(records) == 0 {
		delta.appHash = d.base.appHash // an empty block changes nothing (L5)
		return delta
	}
	delta.appHash = rootOf(keys, func(k string) [32]byte {
		if h, ok := hashes[k]; ok {
			return h
		}
		return d.base.values[k]
	})
	delta.next = func(s *State) {
		for _, r := range records {
			if r.Value == nil {
				delete(s.values, r.Key)
			}
		}
		d.install(s, keys, hashes, delta.appHash)
	}
	return delta
}

func (d *draft) encodeChanges() map[string][]byte {
	values := map[string][]byte{}
	if d.clock != nil {
		values[string(prefixClock)] = encode(d.clock)
		if len(d.base.keys) == 0 {
			values[string(prefixGenesis)] = encodeGenesis(d.base.chainID, d.base.genesis)
		}
	}
	for a, m := range d.accounts {
		values[accountKey(a)] = encode(m)
	}
	for id, h := range d.households {
		values[householdKey(id)] = encode(h)
	}
	for k, id := range d.founders {
		values[founderKey(k)] = encode(id)
	}
	for k, v := range d.validators {
		if v != nil {
			values[validatorKey(k)] = encode(v)
		} else if _, ok := d.base.validators[k]; ok {
			values[validatorKey(k)] = nil
		}
	}
	for id, m := range d.meters {
		values[meterKey(id)] = encode(m)
	}
	for k, r := range d.intervals {
		if r != nil {
			values[intervalKey(k)] = encode(r.tidy())
		} else if _, ok := d.base.intervals[k]; ok {
			values[intervalKey(k)] = nil
		}
	}
	encodeVersions(values, d.base.rules, d.rules, rulesKey, func(r *Rules) any { return r })
	encodeVersions(values, d.base.networks, d.networks, networkKey, func(n *Network) any { return n.Nodes })
	for i, o := range d.operators {
		if d.base.operators[i] != o {
			values[operatorKey(i)] = encode(o)
		}
	}
	return values
}

// encodeVersions notes the versions that are new, and those that are gone.
func encodeVersions[T any](values map[string][]byte, before, after versions[T], key func(market.Interval) string, content func(*T) any) {
	for _, v := range before[1:] {
		if after.find(v.from) == nil {
			values[key(v.from)] = nil
		}
	}
	for _, v := range after[1:] {
		if before.find(v.from) != v.value {
			values[key(v.from)] = encode(content(v.value))
		}
	}
}

// mergeKeys gives the sorted keys after the changes, and the hash of each
// changed value.
func (d *draft) mergeKeys(records []Record) ([]string, map[string][32]byte) {
	hashes := make(map[string][32]byte, len(records))
	keys := make([]string, 0, len(d.base.keys)+len(records))
	i := 0
	for _, r := range records {
		for i < len(d.base.keys) && d.base.keys[i] < r.Key {
			keys = append(keys, d.base.keys[i])
			i++
		}
		if i < len(d.base.keys) && d.base.keys[i] == r.Key {
			i++
		}
		if r.Value != nil {
			keys = append(keys, r.Key)
			hashes[r.Key] = sha256.Sum256(r.Value)
		}
	}
	return append(keys, d.base.keys[i:]...), hashes
}

// install writes the draft into the state it was made from.
func (d *draft) install(s *State, keys []string, hashes map[string][32]byte, root [32]byte) {
	s.charter = d.charter
	if d.clock != nil {
		s.clock = *d.clock
	}
	maps.Copy(s.accounts, d.accounts)
	maps.Copy(s.founders, d.founders)
	d.installMembers(s)
	maps.Copy(s.meters, d.meters)
	for k, v := range d.validators {
		if v != nil {
			s.validators[k] = v
		} else {
			delete(s.validators, k)
		}
	}
	for k, r := range d.intervals {
		if r != nil {
			s.intervals[k] = r.tidy()
		} else {
			delete(s.intervals, k)
		}
	}
	maps.Copy(s.values, hashes)
	s.keys, s.appHash = keys, root
}

// installMembers brings the households and the network keys up to date: old keys first, in
// case that one of them is another's by now.
func (d *draft) installMembers(s *State) {
	for k := range d.founders {
		delete(s.members, k) // its household may have another gateway in the same block
	}
	for id, h := range d.households {
		if old, ok := s.households[id]; ok && old.Network != h.Network {
			delete(s.members, old.Network)
		}
	}
	for id, h := range d.households {
		s.households[id] = h
		if h.Network != (Key{}) {
			s.members[h.Network] = id
		}
	}
}
