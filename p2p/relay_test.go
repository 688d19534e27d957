package p2p

import (
	"bytes"
	"crypto/rand"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// raw is a libp2p node with no gate of its own that knows where the host is.
func (s signer) raw(t *testing.T, at *Host) host.Host {
	t.Helper()
	n, err := libp2p.New(libp2p.Identity(s.key), libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"), libp2p.EnableRelay(),
		libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	for _, a := range at.Addrs() {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Connect(t.Context(), *info); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestRelayForMembers: P1 holds for relaying. Members book a place and are led to members,
// without the usual limits; who is no member any more gets neither.
func TestRelayForMembers(t *testing.T) {
	a, b, former := newSigner(t), newSigner(t), newSigner(t)
	members := []signer{a, b, former}
	relay, self := testHost(t, "", members...)
	relay.relays.serve(true)
	an, bn, fn := a.raw(t, relay), b.raw(t, relay), former.raw(t, relay)
	at := peer.AddrInfo{ID: self.id}
	for name, n := range map[string]host.Host{"b": bn, "former": fn} {
		got, err := client.Reserve(t.Context(), n, at)
		if err != nil {
			t.Fatal(err)
		}
		if got.LimitData != 0 || got.LimitDuration != 0 {
			t.Errorf("%s may relay %d bytes for %v, want no limit", name, got.LimitData, got.LimitDuration)
		}
	}
	const echo = "/test/echo/1"
	for _, n := range []host.Host{bn, fn} {
		n.SetStreamHandler(echo, func(s network.Stream) {
			_, _ = io.Copy(s, s) // the other side compares
			_ = s.Close()
		})
	}
	through := func(to peer.ID) error {
		addr, err := ma.NewMultiaddr("/p2p/" + self.id.String() + "/p2p-circuit")
		if err != nil {
			t.Fatal(err)
		}
		return an.Connect(t.Context(), peer.AddrInfo{ID: to, Addrs: []ma.Multiaddr{addr}})
	}
	for _, to := range []peer.ID{b.id, former.id} {
		if err := through(to); err != nil {
			t.Fatal(err)
		}
	}
	c := an.Network().ConnsToPeer(b.id)[0]
	if c.Stat().Limited || !relayed(c.RemoteMultiaddr()) || relayOf(c.RemoteMultiaddr()) != self.id {
		t.Errorf("connection %s, limited %v, want an unlimited one by the relay", c.RemoteMultiaddr(), c.Stat().Limited)
	}
	s, err := an.NewStream(t.Context(), b.id, echo)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1<<20) // eight times libp2p's default
	_, _ = rand.Read(payload)
	go func() {
		_, _ = s.Write(payload)
		_ = s.CloseWrite()
	}()
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("%d bytes came back, %v, want %d", len(got), err, len(payload))
	}

	// From now on one is no member.
	expelled := acl{&gate{member: relay.gate.member, count: &relay.count, log: relay.log}}
	stranger := newSigner(t)
	for _, try := range []struct {
		name     string
		from, to peer.ID
		want     bool
	}{
		{"member to member", a.id, b.id, true},
		{"stranger to member", stranger.id, b.id, false},
		{"member to stranger", a.id, stranger.id, false},
	} {
		if got := expelled.AllowConnect(try.from, nil, try.to); got != try.want {
			t.Errorf("%s: %v, want %v", try.name, got, try.want)
		}
	}
	if expelled.AllowReserve(stranger.id, nil) {
		t.Error("a stranger may book a place")
	}
	relay.relays.serve(false)
	if _, err := client.Reserve(t.Context(), bn, at); err == nil {
		t.Error("who is no relay any more gives places")
	}
}

// TestGateBehindRelay: P1 holds for relayed connections. A relay whose ledger is behind may
// lead somebody to a home who is no member there any more; the home refuses.
func TestGateBehindRelay(t *testing.T) {
	self, between, b, former := newSigner(t), newSigner(t), newSigner(t), newSigner(t)
	relay := between.run(t, "", self, b, former)
	relay.relays.serve(true)
	home := self.run(t, "", between, b)
	for _, a := range relay.Addrs() {
		info, err := peer.AddrInfoFromString(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := home.host.Connect(t.Context(), *info); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Reserve(t.Context(), home.host, peer.AddrInfo{ID: between.id}); err != nil {
		t.Fatal(err)
	}
	addr, err := ma.NewMultiaddr("/p2p/" + between.id.String() + "/p2p-circuit")
	if err != nil {
		t.Fatal(err)
	}
	to := peer.AddrInfo{ID: self.id, Addrs: []ma.Multiaddr{addr}}
	if err := b.raw(t, relay).Connect(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	gated := home.Stats().Gated
	if err := former.raw(t, relay).Connect(t.Context(), to); err == nil {
		// It may believe for a moment that it is connected.
		t.Log("the former member got as far as the handshake")
	}
	if home.Stats().Gated == gated {
		t.Error("the home's gate was not asked about the former member")
	}
	for _, p := range home.Peers() {
		switch p.ID {
		case PeerID(former.id.String()):
			t.Error("a former member is connected through a relay")
		case PeerID(b.id.String()):
			if p.Path != PathRelayed || p.Via != PeerID(between.id.String()) {
				t.Errorf("the member is connected by the path %q via %q", p.Path, p.Via)
			}
		}
	}
	if len(home.host.Network().ConnsToPeer(b.id)) == 0 {
		t.Error("the member is not connected")
	}
}

// TestReachJudges: when a home believes that it can be reached.
func TestReachJudges(t *testing.T) {
	h, _ := testHost(t, "")
	a, b := ma.StringCast("/ip4/11.0.1.2/udp/8602/quic-v1"), ma.StringCast("/ip4/11.0.1.2/udp/9000/quic-v1")
	mine := []ma.Multiaddr{a, b}
	now := time.Now()
	said := func(addrs ...ma.Multiaddr) map[string]bool {
		yes := make(map[string]bool)
		for _, a := range addrs {
			yes[string(a.Bytes())] = true
		}
		return yes
	}
	for _, step := range []struct {
		name    string
		mine    []ma.Multiaddr
		yes     map[string]bool
		answers int
		after   time.Duration
		changed bool
		relay   bool
		reached string
	}{
		{"nobody to ask", mine, said(), 0, 0, false, false, "unknown"},
		{"all say no", mine, said(), 3, 0, false, false, "no"},
		{"one says yes", mine, said(a), 1, 0, true, true, "yes"},
		{"the same again", mine, said(a), 1, time.Minute, false, true, "yes"},
		{"nobody to ask for a while", mine, said(), 0, reachLasts, false, true, "yes"},
		{"nobody to ask for too long", mine, said(), 0, reachLasts + 2*time.Minute, true, false, "unknown"},
		{"yes again, elsewhere too", mine, said(a, b), 1, 0, true, true, "yes"},
		{"one address is gone", mine[:1], said(), 0, 0, true, true, "yes"},
		{"all say no now", mine, said(), 3, 0, true, false, "no"},
	} {
		if got := h.reach.judge(step.mine, step.yes, step.answers, now.Add(step.after)); got != step.changed {
			t.Errorf("%s: changed %v, want %v", step.name, got, step.changed)
		}
		if got := h.relays.serving(); got != step.relay {
			t.Errorf("%s: relays %v, want %v", step.name, got, step.relay)
		}
		reached := "unknown"
		if got := h.Reached(); got != nil {
			reached = map[bool]string{true: "yes", false: "no"}[*got]
		}
		if reached != step.reached {
			t.Errorf("%s: reached: %s, want %s", step.name, reached, step.reached)
		}
	}
}

// TestTryAddr: a member is found at its address although its gate refuses who tries; nobody
// is found where somebody else lives, or nobody.
func TestTryAddr(t *testing.T) {
	h, self := testHost(t, "")
	at := h.host.Network().ListenAddresses()
	var addr ma.Multiaddr
	for _, a := range at {
		if !relayed(a) {
			addr = a
		}
	}
	if err := tryAddr(t.Context(), self.id, addr); err != nil {
		t.Errorf("%s: %v", addr, err)
	}
	if err := tryAddr(t.Context(), newSigner(t).id, addr); err == nil {
		t.Error("somebody else is found at the address")
	}
	if len(h.Peers()) != 0 {
		t.Errorf("who tried is connected: %v", h.Peers())
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tryAddr(t.Context(), self.id, addr); err == nil {
		t.Error("somebody is found at an address where nobody listens")
	}
}
