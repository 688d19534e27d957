package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Readings is what the home's meters told, as far back as it is kept.
type Readings interface {
	// Readings returns rows in the order of time. What cannot be asked is a *Refused.
	Readings(q ReadingsQuery) ([]ReadingRow, error)
}

// ReadingsQuery says which rows are wanted.
type ReadingsQuery struct {
	Meter    string    // connection, solar, battery, or the second of a role as solar-2; empty: all
	From, To time.Time // community time, half-open; zero: no limit
	Limit    int       // at most so many, and those of the same time as the last
	Newest   bool      // the last so many, not the first
	Raw      bool      // with what the device sent
}

// ReadingRow is one sample of a meter, and what became of it.
type ReadingRow struct {
	At       time.Time     `json:"at" doc:"Community time"`
	Meter    string        `json:"meter" doc:"connection, solar, battery; the second of a role is solar-2"`
	Verdict  string        `json:"verdict" enum:"accepted,refused,held,replaced,damaged" doc:"Only what is accepted counts; damaged: the disk returned other bytes than were written"`
	Reason   string        `json:"reason,omitempty" doc:"Why it does not count"`
	ImportWh *uint64       `json:"import_wh" doc:"Counter"`
	ExportWh *uint64       `json:"export_wh" doc:"Counter"`
	PowerW   *int64        `json:"power_w"`
	Quality  string        `json:"quality" doc:"good, or what is wrong, joined by commas"`
	Clock    string        `json:"clock,omitempty" doc:"Of the gateway, then: synchronised, holdover or unknown"`
	Serial   string        `json:"serial,omitempty" doc:"Of the device, where the sample does not count"`
	More     int64         `json:"more,omitempty" doc:"So many of the same kind before it were counted, not kept"`
	Proof    *ReadingProof `json:"proof,omitempty" doc:"If it proved the boundary of an interval"`
	Raw      []byte        `json:"raw,omitempty" doc:"What the device sent, base64: of boundaries and of what does not count"`
}

// ReadingProof is what was signed of a reading, beside its time, counters and quality.
type ReadingProof struct {
	Meter     string     `json:"meter" doc:"Hex"`
	Seq       uint64     `json:"seq"`
	Epoch     uint32     `json:"epoch"`
	Prev      string     `json:"prev" doc:"Hash of the reading before; hex"`
	Hash      string     `json:"hash" doc:"Hex"`
	Signature string     `json:"signature" doc:"Hex"`
	SignedBy  string     `json:"signed_by" enum:"agent,device"`
	DeviceAt  *time.Time `json:"device_at" doc:"The device's own time; not signed by an agent"`
	Source    string     `json:"source" doc:"Definition and its version; not signed"`
}

// MaxReadings is the most rows that are answered at once.
const MaxReadings = 2000

// ReadingList wraps the rows, so that more can stand beside them later.
type ReadingList struct {
	Readings []ReadingRow `json:"readings" nullable:"false" doc:"Oldest first"`
}

func (s *Server) registerReadings(api huma.API) {
	type readingsInput struct {
		Meter  string    `query:"meter" maxLength:"16" doc:"Of this meter only"`
		From   time.Time `query:"from" doc:"Not before"`
		To     time.Time `query:"to" doc:"Before"`
		Limit  int       `query:"limit" minimum:"1" maximum:"2000" default:"100"`
		Newest bool      `query:"newest" doc:"The last so many, not the first"`
		Raw    bool      `query:"raw" doc:"With what the device sent"`
	}
	huma.Register(api, huma.Operation{
		OperationID: "readings", Method: http.MethodGet, Path: "/api/readings", Summary: "What the meters told, with what became of it",
		Description: "A household's life in steps of seconds: for the homeowner.", Middlewares: huma.Middlewares{s.loopbackOnly(api)},
	},
		func(_ context.Context, in *readingsInput) (*output[ReadingList], error) {
			if s.cfg.Readings == nil {
				return nil, huma.Error503ServiceUnavailable("this agent keeps no readings")
			}
			rows, err := s.cfg.Readings.Readings(ReadingsQuery(*in))
			if refused := (*Refused)(nil); errors.As(err, &refused) {
				return nil, huma.Error422UnprocessableEntity(refused.Detail)
			}
			if rows == nil {
				rows = []ReadingRow{}
			}
			return &output[ReadingList]{ReadingList{rows}}, err
		})
}
