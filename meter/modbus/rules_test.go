package modbus_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

// Rules 7 and 8 are tested in virtual time, rule 9 with the sources of package meter.

// TestRule1OneRequestAtATime: however many ask, a request is on the line only after the one before was answered, and
// there is one connection.
func TestRule1OneRequestAtATime(t *testing.T) {
	on(t, all, func(p *peer) {
		for {
			r, err := p.next()
			if err != nil {
				return
			}
			if c, ok := p.ReadWriter.(interface{ SetReadDeadline(time.Time) error }); ok {
				_ = c.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
				var more [1]byte
				if n, _ := p.Read(more[:]); n != 0 {
					t.Error("a request came before the last one was answered")
				}
				_ = c.SetReadDeadline(time.Time{})
			}
			if _, err := p.Write(p.answer(r)); err != nil {
				return
			}
		}
	}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		var each sync.WaitGroup
		for unit := range uint8(4) {
			each.Go(func() {
				for i := range uint16(5) {
					if got, generation, err := bus.Read(t.Context(), 1+unit, modbus.ReadInput, i, 1); err != nil || got[0] != held(1+unit, i) || generation != 1 {
						t.Errorf("got %v of generation %d, %v", got, generation, err)
					}
				}
			})
		}
		each.Wait()
	})
}

// TestRule2Deadline: the earlier of the bus timeout and the context's deadline ends a request. On a line that the quiet
// after it would block for all, a request is not even sent if its caller has not the time for it.
func TestRule2Deadline(t *testing.T) {
	never := func(p *peer) {
		for {
			if _, err := p.next(); err != nil {
				return
			}
		}
	}
	t.Run("of the bus", func(t *testing.T) {
		on(t, all, never, func(t *testing.T, l modbus.Line, asked *atomic.Int32) {
			bus := modbus.NewBus(l, slow())
			defer bus.Close()
			refused(t, bus, context.DeadlineExceeded)
			if n := asked.Load(); n != 1 {
				t.Errorf("asked %d times, expected once", n)
			}
		})
	})
	t.Run("of the context", func(t *testing.T) {
		on(t, all, never, func(t *testing.T, l modbus.Line, asked *atomic.Int32) {
			bus := modbus.NewBus(l, quick())
			defer bus.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 4*timeout)
			defer cancel()
			if _, _, err := bus.Read(ctx, 1, modbus.ReadHolding, 0, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, expected %v", err, context.DeadlineExceeded)
			}
			if rtu := l.String()[:3] == "rtu"; rtu && asked.Load() != 0 {
				t.Error("a request was sent that could not be waited for")
			}
		})
	})
}

// TestRule3SilentBeforeARequest: on a connection on which something waits, or that has ended, nothing is asked any more.
func TestRule3SilentBeforeARequest(t *testing.T) {
	on(t, withIDs, func(p *peer) {
		if p.n == 0 {
			r, err := p.next()
			if err != nil {
				return
			}
			_, _ = p.Write(append(p.answer(r), 0))
			if _, err := p.next(); err == nil {
				t.Error("asked on a line that was not silent")
			}
			return
		}
		p.honest()
	}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		right(t, bus)
		right(t, bus)
		if _, generation, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 10, 2); err != nil || generation != 2 {
			t.Errorf("got generation %d, %v, expected 2", generation, err)
		}
	})
}

// TestRule4EveryField: a reply of which any byte of the head is another one is refused; so is, where there is a checksum,
// any byte at all.
func TestRule4EveryField(t *testing.T) {
	for _, c := range []struct {
		kinds []string
		bytes int
	}{{withIDs, 9}, {withoutID, 9}} {
		var wrong []func(p *peer, r request) []byte
		for i := range c.bytes {
			wrong = append(wrong, func(p *peer, r request) []byte { b := p.answer(r); b[i] ^= 1; return b })
		}
		on(t, c.kinds, lies(wrong...), func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
			o := slow()
			o.Slowest = 1 // nothing comes late here
			bus := modbus.NewBus(l, o)
			defer bus.Close()
			for i := range wrong {
				got, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 1000+uint16(i), 2)
				if !errors.Is(err, modbus.ErrBadReply) && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("byte %d: got %v, %v, expected an error", i, got, err)
				}
			}
			right(t, bus)
		})
	}
}

// TestRule5ErrorsClose: after every error but a proper exception the connection is another one; and what failed was sent
// once.
func TestRule5ErrorsClose(t *testing.T) {
	for name, c := range map[string]struct {
		reply func(p *peer, r request) []byte
		conns int32
	}{
		"exception": {func(p *peer, r request) []byte { return p.frame(r, r.function|0x80, 2) }, 1},
		"garbage":   {func(*peer, request) []byte { return []byte("garbage, and more than is needed") }, 2},
		"silence":   {func(*peer, request) []byte { return nil }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			for _, kind := range closable {
				var conns atomic.Int32
				serve := lies(c.reply)
				on(t, []string{kind}, func(p *peer) {
					conns.Add(1)
					serve(p)
				}, func(t *testing.T, l modbus.Line, asked *atomic.Int32) {
					o := slow()
					o.Slowest = 1
					bus := modbus.NewBus(l, o)
					defer bus.Close()
					if _, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 1000, 2); err == nil {
						t.Error("expected an error")
					}
					if n := asked.Load(); n > 1 {
						t.Errorf("asked %d times, expected once", n)
					}
					right(t, bus)
					if n := conns.Load(); n < c.conns || n > 1 && c.conns == 1 && asked.Load() == 2 {
						t.Errorf("got %d connections, expected %d", n, c.conns)
					}
				})
			}
		})
	}
}

// TestRule6TransactionIDs are not the last one, nor in any order that a device could run ahead of.
func TestRule6TransactionIDs(t *testing.T) {
	const requests = 500
	ids := make(chan uint16, 2*requests)
	s := newServer(t, func(conn net.Conn, _ int) {
		for {
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			ids <- r.id
			if _, err := conn.Write(answer(r)); err != nil && !errors.Is(err, io.EOF) {
				return
			}
		}
	})
	bus := modbus.NewBus(modbus.TCP(s.address()), quick())
	defer bus.Close()
	next := 0
	var last uint16
	for i := range requests {
		right(t, bus)
		id := <-ids
		if i > 0 && id == last {
			t.Errorf("request %d: id %d twice in a row", i, id)
		}
		if i > 0 && id-last < 16 {
			next++
		}
		last = id
	}
	if next > requests/10 {
		t.Errorf("%d of %d ids come just after the last", next, requests)
	}
}
