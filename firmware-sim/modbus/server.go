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

	"github.com/commonwatt/commonwatt/firmware-sim/wire"
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

// Spoiler is what a Unit also is if its answers may leave in other ways than
// they should. It is called from many goroutines.
type Spoiler interface {
	Spoil(a *wire.Answer)
}

// Options of a Server.
type Options struct {
	Transport   wire.Transport // default wire.TCP
	Connections int            // at most; default 64
	Idle        time.Duration  // default 2 minutes; a serial line never ends
	Log         *slog.Logger   // required
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
	if opts.Transport == "" {
		opts.Transport = wire.TCP
	}
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
			if wire.Pause(ctx, 50*time.Millisecond) != nil {
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
	log := s.opts.Log.With("remote", conn.RemoteAddr(), "transport", s.opts.Transport)
	log.DebugContext(ctx, "modbus connection opened")
	var err error
	if s.rtu() {
		err = s.serveRTU(ctx, conn, s.opts.Idle)
	} else {
		err = s.serveTCP(ctx, conn)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, wire.ErrClose) && ctx.Err() == nil {
		log.InfoContext(ctx, "modbus connection closed", "err", err, "idle", errors.Is(err, os.ErrDeadlineExceeded))
	}
}

func (s *Server) rtu() bool {
	return s.opts.Transport == wire.RTU || s.opts.Transport == wire.RTUOverTCP
}

// serveTCP answers requests with a header, one after the other.
func (s *Server) serveTCP(ctx context.Context, conn net.Conn) error {
	var buffer [headerLength + maxPDU]byte
	out := make([]byte, 0, headerLength+maxPDU)
	for {
		// One deadline for the wait and the whole frame: a peer that drips single
		// bytes holds a connection no longer than one that says nothing.
		if err := conn.SetReadDeadline(time.Now().Add(s.opts.Idle)); err != nil {
			return err
		}
		in, err := readFrame(conn, &buffer)
		if err != nil {
			return err
		}
		a := s.spoilt(in.unit, in.pdu, s.answer(ctx, in.unit, in.pdu))
		out = frame{transaction: in.transaction + a.Transaction, unit: in.unit, pdu: a.Body}.append(out[:0])
		if err := s.send(ctx, conn, &a, out); err != nil {
			return err
		}
	}
}

// send writes an answer; the reader has as long to take it as it may be idle.
func (s *Server) send(ctx context.Context, conn io.Writer, a *wire.Answer, frame []byte) error {
	if limited, ok := conn.(interface{ SetWriteDeadline(t time.Time) error }); ok {
		if err := limited.SetWriteDeadline(time.Now().Add(s.opts.Idle + a.Delay + time.Duration(a.Pieces*(1+a.Copies))*a.Pause)); err != nil {
			return err
		}
	}
	return a.Send(ctx, conn, frame)
}

// spoilt is an answer after its unit's faults had it.
func (s *Server) spoilt(unit byte, request, pdu []byte) wire.Answer {
	a := wire.Answer{Transport: s.opts.Transport, Request: request, Body: pdu}
	if spoiler, ok := s.units[unit].(Spoiler); ok {
		spoiler.Spoil(&a)
	}
	return a
}

// ServeLine answers on a serial line until the context ends, and closes it.
func (s *Server) ServeLine(ctx context.Context, line Line) error {
	stop := context.AfterFunc(ctx, func() { _ = line.Close() })
	defer func() {
		if stop() {
			_ = line.Close()
		}
	}()
	err := s.serveRTU(ctx, line, 0)
	if ctx.Err() != nil {
		return nil // the line was closed because we were told to end
	}
	return fmt.Errorf("serving the modbus line: %w", err)
}

// Line is a serial line, as far as the server needs one.
type Line interface {
	io.ReadWriteCloser
	SetReadDeadline(t time.Time) error
}

// serveRTU answers on a line. As on a real one, nobody answers for a unit that is
// not there, and to a broadcast.
func (s *Server) serveRTU(ctx context.Context, line interface {
	deadliner
	io.Writer
}, idle time.Duration,
) error {
	var reader rtuReader
	out := make([]byte, 0, maxRTU)
	for {
		unit, pdu, err := reader.next(line, idle)
		if err != nil {
			return err
		}
		if _, there := s.units[unit]; !there {
			continue
		}
		a := s.spoilt(unit, pdu, s.answer(ctx, unit, pdu))
		out = appendRTU(out[:0], unit, a.Body)
		err = s.send(ctx, line, &a, out)
		if errors.Is(err, wire.ErrClose) && s.opts.Transport == wire.RTU {
			err = nil // there is no connection
		}
		if err != nil {
			return err
		}
	}
}
