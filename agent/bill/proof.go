package bill

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// ProofFormat is the version of the proof file.
const ProofFormat = "commonwatt-proof/2"

// MaxProofBytes bounds a proof file: a month of minutes and a genesis document of a
// thousand founders have half of it.
const MaxProofBytes = 64 << 20

// Proof is all that a Statement follows from and all that proves it, as its file has it.
// The keys are in words and the numbers whole, so that a person can read it; nothing of
// it is signed as JSON: verifying makes the ledger's own bytes out of it.
type Proof struct {
	Format    string             `json:"format"`
	Community string             `json:"community"`
	Household market.HouseholdID `json:"household"`
	Month     market.Month       `json:"month"`
	Currency  string             `json:"currency"` // money is micro-units of it, prices are per kWh
	Totals    monthRecord        `json:"totals"`
	Pruned    bool               `json:"pruned"`
	Lines     []proofLine        `json:"lines"`
	// Closed ties a month that is final to the household's record.
	Closed  *closedMonths           `json:"closed"`
	Record  householdRecord         `json:"record"`
	Clock   clockRecord             `json:"clock"`
	Signed  *consensus.SignedHeader `json:"signed"`
	Genesis json.RawMessage         `json:"genesis"`
}

// monthRecord is ledger.Month.
type monthRecord struct {
	Month       market.Month     `json:"month"`
	Lines       uint64           `json:"lines"`
	Chain       consensus.Hash   `json:"chain"`
	Bought      market.WattHours `json:"bought_wh"`
	Sold        market.WattHours `json:"sold_wh"`
	Import      market.WattHours `json:"import_wh"`
	Export      market.WattHours `json:"export_wh"`
	Market      market.Money     `json:"from_market"`
	Supplier    market.Money     `json:"from_supplier"`
	Cooperative market.Money     `json:"from_cooperative"`
	Alone       market.Money     `json:"alone"`
}

// proofLine is ledger.Settlement, with when it begins, and the hash chain with it.
type proofLine struct {
	Number   uint64           `json:"number"`
	Start    string           `json:"start"`
	Interval market.Interval  `json:"interval"`
	Version  uint32           `json:"version"`
	Node     uint32           `json:"node"`
	Metered  bool             `json:"metered"`
	Rule     string           `json:"rule"`
	Bid      uint64           `json:"bid"`
	Offer    uint64           `json:"offer"`
	From     uint64           `json:"reading_start"`
	To       uint64           `json:"reading_end"`
	Bought   market.WattHours `json:"bought_wh"`
	Sold     market.WattHours `json:"sold_wh"`
	Price    market.Price     `json:"price"`
	Import   market.WattHours `json:"import_wh"`
	Export   market.WattHours `json:"export_wh"`
	Quality  string           `json:"quality"`
	Retail   market.Price     `json:"retail"`
	FeedIn   market.Price     `json:"feed_in"`
	Fee      market.Price     `json:"fee"`
	Alone    market.Money     `json:"alone"`
	Moves    []proofMove      `json:"moves"`
	Chain    consensus.Hash   `json:"chain"`
}

// proofMove is ledger.Move; "household" is the statement's own.
type proofMove struct {
	Kind   market.TransferKind `json:"kind"`
	From   string              `json:"from"`
	To     string              `json:"to"`
	Amount market.Money        `json:"amount"`
}

type closedMonths struct {
	Before consensus.Hash `json:"before"` // the hash chain over the months closed before
	Months []monthRecord  `json:"months"` // this one, and those closed after it
}

// proven is a record of the ledger's state with the way to the AppHash.
type proven struct {
	Hash consensus.Hash `json:"hash"` // of the record
	Path []pathStep     `json:"path"`
}

// pathStep is the node beside the way up, on its left or its right.
type pathStep struct {
	Left  consensus.Hash `json:"left,omitempty"`
	Right consensus.Hash `json:"right,omitempty"`
}

// householdRecord is ledger.Household.
type householdRecord struct {
	Key           ledger.Key      `json:"key"`
	Device        ledger.Key      `json:"device"`
	Network       ledger.Key      `json:"network"`
	DeviceSeq     uint64          `json:"device_seq"`
	Left          market.Interval `json:"left"`
	Node          string          `json:"node"`
	Participation []participation `json:"participation"`
	ShareKey      int64           `json:"share_key"`
	MembershipSeq uint64          `json:"membership_seq"`
	Meter         consensus.Hash  `json:"meter"`
	HasMeter      bool            `json:"has_meter"`
	MinSell       market.Price    `json:"min_sell"`
	MaxBuy        market.Price    `json:"max_buy"`
	PreferenceSeq uint64          `json:"preference_seq"`
	Balance       market.Money    `json:"balance"`
	Settled       uint64          `json:"settled"`
	Months        []monthRecord   `json:"months"`
	Closed        uint64          `json:"closed"`
	ClosedChain   consensus.Hash  `json:"closed_chain"`
	Proof         proven          `json:"proof"`
}

type participation struct {
	Community string `json:"community"`
	Permille  uint16 `json:"permille"`
}

// clockRecord is ledger.ClockRecord: how far the ledger is, and how often its rules and its
// validators have been changed.
type clockRecord struct {
	Next       market.Interval `json:"next"`
	Settled    uint64          `json:"settled"`
	Chain      consensus.Hash  `json:"chain"`
	Decisions  uint64          `json:"decisions"`
	Validators uint64          `json:"validators"`
	Month      market.Month    `json:"month"`
	Proof      proven          `json:"proof"`
}

// Encode writes the proof file.
func (p *Proof) Encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(p); err != nil {
		return nil, fmt.Errorf("writing proof: %w", err)
	}
	return b.Bytes(), nil
}

func monthOf(m ledger.Month) monthRecord {
	return monthRecord{
		Month: m.Month, Lines: m.Lines, Chain: consensus.Hash(m.Chain[:]), Bought: m.Bought, Sold: m.Sold,
		Import: m.Import, Export: m.Export, Market: m.Market, Supplier: m.Supplier, Cooperative: m.Cooperative, Alone: m.Alone,
	}
}

func (m monthRecord) ledger() (ledger.Month, error) {
	chain, err := hash32(m.Chain)
	return ledger.Month{
		Month: m.Month, Lines: m.Lines, Chain: chain, Bought: m.Bought, Sold: m.Sold, Import: m.Import, Export: m.Export,
		Market: m.Market, Supplier: m.Supplier, Cooperative: m.Cooperative, Alone: m.Alone,
	}, err
}

func monthsOf(months []ledger.Month) []monthRecord {
	out := make([]monthRecord, len(months))
	for i, m := range months {
		out[i] = monthOf(m)
	}
	return out
}

func ledgerMonths(months []monthRecord) ([]ledger.Month, error) {
	if len(months) == 0 {
		return nil, nil
	}
	out := make([]ledger.Month, len(months))
	for i, m := range months {
		var err error
		if out[i], err = m.ledger(); err != nil {
			return nil, fmt.Errorf("months[%d].chain: %w", i, err)
		}
	}
	return out, nil
}

func hash32(h consensus.Hash) (out [32]byte, err error) {
	if len(h) != len(out) {
		return out, fmt.Errorf("got %d hexadecimal digits, want %d", 2*len(h), 2*len(out))
	}
	copy(out[:], h)
	return out, nil
}

// startText is when an interval begins, as a proof has it.
func startText(a Account, k market.Interval) string {
	return a.Calendar.Start(k).In(a.Zone).Format(time.RFC3339)
}

const ownAccount = "household"

func lineOf(a Account, s *ledger.Settlement, chain [32]byte) proofLine {
	l := proofLine{
		Number: s.Number, Start: startText(a, s.Interval), Interval: s.Interval, Version: s.Version, Node: s.Node, Metered: s.Metered, Rule: s.Rule.String(),
		Bid: s.BidSeq, Offer: s.OfferSeq, From: s.StartSeq, To: s.EndSeq, Bought: s.Bought, Sold: s.Sold, Price: s.Price,
		Import: s.Import, Export: s.Export, Quality: s.Quality.String(), Retail: s.Retail, FeedIn: s.FeedIn, Fee: s.Fee,
		Alone: s.Alone, Moves: []proofMove{}, Chain: consensus.Hash(chain[:]),
	}
	for _, m := range s.Moves {
		l.Moves = append(l.Moves, proofMove{
			Kind: m.Kind, From: string(m.Debit.Account(ownAccount)), To: string(m.Credit.Account(ownAccount)), Amount: m.Amount,
		})
	}
	return l
}

// settlement makes the ledger's record out of a line.
func (l *proofLine) settlement(h market.HouseholdID) (*ledger.Settlement, error) {
	s := &ledger.Settlement{
		Number: l.Number, Interval: l.Interval, Version: l.Version, Node: l.Node, Metered: l.Metered,
		BidSeq: l.Bid, OfferSeq: l.Offer, StartSeq: l.From, EndSeq: l.To, Bought: l.Bought, Sold: l.Sold, Price: l.Price,
		Import: l.Import, Export: l.Export, Retail: l.Retail, FeedIn: l.FeedIn, Fee: l.Fee, Alone: l.Alone, Household: h,
		Moves: make([]ledger.Move, len(l.Moves)),
	}
	var ok bool
	if s.Quality, ok = reverse(ledger.Quality.String, l.Quality); !ok {
		return nil, fmt.Errorf("quality: got %.100q, want one that the ledger knows", l.Quality)
	}
	if s.Rule, ok = reverse(ledger.RuleCode.String, l.Rule); !ok {
		return nil, fmt.Errorf("rule: got %.100q, want one that the ledger knows", l.Rule)
	}
	account := func(c ledger.AccountCode) string { return string(c.Account(ownAccount)) }
	for i, m := range l.Moves {
		debit, ok := reverse(account, m.From)
		if !ok || m.From == "" {
			return nil, fmt.Errorf("moves[%d].from: there is no account %.100q", i, m.From)
		}
		credit, ok := reverse(account, m.To)
		if !ok || m.To == "" {
			return nil, fmt.Errorf("moves[%d].to: there is no account %.100q", i, m.To)
		}
		s.Moves[i] = ledger.Move{Kind: m.Kind, Debit: debit, Credit: credit, Amount: m.Amount}
	}
	return s, nil
}

// reverse finds the code that has a name.
func reverse[C ~uint8](name func(C) string, want string) (C, bool) {
	for c := range 256 {
		if name(C(c)) == want {
			return C(c), true
		}
	}
	return 0, false
}

func householdOf(h *ledger.Household) householdRecord {
	r := householdRecord{
		Key: h.Key, Device: h.Device, Network: h.Network, DeviceSeq: h.DeviceSeq, Left: h.Left, Node: h.Node, Participation: []participation{}, ShareKey: h.ShareKey,
		MembershipSeq: h.MembershipSeq, Meter: consensus.Hash(h.Meter[:]), HasMeter: h.HasMeter, MinSell: h.MinSell, MaxBuy: h.MaxBuy,
		PreferenceSeq: h.PreferenceSeq, Balance: h.Balance, Settled: h.Settled, Months: monthsOf(h.Months),
		Closed: h.Closed, ClosedChain: consensus.Hash(h.ClosedChain[:]),
	}
	for _, p := range h.Participation {
		r.Participation = append(r.Participation, participation{Community: p.Community, Permille: p.Permille})
	}
	return r
}

func (r *householdRecord) ledger() (*ledger.Household, error) {
	h := &ledger.Household{
		Key: r.Key, Device: r.Device, Network: r.Network, DeviceSeq: r.DeviceSeq, Left: r.Left, Node: r.Node, ShareKey: r.ShareKey, MembershipSeq: r.MembershipSeq,
		HasMeter: r.HasMeter, MinSell: r.MinSell, MaxBuy: r.MaxBuy, PreferenceSeq: r.PreferenceSeq, Balance: r.Balance,
		Settled: r.Settled, Closed: r.Closed,
	}
	for _, p := range r.Participation {
		h.Participation = append(h.Participation, ledger.Participation{Community: p.Community, Permille: p.Permille})
	}
	if len(r.Meter) != len(h.Meter) {
		return nil, fmt.Errorf("meter: got %d hexadecimal digits, want %d", 2*len(r.Meter), 2*len(h.Meter))
	}
	copy(h.Meter[:], r.Meter)
	var err error
	if h.ClosedChain, err = hash32(r.ClosedChain); err != nil {
		return nil, fmt.Errorf("closed_chain: %w", err)
	}
	h.Months, err = ledgerMonths(r.Months)
	return h, err
}

// root follows the path of a leaf up (RFC 6962).
func (p *proven) root(leaf []byte) ([]byte, error) {
	sum := sha256.Sum256(append([]byte{0}, leaf...))
	for i, step := range p.Path {
		left, right := step.Left, step.Right
		switch {
		case len(left) == len(sum) && len(right) == 0:
			right = sum[:]
		case len(right) == len(sum) && len(left) == 0:
			left = sum[:]
		default:
			return nil, fmt.Errorf("path[%d]: want one hash of %d hexadecimal digits, left or right", i, 2*len(sum))
		}
		sum = sha256.Sum256(append(append([]byte{1}, left...), right...))
	}
	return sum[:], nil
}
