// Package p1 is the consumer port of a household's meter, as far as the wire
// goes: at each refresh the meter's telegram goes to everybody who is connected,
// over TCP or on a pseudo-terminal. Package device makes the telegrams.
//
// A real port repeats its telegram every second or every ten. Here a telegram is
// sent when somebody connects, so that it is known that the connection is there,
// and then at each refresh. Nobody can ask for one: what a reader sends is thrown
// away. On a pseudo-terminal the newest telegram waits for a reader; the next one
// waits for that one to be read, but not long.
//
// [Server.Serve] starts two goroutines for each connection, of which there are at
// most 16, and waits for them; a reader that does not take a telegram within five
// seconds is cut off. [Server.Push] returns when the telegram was written to
// everybody.
package p1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Meter gives the telegrams.
type Meter interface {
	Latest() int64
	Telegram(ctx context.Context, index int64) ([]byte, error)
	Spoil(a *wire.Answer)
}

// Line is a pseudo-terminal.
type Line interface {
	io.Writer
	SetWriteDeadline(t time.Time) error
	// Clear waits until what was written before was read, and takes back what nobody
	// reads.
	Clear() error
	Close() error
}

// Server is the port of one meter, with a listener, a line, or both.
type Server struct {
	Listener net.Listener // nil: none
	Line     Line         // nil: none
	Meter    Meter
	Log      *slog.Logger

	mu    sync.Mutex
	conns map[net.Conn]*sync.Mutex // held while something is written
}

const (
	maxConnections = 16
	writeTimeout   = 5 * time.Second
)

// errNobody is returned by Push when nobody is there.
var errNobody = errors.New("nobody is connected")

// Push sends the telegram of a refresh.
func (s *Server) Push(ctx context.Context, index int64) error {
	telegram, err := s.Meter.Telegram(ctx, index)
	if err != nil {
		return fmt.Errorf("making a telegram: %w", err)
	}
	sent := false
	if s.Line != nil {
		sent = s.sendLine(ctx, telegram) == nil
	}
	s.mu.Lock()
	list := maps.Clone(s.conns)
	s.mu.Unlock()
	for conn, mu := range list {
		sent = s.sendConn(ctx, conn, mu, telegram) == nil || sent
	}
	if !sent {
		return errNobody
	}
	return nil
}

func (s *Server) sendLine(ctx context.Context, telegram []byte) error {
	if err := s.Line.Clear(); err != nil {
		return err
	}
	a := wire.Answer{Transport: wire.P1Serial, Body: telegram}
	s.Meter.Spoil(&a)
	if err := s.Line.SetWriteDeadline(time.Now().Add(writeTimeout + a.Delay)); err != nil {
		return err
	}
	if err := a.Send(ctx, s.Line, a.Body); err != nil && !errors.Is(err, wire.ErrClose) {
		return err
	}
	return nil
}

func (s *Server) sendConn(ctx context.Context, conn net.Conn, mu *sync.Mutex, telegram []byte) error {
	a := wire.Answer{Transport: wire.P1TCP, Body: telegram}
	s.Meter.Spoil(&a)
	mu.Lock()
	defer mu.Unlock()
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout + a.Delay + time.Duration(a.Pieces*(1+a.Copies))*a.Pause)); err != nil {
		return err
	}
	err := a.Send(ctx, conn, a.Body)
	if err != nil {
		_ = conn.Close() // its reader's goroutine sees that and takes it out
	}
	return err
}

// Serve lets readers connect until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, s.close)
	defer func() {
		if stop() {
			s.close()
		}
	}()
	if s.Listener == nil {
		<-ctx.Done()
		return nil
	}
	for {
		conn, err := s.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accepting P1 connections: %w", err)
		case err != nil:
			s.Log.WarnContext(ctx, "p1 connection not accepted", "err", err)
			if wire.Pause(ctx, 50*time.Millisecond) != nil {
				return nil
			}
			continue
		}
		wg.Go(func() { s.serveConn(ctx, conn) })
	}
}

func (s *Server) close() {
	if s.Listener != nil {
		_ = s.Listener.Close()
	}
	s.mu.Lock()
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	if s.Line != nil {
		_ = s.Line.Close()
	}
}

// serveConn greets a reader with the newest telegram and waits for its end.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close() //nolint:errcheck // its end is all that is wanted
	mu := &sync.Mutex{}
	mu.Lock() // the greeting goes before any push
	s.mu.Lock()
	if s.conns == nil {
		s.conns = map[net.Conn]*sync.Mutex{}
	}
	full := len(s.conns) >= maxConnections || ctx.Err() != nil
	if !full {
		s.conns[conn] = mu
	}
	s.mu.Unlock()
	index := s.Meter.Latest()
	if full {
		mu.Unlock()
		s.Log.WarnContext(ctx, "p1 connection refused, too many", "remote", conn.RemoteAddr(), "limit", maxConnections)
		return
	}
	defer func() {
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	}()
	telegram, err := s.Meter.Telegram(ctx, index)
	mu.Unlock()
	if err == nil {
		err = s.sendConn(ctx, conn, mu, telegram)
	}
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, conn)
}
