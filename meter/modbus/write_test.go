package modbus_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

// confirmed is the body of the reply to a write that was done.
func confirmed(r request) []byte {
	return []byte{r.function, byte(r.address >> 8), byte(r.address), byte(r.count >> 8), byte(r.count)}
}

// TestWrite: a write is sent once, confirmed exactly, and whatever else comes back is no success. Only a refusal proper
// says that nothing was written.
func TestWrite(t *testing.T) {
	sends := func(reply func(r request) []byte) func(net.Conn, request) {
		return func(conn net.Conn, r request) { _, _ = conn.Write(frame(r.id, r.unit, reply(r)...)) }
	}
	for _, c := range []struct {
		name  string
		reply func(conn net.Conn, r request)
		want  []error // nil: success
	}{
		{"done", sends(confirmed), nil},
		{"never answers", func(net.Conn, request) {}, []error{modbus.ErrUncertain, context.DeadlineExceeded}},
		{"closes", func(conn net.Conn, _ request) { _ = conn.Close() }, []error{modbus.ErrUncertain, io.EOF}},
		{"another address", sends(func(r request) []byte { r.address++; return confirmed(r) }), []error{modbus.ErrUncertain, modbus.ErrBadReply}},
		{"another count or word", sends(func(r request) []byte { r.count++; return confirmed(r) }), []error{modbus.ErrUncertain, modbus.ErrBadReply}},
		{"another function", sends(func(r request) []byte { r.function ^= 22; return confirmed(r) }), []error{modbus.ErrUncertain, modbus.ErrBadReply}},
		{"too short", sends(func(r request) []byte { return confirmed(r)[:4] }), []error{modbus.ErrUncertain, modbus.ErrBadReply}},
		{"too long", sends(func(r request) []byte { return append(confirmed(r), 0) }), []error{modbus.ErrUncertain, modbus.ErrBadReply}},
		{"another unit", func(conn net.Conn, r request) { _, _ = conn.Write(frame(r.id, r.unit+1, confirmed(r)...)) }, []error{modbus.ErrUncertain, modbus.ErrBadReply}},
		{"another id", func(conn net.Conn, r request) { _, _ = conn.Write(frame(r.id+1, r.unit, confirmed(r)...)) }, []error{modbus.ErrUncertain, modbus.ErrBadReply}},
	} {
		for _, function := range []uint8{6, 16} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				got := make(chan request, 10)
				s := newServer(t, func(conn net.Conn, _ int) {
					for {
						r, err := readRequest(conn)
						if err != nil {
							return
						}
						got <- r
						c.reply(conn, r)
					}
				})
				bus := modbus.NewBus(modbus.TCP(s.address()), quick())
				defer bus.Close()
				var err error
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if slices.Contains(c.want, context.DeadlineExceeded) {
					ctx, cancel = context.WithTimeout(t.Context(), timeout)
				}
				defer cancel()
				if function == 6 {
					err = bus.WriteSingle(ctx, 9, 300, 0xabcd)
				} else {
					err = bus.Write(ctx, 9, 300, []uint16{1, 0xfffe, 3})
				}
				if c.want == nil && err != nil {
					t.Error(err)
				}
				for _, want := range c.want {
					if !errors.Is(err, want) {
						t.Errorf("got %v, expected %v", err, want)
					}
				}
				r := <-got
				if r.unit != 9 || r.function != function || r.address != 300 ||
					function == 6 && r.count != 0xabcd || function == 16 && string(r.words) != "\x00\x01\xff\xfe\x00\x03" {
					t.Errorf("the device got %+v", r)
				}
				if len(got) != 0 {
					t.Error("it was sent again")
				}
			})
		}
	}
}

// TestWriteRefused: an exception is a certain no, and so is what never left.
func TestWriteRefused(t *testing.T) {
	s := newServer(t, func(conn net.Conn, _ int) {
		for {
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			_, _ = conn.Write(frame(r.id, r.unit, r.function|0x80, 2))
		}
	})
	bus := modbus.NewBus(modbus.TCP(s.address()), quick())
	defer bus.Close()
	err := bus.Write(t.Context(), 9, 300, []uint16{1})
	if refused, ok := errors.AsType[*modbus.Exception](err); !ok || refused.Code != 2 || refused.Function != 16 || errors.Is(err, modbus.ErrUncertain) {
		t.Errorf("got %v, expected exception 2", err)
	}
	for _, words := range [][]uint16{nil, make([]uint16, 124)} {
		if err := bus.Write(t.Context(), 1, 0, words); !errors.Is(err, modbus.ErrRequest) {
			t.Errorf("%d registers: got %v, expected %v", len(words), err, modbus.ErrRequest)
		}
	}
	if err := bus.Write(t.Context(), 1, 65535, make([]uint16, 2)); !errors.Is(err, modbus.ErrRequest) {
		t.Errorf("registers past the last: got %v, expected %v", err, modbus.ErrRequest)
	}
	silent := newServer(t, func(conn net.Conn, _ int) { _, _ = io.Copy(io.Discard, conn) })
	o := quick()
	o.Timeout = timeout
	o.BackoffStep, o.BackoffMax = time.Hour, time.Hour
	dead := modbus.NewBus(modbus.TCP(silent.address()), o)
	defer dead.Close()
	if err := dead.Write(t.Context(), 1, 0, []uint16{1}); !errors.Is(err, modbus.ErrUncertain) {
		t.Errorf("no answer: got %v, expected %v", err, modbus.ErrUncertain)
	}
	if err := dead.Write(t.Context(), 1, 0, []uint16{1}); !errors.Is(err, modbus.ErrBackoff) || errors.Is(err, modbus.ErrUncertain) {
		t.Errorf("left alone: got %v, expected %v", err, modbus.ErrBackoff)
	}
	gone := modbus.NewBus(modbus.TCP("127.0.0.1:1"), quick())
	defer gone.Close()
	if err := gone.Write(t.Context(), 1, 0, []uint16{1}); err == nil || errors.Is(err, modbus.ErrUncertain) {
		t.Errorf("nobody there: got %v, expected a certain no", err)
	}
}

// TestPoolConflict: two meters on one wire must mean the same wire.
func TestPoolConflict(t *testing.T) {
	pool := modbus.NewPool(quick())
	_, release, err := pool.Get(modbus.TCP("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = release() }()
	for _, l := range []modbus.Line{{}, modbus.TCP(""), modbus.TCP("host"), modbus.TLS("127.0.0.1:1", nil, ""), modbus.TLS("127.0.0.1:1", nil, "ca.pem")} {
		if _, _, err := pool.Get(l); !errors.Is(err, modbus.ErrLine) {
			t.Errorf("%v: got %v, expected %v", l, err, modbus.ErrLine)
		}
	}
}
