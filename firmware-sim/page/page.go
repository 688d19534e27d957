// Package page serves the JSON pages of one device over HTTP, on a listener of
// the device's own, as each has an address of its own at home. Package device
// makes the pages.
//
// Only GET is answered; a path that the device does not have is 404. An answer
// has a Content-Length and may be cut, split, held back or left out by faults.
// [Server.Serve] ends with its context and waits for what it started.
package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Meter gives the pages.
type Meter interface {
	Page(ctx context.Context, path, query string) ([]byte, error)
	Spoil(a *wire.Answer)
}

// Server is the server of one device.
type Server struct {
	Listener net.Listener
	Meter    Meter
	Log      *slog.Logger
}

const (
	headerTimeout   = 5 * time.Second
	idleTimeout     = time.Minute
	shutdownTimeout = 300 * time.Millisecond
	maxHeader       = 8 << 10
)

// Serve answers until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	server := &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(s.Listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving pages: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving pages: %w", err)
	}
	return nil
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "{}", http.StatusMethodNotAllowed)
		return
	}
	a := wire.Answer{Transport: wire.HTTP, Request: []byte(r.URL.Path), Status: http.StatusOK}
	body, err := s.Meter.Page(r.Context(), r.URL.Path, r.URL.RawQuery)
	switch {
	case err != nil:
		if r.Context().Err() == nil {
			s.Log.ErrorContext(r.Context(), "page failed", "path", r.URL.Path, "err", err)
		}
		a.Status, a.Body = http.StatusInternalServerError, []byte("{}")
	case body == nil:
		a.Status, a.Body = http.StatusNotFound, []byte("{}")
	default:
		a.Body = body
	}
	s.Meter.Spoil(&a)
	s.send(w, r, &a)
}

// send writes the answer. An aborted one leaves the reader with a connection that
// was closed in the middle.
func (s *Server) send(w http.ResponseWriter, r *http.Request, a *wire.Answer) {
	if err := wire.Pause(r.Context(), a.Delay); err != nil {
		panic(http.ErrAbortHandler)
	}
	if a.Silent && !a.Close { // until the reader has had enough
		<-r.Context().Done()
	}
	if a.Silent {
		panic(http.ErrAbortHandler)
	}
	// The second copy of an answer is part of the first one's body: HTTP has no room
	// for an answer without a question.
	length := len(a.Body) * (1 + a.Copies)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(a.Status)
	err := a.Send(r.Context(), flushing{w, http.NewResponseController(w)}, a.Body)
	if err != nil || a.Cut > 0 {
		panic(http.ErrAbortHandler)
	}
}

// flushing sends each piece at once.
type flushing struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, f.c.Flush()
}
