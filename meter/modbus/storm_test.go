package modbus_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

// The storm asks hostile devices, over real sockets and pseudo-terminals, so often.
const (
	stormServers    = 8     // Modbus TCP
	stormPerServer  = 2     // buses to each
	stormOverTCP    = 5_000 // requests of each of these buses
	stormSerials    = 50    // serial ports, and as many serial servers
	stormOverSerial = 200   // requests of each of these lines
	stormTotal      = stormServers*stormPerServer*stormOverTCP + 2*stormSerials*stormOverSerial
)

// The times of the storm. stormSlowest is far above what a device waits, for the machine may be busy.
const (
	stormTimeout       = 50 * time.Millisecond
	stormSerialTimeout = 200 * time.Millisecond
	stormSlowest       = 1500 * time.Millisecond
)

// scattered is what a register holds: neighbours have nothing in common, so that a foreign value shows.
func scattered(unit uint8, address uint16) uint16 {
	x := uint32(unit)<<16 | uint32(address)
	x *= 0x9e3779b1
	x ^= x >> 15
	x *= 0x85ebca77
	return uint16(x >> 13)
}

func scatteredBody(r request, count uint16) []byte {
	b := []byte{r.function, byte(2 * count)}
	for i := range count {
		b = binary.BigEndian.AppendUint16(b, scattered(r.unit, r.address+i))
	}
	return b
}

// foe answers a request in a way of its own; it returns false to end the connection.
type foe func(s *stormPeer, r request) bool

// stormPeer is a hostile device on one connection.
type stormPeer struct {
	*peer
	rng *rand.Rand
}

func (s *stormPeer) good(r request) []byte { return s.frame(r, scatteredBody(r, r.count)...) }

func (s *stormPeer) say(b []byte) bool {
	_, err := s.Write(b)
	return err == nil
}

// after says something later, but before the slowest reply must have come.
func (s *stormPeer) after(b []byte) bool {
	begin, wait := time.Now(), 2*stormTimeout
	if s.rtu {
		wait = stormSerialTimeout + time.Duration(s.rng.Int64N(int64(stormSerialTimeout)))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	<-timer.C
	return time.Since(begin) > stormSlowest/2 || s.say(b)
}

// foes that leave a reply that is right, or refuse properly.
var mild = []foe{
	func(s *stormPeer, r request) bool { // in pieces
		for _, b := range s.good(r) {
			if !s.say([]byte{b}) {
				return false
			}
		}
		return true
	},
	func(s *stormPeer, r request) bool { // an exception in pieces
		for _, b := range s.frame(r, r.function|0x80, byte(1+s.rng.IntN(4))) {
			if !s.say([]byte{b}) {
				return false
			}
		}
		return true
	},
	func(s *stormPeer, r request) bool { return s.say(append(s.good(r), s.good(r)...)) }, // twice
	func(s *stormPeer, r request) bool { // frames ahead, as for the next ids
		out := s.good(r)
		for range 4 {
			r.id++
			out = append(out, s.frame(r, append([]byte{r.function, byte(2 * r.count)}, make([]byte, 2*r.count)...)...)...)
		}
		return s.say(out)
	},
	func(s *stormPeer, r request) bool { return s.say(append(s.good(r), 0xff, 0x55, 0)) }, // noise behind it
}

// foes whose replies must be refused.
var fierce = []foe{
	func(s *stormPeer, r request) bool { return s.after(s.good(r)) }, // late
	func(s *stormPeer, r request) bool { // the rest late
		b := s.good(r)
		cut := 1 + s.rng.IntN(len(b)-1)
		return s.say(b[:cut]) && s.after(b[cut:])
	},
	func(*stormPeer, request) bool { return true }, // never
	func(s *stormPeer, r request) bool { // closed in the middle
		b := s.good(r)
		s.say(b[:s.rng.IntN(len(b))])
		return s.rtu // a serial port cannot close
	},
	func(s *stormPeer, r request) bool { // of another request: id, or what else there is
		r.id += uint16(1 + s.rng.IntN(5))
		if s.rtu {
			r.unit++
		}
		return s.say(s.good(r))
	},
	func(s *stormPeer, r request) bool { r.unit++; return s.say(s.good(r)) },
	func(s *stormPeer, r request) bool { r.function ^= 7; return s.say(s.good(r)) },
	func(s *stormPeer, r request) bool { return s.say(s.frame(r, scatteredBody(r, r.count+1)...)) },
	func(s *stormPeer, r request) bool { return s.say(s.frame(r, scatteredBody(r, r.count-1)...)) },
	func(s *stormPeer, r request) bool { return s.say(s.frame(r, r.function|0x80, 0)) },
	func(s *stormPeer, r request) bool { return s.say([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
	func(s *stormPeer, r request) bool { // a bit flips: where the frame is protected, anywhere; else in its head
		b := s.good(r)
		n := 7
		if s.rtu {
			n = len(b)
		}
		b[s.rng.IntN(n)] ^= 1 << s.rng.IntN(8)
		return s.say(b)
	},
}

// hostile serves a connection; about so many of 1000 replies are fierce, and 200 mild.
func hostile(seed uint64, perMille int) func(p *peer) {
	return func(p *peer) {
		s := &stormPeer{p, rand.New(rand.NewPCG(seed, uint64(p.n)))}
		for {
			r, err := s.next()
			if err != nil {
				return
			}
			ok := false
			switch dice := s.rng.IntN(1000); {
			case dice < perMille:
				ok = fierce[s.rng.IntN(len(fierce))](s, r)
			case dice < perMille+200:
				ok = mild[s.rng.IntN(len(mild))](s, r)
			default:
				ok = s.say(s.good(r))
			}
			if !ok {
				return
			}
		}
	}
}

// tally counts outcomes.
type tally struct{ right, refused, wrong atomic.Int64 }

// ask makes n requests of random units, registers and lengths.
func (c *tally) ask(t *testing.T, l modbus.Line, o modbus.Options, seed uint64, n int) {
	rng := rand.New(rand.NewPCG(seed, 99))
	bus := modbus.NewBus(l, o)
	defer bus.Close()
	for range n {
		unit, address, count := uint8(1+rng.IntN(4)), uint16(rng.IntN(60000)), uint16(1+rng.IntN(8))
		got, _, err := bus.Read(t.Context(), unit, uint8(3+rng.IntN(2)), address, count)
		if err != nil {
			c.refused.Add(1)
			continue
		}
		want := make([]uint16, count)
		for i := range want {
			want[i] = scattered(unit, address+uint16(i))
		}
		if slices.Equal(got, want) {
			c.right.Add(1)
		} else {
			c.wrong.Add(1)
			t.Errorf("%v unit %d: got %x for registers %d…, expected %x", l, unit, got, address, want)
		}
	}
}

// TestStorm: eight hostile Modbus servers, fifty hostile serial ports and fifty hostile serial servers, 100,000 requests:
// each is answered right or refused, and none wrong.
func TestStorm(t *testing.T) {
	var c tally
	var each sync.WaitGroup
	asked := &atomic.Int32{}
	overTCP := modbus.Options{Timeout: stormTimeout, DialEvery: 1, BackoffStep: 1, BackoffMax: 1}
	overSerial := overTCP
	overSerial.Timeout, overSerial.Slowest = stormSerialTimeout, stormSlowest
	for i := range uint64(stormServers) {
		serve := hostile(i, 200)
		s := newServer(t, func(conn net.Conn, n int) { serve(&peer{conn, false, n, asked}) })
		for j := range uint64(stormPerServer) {
			each.Go(func() { c.ask(t, modbus.TCP(s.address()), overTCP, 100*i+j, stormOverTCP) })
		}
	}
	for i := range uint64(stormSerials) {
		serve := hostile(1000+i, 30)
		a := newAdapter(t, func(line io.ReadWriter, n int) { serve(&peer{line, true, n, asked}) })
		s := newServer(t, func(conn net.Conn, n int) { serve(&peer{conn, true, n, asked}) })
		each.Go(func() { c.ask(t, a.line(), overSerial, 1000+i, stormOverSerial) })
		each.Go(func() { c.ask(t, modbus.RTUOverTCP(s.address()), overSerial, 2000+i, stormOverSerial) })
	}
	each.Wait()
	right, refused, wrong := c.right.Load(), c.refused.Load(), c.wrong.Load()
	t.Logf("%d requests: %d right, %d refused, %d wrong", right+refused+wrong, right, refused, wrong)
	if right+refused+wrong != stormTotal || wrong != 0 || right < stormTotal/4 {
		t.Errorf("got %d right, %d refused and %d wrong of %d, expected none wrong and a quarter right at least", right, refused, wrong, stormTotal)
	}
}
