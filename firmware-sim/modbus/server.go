package modbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// Unit is one device on the bus.
type Unit interface {
	// Registers returns count (1 to MaxCount) registers of a table from an address
	// on, all of one instant. An error that is an Exception is answered as that;
	// any other as ServerDeviceFailure. It is called from many goroutines.
	Registers(ctx context.Context, table Table, address, count uint16) ([]uint16, error)
}

// Writer is what a Unit also is if it can be written to.
type Writer interface {
	// Write sets the holding registers from an address on, 1 to MaxWrite of them, all
	// or none. Its errors are answered as those of Registers are. It is called from
	// many goroutines.
	Write(ctx context.Context, address uint16, words []uint16) error
}

// Options of a Server.
type Options struct {
	Connections int           // at most; default 64
	Idle        time.Duration // default 2 minutes
	Log         *slog.Logger  // required
}

// Server answers for a number of units. Its fields do not change once it is
// made, apart from those under mu.
type Server struct {
	units map[byte]Unit
	opts  Options

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// New makes a server; the map is not changed by either side afterwards.
func New(units map[byte]Unit, opts Options) *Server {
	if opts.Connections <= 0 {
		opts.Connections = 64
	}
	if opts.Idle <= 0 {
		opts.Idle = 2 * time.Minute
	}
	return &Server{units: units, opts: opts, conns: make(map[net.Conn]struct{})}
}

// Serve answers on a listener until the context ends, closes it and all
// connections, and waits for their goroutines. It returns nil at the context's
// end, and the listener's error else.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { s.closeAll(listener) })
	defer func() {
		if stop() {
			s.closeAll(listener)
		}
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil // the listener was closed because we were told to end
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accepting modbus connections: %w", err)
			}
			// Out of descriptors, a connection gone before it was accepted: the
			// others go on being served.
			s.opts.Log.WarnContext(ctx, "modbus connection not accepted", "err", err)
			if !pause(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		if !s.add(ctx, conn) {
			_ = conn.Close()
			continue
		}
		wg.Go(func() {
			defer s.remove(conn)
			s.serveConn(ctx, conn)
		})
	}
}

// pause waits, and says whether the context is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// add takes a connection in, if there is room and time left for it.
func (s *Server) add(ctx context.Context, conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return false
	}
	if len(s.conns) >= s.opts.Connections {
		s.opts.Log.WarnContext(ctx, "modbus connection refused, too many", "remote", conn.RemoteAddr(), "limit", s.opts.Connections)
		return false
	}
	s.conns[conn] = struct{}{}
	return true
}

func (s *Server) remove(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

func (s *Server) closeAll(listener net.Listener) {
	_ = listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// serveConn answers one connection's requests in their order until it ends.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	log := s.opts.Log.With("remote", conn.RemoteAddr())
	log.DebugContext(ctx, "modbus connection opened")
	var buffer [headerLength + maxPDU]byte
	out := make([]byte, 0, headerLength+maxPDU)
	for {
		// One deadline for the wait and the whole frame: a peer that drips single
		// bytes holds a connection no longer than one that says nothing.
		if err := conn.SetDeadline(time.Now().Add(s.opts.Idle)); err != nil {
			return
		}
		in, err := readFrame(conn, &buffer)
		if err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				log.InfoContext(ctx, "modbus connection closed", "err", err, "idle", errors.Is(err, os.ErrDeadlineExceeded))
			}
			return
		}
		out = frame{transaction: in.transaction, unit: in.unit, pdu: s.answer(ctx, in.unit, in.pdu)}.append(out[:0])
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
