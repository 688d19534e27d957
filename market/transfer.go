package market

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Account is one side of a Transfer: a household's, or one of those below.
type Account string

// The accounts that are not a household's.
const (
	// AccountMarket is the pool that households pay into and are paid from. It is
	// zero after every interval (M9).
	AccountMarket Account = "market"
	// AccountSupplier sells and buys what comes from and goes to the grid.
	AccountSupplier Account = "supplier"
	// AccountIsland takes the supplier's place when islanded: whoever keeps the
	// island in balance. Its energy is what the meters lose, 0 if they lose nothing.
	AccountIsland Account = "island"
	// AccountGridOperator receives the fees on edges, and their congestion rent if
	// a community's rules say so.
	AccountGridOperator Account = "grid-operator"
	// AccountCooperative receives the community fee, congestion rent, and what a
	// rule such as mcafee leaves over.
	AccountCooperative Account = "cooperative"
	// AccountRounding takes what rounding leaves over, and gives what it lacks.
	AccountRounding Account = "rounding"
)

const householdPrefix = "household/"

// HouseholdAccount returns a household's account, "household/" and its id.
func HouseholdAccount(id HouseholdID) Account { return Account(householdPrefix + id.String()) }

// Household returns whose account it is, and whether it is a household's.
func (a Account) Household() (HouseholdID, bool) {
	text, ok := strings.CutPrefix(string(a), householdPrefix)
	if !ok {
		return HouseholdID{}, false
	}
	id, err := ParseHouseholdID(text)
	return id, err == nil
}

// TransferKind says what a transfer is for. The numbers are on the ledger.
type TransferKind uint8

// The kinds of R7.
const (
	KindBuy                TransferKind = 1  // energy bought in the market
	KindSell               TransferKind = 2  // energy sold in the market
	KindImbalanceImport    TransferKind = 3  // imported beyond what was bought: from the supplier, at retail
	KindImbalanceSurplus   TransferKind = 4  // bought but not used: back to the supplier, at feed-in
	KindImbalanceExport    TransferKind = 5  // fed in beyond what was sold: to the supplier, at feed-in
	KindImbalanceShortfall TransferKind = 6  // sold but not delivered: from the supplier, at retail
	KindGridImport         TransferKind = 7  // what the market took from the grid
	KindGridExport         TransferKind = 8  // what the market gave to the grid
	KindCommunityFee       TransferKind = 9  // per kWh bought in the market
	KindRounding           TransferKind = 10 // what brings the market account to zero
	KindCorrection         TransferKind = 11 // the difference that a corrected report makes
	KindGridFee            TransferKind = 12 // the fees on all edges' flows
	KindRent               TransferKind = 13 // congestion rent of all edges
	KindSurplus            TransferKind = 14 // what the clearing rule itself leaves over
)

var transferKindNames = [...]string{
	KindBuy:                "buy",
	KindSell:               "sell",
	KindImbalanceImport:    "imbalance-import",
	KindImbalanceSurplus:   "imbalance-surplus",
	KindImbalanceExport:    "imbalance-export",
	KindImbalanceShortfall: "imbalance-shortfall",
	KindGridImport:         "grid-import",
	KindGridExport:         "grid-export",
	KindCommunityFee:       "community-fee",
	KindRounding:           "rounding",
	KindCorrection:         "correction",
	KindGridFee:            "grid-fee",
	KindRent:               "congestion-rent",
	KindSurplus:            "surplus",
}

// String returns the kind's name, such as "imbalance-import".
func (k TransferKind) String() string {
	if k == 0 || int(k) >= len(transferKindNames) {
		return fmt.Sprintf("transferkind(%d)", uint8(k))
	}
	return transferKindNames[k]
}

// MarshalText returns the kind's name, or ErrBadTransferKind.
func (k TransferKind) MarshalText() ([]byte, error) {
	if k == 0 || int(k) >= len(transferKindNames) {
		return nil, fmt.Errorf("writing transfer kind: got %d, want 1 to %d: %w", uint8(k), len(transferKindNames)-1, ErrBadTransferKind)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads a kind's name, or fails with ErrBadTransferKind.
func (k *TransferKind) UnmarshalText(text []byte) error {
	i := slices.Index(transferKindNames[1:], string(text))
	if i < 0 {
		return fmt.Errorf("reading transfer kind: got %q, want one of %s: %w",
			text, strings.Join(transferKindNames[1:], ", "), ErrBadTransferKind)
	}
	*k = TransferKind(i + 1) //nolint:gosec // an index into the names
	return nil
}

// A Transfer is an immutable money movement: Debit pays Amount to Credit.
type Transfer struct {
	Debit    Account
	Credit   Account
	Amount   Money // > 0
	Kind     TransferKind
	Interval Interval
}

// newTransfer returns the transfer of an amount of any sign but 0: what a
// negative amount pays, the other side pays.
func newTransfer(k Interval, kind TransferKind, debit, credit Account, amount Money) (Transfer, error) {
	if amount < 0 {
		negated, err := Money(0).Sub(amount)
		if err != nil {
			return Transfer{}, err
		}
		debit, credit, amount = credit, debit, negated
	}
	return Transfer{Debit: debit, Credit: credit, Amount: amount, Kind: kind, Interval: k}, nil
}

// Balances adds up transfers by account; their sum is zero (M9). Accounts that
// come out at zero are listed too.
func Balances(ts []Transfer) (map[Account]Money, error) {
	balances := make(map[Account]Money)
	for i, t := range ts {
		paid, err := balances[t.Debit].Sub(t.Amount)
		if err != nil {
			return nil, fmt.Errorf("transfer %d: account %s: %w", i, t.Debit, err)
		}
		balances[t.Debit] = paid
		received, err := balances[t.Credit].Add(t.Amount)
		if err != nil {
			return nil, fmt.Errorf("transfer %d: account %s: %w", i, t.Credit, err)
		}
		balances[t.Credit] = received
	}
	return balances, nil
}

// A pair is two accounts, the alphabetically first one first.
type pair struct{ first, second Account }

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.second, b.second))
}

// Correct returns the transfers that turn what is booked for an interval,
// earlier corrections included, into what is due (M11): at most one between any
// two accounts, in their order. What is booked is never edited.
func Correct(k Interval, booked, due []Transfer) ([]Transfer, error) {
	owed := make(map[pair]Money) // by the first account to the second
	for _, t := range due {
		if err := owe(owed, t, false); err != nil {
			return nil, fmt.Errorf("correcting: %w", err)
		}
	}
	for _, t := range booked {
		if err := owe(owed, t, true); err != nil {
			return nil, fmt.Errorf("correcting: %w", err)
		}
	}
	var corrections []Transfer
	for p, amount := range owed {
		if amount == 0 {
			continue
		}
		t, err := newTransfer(k, KindCorrection, p.first, p.second, amount)
		if err != nil {
			return nil, fmt.Errorf("correcting: %w", err)
		}
		corrections = append(corrections, t)
	}
	slices.SortFunc(corrections, func(a, b Transfer) int { return comparePairs(pairOf(a), pairOf(b)) })
	return corrections, nil
}

func pairOf(t Transfer) pair {
	return pair{first: min(t.Debit, t.Credit), second: max(t.Debit, t.Credit)}
}

// owe adds a transfer to what the first account of each pair owes the second,
// or takes it off if it is paid.
func owe(owed map[pair]Money, t Transfer, paid bool) error {
	p := pairOf(t)
	var err error
	if (p.first == t.Debit) != paid {
		owed[p], err = owed[p].Add(t.Amount)
	} else {
		owed[p], err = owed[p].Sub(t.Amount)
	}
	return err
}
