package api

import "time"

// A Snapshot is everything the API and the page know about the home at one
// instant. It is plain data: a Provider hands out a copy that nobody changes
// afterwards. See the package documentation for units and signs. Every time lies
// between the years 1 and 9999, as JSON demands.
type Snapshot struct {
	// At is community time; WallAt is the wall clock of the same instant.
	// They differ only in communities whose rate is not 1.
	At     time.Time `json:"at" doc:"Community time of this snapshot, UTC"`
	WallAt time.Time `json:"wall_at" doc:"Wall clock at the same instant, UTC"`

	Home      Home       `json:"home"`
	Power     Power      `json:"power"`
	PriceNow  Price      `json:"price_now"`
	PriceNext Price      `json:"price_next"`
	Intervals []Interval `json:"intervals" nullable:"false" doc:"Oldest first, about the last 96"`
	Account   Account    `json:"account"`
	Ledger    Ledger     `json:"ledger"`
	Meters    []Meter    `json:"meters" nullable:"false"`
	Controls  []Control  `json:"controls" nullable:"false" doc:"What this home leads"`
	Clock     Clock      `json:"clock"`
	Problems  []Problem  `json:"problems" nullable:"false"`
	Grid      *Grid      `json:"grid" doc:"The newest interval that is decided; null: none is"`
}

// Home says who this is. It does not change while the agent runs.
type Home struct {
	ID        string `json:"id" doc:"HouseholdID, 32 hex digits"`
	Name      string `json:"name" doc:"Name the household gave itself; stays on this machine"`
	Community string `json:"community"`
	Role      Role   `json:"role" enum:"validator,replica,light"`
	IntervalS int64  `json:"interval_s" doc:"Length of a market interval in community seconds"`
	Rate      int64  `json:"rate" doc:"Community seconds per wall second; 1 outside demonstrations"`
}

// Role is what an agent does for the ledger.
type Role string

// The roles.
const (
	RoleValidator Role = "validator"
	RoleReplica   Role = "replica"
	RoleLight     Role = "light"
)

// Power is the home's power balance now. Each value is unknown on its own.
type Power struct {
	At           *time.Time `json:"at" doc:"Community time of the oldest reading that went into the balance"`
	ConnectionW  *int64     `json:"connection_w" doc:"At the home's connection; positive imports"`
	GridW        *int64     `json:"grid_w" doc:"The part of connection_w that is bought from (+) or sold to (-) the supplier"`
	NeighboursW  *int64     `json:"neighbours_w" doc:"The part of connection_w that comes from (+) or goes to (-) neighbours, by the cleared allocation"`
	SolarW       *int64     `json:"solar_w" doc:"Production of the roof, not negative"`
	BatteryW     *int64     `json:"battery_w" doc:"Positive charges, negative discharges"`
	HouseW       *int64     `json:"house_w" doc:"Consumption of the house without its battery, not negative"`
	BatterySOCBp *int64     `json:"battery_soc_bp" doc:"State of charge in hundredths of a per cent, 0 to 10000"`
	HasSolar     bool       `json:"has_solar"`
	HasBattery   bool       `json:"has_battery"`
}

// Price is what energy costs in one interval, in micro-units per kWh.
type Price struct {
	Interval    *int64     `json:"interval" doc:"Index of the interval since the epoch"`
	Start       *time.Time `json:"start"`
	Price       *int64     `json:"price_micro_per_kwh" doc:"Cleared price at the home's node; null until cleared"`
	ImportPrice *int64     `json:"import_price_micro_per_kwh" doc:"Retail price at the node"`
	ExportPrice *int64     `json:"export_price_micro_per_kwh" doc:"Feed-in price at the node"`
}

// IntervalState is how far an interval has come for this home.
type IntervalState string

// The states, in the order of an interval's life. Missing and Substitute are
// dead ends until a report arrives after all.
const (
	StateOpen        IntervalState = "open"
	StateGateClosed  IntervalState = "gate_closed"
	StateCleared     IntervalState = "cleared"
	StateMissing     IntervalState = "missing"     // delivered, but this home has no reading for it
	StateProvisional IntervalState = "provisional" // settled before every report was in
	StateSubstitute  IntervalState = "substitute"  // settled on a substituted report of this home
	StateSettled     IntervalState = "settled"
)

// Interval is one market interval as this home lived it.
type Interval struct {
	Interval int64         `json:"interval" doc:"Index since the epoch"`
	Start    time.Time     `json:"start" doc:"Community time, UTC"`
	State    IntervalState `json:"state" enum:"open,gate_closed,cleared,missing,provisional,substitute,settled"`
	Price    *int64        `json:"price_micro_per_kwh"`

	ImportWh *int64 `json:"import_wh" doc:"Metered import"`
	ExportWh *int64 `json:"export_wh" doc:"Metered export"`
	BoughtWh *int64 `json:"bought_wh" doc:"Allocated: bought from neighbours"`
	SoldWh   *int64 `json:"sold_wh" doc:"Allocated: sold to neighbours"`

	// LocalShareBp is the part of the house's consumption that came from its
	// own roof or from neighbours.
	LocalShareBp *int64  `json:"local_share_bp" doc:"0 to 10000"`
	Quality      Quality `json:"quality,omitempty" enum:"good,substitute,estimated,doubtful,corrected"`
	Net          *int64  `json:"net_micro" doc:"Earned minus spent; positive is earned"`
	Saved        *int64  `json:"saved_micro" doc:"Against the same interval with the supplier alone"`
}

// Quality of a meter report; empty while there is none.
type Quality string

// The qualities.
const (
	QualityGood       Quality = "good"
	QualitySubstitute Quality = "substitute"
	QualityEstimated  Quality = "estimated"
	QualityDoubtful   Quality = "doubtful"
	QualityCorrected  Quality = "corrected"
)

// Account is the home's money, in micro-units, since it joined.
type Account struct {
	Currency    string `json:"currency" doc:"ISO 4217; only EUR has a sign of its own on the page"`
	Balance     *int64 `json:"balance_micro"`
	Earned      *int64 `json:"earned_micro" doc:"Sum of transfers to this home, not negative"`
	Spent       *int64 `json:"spent_micro" doc:"Sum of transfers from this home, not negative"`
	Saved       *int64 `json:"saved_micro" doc:"Against the same meter reports with the supplier alone"`
	Settlements int64  `json:"settlements" doc:"Intervals settled for this home"`
}

// Ledger is the state of this agent's copy of the ledger.
type Ledger struct {
	ChainID         string           `json:"chain_id"`
	Height          *int64           `json:"height"`
	AppHash         string           `json:"app_hash" doc:"Hex, at height"`
	LastBlockAt     *time.Time       `json:"last_block_at" doc:"Wall clock"`
	CatchingUp      bool             `json:"catching_up"`
	Peers           []Peer           `json:"peers" nullable:"false"`
	Reached         *bool            `json:"reached" doc:"Whether other homes have lately reached this one from outside its network; null: none has tried. Who cannot be reached is met through holes in its router, or a third home"`
	Providers       []LedgerProvider `json:"providers,omitempty" doc:"Of a light home: whom it asks"`
	ValidatorsUp    *int64           `json:"validators_up"`
	ValidatorsTotal *int64           `json:"validators_total"`
	WaitingFor      string           `json:"waiting_for" doc:"In words, what the ledger needs to go on; empty while it runs"`
	PoolSize        int64            `json:"pool_size" doc:"Transactions waiting for a block"`
	Rejected        map[string]int64 `json:"rejected" doc:"Transactions refused since the start, by code"`
	Omitted         map[string]int64 `json:"omitted" doc:"Orders that blocks left out though this home had long held them, by the address of the block's proposer"`
	DoubleVotes     []string         `json:"double_votes" nullable:"false" doc:"Addresses of validators that are proven to have signed two blocks of one height"`
	// BadProposals has the reason under the address.
	BadProposals map[string]map[string]int64 `json:"bad_proposals" doc:"Proposals that this home refused, by the address of their proposer and the reason"`
}

// Peer is another agent this one is connected to.
type Peer struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Address string `json:"address"`
	Path    string `json:"path,omitempty" enum:"local,direct,punched,relayed" doc:"How bytes get there: inside the house, to an open address, through holes made in both routers, or through a third member"`
	Via     string `json:"via,omitempty" doc:"The member that relays"`
}

// MeterState says whether a meter can be relied on now.
type MeterState string

// The meter states.
const (
	MeterOK       MeterState = "ok"
	MeterStarting MeterState = "starting" // no reading yet
	MeterSilent   MeterState = "silent"   // does not answer
	MeterSuspect  MeterState = "suspect"  // answers, with readings that cannot be true
)

// MeterConnection is the role of the meter that is settled; the others say what
// happens behind it.
const (
	MeterConnection = "connection"
	MeterSolar      = "solar"
	MeterBattery    = "battery"
)

// Clock says how far the times of this gateway's readings can be relied on.
type Clock struct {
	State   string `json:"state,omitempty" enum:"trusted,synchronised,holdover,unknown" doc:"trusted: agent.yaml says so, or the community's clock runs at a rate; else what this machine says of its clock"`
	ErrorMs *int64 `json:"error_ms" doc:"How far it may be off"`
	Sure    bool   `json:"sure" doc:"Whether readings prove interval boundaries"`
}

// Meter is one device as the agent sees it.
type Meter struct {
	Role       string     `json:"role" doc:"connection, solar or battery"`
	Definition string     `json:"definition"`
	Address    string     `json:"address"`
	Identity   string     `json:"identity" doc:"What the device says it is; empty until it has said so"`
	Quality    Quality    `json:"quality,omitempty" enum:"good,substitute,estimated,doubtful"`
	State      MeterState `json:"state" enum:"ok,starting,silent,suspect"`
	LastAt     *time.Time `json:"last_at" doc:"Community time of the last good reading"`
	ImportWh   *int64     `json:"import_wh"`
	ExportWh   *int64     `json:"export_wh"`
	PowerW     *int64     `json:"power_w"`
	Note       string     `json:"note,omitempty" doc:"Why the state is not ok, in words"`
	SetAside   bool       `json:"set_aside" doc:"Another device or counter answers: nothing counts until the old one does, or a person approves it"`
	SignedBy   string     `json:"signed_by,omitempty" enum:"agent,device" doc:"Who signs its readings: the device itself, or this gateway for it"`
	Readings   int64      `json:"readings" doc:"Samples that count, since the agent started"`
	// Others are keyed "refused/stale", "held/counter", "replaced/identity", "failed/timeout" and so on.
	Others map[string]int64 `json:"others,omitempty" doc:"Samples that do not count, and looks that gave none, since the agent started, by verdict/reason"`
}

// Severity of a Problem. Only SeverityError makes the agent not ready.
type Severity string

// The severities.
const (
	SeverityInfo    Severity = "info"
	SeverityWarning Severity = "warning"
	SeverityError   Severity = "error"
)

// ProblemDoubleVote is the code of a validator that signed two blocks of one height.
const ProblemDoubleVote = "validator-double-vote"

// Problem is something a person should know, with what to do about it.
type Problem struct {
	Code     string   `json:"code" doc:"Stable"`
	Severity Severity `json:"severity" enum:"info,warning,error"`
	Text     string   `json:"text"`
	Hint     string   `json:"hint,omitempty"`
}
