package store

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// historyCheck derives chains and balances from the history, which it is given line
// by line in order of Intervals. That is nearly the order of the chains; what was
// settled or corrected late waits for its turn.
type historyCheck struct {
	bad      func(record, format string, args ...any)
	calendar market.Calendar
	zone     *time.Location
	pruned   market.Month // lines of months up to it do not count; known before compare
	accounts map[market.Account]*big.Int
	owners   map[chainID]*owner
	months   map[market.HouseholdID][]ledger.Month // closed, oldest first
}

// chainID names a hash chain: a household's of a month, or with zeros the market's.
type chainID struct {
	household market.HouseholdID
	month     market.Month
}

func (c chainID) text() string {
	if c == (chainID{}) {
		return "history of " + ownerText(c.household)
	}
	return fmt.Sprintf("history of %s, month %s", ownerText(c.household), c.month)
}

// maxWaiting bounds the lines that wait for their turn. More can wait only if the
// line whose turn it is was lost, and then the chain is lost too.
const maxWaiting = 1 << 16

// owner is what the lines of a chain come to.
type owner struct {
	lines   uint64
	next    uint64            // the number whose turn it is
	chain   [32]byte          // over the numbers before next
	waiting map[uint64][]byte // later numbers; nil values once there are too many
}

func newHistoryCheck(g ledger.Genesis) *historyCheck {
	return &historyCheck{
		calendar: g.Calendar(), zone: g.Rules.Zone(), accounts: map[market.Account]*big.Int{},
		owners: map[chainID]*owner{}, months: map[market.HouseholdID][]ledger.Month{},
	}
}

// month is that of an Interval, in the community's time.
func (c *historyCheck) month(k market.Interval) market.Month { return c.calendar.MonthOf(k, c.zone) }

// line takes the next line of the history.
func (c *historyCheck) line(record string, key, value []byte) {
	height, _, err := splitHeight(value)
	if err != nil {
		c.bad(record, "%v", err)
		return
	}
	k, h, _ := splitHistoryKey(key)
	var e ledger.Event
	var id chainID
	var number uint64
	var ts []market.Transfer
	if h == (market.HouseholdID{}) {
		if e.Result, err = decodeResult(value); err == nil {
			number = e.Result.Number
			ts = ledger.Transfers(e.Result.Interval, e.Result.Moves, "")
		}
	} else if e.Settlement, err = decodeSettlement(key, value); err == nil {
		id = chainID{household: h, month: c.month(k)}
		number = e.Settlement.Number
		ts = ledger.Transfers(e.Settlement.Interval, e.Settlement.Moves, market.HouseholdAccount(h))
	}
	if err != nil {
		c.bad(record, "%v", err)
		return
	}
	if _, want, _ := EncodeEvent(e, height); !bytes.Equal(key, want) {
		c.bad(record, "holds the %s", keyText(bucketHistory, want))
		return
	}
	if id.month != 0 && id.month <= c.pruned {
		return // it is about to be removed, and the month says what it came to
	}
	for _, t := range ts {
		if t.Amount <= 0 || t.Debit == t.Credit || t.Debit == "" || t.Credit == "" {
			c.bad(record, "transfer of %d from %q to %q", t.Amount, t.Debit, t.Credit)
		}
		c.add(t.Debit, -t.Amount)
		c.add(t.Credit, t.Amount)
	}
	o := c.owner(id)
	if _, twice := o.waiting[number]; twice || number < o.next {
		c.bad(record, "number %d is there twice, or 0", number)
		return
	}
	_, encoded, _ := splitHeight(value)
	o.take(number, encoded)
}

func (c *historyCheck) owner(id chainID) *owner {
	o := c.owners[id]
	if o == nil {
		o = &owner{next: 1, waiting: map[uint64][]byte{}}
		if id != (chainID{}) {
			o.chain = ledger.ChainStart(id.household, id.month)
		}
		c.owners[id] = o
	}
	return o
}

// closedMonth takes the next month that is closed.
func (c *historyCheck) closedMonth(record string, key, value []byte) {
	h, month := splitMonthKey(key)
	_, encoded, err := splitHeight(value)
	var m *ledger.Month
	if err == nil {
		m, err = ledger.DecodeMonth(encoded)
	}
	switch {
	case err != nil:
		c.bad(record, "%v", err)
	case len(key) != monthKeyBytes || m.Month != month:
		c.bad(record, "holds the month %s", m.Month)
	default:
		c.months[h] = append(c.months[h], *m)
	}
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
	settled, chain := s.Settled()
	c.compareChain(chainID{}, settled, chain)
	for _, id := range s.Households() {
		c.compareHousehold(s, id)
	}
	for _, id := range slices.SortedFunc(maps.Keys(c.owners), compareChains) {
		c.bad(id.text(), "%d lines, but nobody's record has them", c.owners[id].lines)
	}
	for _, h := range slices.SortedFunc(maps.Keys(c.months), compareIDs) {
		c.bad("months of "+ownerText(h), "%d of them, but the household is not registered", len(c.months[h]))
	}
	c.compareBalances(s.Accounts())
}

func compareIDs(a, b market.HouseholdID) int { return bytes.Compare(a[:], b[:]) }

func compareChains(a, b chainID) int {
	return cmp.Or(compareIDs(a.household, b.household), cmp.Compare(a.month, b.month))
}

// compareHousehold compares a household's months, those that are closed first.
func (c *historyCheck) compareHousehold(s *ledger.State, id market.HouseholdID) {
	h, _ := s.Household(id)
	var closed [32]byte
	lines := uint64(0)
	for _, m := range c.months[id] {
		closed = ledger.NextChain(closed, m.Encode())
		lines += m.Lines
		if m.Month <= c.pruned {
			c.addMonth(id, m)
			continue
		}
		c.compareChain(chainID{household: id, month: m.Month}, m.Lines, m.Chain)
	}
	record := "months of " + ownerText(id)
	switch n := uint64(len(c.months[id])); {
	case n != h.Closed:
		c.bad(record, "%d are closed, want %d", n, h.Closed)
	case closed != h.ClosedChain:
		c.bad(record, "the hash chain over them is %x, want %x", closed, h.ClosedChain)
	}
	delete(c.months, id)
	for _, m := range h.Months {
		lines += m.Lines
		c.compareChain(chainID{household: id, month: m.Month}, m.Lines, m.Chain)
	}
	if lines != h.Settled {
		c.bad(record, "they have %d lines, want %d", lines, h.Settled)
	}
}

// addMonth stands for the lines of a month that have been pruned.
func (c *historyCheck) addMonth(id market.HouseholdID, m ledger.Month) {
	for _, x := range []struct {
		account market.Account
		amount  market.Money
	}{{market.AccountMarket, m.Market}, {market.AccountSupplier, m.Supplier}, {market.AccountCooperative, m.Cooperative}} {
		c.add(market.HouseholdAccount(id), x.amount)
		c.add(x.account, -x.amount)
	}
}

func (c *historyCheck) compareBalances(balances map[market.Account]market.Money) {
	if c.pruned > 0 {
		// A month does not tell the supplier from the island's account.
		c.add(market.AccountSupplier, 0)
		c.add(market.AccountIsland, 0)
		c.accounts[market.AccountSupplier].Add(c.accounts[market.AccountSupplier], c.accounts[market.AccountIsland])
		delete(c.accounts, market.AccountIsland)
		balances[market.AccountSupplier] += balances[market.AccountIsland]
		delete(balances, market.AccountIsland)
	}
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

func (c *historyCheck) compareChain(id chainID, settled uint64, chain [32]byte) {
	o := c.owner(id)
	delete(c.owners, id)
	last := o.next - 1
	for _, n := range slices.Sorted(maps.Keys(o.waiting)) {
		if n != last+1 {
			c.bad(id.text(), "numbers %d to %d of %d are missing", last+1, n-1, settled)
		}
		last = n
	}
	switch {
	case last != settled:
		c.bad(id.text(), "the last number is %d, want %d", last, settled)
	case len(o.waiting) == 0 && o.chain != chain:
		c.bad(id.text(), "the hash chain over its %d lines is %x, want %x", o.lines, o.chain, chain)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
