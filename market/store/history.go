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
// by line in order of Intervals. That is nearly the order of the chains; what was
// settled or corrected late waits for its turn.
type historyCheck struct {
	bad      func(record, format string, args ...any)
	accounts map[market.Account]*big.Int
	owners   map[market.HouseholdID]*owner
}

// maxWaiting bounds the lines that wait for their turn. More can wait only if the
// line whose turn it is was lost, and then the chain is lost too.
const maxWaiting = 1 << 16

// owner is what the lines of a household, or with the zero id of the market, come to.
type owner struct {
	lines   uint64
	next    uint64            // the number whose turn it is
	chain   [32]byte          // over the numbers before next
	waiting map[uint64][]byte // later numbers; nil values once there are too many
}

func newHistoryCheck() *historyCheck {
	return &historyCheck{accounts: map[market.Account]*big.Int{}, owners: map[market.HouseholdID]*owner{}}
}

// line takes the next line of the history.
func (c *historyCheck) line(record string, key, value []byte) {
	_, h, _ := splitHistoryKey(key)
	var e ledger.Event
	var number uint64
	var ts []market.Transfer
	var err error
	if h == (market.HouseholdID{}) {
		if e.Result, err = ledger.DecodeMarketResult(value); err == nil {
			number = e.Result.Number
			ts = ledger.Transfers(e.Result.Interval, e.Result.Moves, "")
		}
	} else if e.Settlement, err = ledger.DecodeSettlement(value); err == nil {
		number = e.Settlement.Number
		ts = ledger.Transfers(e.Settlement.Interval, e.Settlement.Moves, market.HouseholdAccount(h))
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
	o := c.owners[h]
	if o == nil {
		o = &owner{next: 1, waiting: map[uint64][]byte{}}
		c.owners[h] = o
	}
	if _, twice := o.waiting[number]; twice || number < o.next {
		c.bad(record, "number %d is there twice, or 0", number)
		return
	}
	o.take(number, value)
}

// take puts a line into its turn of the chain.
func (o *owner) take(number uint64, value []byte) {
	o.lines++
	if len(o.waiting) >= maxWaiting {
		value = nil
	}
	o.waiting[number] = value
	for {
		value, ok := o.waiting[o.next]
		if !ok {
			return
		}
		delete(o.waiting, o.next)
		o.chain = ledger.NextChain(o.chain, value)
		o.next++
	}
}

func (c *historyCheck) add(a market.Account, m market.Money) {
	sum := c.accounts[a]
	if sum == nil {
		sum = new(big.Int)
		c.accounts[a] = sum
	}
	sum.Add(sum, big.NewInt(int64(m)))
}

// compare holds what the lines come to against what the state says.
func (c *historyCheck) compare(s *ledger.State) {
	none := &owner{next: 1}
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
	last := o.next - 1
	for _, n := range slices.Sorted(maps.Keys(o.waiting)) {
		if n != last+1 {
			c.bad(record, "numbers %d to %d of %d are missing", last+1, n-1, settled)
		}
		last = n
	}
	switch {
	case last != settled:
		c.bad(record, "the last number is %d, want %d", last, settled)
	case len(o.waiting) == 0 && o.chain != chain:
		c.bad(record, "the hash chain over its %d lines is %x, want %x", o.lines, o.chain, chain)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
