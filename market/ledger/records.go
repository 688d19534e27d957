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
	_             struct{}        `cbor:",toarray"`
	Key           Key             // cold household key; its hash is the HouseholdID
	Device        Key             // the gateway: signs orders, preferences and reports; zero: revoked
	Network       Key             // libp2p identity of the gateway; zero: revoked
	DeviceSeq     uint64          // of the newest SetDevice; 0: as admitted
	Left          market.Interval // the first Interval in which it takes no part; 0: it is a member
	Node          string          // where it hangs in the network
	Participation []Participation // of its meter, by community; empty: all of it takes part here
	ShareKey      int64           // its static part under the rule sharing; 0: none
	MembershipSeq uint64          // of the newest Membership; 0: as admitted
	Meter         MeterID
	HasMeter      bool
	MinSell       market.Price // the standing Preference; meaningless while PreferenceSeq is 0
	MaxBuy        market.Price
	PreferenceSeq uint64 // 0: never set, the no-regret pair of the tariff at its node
	Balance       market.Money
	Settled       uint64   // Settlements so far, corrections included
	Months        []Month  // those that may still change, oldest first
	Closed        uint64   // Months closed
	ClosedChain   [32]byte // hash chain over them
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
	Gaps       []Gap           // not reported up to Last, oldest first; nil: none
	// Epoch is that of the readings from EpochFrom on, once the first report or a replacement
	// has said it; readings before EpochFrom have a lower one.
	EpochKnown bool
	Epoch      uint32
	EpochFrom  market.Interval
	Until      market.Interval // the first Interval that another meter reports; 0: it is in use
}

// Quality says how the energy of an Interval is known.
type Quality uint8

// A missing report is not a quality of energy but the lack of any.
const (
	QualityMissing    Quality = 0
	QualityGood       Quality = 1 // two readings at the Interval's own boundaries
	QualityEstimated  Quality = 2 // its share of a span between two readings
	QualitySubstitute Quality = 3 // no report by the deadline: the allocation taken as delivered (R8)
	QualityDoubtful   Quality = 4 // as reported, but the meter itself marked a reading
	QualityCorrected  Quality = 5 // as the cooperative corrected it (R5)
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
	case QualityDoubtful:
		return "doubtful"
	case QualityCorrected:
		return "corrected"
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

// Entry is one household's part in an Interval.
type Entry struct {
	_         struct{} `cbor:",toarray"`
	Household market.HouseholdID
	BidSeq    uint64 // 0: never ordered; kept when withdrawn, so that old orders stay old
	OfferSeq  uint64
	Bid       []Step // falling prices; empty: none
	Offer     []Step // rising prices; empty: none

	// As it was at the gate.
	Node      uint32 // index in the network of the Interval
	ShareFrom uint16 // its meter's part that takes part here, in permille of the whole
	ShareTo   uint16
	ShareKey  int64
	MinSell   market.Price // the Preference; both 0 unless the Interval is Metered
	MaxBuy    market.Price

	Bought  market.WattHours
	Sold    market.WattHours
	Buy     market.Money     // what it pays for Bought
	Sell    market.Money     // what it is paid for Sold
	Import  market.WattHours // metered, the part that takes part; meaningless while Quality is missing
	Export  market.WattHours
	Quality Quality

	StartSeq uint64 // the readings that prove it; 0: none
	EndSeq   uint64
	Version  uint32 // Settlements made of this entry
}

// IntervalState says how far an Interval has come.
type IntervalState uint8

// The states of R5. When the correction window closes the record goes: what was
// settled is then final.
const (
	IntervalOpen      IntervalState = 0 // orders are taken
	IntervalCleared   IntervalState = 1 // the gate has closed, the auction is decided; reports are awaited
	IntervalSettled   IntervalState = 2 // settled, and may be corrected
	IntervalDelivered IntervalState = 3 // the gate has closed; reports are awaited, and decide the auction (R6)
)

// String returns the state's name.
func (s IntervalState) String() string {
	switch s {
	case IntervalOpen:
		return "open"
	case IntervalCleared:
		return "cleared"
	case IntervalSettled:
		return "settled"
	case IntervalDelivered:
		return "delivered"
	default:
		return fmt.Sprintf("interval-state-%d", uint8(s))
	}
}

// IntervalRecord is an Interval that is not final. Entries are sorted by household;
// of a settled one only those are left whose Settlement is not the one in Root.
type IntervalRecord struct {
	_          struct{} `cbor:",toarray"`
	State      IntervalState
	Gate       market.Interval    // the newest whose gate had closed by then: deadlines are not counted from before
	Metered    bool               // cleared by metered energy (R6)
	Rule       RuleCode           // by which it was cleared
	Seed       [32]byte           // decides ties; from the block that closed the gate
	Prices     []market.Price     // by node, in the order of the network of the Interval; empty until cleared
	Flows      []market.WattHours // by node, towards its parent; at the root 0
	GridImport market.WattHours
	GridExport market.WattHours
	Welfare    market.Money
	Surplus    market.Money // what the rule leaves over, see market.Clearing
	Root       [32]byte     // of the tree over the first Settlements; zero until settled
	Entries    []Entry
}

// Price is that at the root, where the community meets the grid.
func (r *IntervalRecord) Price(network *Network) (market.Price, bool) {
	return r.PriceAt(network.root)
}

// PriceAt is the price at a node, by its index in the network of the Interval.
func (r *IntervalRecord) PriceAt(node uint32) (market.Price, bool) {
	if int(node) >= len(r.Prices) {
		return 0, false
	}
	return r.Prices[node], true
}

// Settlement is what the history keeps of one household and Interval: all that its
// Transfers follow from. The hash chain of the household's Month is over them.
type Settlement struct {
	_        struct{} `cbor:",toarray"`
	Number   uint64   // within the month, from 1 on: the order in which the chain covers them
	Interval market.Interval
	Version  uint32 // 1 is the first; each correction adds one, and has the difference as Moves
	Node     uint32 // index in the network of the Interval, and so in MarketResult.Nodes
	Metered  bool
	Rule     RuleCode // under uniform and sharing, energy in the market costs Price
	BidSeq   uint64   // the orders at the gate; 0: none
	OfferSeq uint64
	StartSeq uint64 // the readings that prove it; 0: none
	EndSeq   uint64
	Bought   market.WattHours
	Sold     market.WattHours
	Price    market.Price // at its node
	Import   market.WattHours
	Export   market.WattHours
	Quality  Quality
	Retail   market.Price // at its node
	FeedIn   market.Price
	Fee      market.Price // the community fee
	Alone    market.Money // what the metered energy costs without the community
	Moves    []Move

	Household market.HouseholdID `cbor:"-"` // whose chain it is in
	Height    int64              `cbor:"-"` // the block; 0 where that is not known
}

// NodeResult is what an Interval came to at one node.
type NodeResult struct {
	_     struct{} `cbor:",toarray"`
	Node  string
	Price market.Price
	Flow  market.WattHours // towards its parent, see market.Flow
}

// MarketResult is what the history keeps of a settled Interval as a whole; the
// clock's record holds the hash chain over them.
type MarketResult struct {
	_          struct{} `cbor:",toarray"`
	Number     uint64   // from 1 on: the order in which the chain covers them
	Interval   market.Interval
	Metered    bool
	Rule       RuleCode
	Price      market.Price     // at the root
	Bought     market.WattHours // by all households, from each other and from the grid
	Sold       market.WattHours
	Import     market.WattHours // metered, by all households
	Export     market.WattHours
	GridImport market.WattHours
	GridExport market.WattHours
	Welfare    market.Money
	Households uint64
	Root       [32]byte // of the tree over the households' first Settlements
	Nodes      []NodeResult
	Moves      []Move

	Height int64 `cbor:"-"` // the block; 0 where that is not known
}

// clockRecord is the ledger's own place in time.
type clockRecord struct {
	_          struct{}        `cbor:",toarray"`
	Next       market.Interval // the Interval whose gate closes next
	Settled    uint64          // MarketResults so far
	Chain      [32]byte        // hash chain over them
	Decisions  uint64          // of the cooperative, on its rules and its network
	Validators uint64          // changes of the set of validators that officers decided
	Month      market.Month    // the oldest that is not closed for all households
}

// Keys of the records. The first byte tells the type; order of bytes is order of
// intervals, since they are never negative.
const (
	prefixAccount   = 'a'
	prefixClock     = 'c'
	prefixFounder   = 'f' // a founder's network key that a household has brought: whose
	prefixGenesis   = 'g'
	prefixHousehold = 'h'
	prefixInterval  = 'i'
	prefixMeter     = 'm'
	prefixNetwork   = 'n'
	prefixOperator  = 'o'
	prefixRules     = 'r'
	prefixValidator = 'v'
)

func accountKey(a market.Account) string       { return string(prefixAccount) + string(a) }
func householdKey(h market.HouseholdID) string { return string(prefixHousehold) + string(h[:]) }
func founderKey(k Key) string                  { return string(prefixFounder) + string(k[:]) }
func meterKey(m MeterID) string                { return string(prefixMeter) + string(m[:]) }
func intervalKey(k market.Interval) string     { return numberKey(prefixInterval, uint64(k)) } //nolint:gosec // never negative
func networkKey(k market.Interval) string      { return numberKey(prefixNetwork, uint64(k)) }  //nolint:gosec // never negative
func rulesKey(k market.Interval) string        { return numberKey(prefixRules, uint64(k)) }    //nolint:gosec // never negative
func validatorKey(k Key) string                { return string(prefixValidator) + string(k[:]) }
func operatorKey(i uint64) string              { return numberKey(prefixOperator, i) }

func numberKey(prefix byte, n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{prefix}, n))
}

// HouseholdKey is the key of a household's record, for State.Prove.
func HouseholdKey(h market.HouseholdID) string { return householdKey(h) }

// IsHouseholdKey says whether the record of a key is some household's.
func IsHouseholdKey(key string) bool { return key != "" && key[0] == prefixHousehold }

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
	case prefixFounder:
		return "founder " + hex.EncodeToString([]byte(rest))
	case prefixHousehold:
		return "household " + hex.EncodeToString([]byte(rest))
	case prefixValidator:
		return "validator " + hex.EncodeToString([]byte(rest))
	case prefixMeter:
		return "meter " + hex.EncodeToString([]byte(rest))
	case prefixInterval, prefixNetwork, prefixOperator, prefixRules:
		if len(rest) == 8 {
			n := binary.BigEndian.Uint64([]byte(rest))
			switch key[0] {
			case prefixNetwork:
				return fmt.Sprintf("network from interval %d on", n)
			case prefixOperator:
				return fmt.Sprintf("grid operator %d", n)
			case prefixRules:
				return fmt.Sprintf("rules from interval %d on", n)
			}
			return fmt.Sprintf("interval %d", n)
		}
	}
	return fmt.Sprintf("unknown record %x", key)
}
