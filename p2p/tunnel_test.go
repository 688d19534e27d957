package p2p_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/p2p"
)

const tunnelProtocol = "/test/tunnel/1"

// service is one on loopback that sends back what it gets.
type service struct {
	address string

	mu      sync.Mutex
	remotes []string // who has connected
	conns   []net.Conn
}

func startService(t *testing.T) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &service{address: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.remotes, e.conns = append(e.remotes, c.RemoteAddr().String()), append(e.conns, c)
			e.mu.Unlock()
			wg.Go(func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		e.closeAll()
		wg.Wait()
	})
	return e
}

func (e *service) closeAll() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		_ = c.Close()
	}
	e.conns = nil
}

func (e *service) seen() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.remotes...)
}

// end is one host with a service and its tunnels.
type end struct {
	key     ed25519.PrivateKey
	host    *p2p.Host
	tunnels *p2p.Tunnels
	service *service
}

func (e *end) pub() ed25519.PublicKey { return e.key.Public().(ed25519.PublicKey) }

// tunnelPair are two hosts of a community with tunnels to each other.
func tunnelPair(t *testing.T, members *community, keys []ed25519.PrivateKey, listen []string, perPeer ...int) (a, b *end) {
	t.Helper()
	var ends []*end
	var boot []string
	for i, key := range keys {
		e := &end{key: key, service: startService(t)}
		e.host = start(t, p2p.Config{Key: key, Listen: listen, Bootstrap: boot, Member: members.has})
		var err error
		if e.tunnels, err = e.host.Tunnel(tunnelProtocol, perPeer[i]); err != nil {
			t.Fatal(err)
		}
		e.tunnels.SetOld(time.Hour) // nothing is superseded because the machine is slow
		e.tunnels.Serve(e.service.address)
		boot = e.host.Addrs()
		ends = append(ends, e)
	}
	for i, e := range ends {
		other := ends[1-i].pub()
		eventually(t, "both know that the other serves", func() bool {
			peers := e.tunnels.Peers()
			return len(peers) == 1 && peers[0].Equal(other)
		})
	}
	return ends[0], ends[1]
}

// through dials a peer's service.
func through(t *testing.T, from, to *end) net.Conn {
	t.Helper()
	address, release, err := from.tunnels.Forward(t.Context(), to.pub())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		release()
		_ = c.Close()
	})
	return c
}

// alive says a word and waits for its echo.
func alive(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 16)
	_, _ = rand.Read(word)
	if _, err := c.Write(word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, word) {
		t.Fatalf("got %x (%v), want the echo of %x", got, err, word)
	}
}

// ends waits for the end of a connection.
func ends(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, c)
	if errors.Is(err, os.ErrDeadlineExceeded) || n > 0 {
		t.Fatalf("%s: got %d bytes and %v, want its end", what, n, err)
	}
}

func eachTransport(t *testing.T, f func(t *testing.T, listen []string)) {
	t.Helper()
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) { f(t, listen) })
	}
}

// P7: what goes in at one end comes out at the other, whole and in order; the end of one
// service's connection is the end of the other's; and a near end takes one connection.
func TestTunnel(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen []string) {
		keys := newKeys(t, 2)
		a, b := tunnelPair(t, newCommunity(keys...), keys, listen, 4, 4)
		c := through(t, b, a)
		sent := make([]byte, 3<<20)
		_, _ = rand.Read(sent)
		go func() { _, _ = c.Write(sent) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("the echo of %d bytes is not the same (%v)", len(sent), err)
		}
		back := through(t, a, b)
		alive(t, back)
		if second, err := net.Dial("tcp", c.RemoteAddr().String()); err == nil {
			// The socket may have been accepted by the kernel; nobody answers.
			ends(t, "a second connection", second)
			_ = second.Close()
		}
		if !b.tunnels.Ours(c.RemoteAddr().String()) {
			t.Error("the near end is not known as one of the tunnels'")
		}
		seen := a.service.seen()
		if len(seen) != 1 || !a.tunnels.Ours(seen[0]) {
			t.Errorf("the service was dialled by %v, want one of the tunnels", seen)
		}
		if a.tunnels.Ours(c.LocalAddr().String()) {
			t.Error("another socket of this machine is taken for a tunnel")
		}
		_ = c.Close()
		eventually(t, "the ends are forgotten", func() bool {
			return !b.tunnels.Ours(c.RemoteAddr().String()) && !a.tunnels.Ours(seen[0])
		})
		b.service.closeAll()
		ends(t, "the tunnel of a service that has gone", back)
		a.tunnels.Serve("")
		eventually(t, "the peer does not serve any more", func() bool { return len(b.tunnels.Peers()) == 0 })
		if _, release, err := b.tunnels.Forward(t.Context(), a.pub()); err == nil {
			release()
			t.Error("a tunnel to a peer that does not serve")
		}
	})
}

// P7: the stream gate. A peer that is no member any more is not led to the service, though
// its connection is still there; nor is one that opens too many.
func TestTunnelGate(t *testing.T) {
	keys := newKeys(t, 2)
	members := newCommunity(keys...)
	a, b := tunnelPair(t, members, keys, both, 2, 8)
	first, second := through(t, b, a), through(t, b, a)
	alive(t, first)
	alive(t, second)
	third := through(t, b, a)
	ends(t, "one tunnel more than there may be", third)
	alive(t, first)
	members.set(b.key, false)
	refused := through(t, b, a)
	ends(t, "the tunnel of one that is no member", refused)
	if n := len(a.service.seen()); n != 2 {
		t.Errorf("the service was dialled %d times, want 2", n)
	}
	if got := a.host.Stats().TunnelsRefused; got != 2 {
		t.Errorf("%d tunnels refused, want 2", got)
	}
	if _, _, err := a.tunnels.Forward(t.Context(), b.pub()); !errors.Is(err, p2p.ErrNotMember) {
		t.Errorf("a tunnel to one that is no member: %v, want ErrNotMember", err)
	}
	a.host.Recheck()
	ends(t, "the tunnels of one that was disconnected", first)
	if _, _, err := a.tunnels.Forward(t.Context(), newKey(t).Public().(ed25519.PublicKey)); err == nil {
		t.Error("a tunnel to a stranger")
	}
	if _, err := a.host.Tunnel("/test/none/1", 0); !errors.Is(err, p2p.ErrConfig) {
		t.Errorf("no tunnel per peer: %v, want ErrConfig", err)
	}
}

// P7: a peer that opens a tunnel though it has one has lost it, unless both are young.
func TestTunnelSuperseded(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen []string) {
		keys := newKeys(t, 2)
		a, b := tunnelPair(t, newCommunity(keys...), keys, listen, 4, 4)
		old, young, reverse := through(t, b, a), through(t, b, a), through(t, a, b)
		for _, c := range []net.Conn{old, young, reverse} {
			alive(t, c)
		}
		if got := a.host.Stats().TunnelsSuperseded; got != 0 {
			t.Errorf("%d tunnels superseded, all were young", got)
		}
		a.tunnels.SetOld(0)
		another := through(t, b, a)
		alive(t, another)
		ends(t, "the old tunnel", old)
		ends(t, "the younger one", young)
		ends(t, "the old tunnel the other way", reverse)
		if got := a.host.Stats().TunnelsSuperseded; got != 3 {
			t.Errorf("%d tunnels superseded, want 3", got)
		}
	})
}

// A near end that nobody connects to costs nothing once it is released, a peer that has gone
// ends its tunnels, and the host's end ends them all.
func TestTunnelReleased(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen []string) {
		keys := newKeys(t, 2)
		a, b := tunnelPair(t, newCommunity(keys...), keys, listen, 4, 4)
		for range 20 { // more than may be open at once
			address, release, err := b.tunnels.Forward(t.Context(), a.pub())
			if err != nil {
				t.Fatal(err)
			}
			release()
			eventually(t, "the near end is forgotten", func() bool { return !b.tunnels.Ours(address) })
		}
		c := through(t, b, a)
		alive(t, c)
		if err := a.host.Close(); err != nil {
			t.Fatal(err)
		}
		ends(t, "the tunnel to a host that was closed", c)
		eventually(t, "the peer is missed", func() bool { return len(b.tunnels.Peers()) == 0 })
		receive(t, "word that peers have changed", b.tunnels.Changed())
		if err := b.host.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.tunnels.Forward(context.Background(), a.pub()); !errors.Is(err, p2p.ErrClosed) {
			t.Errorf("forwarding through a closed host: %v, want ErrClosed", err)
		}
		if _, err := b.host.Tunnel(tunnelProtocol, 1); !errors.Is(err, p2p.ErrClosed) {
			t.Errorf("tunnels of a closed host: %v, want ErrClosed", err)
		}
	})
}

// TestTunnelLeaks: fifty tunnels that are broken off, from all sides in turn, leave neither
// goroutines nor file descriptors.
func TestTunnelLeaks(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen []string) {
		keys := newKeys(t, 2)
		a, b := tunnelPair(t, newCommunity(keys...), keys, listen, 4, 4)
		round := func(i int) {
			c := through(t, b, a)
			alive(t, c)
			if i%2 == 0 {
				a.service.closeAll()
				ends(t, "the tunnel", c)
			}
			_ = c.Close()
		}
		calm := func() bool {
			for _, e := range []*end{a, b} {
				if e.tunnels.Open() != 0 {
					return false
				}
			}
			return true
		}
		a.host.LiftRate(b.host.ID())
		for i := range 4 {
			round(i)
		}
		eventually(t, "calm", calm)
		goroutines, files := runtime.NumGoroutine(), openFiles(t)
		for i := range 50 {
			round(i)
		}
		eventually(t, "no more goroutines and files than before", func() bool {
			return calm() && runtime.NumGoroutine() <= goroutines+2 && openFiles(t) <= files
		})
		t.Logf("goroutines %d -> %d, files %d -> %d", goroutines, runtime.NumGoroutine(), files, openFiles(t))
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
