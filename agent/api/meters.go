package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Meters knows how the home's meters are registered, and takes a person's word that one is
// another now.
type Meters interface {
	// Registration is what the ledger knows of the meter at the connection; ok is false if
	// it knows none.
	Registration() (r Registration, ok bool)
	// ApproveMeter says that the meter with the serial number that answers now is the
	// home's, though it is not the one that was read before. What cannot be approved is a
	// *Refused.
	ApproveMeter(role, serial string) error
}

// Registration is the record of the meter on which the home is settled.
type Registration struct {
	Community       string  `json:"community"`
	Household       string  `json:"household" doc:"Hex"`
	Meter           string  `json:"meter" doc:"Hex"`
	Key             string  `json:"key" doc:"Its readings are signed with; hex"`
	SignedBy        string  `json:"signed_by" enum:"agent,device"`
	Definition      string  `json:"definition"`
	Epoch           *uint32 `json:"epoch" doc:"Of its counter; null: nothing is reported yet"`
	FirstUnreported int64   `json:"first_unreported" doc:"The first interval after all that is reported"`
	NextGate        int64   `json:"next_gate" doc:"The interval whose gate closes next"`
}

// Approval is a person's word.
type Approval struct {
	Serial string `json:"serial" maxLength:"64" doc:"Of the meter that answers now, as the page says it; empty if it says none"`
}

// approvalPath is where approvals go, as a pattern.
const approvalPath = "/api/meters/*/approval"

func (s *Server) registerMeters(api huma.API) {
	get(api, "registration", "/api/meters/connection", "The ledger's record of the meter on which the home is settled",
		func(context.Context, *struct{}) (*output[Registration], error) {
			if s.cfg.Meters == nil {
				return nil, huma.Error503ServiceUnavailable("this agent has no ledger to ask")
			}
			r, ok := s.cfg.Meters.Registration()
			if !ok {
				return nil, huma.Error404NotFound("the ledger knows no meter of this home yet")
			}
			return &output[Registration]{r}, nil
		})
	type approveInput struct {
		Role string `path:"role" maxLength:"16" doc:"solar or battery"`
		Body Approval
	}
	huma.Register(api, huma.Operation{
		OperationID: "approve-meter", Method: http.MethodPost, Path: "/api/meters/{role}/approval", Summary: "Say that another meter is read from now on",
		Description:  "For a meter that is not settled on and whose readings are set aside, because another one answers.",
		MaxBodyBytes: 1 << 10, DefaultStatus: http.StatusNoContent, Middlewares: huma.Middlewares{s.loopbackOnly(api)},
	}, func(_ context.Context, in *approveInput) (*struct{}, error) {
		if s.cfg.Meters == nil {
			return nil, huma.Error503ServiceUnavailable("this agent reads no meters")
		}
		err := s.cfg.Meters.ApproveMeter(in.Role, in.Body.Serial)
		if refused := (*Refused)(nil); errors.As(err, &refused) {
			return nil, huma.Error409Conflict(refused.Error())
		}
		return nil, err
	})
}
