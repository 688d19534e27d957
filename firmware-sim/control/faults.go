package control

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/fault"
)

// Fault is a rule in the answers to /faults.
type Fault struct {
	ID          int               `json:"id"`
	Fault       string            `json:"fault"`
	Home        string            `json:"home,omitempty"`
	Role        string            `json:"role,omitempty"`
	Transport   string            `json:"transport,omitempty"`
	At          time.Time         `json:"at"`
	For         string            `json:"for,omitempty"`
	Every       string            `json:"every,omitempty"`
	Until       *time.Time        `json:"until,omitempty"`
	Probability float64           `json:"probability"`
	Share       float64           `json:"share"`
	Seed        uint64            `json:"seed,omitempty"`
	Parameters  map[string]string `json:"parameters"`
	Targets     []string          `json:"targets"` // HOME/ROLE
	Active      bool              `json:"active"`  // at this moment
	Hits        uint64            `json:"hits"`    // answers that it changed or left out
	EndedAt     *time.Time        `json:"ended_at,omitempty"`
}

func newFault(s fault.Status) Fault {
	f := Fault{
		ID: s.ID, Fault: s.Rule.Fault, Home: s.Home, Role: s.Role, Transport: s.Transport, At: s.At,
		Probability: s.Probability, Share: s.Share, Seed: s.Seed, Parameters: s.Parameters, Targets: []string{}, Active: s.Active, Hits: s.Hits,
	}
	if s.For > 0 {
		f.For = s.For.String()
	}
	if s.Every > 0 {
		f.Every = s.Every.String()
	}
	if !s.Until.IsZero() {
		f.Until = &s.Until
	}
	if !s.Ended.IsZero() {
		f.EndedAt = &s.Ended
	}
	for _, key := range s.Targets {
		f.Targets = append(f.Targets, key.Home+"/"+key.Role)
	}
	return f
}

// order is what POST /faults takes.
type order struct {
	Fault       string            `json:"fault"`
	Home        string            `json:"home"`
	Role        string            `json:"role"`
	Transport   string            `json:"transport"`
	At          string            `json:"at"`
	After       string            `json:"after"`
	For         string            `json:"for"`
	Every       string            `json:"every"`
	Until       string            `json:"until"`
	Probability float64           `json:"probability"`
	Share       float64           `json:"share"`
	Seed        uint64            `json:"seed"`
	Parameters  map[string]string `json:"parameters"`
}

func (o order) rule() (fault.Rule, error) {
	r := fault.Rule{
		Fault: o.Fault, Home: o.Home, Role: o.Role, Transport: o.Transport,
		Probability: o.Probability, Share: o.Share, Seed: o.Seed, Parameters: o.Parameters,
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"after", o.After, &r.After}, {"for", o.For, &r.For}, {"every", o.Every, &r.Every}} {
		if d.text == "" {
			continue
		}
		var err error
		if *d.into, err = time.ParseDuration(d.text); err != nil {
			return r, fmt.Errorf("%s: got %.60q, want a duration like 15m", d.name, d.text)
		}
	}
	for _, t := range []struct {
		name, text string
		into       *time.Time
	}{{"at", o.At, &r.At}, {"until", o.Until, &r.Until}} {
		if t.text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, t.text)
		if err != nil {
			return r, fmt.Errorf("%s: got %.60q, want a time like 2026-06-21T08:15:00Z", t.name, t.text)
		}
		*t.into = at.UTC()
	}
	return r, nil
}

func (a *API) listFaults(w http.ResponseWriter, r *http.Request) {
	if _, ok := a.query(w, r); !ok {
		return
	}
	list := []Fault{}
	for _, s := range a.Faults.Rules(a.Street.Now()) {
		list = append(list, newFault(s))
	}
	a.answer(w, r, http.StatusOK, list)
}

func (a *API) startFault(w http.ResponseWriter, r *http.Request) {
	var o order
	if !a.body(w, r, &o) {
		return
	}
	rule, err := o.rule()
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	status, err := a.Faults.Start(rule, a.Street.Now())
	switch {
	case errors.Is(err, fault.ErrFull):
		a.refuse(w, r, http.StatusConflict, err)
	case err != nil:
		a.refuse(w, r, http.StatusBadRequest, err)
	default:
		a.Nudge(r.Context())
		a.answer(w, r, http.StatusCreated, newFault(status))
	}
}

func (a *API) endFault(w http.ResponseWriter, r *http.Request) {
	if !a.local(w, r) {
		return
	}
	if _, ok := a.query(w, r); !ok {
		return
	}
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, fmt.Errorf("id: got %.40q, want a number of GET /faults", r.PathValue("id")))
		return
	}
	status, ok := a.Faults.End(id, a.Street.Now())
	if !ok {
		a.refuse(w, r, http.StatusNotFound, fmt.Errorf("there is no fault %d that has not ended, see GET /faults", id))
		return
	}
	a.Nudge(r.Context())
	a.answer(w, r, http.StatusOK, newFault(status))
}
