package consensus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// recordTries is how often records are asked for while the ledger goes on under the question.
const recordTries = 5

// advance asks a provider for its newest state, verifies it, and shows it if it is new.
func (l *Light) advance(ctx context.Context, p Provider) error {
	was := l.now()
	q := StateQuestion{Want: l.want(was.state)}
	if was.height > 0 {
		q.Have = was.state.AppHash()
	}
	a, err := Put[StateAnswer](ctx, l.cfg.Ask, p.ID, AskState, q)
	if errors.Is(err, ErrAnswer) {
		return l.accuse(p, "its state cannot be read: %v", err)
	}
	if err != nil {
		return err
	}
	l.saw(p, a.Height)
	if a.Height < was.height {
		return fmt.Errorf("%w: its newest header is of block %d, and block %d has been verified", errBehind, a.Height, was.height)
	}
	block, err := l.verify(ctx, p, a.Height)
	if err != nil {
		return err
	}
	if [32]byte(block.AppHash) != a.AppHash {
		if block.Height != a.Height {
			return errBehind // this home's first header is newer than that state
		}
		return l.accuse(p, "says that block %d proves state %x, and the header says %s", a.Height, a.AppHash, block.AppHash)
	}
	k := was
	k.height = block.Height
	if k.signed, err = NewSignedHeader(*block.Header, block.Commit, block.ValidatorSet); err != nil {
		return err
	}
	if k.way, err = l.wayTo(ctx, p, was, k.signed); err != nil {
		return err
	}
	k.signed.Changes = upTo(k.way, k.height)
	if was.height > 0 && a.AppHash == was.state.AppHash() {
		l.show(k)
		return nil
	}
	if k.state, err = l.load(ctx, p, was, a); err != nil {
		return err
	}
	if err := l.readHistory(ctx, p, &k); err != nil {
		return err
	}
	l.show(k)
	return nil
}

// want are the prefixes of the records that this home holds: all but other households' and
// their meters, and of those the validators' households.
func (l *Light) want(s *ledger.State) [][]byte {
	var out [][]byte
	for c := byte('a'); c <= 'z'; c++ {
		if !ledger.MayMiss(string(c)) {
			out = append(out, []byte{c})
		}
	}
	out = append(out, []byte(ledger.HouseholdKey(l.cfg.Household)))
	if h, ok := s.Household(l.cfg.Household); ok && h.HasMeter {
		out = append(out, []byte(ledger.MeterKey(h.Meter)))
	}
	for _, v := range s.Validators() {
		if v.Household != (market.HouseholdID{}) {
			out = append(out, []byte(ledger.HouseholdKey(v.Household))) // whose network key is in it
		}
	}
	return out
}

// load makes the state that an answer says, of what is known and what the answer brings.
// The leaves must come to the AppHash, and each record must be what its leaf says.
func (l *Light) load(ctx context.Context, p Provider, was known, a *StateAnswer) (*ledger.State, error) {
	leaves, err := foldAnswer(was.state, a)
	if err != nil {
		return nil, l.accuse(p, "its leaves of block %d: %v", a.Height, err)
	}
	r := &records{l: l, p: p, was: was.state, leaves: map[string][32]byte{}, got: map[string][]byte{}}
	for _, leaf := range leaves {
		r.leaves[leaf.Key] = leaf.Hash
	}
	if ledger.LeavesHash(leaves) != a.AppHash {
		return nil, l.accuse(p, "its %d leaves do not come to the state of block %d", len(leaves), a.Height)
	}
	for _, rec := range a.Records {
		if err := r.take(rec); err != nil {
			return nil, err
		}
	}
	want := l.want(was.state)
	if err := r.complete(ctx, a.AppHash, want); err != nil {
		return nil, err
	}
	load := func() (*ledger.State, error) {
		return ledger.LoadPartial(l.anchor.chainID, l.anchor.genesis, leaves, r.record)
	}
	s, err := load()
	if err == nil {
		// Which meter is the own one, and who the validators are, is known only now.
		had := len(r.got)
		if err := r.complete(ctx, a.AppHash, l.want(s)); err != nil {
			return nil, err
		}
		if len(r.got) > had {
			s, err = load()
		}
	}
	if err != nil {
		return nil, l.accuse(p, "its records of block %d: %v", a.Height, err)
	}
	return s, nil
}

// foldAnswer gives all leaves after what the answer changes.
func foldAnswer(was *ledger.State, a *StateAnswer) ([]ledger.LeafHash, error) {
	all := map[string][32]byte{}
	if !a.Full {
		all = maps.Collect(was.Leaves())
	}
	for _, c := range a.Leaves {
		switch {
		case len(c.Key) == 0 || len(c.Key) > maxKeySize:
			return nil, fmt.Errorf("a key has %d bytes, want 1 to %d", len(c.Key), maxKeySize)
		case len(c.Hash) == 0:
			delete(all, string(c.Key))
		case len(c.Hash) != 32:
			return nil, fmt.Errorf("a hash has %d bytes, want 32", len(c.Hash))
		default:
			all[string(c.Key)] = [32]byte(c.Hash)
		}
	}
	out := make([]ledger.LeafHash, 0, len(all))
	for _, key := range slices.Sorted(maps.Keys(all)) {
		out = append(out, ledger.LeafHash{Key: key, Hash: all[key]})
	}
	return out, nil
}

// records gathers those that belong to leaves.
type records struct {
	l      *Light
	p      Provider
	was    *ledger.State
	leaves map[string][32]byte
	got    map[string][]byte
}

// record finds one: among those that the provider gave, or as it was before.
func (r *records) record(key string) ([]byte, bool) {
	if value, ok := r.got[key]; ok {
		return value, true
	}
	if value, ok := r.was.Record(key); ok && ledger.ValueHash(value) == r.leaves[key] {
		return value, true
	}
	return nil, false
}

func (r *records) take(rec Record) error {
	if ledger.ValueHash(rec.Value) != r.leaves[string(rec.Key)] {
		return r.l.accuse(r.p, "gave a %s that is not what the header proves", ledger.KeyText(string(rec.Key)))
	}
	r.got[string(rec.Key)] = rec.Value
	return nil
}

// complete asks for the wanted records that are still missing.
func (r *records) complete(ctx context.Context, appHash [32]byte, want [][]byte) error {
	for range recordTries {
		var keys [][]byte
		for key := range r.leaves {
			if _, ok := r.record(key); !ok && wanted(key, want) {
				keys = append(keys, []byte(key))
			}
		}
		if len(keys) == 0 {
			return nil
		}
		slices.SortFunc(keys, slices.Compare)
		for len(keys) > 0 {
			n := min(len(keys), maxWant)
			a, err := Put[RecordsAnswer](ctx, r.l.cfg.Ask, r.p.ID, AskRecords, RecordsQuestion{Keys: keys[:n]})
			if errors.Is(err, ErrAnswer) {
				return r.l.accuse(r.p, "its records cannot be read: %v", err)
			}
			if err != nil {
				return err
			}
			if len(a.Records) == 0 && a.AppHash == appHash {
				return r.l.accuse(r.p, "does not give the %s that it says there is", ledger.KeyText(string(keys[0])))
			}
			given := 0
			for _, rec := range a.Records {
				if ledger.ValueHash(rec.Value) != r.leaves[string(rec.Key)] && a.AppHash != appHash {
					continue // the ledger has gone on
				}
				if err := r.take(rec); err != nil {
					return err
				}
				given++
			}
			if given == 0 {
				return fmt.Errorf("%w: its ledger went on while it was asked for records", errMoved)
			}
			keys = slices.DeleteFunc(keys, func(k []byte) bool { return r.got[string(k)] != nil })
		}
	}
	return fmt.Errorf("%w: its ledger went on while it was asked for records", errMoved)
}

// errMoved: the state that was asked for is no longer the provider's newest.
var errMoved = errors.New("try again")
