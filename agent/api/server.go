package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Limits of the HTTP server. There is no global write timeout because streams
// live for days; every other response gets its own deadline.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	responseTimeout   = 15 * time.Second
	idleTimeout       = time.Minute
	maxHeaderBytes    = 16 << 10
	maxBodyBytes      = 1 << 10
	maxConnections    = 256
)

// Server serves one home's API and page. Make it with New, then call Run once.
type Server struct {
	cfg      Config
	listener net.Listener
	hub      *hub
	pages    *pages
	handler  http.Handler
	guard    *guard
	cookie   string // the name of a session's
	patterns []string

	operations *operations // nil: off

	running  atomic.Bool
	requests sync.WaitGroup // every request a handler works on
}

// New checks the configuration and binds the listener, so that Addr is known
// and a port in use is reported before anything runs. The caller must call Run,
// if only with a context that has ended, to release the listener.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	pages, err := newPages(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, pages: pages, hub: newHub(cfg, pages), listener: cfg.Listener}
	mux, err := s.routes()
	if err != nil {
		return nil, err
	}
	s.patterns = mux.patterns
	if err := mux.ruled(); err != nil {
		return nil, err
	}
	if s.listener == nil {
		if s.listener, err = net.Listen("tcp", cfg.Listen); err != nil { //nolint:noctx // at once: no name is looked up
			return nil, listenError(cfg.Listen, err)
		}
	}
	s.cookie = cookieName(s.listener.Addr())
	s.guard = newGuard(cfg.Hosts, s.listener.Addr(), cfg.Log)
	s.handler = s.track(s.guard.wrap(&authorizer{s, mux}))
	if s.operations, err = s.newOperations(); err != nil {
		return nil, errors.Join(err, s.listener.Close())
	}
	return s, nil
}

func listenError(address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("listening on %s: %w: another program has this port; stop it, or choose another port (0 takes a free one)", address, err)
	}
	return fmt.Errorf("listening on %s: %w", address, err)
}

// Addr is the address the server listens on, with the port that was chosen.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends, then closes the streams, lets other requests
// finish within a few seconds, and returns after the last of them. It returns
// nil if ctx was the reason.
func (s *Server) Run(ctx context.Context) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("running the api server: it ran before; make a new one")
	}
	group, ctx := errgroup.WithContext(ctx)
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// Ends the streams, and nothing else, when the context ends: other
		// handlers do not wait for anything.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	group.Go(func() error {
		err := server.Serve(s.inside(newLimitListener(s.listener, maxConnections)))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serving the api on %s: %w", s.Addr(), err)
	})
	group.Go(func() error {
		s.hub.run(ctx)
		return nil
	})
	if s.operations != nil {
		group.Go(func() error { return s.operations.run(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		s.shutDown(server)
		return nil
	})
	s.cfg.Log.InfoContext(ctx, "api listening", "address", s.Addr())
	err := group.Wait()
	s.requests.Wait()
	return err
}

// inside puts a listener inside TLS, if there is a certificate.
func (s *Server) inside(l net.Listener) net.Listener {
	if s.cfg.Certificate == nil {
		return l
	}
	return tls.NewListener(&hintListener{l, s.guard}, s.cfg.Certificate.Config())
}

// shutDown gives open requests one write deadline to finish and then cuts them off.
func (s *Server) shutDown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.WriteTimeout+time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		s.cfg.Log.Warn("api requests cut off at shutdown", "err", err)
		_ = server.Close() // the connections are going away, that was the point
	}
}

// track lets Run wait for handlers, which http.Server.Close does not.
func (s *Server) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		defer s.requests.Done()
		next.ServeHTTP(w, r)
	})
}

// snapshot returns the Provider's snapshot with empty lists in place of nil
// ones, so that the JSON has [] and {} where a list is empty.
func snapshot(p Provider) Snapshot {
	s := p.Snapshot()
	if s.Intervals == nil {
		s.Intervals = []Interval{}
	}
	if s.Meters == nil {
		s.Meters = []Meter{}
	}
	if s.Controls == nil {
		s.Controls = []Control{}
	}
	if s.Problems == nil {
		s.Problems = []Problem{}
	}
	if s.Ledger.Peers == nil {
		s.Ledger.Peers = []Peer{}
	}
	if s.Ledger.Omitted == nil {
		s.Ledger.Omitted = map[string]int64{}
	}
	if s.Ledger.BadProposals == nil {
		s.Ledger.BadProposals = map[string]map[string]int64{}
	}
	if s.Ledger.DoubleVotes == nil {
		s.Ledger.DoubleVotes = []string{}
	}
	if s.Ledger.Rejected == nil {
		s.Ledger.Rejected = map[string]int64{}
	}
	return s
}
