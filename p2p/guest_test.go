package p2p_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/commonwatt/commonwatt/p2p"
)

// welcome is a host with one member beside it that lets a guest in.
func welcome(t *testing.T, guests *community, limits p2p.Limits) *p2p.Host {
	t.Helper()
	key := newKey(t)
	h := start(t, p2p.Config{
		Key: key, Listen: both, Member: newCommunity(key).has, Guest: guests.has, Limits: limits,
	})
	h.HandleGuest("/test/guest/1", 64, func(_ context.Context, from p2p.PeerID, request []byte) ([]byte, error) {
		return append([]byte(from+": "), request...), nil
	})
	h.Handle("/test/member/1", 64, func(context.Context, p2p.PeerID, []byte) ([]byte, error) {
		t.Error("a guest has got to a protocol of members")
		return nil, nil
	})
	return h
}

// P8: a guest may ask, and is not seen among the members.
func TestGuestAsks(t *testing.T) {
	guest := newKey(t)
	guests := newCommunity(guest)
	h := welcome(t, guests, p2p.Limits{})
	v, err := p2p.Visit(t.Context(), guest, h.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if id, addr := v.At(); id != h.ID() || addr == "" {
		t.Errorf("visiting %s at %q, want %s", id, addr, h.ID())
	}
	id, err := p2p.IDOf(guest.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := v.Ask(t.Context(), "/test/guest/1", []byte("may I?"), 128)
	if err != nil || string(reply) != string(id)+": may I?" {
		t.Fatalf("got %q, %v", reply, err)
	}
	if peers := h.Peers(); len(peers) != 0 {
		t.Errorf("a guest is among the peers: %v", peers)
	}
	if _, err := h.Request(t.Context(), id, "/test/1", nil, 0); !errors.Is(err, p2p.ErrNotMember) {
		t.Errorf("asking a guest: %v, want ErrNotMember", err)
	}
	// The invitation is over: the guest is a stranger.
	guests.set(guest, false)
	if _, err := v.Ask(t.Context(), "/test/guest/1", nil, 128); err == nil {
		t.Error("a former guest was answered")
	}
	// It may believe for a moment that it is connected.
	if again, err := p2p.Visit(t.Context(), guest, h.Addrs()); err == nil {
		if _, err := again.Ask(t.Context(), "/test/guest/1", nil, 128); err == nil {
			t.Error("a former guest was let in")
		}
		_ = again.Close() // refused, as it should be
	}
}

// P8: protocols of members are not for guests; who tries is sent away.
func TestGuestTriesOtherRequests(t *testing.T) {
	guest := newKey(t)
	h := welcome(t, newCommunity(guest), p2p.Limits{})
	a := newRawAttacker(t, guest)
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), "/test/member/1")
	if err == nil {
		if _, err := s.Write([]byte{0, 0, 0, 0}); err == nil {
			if n, err := s.Read(make([]byte, 1)); err == nil {
				t.Errorf("got %d bytes of an answer", n)
			}
		}
	}
	eventually(t, "the guest is sent away", func() bool { return len(a.host.Network().Peers()) == 0 })
}

// P8: no gossip, in neither direction.
func TestGuestTriesGossip(t *testing.T) {
	guest := newKey(t)
	h := welcome(t, newCommunity(guest), p2p.Limits{})
	var heard atomic.Int64
	var box inbox
	tp := join(t, h, "orders", func(context.Context, p2p.PeerID, []byte) p2p.Verdict {
		heard.Add(1)
		return p2p.Accept
	}, &box)
	a := newAttacker(t, guest)
	var err error
	if a.topic, err = a.gossip.Join("orders"); err != nil {
		t.Fatal(err)
	}
	sub, err := a.topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	a.publish(t, "from a guest")
	eventually(t, "the guest is sent away", func() bool { return len(a.host.Network().Peers()) == 0 })
	// It comes back with a stream of its own making, and is sent away again.
	if err := a.connect(t, h); err == nil {
		if s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), "/meshsub/1.1.0"); err == nil {
			_, _ = s.Write([]byte("\x02\x0a\x00")) // whether it can be written does not matter
		}
		eventually(t, "the guest is sent away again", func() bool { return len(a.host.Network().Peers()) == 0 })
	}
	if err := tp.Publish(t.Context(), []byte("for members")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if m, err := sub.Next(ctx); err == nil && m.ReceivedFrom != a.host.ID() {
		t.Errorf("the guest was told %q", m.Data)
	}
	if n := heard.Load(); n != 0 || tp.Peers() != 0 {
		t.Errorf("%d messages of a guest were heard, %d peers", n, tp.Peers())
	}
}

// P8: no tunnels.
func TestGuestTriesTunnel(t *testing.T) {
	guest := newKey(t)
	h := welcome(t, newCommunity(guest), p2p.Limits{})
	tunnels, err := h.Tunnel(tunnelProtocol, 1)
	if err != nil {
		t.Fatal(err)
	}
	tunnels.Serve(startService(t).address)
	a := newRawAttacker(t, guest)
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	if s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), tunnelProtocol); err == nil {
		_, _ = s.Write([]byte("hello")) // whether it can be written does not matter
		if n, err := s.Read(make([]byte, 1)); err == nil {
			t.Errorf("a guest has a tunnel: %d bytes", n)
		}
	}
	eventually(t, "the tunnel is refused", func() bool { return h.Stats().TunnelsRefused > 0 })
}

// P8: few at once, and not too often.
func TestGuestsAreBounded(t *testing.T) {
	keys := newKeys(t, 3)
	h := welcome(t, newCommunity(keys...), p2p.Limits{Guests: 2})
	for _, k := range keys[:2] {
		v, err := p2p.Visit(t.Context(), k, h.Addrs())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if k.Equal(keys[1]) {
			busy := false
			for range 200 {
				if _, err := v.Ask(t.Context(), "/test/guest/1", nil, 128); errors.Is(err, p2p.ErrBusy) {
					busy = true
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if !busy {
				t.Error("200 requests in a row were answered")
			}
		}
	}
	if v, err := p2p.Visit(t.Context(), keys[2], h.Addrs()); err == nil {
		if _, err := v.Ask(t.Context(), "/test/guest/1", nil, 128); err == nil {
			t.Error("a third guest was answered, want two at once")
		}
		_ = v.Close() // refused, as it should be
	}
	if h.Stats().Full == 0 {
		t.Error("nobody was refused for want of room")
	}
}

// PeerAt learns who is at an address; what answers there may be anything.
func TestPeerAt(t *testing.T) {
	guest := newKey(t)
	h := welcome(t, newCommunity(guest), p2p.Limits{})
	var address string
	for _, a := range h.Addrs() {
		if parts := strings.Split(a, "/"); parts[3] == "tcp" && parts[2] == "127.0.0.1" {
			address = net.JoinHostPort(parts[2], parts[4])
		}
	}
	addrs, err := p2p.PeerAt(t.Context(), guest, address)
	if err != nil || len(addrs) != 1 || !strings.HasSuffix(addrs[0], "/p2p/"+string(h.ID())) {
		t.Fatalf("got %v, %v", addrs, err)
	}
	v, err := p2p.Visit(t.Context(), guest, addrs)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n...........................")) // to whoever asks
			_ = c.Close()
		}
	}()
	if _, err := p2p.PeerAt(t.Context(), guest, l.Addr().String()); !errors.Is(err, p2p.ErrFrame) {
		t.Errorf("a web server: %v", err)
	}
}
