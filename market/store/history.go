package store

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// historyCheck derives chains and balances from the history, which it is given line
// by line in order of keys: the market's lines, then household by household.
type historyCheck struct {
	bad      func(record, format string, args ...any)
	accounts map[market.Account]*big.Int
	owners   map[market.HouseholdID]*owner

	now   market.HouseholdID
	lines []chained // of now
}

// owner is what the lines of a household, or with the zero id of the market, come to.
type owner struct {
	lines   int
	highest uint64
	missing []gap    // numbers below highest
	chain   [32]byte // if none is missing
}

// gap is a run of numbers.
type gap struct{ from, to uint64 }

// chained is one line as the hash chain covers it.
type chained struct {
	number uint64
	record string
	value  []byte
}

func newHistoryCheck() *historyCheck {
	return &historyCheck{accounts: map[market.Account]*big.Int{}, owners: map[market.HouseholdID]*owner{}}
}

// line takes the next line of the history.
func (c *historyCheck) line(record string, key, value []byte) {
	if len(key) < len(c.now) {
		c.bad(record, "key has %d bytes", len(key))
		return
	}
	if h := market.HouseholdID(key[:len(c.now)]); h != c.now {
		c.finish()
		c.now = h
	}
	var e ledger.Event
	var number uint64
	var ts []market.Transfer
	var err error
	if c.now == (market.HouseholdID{}) {
		if e.Result, err = ledger.DecodeMarketResult(value); err == nil {
			number = e.Result.Number
			ts = ledger.Transfers(e.Result.Interval, e.Result.Moves, "")
		}
	} else if e.Settlement, err = ledger.DecodeSettlement(value); err == nil {
		number = e.Settlement.Number
		ts = ledger.Transfers(e.Settlement.Interval, e.Settlement.Moves, market.HouseholdAccount(c.now))
	}
	if err != nil {
		c.bad(record, "%v", err)
		return
	}
	if want, _ := EncodeEvent(e); !bytes.Equal(key, want) {
		c.bad(record, "holds the %s", keyText(bucketHistory, want))
		return
	}
	for _, t := range ts {
		if t.Amount <= 0 || t.Debit == t.Credit || t.Debit == "" || t.Credit == "" {
			c.bad(record, "transfer of %d from %q to %q", t.Amount, t.Debit, t.Credit)
		}
		c.add(t.Debit, -t.Amount)
		c.add(t.Credit, t.Amount)
	}
	c.lines = append(c.lines, chained{number: number, record: record, value: value})
}

func (c *historyCheck) add(a market.Account, m market.Money) {
	sum := c.accounts[a]
	if sum == nil {
		sum = new(big.Int)
		c.accounts[a] = sum
	}
	sum.Add(sum, big.NewInt(int64(m)))
}

// finish chains the lines of the household at hand.
func (c *historyCheck) finish() {
	if len(c.lines) == 0 {
		return
	}
	if c.owners[c.now] != nil {
		c.bad(c.lines[0].record, "its household's lines are not together")
	}
	slices.SortStableFunc(c.lines, func(a, b chained) int { return cmp.Compare(a.number, b.number) })
	o := &owner{lines: len(c.lines)}
	for _, l := range c.lines {
		if l.number <= o.highest {
			c.bad(l.record, "number %d is there twice, or 0", l.number)
			continue
		}
		if l.number != o.highest+1 {
			o.missing = append(o.missing, gap{from: o.highest + 1, to: l.number - 1})
		}
		o.highest = l.number
		o.chain = ledger.NextChain(o.chain, l.value)
	}
	c.owners[c.now], c.lines = o, nil
}

// compare holds what the lines come to against what the state says.
func (c *historyCheck) compare(s *ledger.State) {
	none := &owner{}
	settled, chain := s.Settled()
	c.compareOwner("history of market", cmp.Or(c.owners[market.HouseholdID{}], none), settled, chain)
	for _, id := range s.Households() {
		h, _ := s.Household(id)
		c.compareOwner(fmt.Sprintf("history of household %s", id), cmp.Or(c.owners[id], none), h.Settled, h.Chain)
		delete(c.owners, id)
	}
	delete(c.owners, market.HouseholdID{})
	for _, id := range slices.SortedFunc(maps.Keys(c.owners), func(a, b market.HouseholdID) int { return bytes.Compare(a[:], b[:]) }) {
		c.bad(fmt.Sprintf("history of household %s", id), "%d lines, but the household is not registered", c.owners[id].lines)
	}
	balances := s.Accounts()
	for _, a := range slices.Sorted(maps.Keys(c.accounts)) {
		if got := c.accounts[a]; got.Cmp(big.NewInt(int64(balances[a]))) != 0 {
			c.bad("account "+string(a), "balance %d, the history comes to %v", balances[a], got)
		}
		delete(balances, a)
	}
	for _, a := range slices.Sorted(maps.Keys(balances)) {
		if balances[a] != 0 {
			c.bad("account "+string(a), "balance %d, the history comes to 0", balances[a])
		}
	}
}

func (c *historyCheck) compareOwner(record string, o *owner, settled uint64, chain [32]byte) {
	for _, g := range o.missing {
		c.bad(record, "numbers %d to %d of %d are missing", g.from, g.to, settled)
	}
	switch {
	case o.highest != settled:
		c.bad(record, "the last number is %d, want %d", o.highest, settled)
	case len(o.missing) == 0 && o.chain != chain:
		c.bad(record, "the hash chain over its %d lines is %x, want %x", o.lines, o.chain, chain)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
