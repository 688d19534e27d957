package p2p_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"

	"github.com/commonwatt/commonwatt/p2p"
)

// fixed returns addresses on which a host can be started again and again. They are below
// the range from which the system hands out ports.
func fixed(tb testing.TB, key ed25519.PrivateKey, format string) []string {
	tb.Helper()
	for range 50 {
		listen := []string{fmt.Sprintf(format, 20000+rand.IntN(12000))}
		h, err := p2p.New(p2p.Config{Key: key, Listen: listen, Member: func(ed25519.PublicKey) bool { return true }})
		if err == nil {
			if err := h.Close(); err != nil {
				tb.Fatal(err)
			}
			return listen
		}
		if !errors.Is(err, p2p.ErrListen) {
			tb.Fatal(err)
		}
	}
	tb.Fatal("no free port in 50 tries")
	return nil
}

// TestBootstrap: a bootstrap peer that starts late, and one that is restarted with the
// same key on the same address, are connected to.
func TestBootstrap(t *testing.T) {
	for name, format := range map[string]string{"tcp": "/ip4/127.0.0.1/tcp/%d", "quic": "/ip4/127.0.0.1/udp/%d/quic-v1"} {
		t.Run(name, func(t *testing.T) {
			keys := newKeys(t, 2)
			members := newCommunity(keys...)
			listen := fixed(t, keys[0], format)
			id, err := p2p.IDOf(keys[0].Public().(ed25519.PublicKey))
			if err != nil {
				t.Fatal(err)
			}
			h := start(t, p2p.Config{Key: keys[1], Member: members.has, Bootstrap: []string{
				listen[0] + "/p2p/" + string(id),
			}})
			var box inbox
			tp := join(t, h, "orders", acceptAll, &box)
			eventually(t, "some dials have failed", func() bool { return h.Stats().DialFailures >= 2 })
			for round := range 3 {
				b := start(t, p2p.Config{Key: keys[0], Listen: listen, Member: members.has, Bootstrap: []string{listen[0] + "/p2p/" + string(id)}})
				bt := join(t, b, "orders", acceptAll, &inbox{})
				eventually(t, "the bootstrap peer is connected", func() bool { return connected(h, id) && connected(b, h.ID()) })
				eventually(t, "the topic is joined", func() bool { return bt.Peers() == 1 && tp.Peers() == 1 })
				payload := fmt.Sprintf("round %d", round)
				if err := bt.Publish(t.Context(), []byte(payload)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "its message arrives", func() bool { return box.has(payload) })
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the loss is noticed", func() bool { return !connected(h, id) })
			}
		})
	}
}

// TestMDNS: two hosts that know nothing of each other meet. Multicast needs an interface
// that can do it; where the loopback cannot (Linux: it has no MULTICAST flag) any other
// one carries the question, while the hosts themselves stay on the loopback.
func TestMDNS(t *testing.T) {
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var able []string
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagMulticast != 0 {
			able = append(able, i.Name)
		}
	}
	t.Logf("interfaces that can do multicast: %q", able)
	keys := newKeys(t, 3)
	members := newCommunity(keys[:2]...)
	tag := fmt.Sprintf("_cw-%d._udp", rand.IntN(1e9))
	a := start(t, p2p.Config{Key: keys[0], Listen: both, Member: members.has, MDNS: tag})
	b := start(t, p2p.Config{Key: keys[1], Listen: both, Member: members.has, MDNS: tag})
	if len(able) == 0 {
		// Without any, mDNS cannot work; that a host starts all the same is what there is
		// to test, and it just did.
		t.Log("no interface can do multicast here: only tested that hosts start without it")
		return
	}
	open := func(ed25519.PublicKey) bool { return true }
	stranger := start(t, p2p.Config{Key: keys[2], Listen: both, Member: open, MDNS: tag})
	eventually(t, "the two find each other", func() bool { return connected(a, b.ID()) && connected(b, a.ID()) })
	eventually(t, "the stranger has tried", func() bool { return stranger.Stats().Dials > 0 && a.Stats().Gated+b.Stats().Gated > 0 })
	if connected(a, stranger.ID()) || connected(b, stranger.ID()) {
		t.Error("a stranger got in by mDNS")
	}
}

// TestOwnMessages: invariant P5. The victim's validators are stuck and their queue is
// full; its own messages go out.
func TestOwnMessages(t *testing.T) {
	keys := newKeys(t, 3)
	members := newCommunity(keys...)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: members.has, Limits: p2p.Limits{MessageBurst: 100, TotalBurst: 1}})
	peer := start(t, p2p.Config{Key: keys[1], Listen: both, Member: members.has, Bootstrap: h.Addrs()})
	unstick := make(chan struct{})
	var stuck atomic.Int64
	var box inbox
	ht := join(t, h, "orders", func(context.Context, p2p.PeerID, []byte) p2p.Verdict {
		stuck.Add(1)
		<-unstick
		return p2p.Ignore
	}, &inbox{})
	defer close(unstick)
	pt := join(t, peer, "orders", acceptAll, &box)
	eventually(t, "the peer is there", func() bool { return ht.Peers() == 1 && pt.Peers() == 1 })
	a := newAttacker(t, keys[2])
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	a.join(t)
	sent := 0
	eventually(t, "the validators are stuck and much is waiting", func() bool {
		for range 20 {
			a.publish(t, fmt.Sprintf("junk %d", sent))
			sent++
		}
		s := h.Stats()
		return stuck.Load() >= 2 && s.Limited.Rate+s.Limited.Total > 0
	})
	for i := range 100 {
		if err := ht.Publish(t.Context(), fmt.Appendf(nil, "own %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all own messages arrive", func() bool { return box.count() == 100 })
}

// TestSlowDelivery: a deliver that does not keep up loses messages, countably, and
// holds up nothing else.
func TestSlowDelivery(t *testing.T) {
	keys := newKeys(t, 2)
	members := newCommunity(keys...)
	a := start(t, p2p.Config{Key: keys[0], Listen: both, Member: members.has})
	b := start(t, p2p.Config{Key: keys[1], Listen: both, Member: members.has, Bootstrap: a.Addrs(), Limits: p2p.Limits{MessageRate: 1e6, MessageBurst: 1e6}})
	at := join(t, a, "orders", acceptAll, &inbox{})
	at2 := join(t, a, "reports", acceptAll, &inbox{})
	release := make(chan struct{})
	bt, err := b.Join("orders", 100, acceptAll, func(p2p.PeerID, []byte) { <-release })
	if err != nil {
		t.Fatal(err)
	}
	var box inbox
	join(t, b, "reports", acceptAll, &box)
	eventually(t, "both topics are joined", func() bool { return at.Peers() == 1 && at2.Peers() == 1 })
	sent := 0
	eventually(t, "messages are lost", func() bool {
		for range 100 {
			if err := at.Publish(t.Context(), fmt.Appendf(nil, "%d", sent)); err != nil {
				t.Fatal(err)
			}
			sent++
		}
		return b.Stats().Undelivered > 0
	})
	if err := at2.Publish(t.Context(), []byte("report")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other topic goes on", func() bool { return box.has("report") })
	close(release)
	if err := bt.Close(); err != nil {
		t.Error(err)
	}
}

// TestTopic: what Join and Publish refuse, and leaving and joining again.
func TestTopic(t *testing.T) {
	keys := newKeys(t, 2)
	members := newCommunity(keys...)
	a := start(t, p2p.Config{Key: keys[0], Listen: both, Member: members.has})
	b := start(t, p2p.Config{Key: keys[1], Listen: both, Member: members.has, Bootstrap: a.Addrs()})
	drop := func(p2p.PeerID, []byte) {}
	for name, join := range map[string]func() (*p2p.Topic, error){
		"no name":     func() (*p2p.Topic, error) { return a.Join("", 1, acceptAll, drop) },
		"long name":   func() (*p2p.Topic, error) { return a.Join(string(make([]byte, 129)), 1, acceptAll, drop) },
		"no size":     func() (*p2p.Topic, error) { return a.Join("x", 0, acceptAll, drop) },
		"large size":  func() (*p2p.Topic, error) { return a.Join("x", 1<<30, acceptAll, drop) },
		"no validate": func() (*p2p.Topic, error) { return a.Join("x", 1, nil, drop) },
		"no deliver":  func() (*p2p.Topic, error) { return a.Join("x", 1, acceptAll, nil) },
	} {
		if _, err := join(); !errors.Is(err, p2p.ErrConfig) {
			t.Errorf("%s: got %v, want ErrConfig", name, err)
		}
	}
	at := join(t, a, "orders", acceptAll, &inbox{})
	if _, err := a.Join("orders", 10, acceptAll, drop); !errors.Is(err, p2p.ErrConfig) {
		t.Errorf("joining twice: got %v, want ErrConfig", err)
	}
	if err := at.Publish(t.Context(), make([]byte, 1025)); !errors.Is(err, p2p.ErrTooLarge) {
		t.Errorf("publishing 1025 of 1024 bytes: got %v, want ErrTooLarge", err)
	}
	for round := range 3 {
		var box inbox
		bt := join(t, b, "orders", acceptAll, &box)
		eventually(t, "the topic is joined", func() bool { return at.Peers() == 1 && bt.Peers() == 1 })
		payload := fmt.Sprintf("round %d", round)
		if err := at.Publish(t.Context(), []byte(payload)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the message arrives", func() bool { return box.has(payload) })
		if err := bt.Close(); err != nil {
			t.Fatal(err)
		}
		if err := bt.Close(); err != nil {
			t.Errorf("closing again: %v", err)
		}
		if err := bt.Publish(t.Context(), nil); !errors.Is(err, p2p.ErrClosed) {
			t.Errorf("publishing on a closed topic: got %v, want ErrClosed", err)
		}
		eventually(t, "the topic is left", func() bool { return at.Peers() == 0 })
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := at.Publish(t.Context(), nil); !errors.Is(err, p2p.ErrClosed) {
		t.Errorf("publishing after Close: got %v, want ErrClosed", err)
	}
	if _, err := a.Join("more", 10, acceptAll, drop); !errors.Is(err, p2p.ErrClosed) {
		t.Errorf("joining after Close: got %v, want ErrClosed", err)
	}
	if err := at.Close(); err != nil {
		t.Errorf("leaving after Close: %v", err)
	}
}

// TestNewRefuses: configurations that cannot work, and ports in use.
func TestNewRefuses(t *testing.T) {
	key := newKey(t)
	member := newCommunity(key).has
	for name, cfg := range map[string]p2p.Config{
		"no key":                 {Member: member},
		"no gate":                {Key: key},
		"listen is no address":   {Key: key, Member: member, Listen: []string{"localhost:17001"}},
		"bootstrap without id":   {Key: key, Member: member, Bootstrap: []string{"/ip4/127.0.0.1/tcp/1"}},
		"bootstrap only an id":   {Key: key, Member: member, Bootstrap: []string{"/p2p/12D3KooWGpBvRYvcaSnBHRn1CEfdRJpDu3C5sHHUv2ArF7Fs8dJz"}},
		"bootstrap is no addr":   {Key: key, Member: member, Bootstrap: []string{"elm street"}},
		"negative rate":          {Key: key, Member: member, Limits: p2p.Limits{MessageRate: -1}},
		"negative burst":         {Key: key, Member: member, Limits: p2p.Limits{MessageBurst: -1}},
		"negative timeout":       {Key: key, Member: member, Limits: p2p.Limits{RequestTimeout: -1}},
		"transport not spoken":   {Key: key, Member: member, Listen: []string{"/ip4/127.0.0.1/tcp/0/ws"}},
		"address of another one": {Key: key, Member: member, Listen: []string{"/ip4/198.51.100.7/tcp/17001"}},
	} {
		want := p2p.ErrConfig
		if name == "transport not spoken" || name == "address of another one" {
			want = p2p.ErrListen
		}
		if h, err := p2p.New(cfg); !errors.Is(err, want) || h != nil {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
	}
	for name, format := range map[string]string{"tcp": "/ip4/127.0.0.1/tcp/%d", "quic": "/ip4/127.0.0.1/udp/%d/quic-v1"} {
		listen := fixed(t, key, format)
		start(t, p2p.Config{Key: key, Member: member, Listen: listen})
		// One good address does not make up for the bad one.
		if _, err := p2p.New(p2p.Config{Key: newKey(t), Member: member, Listen: append(both[:1:1], listen...)}); !errors.Is(err, p2p.ErrListen) {
			t.Errorf("%s port in use: got %v, want ErrListen", name, err)
		}
	}
	if _, err := p2p.IDOf(ed25519.PublicKey("short")); err == nil {
		t.Error("IDOf a short key: got no error")
	}
}

// TestFull: inbound connections stop at Limits.Peers.
func TestFull(t *testing.T) {
	keys := newKeys(t, 3)
	members := newCommunity(keys...)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: members.has, Limits: p2p.Limits{Peers: 1}})
	first := start(t, p2p.Config{Key: keys[1], Member: members.has, Bootstrap: h.Addrs()})
	eventually(t, "the first is connected", func() bool { return connected(h, first.ID()) })
	start(t, p2p.Config{Key: keys[2], Member: members.has, Bootstrap: h.Addrs()})
	eventually(t, "the second is refused", func() bool { return h.Stats().Full > 0 })
	if got := h.Stats().Peers; got != 1 || !connected(h, first.ID()) {
		t.Errorf("%d peers, first connected %t, want 1 and true", got, connected(h, first.ID()))
	}
}

// BenchmarkGossip measures a message of 1 KiB from Publish to deliver at the one peer.
func BenchmarkGossip(b *testing.B) {
	for name, listen := range transports {
		b.Run(name, func(b *testing.B) {
			keys := newKeys(b, 2)
			members := newCommunity(keys...)
			limits := p2p.Limits{MessageRate: 1e9, TotalRate: 1e9, MessageBurst: 1e6, TotalBurst: 1e6}
			from := start(b, p2p.Config{Key: keys[0], Listen: listen, Member: members.has, Limits: limits})
			to := start(b, p2p.Config{Key: keys[1], Listen: listen, Member: members.has, Limits: limits, Bootstrap: from.Addrs()})
			arrived := make(chan struct{}, 64)
			ft := join(b, from, "orders", acceptAll, &inbox{})
			tt, err := to.Join("orders", 2048, acceptAll, func(p2p.PeerID, []byte) { arrived <- struct{}{} })
			if err != nil {
				b.Fatal(err)
			}
			eventually(b, "the two are connected", func() bool { return ft.Peers() == 1 && tt.Peers() == 1 })
			b.SetBytes(1024)
			for i := 0; b.Loop(); i++ {
				payload := append(fmt.Appendf(nil, "%d ", i), make([]byte, 1000)...)
				if err := ft.Publish(b.Context(), payload); err != nil {
					b.Fatal(err)
				}
				receive(b, "the message arrives", arrived)
			}
		})
	}
}
