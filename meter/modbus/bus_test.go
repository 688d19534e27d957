package modbus_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// timeout is what a request waits for that nobody answers: short enough to wait for.
const timeout = 250 * time.Millisecond

// patience is what a request waits for that is answered: long enough for a loaded machine.
const patience = 30 * time.Second

// quick are options that let a test fail and go on at once. Slowest is for tests in which nothing comes late.
func quick() modbus.Options {
	return modbus.Options{Timeout: patience, Slowest: time.Millisecond, DialEvery: time.Nanosecond, BackoffStep: time.Nanosecond, BackoffMax: time.Nanosecond}
}

// request is what a client sent.
type request struct {
	id             uint16
	unit, function uint8
	address, count uint16 // of function 6: count is the word
	words          []byte // of function 16
}

// server is a device of one's own making, for devices that lie. serve handles one connection; n counts them from 0.
type server struct {
	listener net.Listener
	accepted atomic.Int32
	closed   chan struct{} // one token per connection that serve ended
	done     sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func newServer(t *testing.T, serve func(conn net.Conn, n int)) *server {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: listener, closed: make(chan struct{}, 1000)}
	s.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			n := int(s.accepted.Add(1)) - 1
			s.done.Go(func() {
				serve(conn, n)
				_ = conn.Close()
				select {
				case s.closed <- struct{}{}:
				default: // nobody counts so many
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
	})
	return s
}

func (s *server) address() string { return s.listener.Addr().String() }

func readRequest(conn io.Reader) (request, error) {
	var b [260]byte
	if _, err := io.ReadFull(conn, b[:12]); err != nil {
		return request{}, err
	}
	be := binary.BigEndian
	end := 6 + int(be.Uint16(b[4:]))
	if _, err := io.ReadFull(conn, b[12:end]); err != nil {
		return request{}, err
	}
	r := request{id: be.Uint16(b[:]), unit: b[6], function: b[7], address: be.Uint16(b[8:]), count: be.Uint16(b[10:])}
	if end > 12 {
		r.words = b[13:end]
	}
	return r, nil
}

// frame is a reply with the given body after the unit.
func frame(id uint16, unit uint8, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)+1))
	return append(append(b, unit), body...)
}

// registers is the body of a proper answer: register a holds a + 1000 × unit.
func registers(r request, count uint16) []byte {
	b := []byte{r.function, byte(2 * count)}
	for i := range count {
		b = binary.BigEndian.AppendUint16(b, held(r.unit, r.address+i))
	}
	return b
}

func held(unit uint8, address uint16) uint16 { return address + 1000*uint16(unit) }

func answer(r request) []byte { return frame(r.id, r.unit, registers(r, r.count)...) }

// honest answers properly until the connection ends.
func honest(conn net.Conn) {
	for {
		r, err := readRequest(conn)
		if err != nil {
			return
		}
		if _, err := conn.Write(answer(r)); err != nil {
			return
		}
	}
}

// lyingOnce gives the first request a reply of its own making and is honest on the next connection.
func lyingOnce(reply func(conn net.Conn, r request)) func(net.Conn, int) {
	return func(conn net.Conn, n int) {
		if n == 0 {
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			reply(conn, r)
			// Whatever is sent on a connection that failed must never be taken for an answer.
			for {
				if r, err = readRequest(conn); err != nil {
					return
				}
				_, _ = conn.Write(frame(r.id, r.unit, r.function, 4, 0xde, 0xad, 0xde, 0xad))
			}
		}
		honest(conn)
	}
}

func sends(make func(r request) []byte) func(net.Conn, request) {
	return func(conn net.Conn, r request) { _, _ = conn.Write(make(r)) }
}

// TestHostile asks servers that lie. Each request must be answered right or refused, and the one after a refusal must
// be answered right.
func TestHostile(t *testing.T) {
	const address, count, unit = 10, 2, 3
	for _, c := range []struct {
		name  string
		serve func(conn net.Conn, n int)
		want  error // of the first request; nil: right at once
		conns int32 // after the second request
		waits bool  // for the server to close, before the second request
	}{
		{"honest", func(conn net.Conn, _ int) { honest(conn) }, nil, 1, false},
		{"answers late", lyingOnce(func(conn net.Conn, r request) {
			timer := time.NewTimer(2 * timeout)
			defer timer.Stop()
			<-timer.C
			_, _ = conn.Write(answer(r))
		}), context.DeadlineExceeded, 2, false},
		{"never answers", lyingOnce(func(net.Conn, request) {}), context.DeadlineExceeded, 2, false},
		{"closes without an answer", func(conn net.Conn, n int) {
			if n == 0 {
				_, _ = readRequest(conn)
				return
			}
			honest(conn)
		}, io.EOF, 2, false},
		{"closes in the middle of an answer", func(conn net.Conn, n int) {
			if r, err := readRequest(conn); n == 0 && err == nil {
				_, _ = conn.Write(answer(r)[:9])
				return
			} else if err == nil {
				_, _ = conn.Write(answer(r))
			}
			honest(conn)
		}, io.ErrUnexpectedEOF, 2, false},
		{"closes the idle connection", func(conn net.Conn, n int) {
			if r, err := readRequest(conn); err == nil {
				_, _ = conn.Write(answer(r))
			}
		}, nil, 2, true},
		{"sends the next id ahead", func(conn net.Conn, n int) {
			if n > 0 {
				honest(conn)
				return
			}
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			all := answer(r)
			for ahead := range uint16(8) {
				all = append(all, frame(r.id+ahead+1, r.unit, r.function, 4, 0xde, 0xad, 0xde, 0xad)...)
			}
			_, _ = conn.Write(all)
			_, _ = io.Copy(io.Discard, conn)
		}, nil, 2, false},
		{"sends ids 1, 2, 3 before it is asked", func(conn net.Conn, n int) {
			if n > 0 {
				honest(conn)
				return
			}
			for id := range uint16(4) {
				_, _ = conn.Write(frame(id, unit, modbus.ReadHolding, 4, 0xde, 0xad, 0xde, 0xad))
			}
			_, _ = io.Copy(io.Discard, conn)
		}, modbus.ErrBadReply, 2, false},
		{"answers twice", func(conn net.Conn, n int) {
			if n > 0 {
				honest(conn)
				return
			}
			if r, err := readRequest(conn); err == nil {
				_, _ = conn.Write(append(answer(r), answer(r)...))
			}
			_, _ = io.Copy(io.Discard, conn)
		}, nil, 2, false},
		{"foreign id", lyingOnce(sends(func(r request) []byte { r.id++; return answer(r) })), modbus.ErrBadReply, 2, false},
		{"foreign protocol", lyingOnce(sends(func(r request) []byte { b := answer(r); b[3] = 1; return b })), modbus.ErrBadReply, 2, false},
		{"wrong unit", lyingOnce(sends(func(r request) []byte { r.unit++; return answer(r) })), modbus.ErrBadReply, 2, false},
		{"wrong function", lyingOnce(sends(func(r request) []byte { r.function = 4; return answer(r) })), modbus.ErrBadReply, 2, false},
		{"exception of a wrong function", lyingOnce(sends(func(r request) []byte { return frame(r.id, r.unit, 0x84, 2) })), modbus.ErrBadReply, 2, false},
		{"exception without a code", lyingOnce(sends(func(r request) []byte { return frame(r.id, r.unit, 0x83, 0) })), modbus.ErrBadReply, 2, false},
		{"exception that is too long", lyingOnce(sends(func(r request) []byte { return frame(r.id, r.unit, 0x83, 2, 2) })), modbus.ErrBadReply, 2, false},
		{"a register too few", lyingOnce(sends(func(r request) []byte { return frame(r.id, r.unit, registers(r, r.count-1)...) })), modbus.ErrBadReply, 2, false},
		{"a register too many", lyingOnce(sends(func(r request) []byte { return frame(r.id, r.unit, registers(r, r.count+1)...) })), modbus.ErrBadReply, 2, false},
		{"byte count that does not fit", lyingOnce(sends(func(r request) []byte { b := answer(r); b[8]--; return b })), modbus.ErrBadReply, 2, false},
		{"no registers", lyingOnce(sends(func(r request) []byte { return frame(r.id, r.unit, r.function, 0) })), modbus.ErrBadReply, 2, false},
		{"length 0", lyingOnce(sends(func(r request) []byte { b := answer(r); b[4], b[5] = 0, 0; return b })), modbus.ErrBadReply, 2, false},
		{"length 1", lyingOnce(sends(func(r request) []byte { b := answer(r); b[4], b[5] = 0, 1; return b })), modbus.ErrBadReply, 2, false},
		{"length 65535", lyingOnce(sends(func(r request) []byte { b := answer(r); b[4], b[5] = 255, 255; return b })), modbus.ErrBadReply, 2, false},
		{"length longer than what comes", lyingOnce(sends(func(r request) []byte { b := answer(r); b[5]++; return b })), context.DeadlineExceeded, 2, false},
		{"drip feed", lyingOnce(func(conn net.Conn, r request) {
			ticker := time.NewTicker(timeout / 4)
			defer ticker.Stop()
			for _, b := range answer(r) {
				<-ticker.C
				if _, err := conn.Write([]byte{b}); err != nil {
					return
				}
			}
		}), context.DeadlineExceeded, 2, false},
		{"in pieces but in time", func(conn net.Conn, _ int) {
			for {
				r, err := readRequest(conn)
				if err != nil {
					return
				}
				for _, b := range answer(r) {
					_, _ = conn.Write([]byte{b})
				}
			}
		}, nil, 1, false},
		{"text instead of frames", lyingOnce(sends(func(request) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") })), modbus.ErrBadReply, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, c.serve)
			bus := modbus.NewBus(modbus.TCP(s.address()), quick())
			defer bus.Close()
			want := []uint16{held(unit, address), held(unit, address+1)}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if errors.Is(c.want, context.DeadlineExceeded) {
				ctx, cancel = context.WithTimeout(t.Context(), timeout)
			}
			defer cancel()
			got, _, err := bus.Read(ctx, unit, modbus.ReadHolding, address, count)
			if !errors.Is(err, c.want) || (err == nil && !slices.Equal(got, want)) {
				t.Fatalf("first request: got %v, %v, expected %v, %v", got, err, want, c.want)
			}
			if c.waits {
				<-s.closed
			}
			got, _, err = bus.Read(t.Context(), unit, modbus.ReadHolding, address, count)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("second request: got %v, %v, expected %v", got, err, want)
			}
			if n := s.accepted.Load(); n != c.conns {
				t.Errorf("connections: got %d, expected %d", n, c.conns)
			}
		})
	}
}

// TestException: a proper refusal keeps the connection and is no failure, except when a gateway speaks for a unit that
// does not answer.
func TestException(t *testing.T) {
	s := newServer(t, func(conn net.Conn, _ int) {
		for {
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			_, _ = conn.Write(frame(r.id, r.unit, r.function|0x80, byte(r.address)))
		}
	})
	o := quick()
	o.BackoffStep, o.BackoffMax = time.Hour, time.Hour
	bus := modbus.NewBus(modbus.TCP(s.address()), o)
	defer bus.Close()
	for code := range uint8(12) {
		if code == 0 {
			continue
		}
		_, _, err := bus.Read(t.Context(), code, modbus.ReadHolding, uint16(code), 1)
		var refused *modbus.Exception
		if !errors.As(err, &refused) || refused.Code != code || refused.Unit != code {
			t.Fatalf("code %d: got %v", code, err)
		}
		_, _, err = bus.Read(t.Context(), code, modbus.ReadHolding, uint16(code), 1)
		if gateway := code == 10 || code == 11; errors.Is(err, modbus.ErrBackoff) != gateway || refused.FromGateway() != gateway {
			t.Errorf("code %d again: got %v", code, err)
		}
	}
	if n := s.accepted.Load(); n != 1 {
		t.Errorf("connections: got %d, expected 1", n)
	}
}

// TestBackoff: a unit that does not answer is left alone, and its neighbours on the bus are read meanwhile.
func TestBackoff(t *testing.T) {
	s := newServer(t, func(conn net.Conn, _ int) {
		for {
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			if r.unit != 1 {
				_, _ = conn.Write(answer(r))
			}
		}
	})
	o := quick()
	o.Timeout = 4 * timeout
	o.BackoffStep, o.BackoffMax = time.Hour, time.Hour
	bus := modbus.NewBus(modbus.TCP(s.address()), o)
	defer bus.Close()
	if _, _, err := bus.Read(t.Context(), 1, modbus.ReadHolding, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("dead unit: got %v", err)
	}
	if _, _, err := bus.Read(t.Context(), 1, modbus.ReadHolding, 0, 1); !errors.Is(err, modbus.ErrBackoff) {
		t.Fatalf("dead unit again: got %v, expected %v", err, modbus.ErrBackoff)
	}
	if got, _, err := bus.Read(t.Context(), 2, modbus.ReadHolding, 5, 1); err != nil || got[0] != held(2, 5) {
		t.Errorf("its neighbour: got %v, %v", got, err)
	}
}

// TestContext: a caller that goes away interrupts its request, waits for nobody, and is not the unit's fault.
func TestContext(t *testing.T) {
	asked := make(chan struct{})
	s := newServer(t, func(conn net.Conn, n int) {
		if n > 0 {
			honest(conn)
			return
		}
		_, _ = readRequest(conn)
		close(asked)
		_, _ = io.Copy(io.Discard, conn)
	})
	o := quick()
	o.Timeout, o.BackoffStep, o.BackoffMax = time.Minute, time.Hour, time.Hour
	bus := modbus.NewBus(modbus.TCP(s.address()), o)
	defer bus.Close()
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, _, err := bus.Read(ctx, 1, modbus.ReadHolding, 0, 1)
		failed <- err
	}()
	<-asked
	waiting, stop := context.WithTimeout(t.Context(), time.Millisecond)
	defer stop()
	if _, _, err := bus.Read(waiting, 2, modbus.ReadHolding, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for the bus: got %v", err)
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled request: got %v", err)
	}
	if got, generation, err := bus.Read(t.Context(), 1, modbus.ReadHolding, 7, 1); err != nil || got[0] != held(1, 7) || generation != 2 {
		t.Errorf("next request: got %v of connection %d, %v", got, generation, err)
	}
}

func TestImpossibleRequests(t *testing.T) {
	bus := modbus.NewBus(modbus.TCP("127.0.0.1:1"), quick())
	defer bus.Close()
	for _, c := range []struct {
		function       uint8
		address, count uint16
	}{{3, 0, 0}, {3, 0, 126}, {4, 65535, 2}, {6, 0, 1}, {16, 0, 1}} {
		if _, _, err := bus.Read(t.Context(), 1, c.function, c.address, c.count); !errors.Is(err, modbus.ErrRequest) {
			t.Errorf("%+v: got %v, expected %v", c, err, modbus.ErrRequest)
		}
	}
}
