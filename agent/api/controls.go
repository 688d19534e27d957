package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Control is a battery or an inverter that this home leads. Mode, SetW, SoC and Left are what the device said when it was
// last read, never what was written to it.
type Control struct {
	Definition string     `json:"definition"`
	Address    string     `json:"address"`
	Identity   string     `json:"identity" doc:"What the device says it is; empty until it has said so"`
	Leads      string     `json:"leads" doc:"How it is to be led: follow, self-consumption, hold, hold-charge, charge, discharge or limit-export"`
	Mode       string     `json:"mode" doc:"As read back: own, hold, hold-charge, charge, discharge, limit; empty: unknown"`
	SetW       *int64     `json:"set_w" doc:"The power that goes with the mode, as read back"`
	BatteryW   *int64     `json:"battery_w" doc:"Positive charges"`
	SOCBp      *int64     `json:"soc_bp" doc:"Hundredths of a per cent"`
	LeftS      *int64     `json:"left_s" doc:"Community seconds until the device is on its own, if nothing is written to it; null: it is, or nobody knows"`
	Led        bool       `json:"led" doc:"It holds what this home told it"`
	Reverts    bool       `json:"reverts" doc:"It goes back to its own mode when this home says nothing any more"`
	Paused     bool       `json:"paused" doc:"A person told this home not to lead it"`
	OtherHand  bool       `json:"set_aside" doc:"Another device answers in its place: nothing is written to it"`
	Why        string     `json:"why" doc:"Why it is told what it is told, in words"`
	Note       string     `json:"note,omitempty" doc:"Why it is not led as it should be, in words"`
	ReadAt     *time.Time `json:"read_at" doc:"Community time"`
	Writes     int64      `json:"writes" doc:"Set points written since the start"`
	Failures   int64      `json:"failures" doc:"Looks and writes that failed since the start"`
}

// Controls takes a person's word about what is led.
type Controls interface {
	// Control does what a person wants of the control with that number: "release", "resume" or "approve". What cannot be
	// done is a *Refused.
	Control(index int, action string) error
}

// controlPath is where a person's word goes, as a pattern.
const controlPath = "/api/controls/*"

func (s *Server) registerControls(api huma.API) {
	type input struct {
		Index int `path:"index" minimum:"0" maximum:"31" doc:"In the order of the configuration"`
		Body  struct {
			Action string `json:"action" enum:"release,resume,approve" doc:"release: leave the device to itself; resume: lead it again; approve: the device that answers now is the right one"`
		}
	}
	huma.Register(api, huma.Operation{
		OperationID: "control", Method: http.MethodPost, Path: "/api/controls/{index}", Summary: "Leave a device to itself, or lead it again",
		Description:  "A device with a timer of its own is left alone until it runs out.",
		MaxBodyBytes: 1 << 10, DefaultStatus: http.StatusNoContent, Middlewares: huma.Middlewares{s.loopbackOnly(api)},
	}, func(_ context.Context, in *input) (*struct{}, error) {
		if s.cfg.Controls == nil {
			return nil, huma.Error503ServiceUnavailable("this agent leads nothing")
		}
		err := s.cfg.Controls.Control(in.Index, in.Body.Action)
		if refused := (*Refused)(nil); errors.As(err, &refused) {
			return nil, huma.Error409Conflict(refused.Error())
		}
		return nil, err
	})
}

// collectControls sends what is led, by definition and address.
func collectControls(out samples, controls []Control) {
	for _, c := range controls {
		out.gauge(descLed, boolValue(c.Led), c.Definition, c.Address)
		out.gaugeIf(descSoC, c.SOCBp, 1e-4, c.Definition, c.Address)
		out.gaugeIf(descLeft, c.LeftS, 1, c.Definition, c.Address)
		if c.SetW != nil {
			w := *c.SetW
			if c.Mode == "discharge" {
				w = -w
			}
			out.gauge(descSet, float64(w), c.Definition, c.Address)
		}
		out.counter(descSetPoints, float64(c.Writes), c.Definition, c.Address)
		out.counter(descControlFailures, float64(c.Failures), c.Definition, c.Address)
	}
}

type controlView struct {
	Name, Class, State, Set, SoC, Left, Why, Note, Identity, Address string
}

// newControlView says first what the device does by its own word, and then why.
func newControlView(c Control) controlView {
	v := controlView{
		Name: c.Definition, Identity: c.Identity, Address: c.Address, Why: c.Why, Note: c.Note,
		State: c.Mode, Class: "ok", Set: unknown, SoC: unknown, Left: unknown,
	}
	switch {
	case c.ReadAt == nil:
		v.State, v.Class = "not read yet", "starting"
	case c.OtherHand:
		v.State, v.Class = "set aside", "suspect"
	case c.Mode == "":
		v.State, v.Class = "unknown mode", "suspect"
	case c.Mode == "own":
		v.State = "on its own"
	}
	if c.Note != "" && v.Class == "ok" {
		v.Class = "suspect"
	}
	if c.SetW != nil {
		v.Set = formatPower(c.SetW)
	}
	if c.SOCBp != nil {
		v.SoC = formatShare(c.SOCBp)
	}
	if c.LeftS != nil {
		v.Left = formatCount(c.LeftS) + " s"
	}
	if !c.Reverts {
		v.Why += " It has no timer: if this gateway dies it stays as it is."
	}
	return v
}
