package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Status is everything small about the home: who it is, and whether all is well.
type Status struct {
	At       time.Time `json:"at"`
	WallAt   time.Time `json:"wall_at"`
	Version  string    `json:"version"`
	Ready    bool      `json:"ready" doc:"As /readyz answers"`
	Home     Home      `json:"home"`
	Ledger   Ledger    `json:"ledger"`
	Meters   []Meter   `json:"meters" nullable:"false"`
	Controls []Control `json:"controls" nullable:"false"`
	Clock    Clock     `json:"clock"`
	Problems []Problem `json:"problems" nullable:"false"`
}

func newStatus(s Snapshot, version string) Status {
	return Status{
		At: s.At, WallAt: s.WallAt, Version: version, Ready: len(notReady(s)) == 0,
		Home: s.Home, Ledger: s.Ledger, Meters: s.Meters, Controls: s.Controls, Clock: s.Clock, Problems: s.Problems,
	}
}

// Now is the power balance and the price of this moment.
type Now struct {
	At        time.Time `json:"at"`
	WallAt    time.Time `json:"wall_at"`
	Sentence  string    `json:"sentence" doc:"The same in one sentence"`
	Power     Power     `json:"power"`
	PriceNow  Price     `json:"price_now"`
	PriceNext Price     `json:"price_next"`
}

func newNow(s Snapshot) Now {
	return Now{At: s.At, WallAt: s.WallAt, Sentence: sentence(s), Power: s.Power, PriceNow: s.PriceNow, PriceNext: s.PriceNext}
}

// Intervals wraps the list, so that more can stand beside it later.
type Intervals struct {
	Intervals []Interval `json:"intervals" nullable:"false" doc:"Oldest first"`
}

// AppHash is what this agent's ledger hashed to after a block.
type AppHash struct {
	Height  int64  `json:"height"`
	AppHash string `json:"app_hash" doc:"Hex"`
}

type output[T any] struct{ Body T }

// routes returns the mux with every route of the server.
func (s *Server) routes() (*routeMux, error) {
	mux := &routeMux{ServeMux: http.NewServeMux()}
	config := huma.DefaultConfig("Commonwatt agent", s.cfg.Version)
	config.Info.Description = "One home's agent; all but POST only reads. Power in W, energy in Wh, money in micro-units of the currency, " +
		"prices in micro-units per kWh; null means unknown. Positive is into the home and into its consumers."
	config.OpenAPIPath = "" // made once below: huma makes it on the first requests, unguarded
	config.DocsPath = ""    // its pages load scripts from elsewhere
	config.SchemasPath = ""
	config.CreateHooks = nil
	config.RejectUnknownQueryParameters = true
	api := humago.New(mux, config)
	s.registerAPI(api)
	s.registerGrid(api)
	s.registerBills(api)
	s.registerReadings(api)
	s.registerMeters(api)
	s.registerOffice(api)
	s.registerControls(api)
	s.registerStream(api)
	s.registerAccounts(api)

	yaml, err := api.OpenAPI().YAML()
	if err != nil {
		return nil, fmt.Errorf("describing the api: %w", err)
	}
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml; charset=utf-8")
		_, _ = w.Write(yaml)
	})
	mux.HandleFunc("GET /livez", s.serveLive)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /assets/{name}", s.pages.serveAsset)
	mux.HandleFunc("GET /{$}", s.servePage)
	s.registerAccess(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if wantsPage(r) {
			s.showForm(w, r, "nothing", http.StatusNotFound, form{Title: "Nothing here"})
			return
		}
		writeProblem(w, http.StatusNotFound, "nothing here; the page is at /, the description of the API at /openapi.yaml")
	})
	return mux, nil
}

// wantsPage says whether a person looks at the answer: browsers ask for HTML by name.
func wantsPage(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html")
}

func (s *Server) registerAPI(api huma.API) {
	get(api, "status", "/api/status", "The home, its ledger, its meters and its problems",
		func(context.Context, *struct{}) (*output[Status], error) {
			return &output[Status]{newStatus(snapshot(s.cfg.Provider), s.cfg.Version)}, nil
		})
	get(api, "now", "/api/now", "Power and price now",
		func(context.Context, *struct{}) (*output[Now], error) {
			return &output[Now]{newNow(snapshot(s.cfg.Provider))}, nil
		})
	type intervalsInput struct {
		Limit int `query:"limit" minimum:"1" maximum:"1000" default:"96" doc:"The newest so many"`
	}
	get(api, "intervals", "/api/intervals", "The last market intervals",
		func(_ context.Context, in *intervalsInput) (*output[Intervals], error) {
			all := snapshot(s.cfg.Provider).Intervals
			return &output[Intervals]{Intervals{all[max(0, len(all)-in.Limit):]}}, nil
		})
	get(api, "account", "/api/account", "The home's money since it joined",
		func(context.Context, *struct{}) (*output[Account], error) {
			return &output[Account]{s.cfg.Provider.Snapshot().Account}, nil
		})
	type heightInput struct {
		Height int64 `path:"height" minimum:"1" doc:"Of the block"`
	}
	get(api, "ledger-hash", "/api/ledger/hash/{height}", "The hash of the ledger's state after a block",
		func(_ context.Context, in *heightInput) (*output[AppHash], error) {
			hash, ok := s.cfg.Provider.AppHash(in.Height)
			if !ok {
				return nil, huma.Error404NotFound(fmt.Sprintf("this agent has no hash for height %d; /api/status tells how far it is", in.Height))
			}
			return &output[AppHash]{AppHash{Height: in.Height, AppHash: hash}}, nil
		})
}

func get[I, O any](api huma.API, id, path, summary string, handler func(context.Context, *I) (*O, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary}, handler)
}

// registerStream describes /events to OpenAPI; the response is written by serveStream.
func (s *Server) registerStream(api huma.API) {
	type streamInput struct {
		View        string `query:"view" enum:"data,page" default:"data" doc:"data: JSON sections; page: HTML sections for the live page"`
		LastEventID string `header:"Last-Event-ID" doc:"Ignored: a stream begins with the whole state"`
	}
	schema := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[streamEvent](), true, "StreamEvent")
	huma.Register(api, huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: "/events", Summary: "Live changes as server-sent events",
		Description: "Events named update carry the schema below as their data, the whole state first, then what changed, " +
			"at most two a second. Events named heartbeat come when nothing else did.",
		Responses: map[string]*huma.Response{
			"200": {Description: "The stream", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: schema}}},
			"503": {Description: "Too many streams; Retry-After says when to come back"},
		},
	}, func(_ context.Context, in *streamInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			s.serveStream(w, r, in.View == "page")
		}}, nil
	})
}
