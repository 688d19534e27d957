package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/commonwatt/commonwatt/agent/bill"
)

// Bills makes statements and their proofs. Empty texts are this home and the newest month.
// What is not there is bill.ErrUnknown, bill.ErrNothing or bill.ErrNotYet. Its methods are
// called from many goroutines and may read from the disk.
type Bills interface {
	Bill(household, month string) (*bill.Statement, error)
	Proof(ctx context.Context, household, month string) ([]byte, error)
}

// billInput names a statement.
type billInput struct {
	Household string `query:"household" maxLength:"64" doc:"32 hexadecimal digits; left out: this home"`
	Month     string `query:"month" maxLength:"16" doc:"As 2026-06; left out: the newest that has a settlement"`
}

type proofOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// registerBills adds the routes of bills.
func (s *Server) registerBills(api huma.API) {
	const others = "Of a household that is named: for the cooperative, an auditor and the gateway's own commands."
	huma.Register(api, huma.Operation{
		OperationID: "bill", Method: http.MethodGet, Path: "/api/bill", Summary: "A household's month: totals, days, and every interval",
		Description: others, Middlewares: huma.Middlewares{s.ownOrLoopback(api)},
	}, func(ctx context.Context, in *billInput) (*output[*bill.Statement], error) {
		if s.cfg.Bills == nil {
			return nil, huma.Error503ServiceUnavailable("this agent makes no bills")
		}
		st, err := s.cfg.Bills.Bill(in.Household, in.Month)
		if err != nil {
			return nil, s.billError(ctx, err)
		}
		return &output[*bill.Statement]{st}, nil
	})
	huma.Register(api, huma.Operation{
		OperationID: "bill-proof", Method: http.MethodGet, Path: "/api/bill/proof",
		Summary: "The same with its proof, as a file for `commonwatt verify`", Description: others,
		Middlewares: huma.Middlewares{s.ownOrLoopback(api)},
		Responses: map[string]*huma.Response{"200": {
			Description: "A proof file of the form commonwatt-proof/2",
			Content:     map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
		}},
	}, func(ctx context.Context, in *billInput) (*proofOutput, error) {
		if s.cfg.Bills == nil {
			return nil, huma.Error503ServiceUnavailable("this agent makes no bills")
		}
		raw, err := s.cfg.Bills.Proof(ctx, in.Household, in.Month)
		if err != nil {
			return nil, s.billError(ctx, err)
		}
		return &proofOutput{ContentType: "application/json", Body: raw}, nil
	})
}

func (s *Server) billError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, bill.ErrInput):
		return huma.Error422UnprocessableEntity(clip(err.Error(), 300))
	case errors.Is(err, bill.ErrUnknown), errors.Is(err, bill.ErrNothing):
		return huma.Error404NotFound(clip(err.Error(), 300))
	case errors.Is(err, bill.ErrNotYet):
		return huma.Error503ServiceUnavailable(clip(err.Error(), 300))
	default:
		s.cfg.Log.ErrorContext(ctx, "bill not made", "err", err)
		return huma.Error500InternalServerError("the bill could not be made; the log says why")
	}
}

// ownOrLoopback keeps the bills of other members, where the page is open to everybody, from
// whoever is not on this machine. Elsewhere the table of rules decides.
func (s *Server) ownOrLoopback(api huma.API) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if r, _ := humago.Unwrap(ctx); s.cfg.Open && r.URL.Query().Has("household") && !fromLoopback(r) {
			_ = huma.WriteErr(api, ctx, http.StatusForbidden, "the bills of other households are for this machine only")
			return
		}
		next(ctx)
	}
}
