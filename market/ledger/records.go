package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/commonwatt/commonwatt/market"
)

// MeterID is the first 16 bytes of the SHA-256 of the meter's public key.
type MeterID [16]byte

// MeterIDOf derives the id of a meter from its key.
func MeterIDOf(k Key) MeterID {
	sum := sha256.Sum256(k[:])
	return MeterID(sum[:16])
}

// String returns 32 hexadecimal digits.
func (m MeterID) String() string { return hex.EncodeToString(m[:]) }

// Household is a member's record. A pointer handed out by a State is shared and
// must not be written to.
type Household struct {
	_             struct{} `cbor:",toarray"`
	Key           Key      // cold household key; its hash is the HouseholdID
	Device        Key      // the gateway: signs orders, preferences and reports
	Network       Key      // libp2p identity of the gateway
	Node          string   // where it hangs in the network
	Meter         MeterID
	HasMeter      bool
	MinSell       market.Price // the standing Preference
	MaxBuy        market.Price
	PreferenceSeq uint64
	Balance       market.Money
	Settled       uint64   // Settlements so far, corrections included
	Chain         [32]byte // hash chain over its Settlements
}

// SignedBy says who signs a meter's readings.
type SignedBy uint8

// A reading is signed by the gateway's meter key, or inside the meter.
const (
	SignedByAgent  SignedBy = 1
	SignedByDevice SignedBy = 2
)

// String returns "agent" or "device".
func (s SignedBy) String() string {
	switch s {
	case SignedByAgent:
		return "agent"
	case SignedByDevice:
		return "device"
	default:
		return fmt.Sprintf("signed-by-%d", uint8(s))
	}
}

// Meter is the record of a household's settlement meter.
type Meter struct {
	_          struct{} `cbor:",toarray"`
	Key        Key
	Household  market.HouseholdID
	SignedBy   SignedBy
	Definition string
	From       market.Interval // the first Interval it reports
	Last       market.Interval // the newest Interval reported; From-1 at first
	LastEnd    [32]byte        // hash of the reading that ended Last
	Gaps       []Gap           // not reported before Last, oldest first; nil: none
}

// Quality says how the energy of an Interval is known.
type Quality uint8

// A missing report is not a quality of energy but the lack of any.
const (
	QualityMissing    Quality = 0
	QualityGood       Quality = 1 // two readings at the Interval's own boundaries
	QualityEstimated  Quality = 2 // its share of a span between two readings
	QualitySubstitute Quality = 3 // no report by the deadline: the allocation taken as delivered (R8)
)

// String returns the quality's name.
func (q Quality) String() string {
	switch q {
	case QualityMissing:
		return "missing"
	case QualityGood:
		return "good"
	case QualityEstimated:
		return "estimated"
	case QualitySubstitute:
		return "substitute"
	default:
		return fmt.Sprintf("quality-%d", uint8(q))
	}
}

// Step is market.Step as it is stored and signed.
type Step struct {
	_         struct{} `cbor:",toarray"`
	Price     market.Price
	WattHours market.WattHours
}

func marketSteps(steps []Step) []market.Step {
	out := make([]market.Step, len(steps))
	for i, s := range steps {
		out[i] = market.Step{Price: s.Price, WattHours: s.WattHours}
	}
	return out
}

// Move is market.Transfer as the history keeps it. The Interval is the record's;
// an empty account is the record's own household.
type Move struct {
	_      struct{} `cbor:",toarray"`
	Kind   market.TransferKind
	Debit  market.Account
	Credit market.Account
	Amount market.Money
}

// movesOf shortens the household's own account to nothing.
func movesOf(ts []market.Transfer, own market.Account) []Move {
	short := func(a market.Account) market.Account {
		if a == own {
			return ""
		}
		return a
	}
	out := make([]Move, len(ts))
	for i, t := range ts {
		out[i] = Move{Kind: t.Kind, Debit: short(t.Debit), Credit: short(t.Credit), Amount: t.Amount}
	}
	return out
}

// Transfers gives the moves back as Transfers of the Interval; own is the
// household's account, or empty for a MarketResult.
func Transfers(k market.Interval, moves []Move, own market.Account) []market.Transfer {
	long := func(a market.Account) market.Account {
		if a == "" {
			return own
		}
		return a
	}
	out := make([]market.Transfer, len(moves))
	for i, m := range moves {
		out[i] = market.Transfer{Debit: long(m.Debit), Credit: long(m.Credit), Amount: m.Amount, Kind: m.Kind, Interval: k}
	}
	return out
}

// Entry is one household's part in an Interval.
type Entry struct {
	_         struct{} `cbor:",toarray"`
	Household market.HouseholdID
	BidSeq    uint64 // 0: never ordered; kept when withdrawn, so that old orders stay old
	OfferSeq  uint64
	Bid       []Step // falling prices; empty: none
	Offer     []Step // rising prices; empty: none
	Bought    market.WattHours
	Sold      market.WattHours
	Price     market.Price
	Import    market.WattHours // metered; meaningless while Quality is missing
	Export    market.WattHours
	Quality   Quality
	Version   uint32 // Settlements made of this entry
}

// IntervalState says how far an Interval has come.
type IntervalState uint8

// The states of R5 that this version knows.
const (
	IntervalOpen    IntervalState = 0 // orders are taken
	IntervalCleared IntervalState = 1 // the gate has closed; reports are awaited
	IntervalSettled IntervalState = 2 // settled; the entries left are substitutes that may be corrected
)

// IntervalRecord is an Interval that is not finished. Entries are sorted by household.
type IntervalRecord struct {
	_          struct{} `cbor:",toarray"`
	State      IntervalState
	Price      market.Price // at the root
	GridImport market.WattHours
	GridExport market.WattHours
	Welfare    market.Money
	Entries    []Entry
}

// Settlement is what the history keeps of one household and Interval; the
// household's record holds the hash chain over them.
type Settlement struct {
	_         struct{} `cbor:",toarray"`
	Number    uint64   // of the household's, from 1 on: the order in which the chain covers them
	Interval  market.Interval
	Household market.HouseholdID
	Version   uint32 // 1 is the first; each correction adds one
	Bought    market.WattHours
	Sold      market.WattHours
	Price     market.Price
	Import    market.WattHours
	Export    market.WattHours
	Quality   Quality
	Moves     []Move
}

// MarketResult is what the history keeps of a settled Interval as a whole; the
// clock's record holds the hash chain over them.
type MarketResult struct {
	_          struct{} `cbor:",toarray"`
	Number     uint64   // from 1 on: the order in which the chain covers them
	Interval   market.Interval
	Price      market.Price
	Bought     market.WattHours // by all households, from each other and from the grid
	GridImport market.WattHours
	GridExport market.WattHours
	Welfare    market.Money
	Households uint64
	Moves      []Move
}

// clockRecord is the ledger's own place in time.
type clockRecord struct {
	_       struct{}        `cbor:",toarray"`
	Next    market.Interval // the Interval whose gate closes next
	Settled uint64          // MarketResults so far
	Chain   [32]byte        // hash chain over them
}

// Keys of the records. The first byte tells the type; order of bytes is order of
// intervals, since they are never negative.
const (
	prefixAccount   = 'a'
	prefixClock     = 'c'
	prefixGenesis   = 'g'
	prefixHousehold = 'h'
	prefixInterval  = 'i'
	prefixMeter     = 'm'
)

func accountKey(a market.Account) string       { return string(prefixAccount) + string(a) }
func householdKey(h market.HouseholdID) string { return string(prefixHousehold) + string(h[:]) }
func meterKey(m MeterID) string                { return string(prefixMeter) + string(m[:]) }
func intervalKey(k market.Interval) string {
	return string(binary.BigEndian.AppendUint64([]byte{prefixInterval}, uint64(k))) //nolint:gosec // never negative
}

// KeyText names a record's key in words for people: "household 3f2a...".
func KeyText(key string) string {
	if key == "" {
		return "empty key"
	}
	rest := key[1:]
	switch key[0] {
	case prefixAccount:
		return "account " + rest
	case prefixClock:
		return "clock"
	case prefixGenesis:
		return "genesis"
	case prefixHousehold:
		return "household " + hex.EncodeToString([]byte(rest))
	case prefixMeter:
		return "meter " + hex.EncodeToString([]byte(rest))
	case prefixInterval:
		if len(rest) == 8 {
			return fmt.Sprintf("interval %d", binary.BigEndian.Uint64([]byte(rest)))
		}
	}
	return fmt.Sprintf("unknown record %x", key)
}

// NextChain is one step of a hash chain over the history: zero at first, then
// SHA-256 of the chain so far and the next encoded Settlement or MarketResult.
func NextChain(prev [32]byte, encoded []byte) [32]byte {
	return sha256.Sum256(append(prev[:], encoded...))
}

// Encode gives the bytes that the household's hash chain covers.
func (s *Settlement) Encode() []byte { return encode(s) }

// Encode gives the bytes that the clock's hash chain covers.
func (r *MarketResult) Encode() []byte { return encode(r) }

// DecodeSettlement reads what Encode gave.
func DecodeSettlement(b []byte) (*Settlement, error) {
	s := new(Settlement)
	if err := decode(b, s); err != nil {
		return nil, fmt.Errorf("settlement: %w", err)
	}
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
