package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Grid is the community's network in one interval: a tree of nodes whose root is the
// connection to the outside grid. Energy has a direction and is never negative: import
// is towards a node, from its parent; export is away from it.
type Grid struct {
	Interval int64         `json:"interval" doc:"Index since the epoch"`
	Start    time.Time     `json:"start" doc:"Community time, UTC"`
	State    IntervalState `json:"state" enum:"open,gate_closed,cleared,settled"`
	Clearing string        `json:"clearing,omitempty" enum:"forward,metered" doc:"On orders before delivery, or on meter reports after it"`

	Nodes []GridNode `json:"nodes" nullable:"false" doc:"Each after its parent, the root first"`

	BoughtWh     *int64 `json:"bought_wh" doc:"By all households, from each other and from the grid"`
	SoldWh       *int64 `json:"sold_wh" doc:"By all households, to each other and to the grid"`
	GridImportWh *int64 `json:"grid_import_wh" doc:"Bought from the outside grid in the market"`
	GridExportWh *int64 `json:"grid_export_wh" doc:"Sold to the outside grid in the market"`
	ImportWh     *int64 `json:"import_wh" doc:"Metered at all households"`
	ExportWh     *int64 `json:"export_wh" doc:"Metered at all households"`
	SupplierWh   *int64 `json:"supplier_wh" doc:"What the supplier is paid for minus what it pays for, imbalance included"`
	PhysicalOK   *bool  `json:"physical_ok" doc:"Whether import_wh minus export_wh is supplier_wh (R7)"`
	FeesMicro    *int64 `json:"fees_micro" doc:"To the grid operator, for what flowed"`
	RentMicro    *int64 `json:"rent_micro" doc:"Congestion rent of all edges"`

	Accounts    []GridAccount  `json:"accounts" nullable:"false" doc:"As they stand now; the households' in one sum"`
	AccountsSum int64          `json:"accounts_sum_micro" doc:"Over all accounts: 0"`
	Envelopes   []GridEnvelope `json:"envelopes" nullable:"false" doc:"Limits of the grid operator that bind or will"`
}

// GridNode is one node and the edge to its parent. At the root the energy is the
// outside grid's, and there are neither limits nor fees.
type GridNode struct {
	ID     string `json:"id"`
	Parent string `json:"parent" doc:"Empty at the root"`
	Home   bool   `json:"home" doc:"This home hangs here"`
	Homes  int64  `json:"homes" doc:"Households at the node and below it"`

	Price       *int64 `json:"price_micro_per_kwh"`
	ImportPrice *int64 `json:"import_price_micro_per_kwh" doc:"Retail price here, fees included"`
	ExportPrice *int64 `json:"export_price_micro_per_kwh" doc:"Feed-in price here, fees taken off"`

	ImportWh *int64 `json:"import_wh"`
	ExportWh *int64 `json:"export_wh"`
	ImportW  *int64 `json:"import_w" doc:"Mean over the interval"`
	ExportW  *int64 `json:"export_w" doc:"Mean over the interval"`

	ImportLimitW  *int64 `json:"import_limit_w" doc:"null: none"`
	ExportLimitW  *int64 `json:"export_limit_w" doc:"null: none"`
	ImportLimitBy string `json:"import_limit_by,omitempty" enum:"network,envelope" doc:"Who set it: the connection as it is built, or the grid operator"`
	ExportLimitBy string `json:"export_limit_by,omitempty" enum:"network,envelope"`
	Reason        string `json:"reason,omitempty" doc:"The grid operator's, for an envelope in force"`
	LoadingBp     *int64 `json:"loading_bp" doc:"Flow over the limit in its direction, in hundredths of a per cent"`

	ImportFee int64  `json:"import_fee_micro_per_kwh"`
	ExportFee int64  `json:"export_fee_micro_per_kwh"`
	FeesMicro *int64 `json:"fees_micro" doc:"For the energy that crossed the edge"`
	RentMicro *int64 `json:"rent_micro" doc:"Congestion rent of the edge"`
}

// Who sets a limit.
const (
	LimitByNetwork  = "network"
	LimitByEnvelope = "envelope"
)

// GridAccount is one account of the ledger that is not a household's, or all of those.
type GridAccount struct {
	Account string `json:"account"`
	Balance int64  `json:"balance_micro"`
}

// GridEnvelope is a grid operator's limit on a node for a time.
type GridEnvelope struct {
	Node     string    `json:"node"`
	ImportW  *int64    `json:"import_w"`
	ExportW  *int64    `json:"export_w"`
	Lift     bool      `json:"lift" doc:"Ends earlier ones of the operator for the node and time"`
	From     time.Time `json:"from"`
	Until    time.Time `json:"until"`
	Reason   string    `json:"reason"`
	Operator int64     `json:"operator" doc:"By its place in the genesis, from 0"`
	Seq      int64     `json:"seq" doc:"The operator's own number, rising"`
	InForce  bool      `json:"in_force" doc:"In the interval shown"`
}

// A Network knows how the community's network was in any interval, and takes
// transactions for the ledger. Its methods are called from many goroutines.
type Network interface {
	// Grid returns an interval; ok is false if this agent does not know it. It may read
	// from the disk.
	Grid(interval int64) (g Grid, ok bool, err error)
	// Submit hands a signed transaction to the ledger's pool. What the ledger refuses is
	// a *Refused.
	Submit(ctx context.Context, tx []byte) error
}

// Refused is a transaction that the ledger will not have as it stands.
type Refused struct {
	Code   string // the ledger's word for why
	Detail string
}

// Error says why.
func (r *Refused) Error() string { return r.Code + ": " + r.Detail }

// maxTransactionBytes is what the largest transaction of the ledger takes, with room.
const maxTransactionBytes = 16 << 10

// Submission is a signed transaction on its way to the ledger.
type Submission struct {
	Transaction string `json:"transaction" minLength:"2" maxLength:"32768" doc:"The signed bytes, in hexadecimal"`
}

func (s *Server) registerGrid(api huma.API) {
	type gridInput struct {
		Interval int64 `query:"interval" minimum:"0" doc:"Index since the epoch; left out: the newest that is decided"`
	}
	get(api, "grid", "/api/grid", "The network: prices, flows and limits of an interval",
		func(ctx context.Context, in *gridInput) (*output[Grid], error) {
			if in.Interval == 0 {
				if g := s.cfg.Provider.Snapshot().Grid; g != nil {
					return &output[Grid]{g.whole()}, nil
				}
				return nil, huma.Error404NotFound("no interval is decided yet")
			}
			if s.cfg.Network == nil {
				return nil, huma.Error503ServiceUnavailable("this agent has no ledger to ask")
			}
			g, ok, err := s.cfg.Network.Grid(in.Interval)
			if err != nil {
				s.cfg.Log.ErrorContext(ctx, "grid not read", "interval", in.Interval, "err", err)
				return nil, huma.Error500InternalServerError("the ledger could not be read; the log says why")
			}
			if !ok {
				return nil, huma.Error404NotFound(fmt.Sprintf("this agent knows nothing of interval %d", in.Interval))
			}
			return &output[Grid]{g.whole()}, nil
		})
	type submitInput struct{ Body Submission }
	huma.Register(api, huma.Operation{
		OperationID: "submit", Method: http.MethodPost, Path: transactionsPath, Summary: "Hand a signed transaction to the ledger",
		Description: "It is checked as the ledger's pool does, and kept on this home's disk, which hands it to the ledger until a block has it or none ever can. The same one again is taken once, and has the same id.", DefaultStatus: http.StatusAccepted,
		MaxBodyBytes: 3 * maxTransactionBytes, Middlewares: huma.Middlewares{s.loopbackOnly(api)},
	}, func(ctx context.Context, in *submitInput) (*output[Accepted], error) {
		raw, err := hex.DecodeString(in.Body.Transaction)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("transaction: got " + clip(err.Error(), 100) + ", want hexadecimal digits")
		}
		if s.cfg.Network == nil {
			return nil, huma.Error503ServiceUnavailable("this agent has no ledger to hand it to")
		}
		err = s.cfg.Network.Submit(ctx, raw)
		if refused := (*Refused)(nil); errors.As(err, &refused) {
			return nil, huma.Error409Conflict(refused.Error())
		}
		if err != nil {
			s.cfg.Log.WarnContext(ctx, "transaction not taken", "err", err)
			return nil, huma.Error503ServiceUnavailable("the ledger does not take it now: " + clip(err.Error(), 200))
		}
		id := sha256.Sum256(raw)
		return &output[Accepted]{Accepted{ID: hex.EncodeToString(id[:])}}, nil
	})
}

// Accepted is a transaction that the ledger's pool has taken.
type Accepted struct {
	ID string `json:"id" doc:"SHA-256 of its bytes, by which it is known; the same one again has the same" maxLength:"64"`
}

// transactionsPath is where signed transactions go.
const transactionsPath = "/api/transactions"

// loopbackOnly refuses, where the page is open to everybody, what does not come from this
// machine. Elsewhere the table of rules decides.
func (s *Server) loopbackOnly(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if r, _ := humago.Unwrap(ctx); s.cfg.Open && !fromLoopback(r) {
			_ = huma.WriteErr(api, ctx, http.StatusForbidden, "this is taken from this machine only")
			return
		}
		next(ctx)
	}
}

// whole has empty lists in place of nil ones.
func (g *Grid) whole() Grid {
	out := *g
	if out.Nodes == nil {
		out.Nodes = []GridNode{}
	}
	if out.Accounts == nil {
		out.Accounts = []GridAccount{}
	}
	if out.Envelopes == nil {
		out.Envelopes = []GridEnvelope{}
	}
	return out
}
