package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cometbft/cometbft/crypto/merkle"

	"github.com/commonwatt/commonwatt/market"
)

// AccountCode is a market.Account in few bytes. 0 is the household whose record it is in.
type AccountCode uint8

// accounts are those that are not a household's, by their code. The order is part of
// the history's format.
var accounts = [...]market.Account{
	1: market.AccountMarket, 2: market.AccountSupplier, 3: market.AccountIsland,
	4: market.AccountGridOperator, 5: market.AccountCooperative, 6: market.AccountRounding,
}

// RuleCode is a rule of market.Rules in one byte: its place there, which is part of the
// history's format.
type RuleCode uint8

// ruleCode returns the code of a rule that Rules.Validate has accepted.
func ruleCode(rule string) RuleCode {
	return RuleCode(max(0, slices.Index(market.Rules(), rule))) //nolint:gosec // there are four
}

// String returns the rule's name.
func (c RuleCode) String() string {
	if rules := market.Rules(); int(c) < len(rules) {
		return rules[c]
	}
	return fmt.Sprintf("rule-%d", uint8(c))
}

// Move is market.Transfer as the history keeps it. The Interval is the record's.
type Move struct {
	_      struct{} `cbor:",toarray"`
	Kind   market.TransferKind
	Debit  AccountCode
	Credit AccountCode
	Amount market.Money
}

// movesOf shortens transfers; own is the household's account, or empty.
func movesOf(ts []market.Transfer, own market.Account) ([]Move, error) {
	out := make([]Move, len(ts))
	for i, t := range ts {
		debit, err := codeOf(t.Debit, own)
		if err != nil {
			return nil, err
		}
		credit, err := codeOf(t.Credit, own)
		if err != nil {
			return nil, err
		}
		out[i] = Move{Kind: t.Kind, Debit: debit, Credit: credit, Amount: t.Amount}
	}
	return out, nil
}

func codeOf(a, own market.Account) (AccountCode, error) {
	if a == own {
		return 0, nil
	}
	for i, known := range accounts {
		if i > 0 && known == a {
			return AccountCode(i), nil
		}
	}
	return 0, fmt.Errorf("account %q: has no code", a)
}

// Account gives the account back; own is what code 0 stands for. An unknown code is "".
func (c AccountCode) Account(own market.Account) market.Account {
	switch {
	case c == 0:
		return own
	case int(c) < len(accounts):
		return accounts[c]
	default:
		return ""
	}
}

// Transfers gives the moves back as Transfers of the Interval; own is the
// household's account, or empty for a MarketResult.
func Transfers(k market.Interval, moves []Move, own market.Account) []market.Transfer {
	out := make([]market.Transfer, len(moves))
	for i, m := range moves {
		out[i] = market.Transfer{Debit: m.Debit.Account(own), Credit: m.Credit.Account(own), Amount: m.Amount, Kind: m.Kind, Interval: k}
	}
	return out
}

// Month is what a household's Settlements of one month come to. Its record holds those
// that may still change; a Month whose correction window has closed is final, goes into
// the history, and the record keeps a hash chain over them. So a statement is provable
// from one record, for ever, and its lines as long as somebody keeps them.
type Month struct {
	_           struct{} `cbor:",toarray"`
	Month       market.Month
	Lines       uint64   // Settlements, corrections included
	Chain       [32]byte // hash chain over them, from ChainStart
	Bought      market.WattHours
	Sold        market.WattHours
	Import      market.WattHours
	Export      market.WattHours
	Market      market.Money // what came from the account market; negative: went to it
	Supplier    market.Money // from the supplier, or the island's account
	Cooperative market.Money
	Alone       market.Money // what the metered energy costs without the community
}

// Net is what the household's balance gains by the month.
func (m *Month) Net() (market.Money, error) {
	sum, err := m.Market.Add(m.Supplier)
	if err != nil {
		return 0, err
	}
	return sum.Add(m.Cooperative)
}

// NewMonth is a month without Settlements.
func NewMonth(h market.HouseholdID, m market.Month) Month {
	return Month{Month: m, Chain: ChainStart(h, m)}
}

// Add books the next Settlement of the month. before is the one of the same Interval
// that it corrects, nil if it is the first. A Settlement of another number, or whose
// moves lead to an account that no household deals with, is an error.
func (m *Month) Add(s, before *Settlement) error {
	if s.Number != m.Lines+1 {
		return fmt.Errorf("settlement of interval %d: number %d, want %d", s.Interval, s.Number, m.Lines+1)
	}
	if before == nil {
		before = &Settlement{}
	}
	next := *m
	var err error
	for _, t := range []struct {
		sum       *market.WattHours
		was, is   market.WattHours
		describes string
	}{
		{&next.Bought, before.Bought, s.Bought, "bought"},
		{&next.Sold, before.Sold, s.Sold, "sold"},
		{&next.Import, before.Import, s.Import, "import"},
		{&next.Export, before.Export, s.Export, "export"},
	} {
		if *t.sum, err = t.sum.Add(t.is - t.was); err != nil {
			return fmt.Errorf("%s of the month: %w", t.describes, err)
		}
	}
	if next.Alone, err = next.Alone.Add(s.Alone - before.Alone); err != nil {
		return fmt.Errorf("alone of the month: %w", err)
	}
	for _, move := range s.Moves {
		if err := next.move(move); err != nil {
			return fmt.Errorf("settlement of interval %d: %w", s.Interval, err)
		}
	}
	next.Lines++
	next.Chain = NextChain(m.Chain, s.Encode())
	*m = next
	return nil
}

func (m *Month) move(v Move) error {
	amount, other := v.Amount, v.Debit
	if v.Debit == 0 {
		amount, other = -amount, v.Credit
	}
	var sum *market.Money
	account := other.Account("")
	switch account { //nolint:exhaustive // a household deals with no other
	case market.AccountMarket:
		sum = &m.Market
	case market.AccountSupplier, market.AccountIsland:
		sum = &m.Supplier
	case market.AccountCooperative:
		sum = &m.Cooperative
	default:
		return fmt.Errorf("%s between the household and %q", v.Kind, account)
	}
	var err error
	*sum, err = sum.Add(amount)
	return err
}

// ChainStart is the hash chain over no Settlement of the household and month. It makes
// a line worthless in another's statement.
func ChainStart(h market.HouseholdID, m market.Month) [32]byte {
	b := append([]byte("commonwatt/month/1\x00"), h[:]...)
	return sha256.Sum256(binary.BigEndian.AppendUint32(b, uint32(m))) //nolint:gosec // years from 1970 on
}

// NextChain is one step of a hash chain over the history: SHA-256 of the chain so far
// and the next encoded Settlement, MarketResult or Month.
func NextChain(prev [32]byte, encoded []byte) [32]byte {
	return sha256.Sum256(append(prev[:], encoded...))
}

// SettlementLeaf is a leaf of the tree whose root a MarketResult and the Interval's
// record hold: one household's first Settlement, in the order of the households.
func SettlementLeaf(h market.HouseholdID, encoded []byte) []byte {
	return append(append(make([]byte, 0, len(h)+len(encoded)), h[:]...), encoded...)
}

// settlementRoot is the root of that tree.
func settlementRoot(leaves [][]byte) [32]byte { return [32]byte(merkle.HashFromByteSlices(leaves)) }

// Encode gives the bytes that the hash chain of the month covers.
func (s *Settlement) Encode() []byte { return encode(s) }

// Encode gives the bytes that the clock's hash chain covers.
func (r *MarketResult) Encode() []byte { return encode(r) }

// Encode gives the bytes that the hash chain over closed months covers.
func (m *Month) Encode() []byte { return encode(m) }

// DecodeSettlement reads what Encode gave of the household's Settlement.
func DecodeSettlement(h market.HouseholdID, b []byte) (*Settlement, error) {
	s := new(Settlement)
	if err := decode(b, s); err != nil {
		return nil, fmt.Errorf("settlement: %w", err)
	}
	s.Household = h
	return s, nil
}

// DecodeMarketResult reads what Encode gave.
func DecodeMarketResult(b []byte) (*MarketResult, error) {
	r := new(MarketResult)
	if err := decode(b, r); err != nil {
		return nil, fmt.Errorf("market result: %w", err)
	}
	return r, nil
}

// DecodeMonth reads what Encode gave.
func DecodeMonth(b []byte) (*Month, error) {
	m := new(Month)
	if err := decode(b, m); err != nil {
		return nil, fmt.Errorf("month: %w", err)
	}
	return m, nil
}

// DecodeHousehold reads a household's record, as State.Prove gives it.
func DecodeHousehold(b []byte) (*Household, error) {
	h := new(Household)
	if err := decode(b, h); err != nil {
		return nil, fmt.Errorf("household: %w", err)
	}
	return h, nil
}

// OpenMonthOf reads from encoded records the oldest month that is not closed, see
// State.OpenMonth; record is as for HistoryLength.
func OpenMonthOf(record func(key string) ([]byte, error)) (market.Month, error) {
	raw, err := record(string(prefixClock))
	if err != nil {
		return 0, err
	}
	var c clockRecord
	if err := decode(raw, &c); err != nil {
		return 0, fmt.Errorf("clock: %w", err)
	}
	return c.Month, nil
}

// HistoryLength reads from encoded records how many Settlements there are of a
// household so far, and of the zero id how many MarketResults. record returns nil for
// a record that is not there.
func HistoryLength(h market.HouseholdID, record func(key string) ([]byte, error)) (uint64, error) {
	key := householdKey(h)
	if h == (market.HouseholdID{}) {
		key = string(prefixClock)
	}
	raw, err := record(key)
	if err != nil || raw == nil {
		return 0, err
	}
	if key == string(prefixClock) {
		var c clockRecord
		err = decode(raw, &c)
		return c.Settled, err
	}
	var r Household
	err = decode(raw, &r)
	return r.Settled, err
}
