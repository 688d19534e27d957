// Package control is the HTTP side door of firmware-sim: it tells the truth
// about the simulated world, for tests and for the demonstration. No agent may
// use it to settle anything.
//
//	GET /healthz                              ok
//	GET /homes                                every home with its devices and their addresses
//	GET /homes/{id}/counters?role=grid&at=T   what that device's own counters showed at community time T (default: now)
//	GET /homes/{id}/now                       powers over the last refresh period, and what the inverter does and was told
//	GET /clock                                {"manual":true,"community_time":"…","refreshed_at":"…"}
//	POST /clock                               moves a manual clock: {"advance":"15m"} or {"to":"2026-06-21T08:15:00Z"}
//	GET /faults                               every rule, also those that are over
//	POST /faults                              starts one: {"fault":"zero-bounce","home":"home-1","role":"grid","for":"6m"}
//	DELETE /faults/{id}                       ends one
//
// # Counters
//
// Three pairs: import_wh and export_wh are what the device itself has counted, in
// the digits it has, tampering included: the sum of what is settled has to agree
// with their differences. They never fall or jump, whatever it shows. "true" is
// what had really flowed. "shown" is what a perfect reader would have been given
// at T, all faults of values included; null where it says that it does not know.
//
//	{"role":"grid","import_wh":1234567,"export_wh":89,"true":{"import_wh":1234600,"export_wh":89},
//	 "shown":{"import_wh":0,"export_wh":0},"at":"…","refreshed_at":"…"}
//
// # Faults
//
// A rule is the same as in a scenario file (package scenario), with times and
// durations as text and parameter values as text too:
//
//	fault        a name of firmware-sim --list (needed)
//	home, role   left out: every device that it can strike
//	transport    of a fault of the wire; left out: every one
//	at, after    when it begins: an instant not before now, or a time from now; neither: now
//	for          how long it lasts each time; left out: until DELETE
//	every, until begins it again and again
//	probability  that a beginning strikes (0 to 1, left out: 1)
//	share        of the answers hit meanwhile (0 to 1, left out: 1)
//	seed         another one, other chances
//	parameters   {"by_wh":"5000"}
//
// The answer, 201, is the rule with its id, its parameters filled in, the devices
// it strikes as "targets", whether it is "active", and how many answers it has
// changed or left out as "hits" (of faults of the wire, and of power cuts); GET
// /faults is a list of those. All times are community time, except parameters that delay an answer.
// What strikes at once is in effect when the answer comes: power cuts, the
// broker's absence and its kept messages included. DELETE answers 200 with the
// rule; what a lasting fault (tamper, reset, wrap) did to a counter remains. What
// devices send by themselves changes with the next refresh. 409: there are 10,000
// rules already.
//
// # Moving the clock
//
// With clock: {manual: true, epoch: T} in the configuration, community time
// stands at T until POST /clock moves it, and never goes back. For each refresh
// on the way, in order, time stands at that refresh while each device that
// sends by itself (MQTT, P1), in the order of the configuration, sends its
// reading; then the next refresh comes. The answer is that of GET /clock, with
// the refreshes passed, the pushes that went out (written to the connection; a
// QoS 1 message acknowledged) and those lost because nobody was there:
//
//	{"manual":true,"community_time":"2026-06-21T08:15:00Z","refreshed_at":"2026-06-21T08:15:00Z","refreshes":5,"sent":10,"lost":0}
//
// A reader with a bounded queue is best moved in steps. Moves wait for each
// other; if the client goes away in the middle, time stands at the refresh that
// was reached. Status 409: the clock goes by itself.
//
// # Asking and changing
//
// Answers are JSON. Counters are whole Wh, powers are mW over the last refresh
// period rounded to W; what a home does not have is null. A refused question is
// {"error": "..."} with status 400 or 404. There are no user names: what changes
// the world is taken from this machine only (403 else), as JSON with that content
// type (415 else), without unknown keys (400 else).
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
)

// API answers questions about a street. Its fields do not change.
type API struct {
	Street    *street.Street
	Faults    *fault.Book
	Addresses func(*street.Meter) []string
	// Nudge makes servers look at once whether a fault has begun or ended.
	Nudge func(context.Context)
	Log   *slog.Logger
}

// Timeouts of the server: its clients are on the same machine.
const (
	requestTimeout  = 30 * time.Second // an old instant of a large street costs time
	headerTimeout   = 5 * time.Second
	idleTimeout     = time.Minute
	shutdownTimeout = 300 * time.Millisecond
	maxHeader       = 16 << 10
)

// Serve answers on a listener until the context ends.
func (a *API) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           a.Handler(),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(a.Log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving the control API: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the control API: %w", err)
	}
	return nil
}

// Handler is the API without a server.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, r, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /clock", a.clock)
	mux.HandleFunc("POST /clock", a.move)
	mux.HandleFunc("GET /faults", a.listFaults)
	mux.HandleFunc("POST /faults", a.startFault)
	mux.HandleFunc("DELETE /faults/{id}", a.endFault)
	mux.HandleFunc("GET /homes", a.homes)
	mux.HandleFunc("GET /homes/{id}/counters", a.counters)
	mux.HandleFunc("GET /homes/{id}/now", a.powers)
	return mux
}

func (a *API) answer(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		a.Log.DebugContext(r.Context(), "control answer not delivered", "err", err)
	}
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	a.answer(w, r, status, map[string]string{"error": err.Error()})
}

// fail answers an error of the street.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, street.ErrBeforeEpoch) || errors.Is(err, street.ErrFuture) {
		a.refuse(w, r, http.StatusBadRequest, err)
		return
	}
	if r.Context().Err() == nil {
		a.Log.ErrorContext(r.Context(), "control question failed", "err", err)
	}
	a.refuse(w, r, http.StatusServiceUnavailable, err)
}

// Device is a device in the answer to /homes.
type Device struct {
	Role       string   `json:"role"`
	Definition string   `json:"definition"`
	Protocol   string   `json:"protocol"`
	Address    string   `json:"address"`   // the first of
	Addresses  []string `json:"addresses"` // all by which a reader can reach it
	Unit       *byte    `json:"unit"`      // of a Modbus device
}

// Home is a home in the answer to /homes.
type Home struct {
	ID            string    `json:"id"`
	Devices       []Device  `json:"devices"`
	CommunityTime time.Time `json:"community_time"`
}

func (a *API) homes(w http.ResponseWriter, r *http.Request) {
	now := a.Street.Now()
	homes := []Home{}
	for _, h := range a.Street.Houses() {
		home := Home{ID: h.ID, Devices: []Device{}, CommunityTime: now}
		for _, m := range h.Meters {
			d := Device{Role: m.Role, Definition: m.Definition, Protocol: string(m.Kind.Protocol), Addresses: a.Addresses(m)}
			if len(d.Addresses) > 0 {
				d.Address = d.Addresses[0]
			}
			if m.Kind.Protocol == device.Modbus {
				d.Unit = &m.Config.Unit
			}
			home.Devices = append(home.Devices, d)
		}
		homes = append(homes, home)
	}
	a.answer(w, r, http.StatusOK, homes)
}

// house finds the home that a request names, or refuses the request.
func (a *API) house(w http.ResponseWriter, r *http.Request) (*street.House, bool) {
	id := r.PathValue("id")
	house, ok := a.Street.House(id)
	if !ok {
		a.refuse(w, r, http.StatusNotFound, fmt.Errorf("there is no home %.80q, see /homes", id))
	}
	return house, ok
}

// query gives the parameters of a request; one that nobody knows is refused,
// since a typo would be answered with a default.
func (a *API) query(w http.ResponseWriter, r *http.Request, allowed ...string) (map[string]string, bool) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, fmt.Errorf("parsing the query: %w", err))
		return nil, false
	}
	known := map[string]string{}
	for _, name := range allowed {
		if list := values[name]; len(list) == 1 {
			known[name] = list[0]
			delete(values, name)
		}
	}
	for name := range values {
		want := "none"
		if len(allowed) != 0 {
			want = "once each: " + strings.Join(allowed, ", ")
		}
		a.refuse(w, r, http.StatusBadRequest, fmt.Errorf("parameter %.40q: allowed here: %s", name, want))
		return nil, false
	}
	return known, true
}

// Counters is the answer to /homes/{id}/counters: what the device itself has
// counted, in the digits that it has; what had really flowed; what it shows to
// readers.
type Counters struct {
	Role        string    `json:"role"`
	ImportWh    uint64    `json:"import_wh"`
	ExportWh    uint64    `json:"export_wh"`
	True        Pair      `json:"true"`
	Shown       *Pair     `json:"shown"`        // null: it says that it does not know
	At          time.Time `json:"at"`           // the instant that was asked for
	RefreshedAt time.Time `json:"refreshed_at"` // when the counters came to be this
}

// Pair is two counters.
type Pair struct {
	ImportWh uint64 `json:"import_wh"`
	ExportWh uint64 `json:"export_wh"`
}

func pairOf(m *street.Meter, r device.Reading) Pair {
	return Pair{ImportWh: m.Device.Shown(r.ImportWh()), ExportWh: m.Device.Shown(r.ExportWh())}
}

func (a *API) counters(w http.ResponseWriter, r *http.Request) {
	house, ok := a.house(w, r)
	if !ok {
		return
	}
	query, ok := a.query(w, r, "role", "at")
	if !ok {
		return
	}
	role := query["role"]
	if role == "" {
		role = config.RoleGrid
	}
	meter, ok := find(house, role)
	if !ok {
		a.refuse(w, r, http.StatusNotFound, fmt.Errorf("home %s has no %.40q meter", house.ID, role))
		return
	}
	at, index := a.Street.Now(), a.Street.Latest()
	if text, given := query["at"]; given {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, text); err != nil {
			a.refuse(w, r, http.StatusBadRequest, fmt.Errorf("at: got %.60q, want a time like 2026-06-21T08:00:00Z", text))
			return
		}
		if index, err = a.Street.IndexAt(at); err != nil {
			a.fail(w, r, err)
			return
		}
	}
	c, err := countersAt(r.Context(), meter, at, index)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	a.answer(w, r, http.StatusOK, c)
}

func countersAt(ctx context.Context, m *street.Meter, at time.Time, index int64) (Counters, error) {
	honest, err := m.Honest(ctx, index)
	if err != nil {
		return Counters{}, err
	}
	counted, err := m.Counted(ctx, at, index)
	if err != nil {
		return Counters{}, err
	}
	shown, err := m.ShownAt(ctx, at, index)
	if err != nil {
		return Counters{}, err
	}
	own := pairOf(m, counted)
	c := Counters{
		Role: m.Role, ImportWh: own.ImportWh, ExportWh: own.ExportWh, True: pairOf(m, honest),
		At: at.UTC(), RefreshedAt: honest.At,
	}
	if !shown.NoCounters {
		p := pairOf(m, shown)
		c.Shown = &p
	}
	return c, nil
}

func find(h *street.House, role string) (*street.Meter, bool) {
	for _, m := range h.Meters {
		if m.Role == role {
			return m, true
		}
	}
	return nil, false
}
