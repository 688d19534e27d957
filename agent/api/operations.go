package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// profileTimeout is longer than the longest profile that one asks for.
const profileTimeout = 2 * time.Minute

// operations is what whoever runs the gateway looks at, on a port of its own that only this
// machine reaches: metrics and profiles. It asks for no login, so that is all that keeps it.
type operations struct {
	listener net.Listener
	server   *http.Server
}

// newOperations binds the port; nil if it is off.
func (s *Server) newOperations() (*operations, error) {
	if s.cfg.Operations == "" {
		return nil, nil //nolint:nilnil // off is no error
	}
	metrics, err := s.metricsHandler()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	mux.HandleFunc("GET /livez", s.serveLive)
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusNotFound, "nothing here; there are /metrics, /livez, /readyz and /debug/pprof/")
	})
	l, err := net.Listen("tcp", s.cfg.Operations) //nolint:noctx // at once: no name is looked up
	if err != nil {
		return nil, listenError(s.cfg.Operations, err)
	}
	guard := newGuard(nil, l.Addr(), s.cfg.Log)
	guard.within = profileTimeout
	return &operations{listener: l, server: &http.Server{
		Handler: s.track(guard.wrap(mux)), ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}}, nil
}

// run serves until ctx ends.
func (o *operations) run(ctx context.Context) error {
	o.server.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { _ = o.server.Close() })
	defer stop()
	err := o.server.Serve(newLimitListener(o.listener, maxOperations))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving operations on %s: %w", o.listener.Addr(), err)
}

// maxOperations is how many connections it takes at a time.
const maxOperations = 16

// OperationsAddr is where metrics and profiles are; empty if they are off.
func (s *Server) OperationsAddr() string {
	if s.operations == nil {
		return ""
	}
	return s.operations.listener.Addr().String()
}
