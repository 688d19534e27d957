package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/market"
)

// draft is a state with changes laid over it. Reading falls through to the base;
// edit methods copy a record before it may be written to. The base never changes.
type draft struct {
	base       *State
	clock      *clockRecord
	accounts   map[market.Account]market.Money
	households map[market.HouseholdID]*Household
	meters     map[MeterID]*Meter
	intervals  map[market.Interval]*IntervalRecord // nil value: deleted
	history    []Event
}

// Event is one line of history: a household's Settlement or an Interval's result.
type Event struct {
	Settlement *Settlement
	Result     *MarketResult
}

func newDraft(s *State) *draft {
	return &draft{
		base:       s,
		accounts:   map[market.Account]market.Money{},
		households: map[market.HouseholdID]*Household{},
		meters:     map[MeterID]*Meter{},
		intervals:  map[market.Interval]*IntervalRecord{},
	}
}

func (d *draft) rules() *Rules             { return &d.base.genesis.Rules }
func (d *draft) calendar() market.Calendar { return d.base.genesis.Calendar() }

func (d *draft) next() market.Interval { return d.clockNow().Next }

func (d *draft) clockNow() clockRecord {
	if d.clock != nil {
		return *d.clock
	}
	return d.base.clock
}

func (d *draft) editClock() *clockRecord {
	if d.clock == nil {
		c := d.base.clock
		d.clock = &c
	}
	return d.clock
}

func (d *draft) household(id market.HouseholdID) (*Household, bool) {
	if h, ok := d.households[id]; ok {
		return h, true
	}
	return d.base.Household(id)
}

func (d *draft) editHousehold(id market.HouseholdID) (*Household, error) {
	if h, ok := d.households[id]; ok {
		return h, nil
	}
	h, ok := d.base.Household(id)
	if !ok {
		return nil, fmt.Errorf("household %s: not registered", id)
	}
	c := *h
	d.households[id] = &c
	return &c, nil
}

func (d *draft) meter(id MeterID) (*Meter, bool) {
	if m, ok := d.meters[id]; ok {
		return m, true
	}
	return d.base.Meter(id)
}

func (d *draft) editMeter(id MeterID) (*Meter, error) {
	if m, ok := d.meters[id]; ok {
		return m, nil
	}
	m, ok := d.base.Meter(id)
	if !ok {
		return nil, fmt.Errorf("meter %s: not registered", id)
	}
	c := *m
	d.meters[id] = &c
	return &c, nil
}

func (d *draft) interval(k market.Interval) (*IntervalRecord, bool) {
	if r, ok := d.intervals[k]; ok {
		return r, r != nil
	}
	return d.base.Interval(k)
}

// editInterval returns a record that may be written to; an unknown Interval
// begins open and empty.
func (d *draft) editInterval(k market.Interval) *IntervalRecord {
	if r := d.intervals[k]; r != nil {
		return r
	}
	c := IntervalRecord{}
	if r, ok := d.interval(k); ok {
		c = *r
		c.Entries = slices.Clone(r.Entries) // steps inside are replaced, never written to
	}
	d.intervals[k] = &c
	return &c
}

func (d *draft) dropInterval(k market.Interval) { d.intervals[k] = nil }

// openIntervals returns the unfinished Intervals below limit, oldest first.
func (d *draft) openIntervals(limit market.Interval) []market.Interval {
	var ks []market.Interval
	for k := range d.base.intervals {
		if _, changed := d.intervals[k]; !changed && k < limit {
			ks = append(ks, k)
		}
	}
	for k, r := range d.intervals {
		if r != nil && k < limit {
			ks = append(ks, k)
		}
	}
	slices.Sort(ks)
	return ks
}

// book moves the money of the transfers, which keeps the sum of all accounts (L1).
func (d *draft) book(ts []market.Transfer) error {
	for _, t := range ts {
		if t.Amount <= 0 {
			return fmt.Errorf("transfer %s of %d: amount must be above 0", t.Kind, t.Amount)
		}
		if err := d.post(t.Debit, -t.Amount); err != nil {
			return err
		}
		if err := d.post(t.Credit, t.Amount); err != nil {
			return err
		}
	}
	return nil
}

func (d *draft) post(a market.Account, m market.Money) error {
	if id, ok := a.Household(); ok {
		h, err := d.editHousehold(id)
		if err != nil {
			return err
		}
		if h.Balance, err = h.Balance.Add(m); err != nil {
			return fmt.Errorf("balance of %s: %w", a, err)
		}
		return nil
	}
	now, ok := d.accounts[a]
	if !ok {
		now = d.base.accounts[a]
	}
	sum, err := now.Add(m)
	if err != nil {
		return fmt.Errorf("balance of %s: %w", a, err)
	}
	d.accounts[a] = sum
	return nil
}

// Record is one changed record; a nil Value deletes it.
type Record struct {
	Key   string
	Value []byte
}

// Delta is what a block changed, as data: the caller makes it durable, whole or
// not at all, before it calls Absorb.
type Delta struct {
	Records []Record // sorted by key
	History []Event  // in the order in which it happened
	appHash [32]byte
	next    func(*State)
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
	delta := &Delta{Records: records, History: history}
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
	delta.next = func(s *State) { d.install(s, keys, hashes, delta.appHash) }
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
	for id, m := range d.meters {
		values[meterKey(id)] = encode(m)
	}
	for k, r := range d.intervals {
		if r != nil {
			values[intervalKey(k)] = encode(r)
		} else if _, ok := d.base.intervals[k]; ok {
			values[intervalKey(k)] = nil
		}
	}
	return values
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
	if d.clock != nil {
		s.clock = *d.clock
	}
	maps.Copy(s.accounts, d.accounts)
	for id, h := range d.households {
		s.households[id] = h
		s.members[h.Network] = true
	}
	maps.Copy(s.meters, d.meters)
	for k, r := range d.intervals {
		if r != nil {
			s.intervals[k] = r
		} else {
			delete(s.intervals, k)
			delete(s.values, intervalKey(k))
		}
	}
	maps.Copy(s.values, hashes)
	s.keys, s.appHash = keys, root
}

func intervalOfKey(rest string) (market.Interval, error) {
	if len(rest) != 8 {
		return 0, fmt.Errorf("interval key has %d bytes, want 8", len(rest))
	}
	return market.Interval(binary.BigEndian.Uint64([]byte(rest))), nil
}

// encodeGenesis is the genesis as the AppHash commits to it: fields in words, so
// that no encoder's version can change it.
func encodeGenesis(chainID string, g Genesis) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "chain %s\nname %s\nepoch %d\nstart %d\nrate %d\nrules %+v\n",
		chainID, g.Name, g.Epoch.UnixNano(), g.Start.UnixNano(), g.Rate, g.Rules.text())
	for _, k := range g.Officers {
		fmt.Fprintf(&b, "officer %s\n", k)
	}
	for _, k := range g.Founders {
		fmt.Fprintf(&b, "founder %s\n", k)
	}
	return []byte(b.String())
}

func (r Rules) text() string {
	tariff := "islanded"
	if r.Tariff != nil {
		tariff = fmt.Sprintf("%d/%d", r.Tariff.ImportPrice, r.Tariff.ExportPrice)
	}
	return fmt.Sprintf("%s %s fee=%d ahead=%d deadline=%d window=%d tolerance=%d price=%d..%d wh=%d credit=%d approvals=%d interval=%d lead=%d",
		r.Rule, tariff, r.CommunityFee, r.MaxAhead, r.ReportDeadlineS, r.CorrectionWindowS, r.ReadingToleranceS,
		r.PriceMin, r.PriceMax, r.MaxWattHours, r.CreditLimit, r.ApprovalsNeeded, r.IntervalS, r.LeadS)
}
