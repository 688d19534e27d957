package modbus_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/serial"
)

// The faults below are those by which Modbus libraries are known to give wrong values, or none for ever. Each has its
// number; what must hold instead is in the name of the test. The numbers of rules in other tests are those of the package
// comment.

// peer is the far side of a line of any kind.
type peer struct {
	io.ReadWriter
	rtu   bool
	n     int           // which connection, from 0
	asked *atomic.Int32 // requests so far, over all connections
}

// next reads a request.
func (p *peer) next() (request, error) {
	var r request
	var err error
	if p.rtu {
		r, _, err = readRTU(p)
	} else {
		r, err = readRequest(p)
	}
	if err == nil {
		p.asked.Add(1)
	}
	return r, err
}

// frame is a reply with the given body after the unit.
func (p *peer) frame(r request, body ...byte) []byte {
	if p.rtu {
		return rtuFrame(r.unit, body...)
	}
	return frame(r.id, r.unit, body...)
}

func (p *peer) answer(r request) []byte {
	if r.function == 6 || r.function == 16 {
		return p.frame(r, confirmed(r)...)
	}
	return p.frame(r, registers(r, r.count)...)
}

// honest answers properly until the line ends.
func (p *peer) honest() {
	for {
		r, err := p.next()
		if err != nil {
			return
		}
		if _, err := p.Write(p.answer(r)); err != nil {
			return
		}
	}
}

// slow are options for devices whose replies may come after the timeout, or never.
func slow() modbus.Options {
	o := quick()
	o.Timeout, o.Slowest = timeout, 4*timeout
	return o
}

// lie answers the first request of all in its own way and the others properly.
func lie(reply func(p *peer, r request)) func(p *peer) {
	return func(p *peer) {
		for {
			r, err := p.next()
			if err != nil {
				return
			}
			if p.asked.Load() == 1 {
				reply(p, r)
			} else if _, err := p.Write(p.answer(r)); err != nil {
				return
			}
		}
	}
}

// kinds of lines.
var (
	all       = []string{"tcp", "tcp+tls", "rtu", "rtu+tcp"}
	withIDs   = []string{"tcp", "tcp+tls"}
	withoutID = []string{"rtu", "rtu+tcp"}
	closable  = []string{"tcp", "tcp+tls", "rtu+tcp"}
)

// on runs a test on each kind of line, with a far side that serves each connection.
func on(t *testing.T, kinds []string, serve func(p *peer), test func(t *testing.T, l modbus.Line, asked *atomic.Int32)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			asked := &atomic.Int32{}
			var l modbus.Line
			switch kind {
			case "tcp":
				l = modbus.TCP(newServer(t, func(conn net.Conn, n int) { serve(&peer{conn, false, n, asked}) }).address())
			case "tcp+tls":
				pki := newAuthority(t)
				s := newServer(t, func(conn net.Conn, n int) {
					serve(&peer{tls.Server(conn, pki.server(t)), false, n, asked})
				})
				l = modbus.TLS(s.address(), pki.client(t), "test")
			case "rtu":
				l = newAdapter(t, func(line io.ReadWriter, n int) { serve(&peer{line, true, n, asked}) }).line()
			case "rtu+tcp":
				l = modbus.RTUOverTCP(newServer(t, func(conn net.Conn, n int) { serve(&peer{conn, true, n, asked}) }).address())
			}
			test(t, l, asked)
		})
	}
}

// right expects the right values. On a machine that is busy a device can be late, and is asked again.
func right(t *testing.T, bus *modbus.Bus) {
	t.Helper()
	const unit, address, count = 3, 10, 2
	got, _, err := bus.Read(t.Context(), unit, modbus.ReadHolding, address, count)
	for again := 0; again < 20 && errors.Is(err, context.DeadlineExceeded); again++ {
		got, _, err = bus.Read(t.Context(), unit, modbus.ReadHolding, address, count)
	}
	if want := []uint16{held(unit, address), held(unit, address+1)}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, expected %v", got, err, want)
	}
}

// refused asks once and expects an error.
func refused(t *testing.T, bus *modbus.Bus, want error) {
	t.Helper()
	got, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 10, 2)
	if !errors.Is(err, want) {
		t.Errorf("got %v, %v, expected %v", got, err, want)
	}
}

// later is what comes after somebody said so.
type later struct{ say, sent chan struct{} }

func newLater() later { return later{make(chan struct{}), make(chan struct{})} }

// send waits for the word and sends.
func (l later) send(p *peer, b []byte) {
	<-l.say
	_, _ = p.Write(b)
	close(l.sent)
}

func (l later) now() {
	close(l.say)
	<-l.sent
}

// TestFault01LateReply: a reply that comes after the timeout answers nothing, and those after it are right.
func TestFault01LateReply(t *testing.T) {
	for _, kind := range all {
		late := newLater()
		on(t, []string{kind}, lie(func(p *peer, r request) { late.send(p, p.answer(r)) }),
			func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
				bus := modbus.NewBus(l, slow())
				defer bus.Close()
				refused(t, bus, context.DeadlineExceeded)
				late.now()
				for range 3 {
					right(t, bus)
				}
			})
	}
}

// TestFault02LateBody: a reply whose head is in time and whose rest is not answers nothing, and those after it are right.
func TestFault02LateBody(t *testing.T) {
	for _, kind := range all {
		late := newLater()
		on(t, []string{kind}, lie(func(p *peer, r request) {
			b := p.answer(r)
			_, _ = p.Write(b[:6])
			late.send(p, b[6:])
		}), func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
			bus := modbus.NewBus(l, slow())
			defer bus.Close()
			refused(t, bus, context.DeadlineExceeded)
			late.now()
			for range 3 {
				right(t, bus)
			}
		})
	}
}

// TestFault03FrameAhead: frames that wait on the line before the request, made to fit it as well as anybody can guess,
// are no answer.
func TestFault03FrameAhead(t *testing.T) {
	on(t, all, lie(func(p *peer, r request) {
		out := p.answer(r)
		for range 8 {
			r.id++
			out = append(out, p.frame(r, r.function, 4, 0xde, 0xad, 0xde, 0xad)...)
		}
		_, _ = p.Write(out)
	}), func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		for range 5 {
			right(t, bus)
		}
	})
}

// lies answers a request for register 1000 + i in the i-th of several ways and the others properly.
func lies(wrong ...func(p *peer, r request) []byte) func(p *peer) {
	return func(p *peer) {
		for {
			r, err := p.next()
			if err != nil {
				return
			}
			out := p.answer(r)
			if i := int(r.address) - 1000; i >= 0 {
				out = wrong[i](p, r)
			}
			if _, err := p.Write(out); err != nil {
				return
			}
		}
	}
}

// TestFault04AnotherNumberOfRegisters: fewer or more registers than asked for are refused.
func TestFault04AnotherNumberOfRegisters(t *testing.T) {
	var wrong []func(p *peer, r request) []byte
	for _, body := range []func(r request) []byte{
		func(r request) []byte { return registers(r, r.count-1) },
		func(r request) []byte { return registers(r, r.count+1) },
		func(r request) []byte { return registers(r, 125) },
		func(r request) []byte { return registers(r, r.count)[:4] },
		func(r request) []byte { return append(registers(r, r.count), 0) },
		func(r request) []byte { return []byte{r.function, 0} },
		func(r request) []byte { b := registers(r, r.count); b[1]++; return b },
	} {
		wrong = append(wrong, func(p *peer, r request) []byte { return p.frame(r, body(r)...) })
	}
	on(t, all, lies(wrong...), func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		o := slow()
		o.Slowest = 1 // nothing comes late here
		bus := modbus.NewBus(l, o)
		defer bus.Close()
		for i := range wrong {
			// Too short a frame on a line without a length is one that never ends.
			got, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 1000+uint16(i), 2)
			if !errors.Is(err, modbus.ErrBadReply) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("lie %d: got %v, %v, expected an error", i, got, err)
			}
			right(t, bus)
		}
	})
}

// TestFault05AnotherFunction: a reply to another function is not made into an exception or a value.
func TestFault05AnotherFunction(t *testing.T) {
	var wrong []func(p *peer, r request) []byte
	for _, body := range [][]byte{{4, 4, 0, 1, 0, 2}, {0x84, 2}, {2, 4, 0, 1, 0, 2}, {0x43, 2, 0, 0}} {
		wrong = append(wrong, func(p *peer, r request) []byte { return p.frame(r, body...) })
	}
	on(t, all, lies(wrong...), func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		for i := range wrong {
			_, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 1000+uint16(i), 2)
			if _, made := errors.AsType[*modbus.Exception](err); made || !errors.Is(err, modbus.ErrBadReply) {
				t.Errorf("lie %d: got %v, expected %v", i, err, modbus.ErrBadReply)
			}
			right(t, bus)
		}
	})
}

// TestFault06ClosedByTheServer: a connection that the server closed while it was idle is noticed before a request is lost
// on it.
func TestFault06ClosedByTheServer(t *testing.T) {
	for _, kind := range closable {
		closed := make(chan struct{}, 10)
		on(t, []string{kind}, func(p *peer) {
			defer func() { closed <- struct{}{} }()
			if r, err := p.next(); err == nil {
				_, _ = p.Write(p.answer(r))
			}
			if c, ok := p.ReadWriter.(io.Closer); ok {
				_ = c.Close()
			}
		}, func(t *testing.T, l modbus.Line, asked *atomic.Int32) {
			bus := modbus.NewBus(l, quick())
			defer bus.Close()
			for range 4 {
				right(t, bus)
				<-closed
			}
			if n := asked.Load(); n != 4 {
				t.Errorf("the device was asked %d times, expected 4", n)
			}
		})
	}
}

// TestFault07AlwaysIDZero: a device that gives every reply the transaction id 0 cannot be read, and nothing is made of
// it.
func TestFault07AlwaysIDZero(t *testing.T) {
	on(t, withIDs, func(p *peer) {
		for {
			r, err := p.next()
			if err != nil {
				return
			}
			if r.id == 0 {
				continue // once in 65536 it would be right
			}
			r.id = 0
			_, _ = p.Write(p.answer(r))
		}
	}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		for range 5 {
			if got, _, err := bus.Read(t.Context(), 1, modbus.ReadInput, 0, 1); err == nil {
				t.Fatalf("got %v, expected an error", got)
			}
		}
	})
}

// TestFault08UnitsOfOneBus: many units are asked at once by many goroutines, and each gets its own values (with the race
// detector: without sharing anything unguarded).
func TestFault08UnitsOfOneBus(t *testing.T) {
	on(t, all, (*peer).honest, func(t *testing.T, l modbus.Line, asked *atomic.Int32) {
		pool := modbus.NewPool(modbus.Options{Timeout: patience, Slowest: 1})
		keep, release, err := pool.Get(l)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = release() }()
		var each sync.WaitGroup
		const units, times = 8, 20
		for unit := range uint8(units) {
			each.Go(func() {
				bus, release, err := pool.Get(l)
				if err != nil || bus != keep {
					t.Errorf("got another bus, %v", err)
					return
				}
				defer func() { _ = release() }()
				for i := range uint16(times) {
					got, generation, err := bus.Read(t.Context(), unit+1, modbus.ReadInput, i, 1)
					if err != nil || got[0] != held(unit+1, i) || generation != 1 {
						t.Errorf("unit %d register %d: got %v of connection %d, %v", unit, i, got, generation, err)
						return
					}
				}
			})
		}
		each.Wait()
		if n := asked.Load(); n != units*times {
			t.Errorf("asked %d times, expected %d", n, units*times)
		}
	})
}

// TestFault09LateReplyAfterReopening: on a line without transaction ids a late reply answers nothing even if the line is
// closed and opened again meanwhile, and even if somebody else does that.
func TestFault09LateReplyAfterReopening(t *testing.T) {
	for _, kind := range withoutID {
		asked, late, sent := make(chan struct{}), make(chan struct{}), make(chan struct{})
		var pending atomic.Pointer[[]byte]
		on(t, []string{kind}, func(p *peer) {
			if pending.Load() != nil {
				// A serial server: what was said on the old connection comes on this one.
				<-late
				_, _ = p.Write(*pending.Load())
				close(sent)
			}
			for {
				r, err := p.next()
				if err != nil {
					return
				}
				b := p.answer(r)
				if p.asked.Load() > 1 {
					_, _ = p.Write(b)
					continue
				}
				pending.Store(&b)
				close(asked)
				if kind == "rtu" {
					<-late
					_, _ = p.Write(b)
					close(sent)
				}
			}
		}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
			o := slow()
			first := modbus.NewBus(l, o)
			ctx, leave := context.WithCancel(t.Context())
			go func() {
				<-asked
				leave()
			}()
			if _, _, err := first.Read(ctx, 3, modbus.ReadHolding, 500, 2); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v, expected %v", err, context.Canceled)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			second := modbus.NewBus(l, o)
			defer second.Close()
			close(late)
			if kind == "rtu" {
				<-sent
			}
			for range 3 {
				right(t, second)
			}
		})
	}
}

// TestFault10ExceptionInPieces: an exception that comes byte by byte is that exception, and the next request is right.
func TestFault10ExceptionInPieces(t *testing.T) {
	on(t, all, lie(func(p *peer, r request) {
		for _, b := range p.frame(r, r.function|0x80, 2) {
			_, _ = p.Write([]byte{b})
		}
	}), func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		_, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 10, 2)
		if e, ok := errors.AsType[*modbus.Exception](err); !ok || e.Code != 2 {
			t.Errorf("got %v, expected exception 2", err)
		}
		right(t, bus)
	})
}

// TestFault11Noise: noise before a request is thrown away, noise within a reply refuses it, and a line that is never
// silent is not asked.
func TestFault11Noise(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		on(t, withoutID, func(p *peer) {
			for {
				r, err := p.next()
				if err != nil {
					return
				}
				// The noise comes between two requests: right behind the reply.
				if _, err := p.Write(append(p.answer(r), 0xff, 0, 3, 4, 0x55)); err != nil {
					return
				}
			}
		}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
			bus := modbus.NewBus(l, quick())
			defer bus.Close()
			for range 5 {
				right(t, bus)
			}
		})
	})
	t.Run("within", func(t *testing.T) {
		on(t, withoutID, lie(func(p *peer, r request) { b := p.answer(r); b[5] ^= 4; _, _ = p.Write(b) }),
			func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
				bus := modbus.NewBus(l, quick())
				defer bus.Close()
				refused(t, bus, modbus.ErrBadReply)
				right(t, bus)
			})
	})
	t.Run("always", func(t *testing.T) {
		on(t, withoutID, func(p *peer) {
			for {
				if _, err := p.Write([]byte{0x55, 0x55, 0x55}); err != nil {
					return
				}
			}
		}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
			bus := modbus.NewBus(l, slow())
			defer bus.Close()
			refused(t, bus, modbus.ErrBadReply)
		})
	})
}

// TestFault12FramesDoNotMix: two goroutines on one line send whole frames, one after the other has its reply.
func TestFault12FramesDoNotMix(t *testing.T) {
	on(t, all, (*peer).honest, func(t *testing.T, l modbus.Line, asked *atomic.Int32) {
		bus := modbus.NewBus(l, modbus.Options{Timeout: patience, Slowest: 1})
		defer bus.Close()
		var both sync.WaitGroup
		for i := range uint8(2) {
			both.Go(func() {
				for j := range uint16(20) {
					if err := bus.Write(t.Context(), 1+i, j, make([]uint16, 100)); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		both.Wait()
		if n := asked.Load(); n != 40 {
			t.Errorf("the device understood %d requests, expected 40", n)
		}
	})
}

// TestFault13LostPort: a serial adapter that is pulled out gives one clear error, and when it is plugged in again the line
// goes on, as another generation.
func TestFault13LostPort(t *testing.T) {
	a := newAdapter(t, honestRTU)
	bus := modbus.NewBus(a.line(), quick())
	defer bus.Close()
	right(t, bus)
	a.unplug()
	refused(t, bus, serial.ErrAbsent)
	a.plug(honestRTU, 1)
	got, generation, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 10, 1)
	if err != nil || got[0] != held(3, 10) || generation < 2 {
		t.Errorf("plugged in again: got %v of generation %d, %v", got, generation, err)
	}
	other := modbus.NewBus(a.line(), quick())
	defer other.Close()
	refused(t, other, serial.ErrInUse)
}

// TestFault14Interrupted: on every kind of line, a context that is cancelled and a bus that is closed end a request that
// waits for a device, and say so.
func TestFault14Interrupted(t *testing.T) {
	asked := map[string]chan struct{}{}
	for _, kind := range all {
		asked[kind] = make(chan struct{}, 10)
		on(t, []string{kind}, func(p *peer) {
			for {
				if _, err := p.next(); err != nil {
					return
				}
				asked[kind] <- struct{}{}
			}
		}, func(t *testing.T, l modbus.Line, _ *atomic.Int32) {
			o := modbus.Options{Timeout: time.Hour, Slowest: 1, DialEvery: 1}
			bus := modbus.NewBus(l, o)
			ctx, leave := context.WithCancel(t.Context())
			failed := make(chan error)
			read := func(ctx context.Context) {
				_, _, err := bus.Read(ctx, 1, modbus.ReadHolding, 0, 1)
				failed <- err
			}
			go read(ctx)
			<-asked[kind]
			leave()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, expected %v", err, context.Canceled)
			}
			go read(t.Context())
			<-asked[kind]
			bus.Close()
			if err := <-failed; err == nil {
				t.Error("a request survived Close")
			}
			if _, _, err := bus.Read(t.Context(), 1, modbus.ReadHolding, 0, 1); !errors.Is(err, modbus.ErrClosed) {
				t.Errorf("after Close: got %v, expected %v", err, modbus.ErrClosed)
			}
		})
	}
}
