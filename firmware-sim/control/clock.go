package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/street"
)

// maxBody bounds what a request may say.
const maxBody = 64 << 10

// Clock is the answer to GET and POST /clock. What a move did is missing where
// nothing was moved.
type Clock struct {
	Manual        bool      `json:"manual"`
	CommunityTime time.Time `json:"community_time"`
	RefreshedAt   time.Time `json:"refreshed_at"`
	Refreshes     *int64    `json:"refreshes,omitempty"` // that passed in this move
	Sent          *int64    `json:"sent,omitempty"`      // pushes of this move that went out
	Lost          *int64    `json:"lost,omitempty"`      // and those that nobody was there for
}

func (a *API) clockNow() Clock {
	return Clock{
		Manual: a.Street.Manual(), CommunityTime: a.Street.Now(), RefreshedAt: a.Street.At(a.Street.Latest()),
	}
}

func (a *API) clock(w http.ResponseWriter, r *http.Request) {
	if _, ok := a.query(w, r); ok {
		a.answer(w, r, http.StatusOK, a.clockNow())
	}
}

func (a *API) move(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Advance *string `json:"advance"`
		To      *string `json:"to"`
	}
	if !a.body(w, r, &body) {
		return
	}
	to, err := target(a.Street.Now(), body.Advance, body.To)
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	// A month of pushes takes longer than other answers may.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		a.refuse(w, r, http.StatusInternalServerError, fmt.Errorf("taking the time limit away: %w", err))
		return
	}
	moved, err := a.Street.Move(r.Context(), to)
	switch {
	case errors.Is(err, street.ErrRuns):
		a.refuse(w, r, http.StatusConflict, fmt.Errorf("%w: the configuration wants clock: {manual: true}", err))
	case errors.Is(err, street.ErrBackwards), errors.Is(err, street.ErrTooFar):
		a.refuse(w, r, http.StatusBadRequest, err)
	case err != nil:
		a.fail(w, r, err)
	default:
		c := a.clockNow()
		c.Refreshes, c.Sent, c.Lost = &moved.Refreshes, &moved.Sent, &moved.Lost
		a.answer(w, r, http.StatusOK, c)
	}
}

// target is the instant that a move is to reach.
func target(now time.Time, advance, to *string) (time.Time, error) {
	switch {
	case (advance == nil) == (to == nil):
		return time.Time{}, errors.New(`want either {"advance":"15m"} or {"to":"2026-06-21T08:15:00Z"}`)
	case advance != nil:
		d, err := time.ParseDuration(*advance)
		if err != nil || d < 0 {
			return time.Time{}, fmt.Errorf("advance: got %.60q, want a duration like 15m", *advance)
		}
		return now.Add(d), nil
	default:
		at, err := time.Parse(time.RFC3339Nano, *to)
		if err != nil {
			return time.Time{}, fmt.Errorf("to: got %.60q, want a time like 2026-06-21T08:15:00Z", *to)
		}
		return at, nil
	}
}

// body decodes what a request that changes something says, strictly, and
// refuses requests that do not come from this machine or that a web page could
// have sent.
func (a *API) body(w http.ResponseWriter, r *http.Request, into any) bool {
	if !a.local(w, r) {
		return false
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		a.refuse(w, r, http.StatusUnsupportedMediaType, fmt.Errorf("content type: got %.60q, want application/json", r.Header.Get("Content-Type")))
		return false
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("something follows after the JSON value")
		}
	}
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, fmt.Errorf("reading the request: %w", err))
		return false
	}
	return true
}

func (a *API) local(w http.ResponseWriter, r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		a.refuse(w, r, http.StatusForbidden, fmt.Errorf("the world is changed from this machine only, not from %.60q", r.RemoteAddr))
		return false
	}
	return true
}
