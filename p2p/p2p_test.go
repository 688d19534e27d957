package p2p_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/p2p"
)

// patience bounds every wait for a condition. It is long because the machine may be busy.
const patience = 60 * time.Second

// community is a set of network keys that belong to each other.
type community struct {
	mu      sync.Mutex
	members map[string]bool
}

func newCommunity(keys ...ed25519.PrivateKey) *community {
	c := &community{members: make(map[string]bool)}
	for _, k := range keys {
		c.set(k, true)
	}
	return c
}

func (c *community) set(key ed25519.PrivateKey, member bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[string(key.Public().(ed25519.PublicKey))] = member
}

func (c *community) has(pub ed25519.PublicKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[string(pub)]
}

func newKey(tb testing.TB) ed25519.PrivateKey {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newKeys(tb testing.TB, n int) []ed25519.PrivateKey {
	tb.Helper()
	keys := make([]ed25519.PrivateKey, n)
	for i := range keys {
		keys[i] = newKey(tb)
	}
	return keys
}

var transports = map[string][]string{
	"tcp":  {"/ip4/127.0.0.1/tcp/0"},
	"quic": {"/ip4/127.0.0.1/udp/0/quic-v1"},
}

// both is for tests to which the transport does not matter.
var both = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"}

func start(tb testing.TB, cfg p2p.Config) *p2p.Host {
	tb.Helper()
	h, err := p2p.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// eventually waits for a condition about which nobody sends a message.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			tb.Fatalf("waited %v in vain: %s", patience, what)
		case <-tick.C:
		}
	}
}

// receive takes the next value within patience.
func receive[T any](tb testing.TB, what string, ch <-chan T) T {
	tb.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		tb.Fatalf("waited %v in vain: %s", patience, what)
		panic("unreachable")
	}
}

func connected(h *p2p.Host, id p2p.PeerID) bool {
	return slices.ContainsFunc(h.Peers(), func(p p2p.PeerInfo) bool { return p.ID == id })
}

// inbox collects what a topic delivers.
type inbox struct {
	mu  sync.Mutex
	got map[string]p2p.PeerID // payload -> the peer it came from
	all int
}

func (b *inbox) deliver(from p2p.PeerID, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.got == nil {
		b.got = make(map[string]p2p.PeerID)
	}
	b.got[string(data)] = from
	b.all++
}

func (b *inbox) has(payload string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.got[payload]
	return ok
}

func (b *inbox) hasPrefix(prefix string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for payload := range b.got {
		if strings.HasPrefix(payload, prefix) {
			return true
		}
	}
	return false
}

func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all
}

func acceptAll(context.Context, p2p.PeerID, []byte) p2p.Verdict { return p2p.Accept }

func join(tb testing.TB, h *p2p.Host, topic string, validate func(context.Context, p2p.PeerID, []byte) p2p.Verdict, b *inbox) *p2p.Topic {
	tb.Helper()
	tp, err := h.Join(topic, 1024, validate, b.deliver)
	if err != nil {
		tb.Fatal(err)
	}
	return tp
}

func TestGossipReachesAll(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) { testGossipReachesAll(t, listen) })
	}
}

func testGossipReachesAll(t *testing.T, listen []string) {
	t.Helper()
	const n = 5
	keys := newKeys(t, n)
	members := newCommunity(keys...)
	hosts, topics, boxes := make([]*p2p.Host, n), make([]*p2p.Topic, n), make([]inbox, n)
	var bootstrap []string
	for i := range hosts {
		// Each knows only its predecessor: a line, so that messages must be forwarded, and dials
		// nobody that it learns of.
		hosts[i] = start(t, p2p.Config{Key: keys[i], Listen: listen, Bootstrap: bootstrap, Member: members.has, Limits: p2p.Limits{Outgoing: 1}})
		bootstrap = hosts[i].Addrs()
		topics[i] = join(t, hosts[i], "orders", acceptAll, &boxes[i])
	}
	for i := range hosts {
		want := 2
		if i == 0 || i == n-1 {
			want = 1
		}
		eventually(t, fmt.Sprintf("host %d has %d mesh peers", i, want), func() bool { return topics[i].Peers() == want && topics[i].Mesh() == want })
	}
	for i := range topics {
		if err := topics[i].Publish(t.Context(), []byte(fmt.Sprintf("from %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range boxes {
		for j := range hosts {
			if i == j {
				continue
			}
			eventually(t, fmt.Sprintf("host %d has the message of %d", i, j), func() bool { return boxes[i].has(fmt.Sprintf("from %d", j)) })
		}
		if got := boxes[i].count(); got != n-1 {
			t.Errorf("host %d got %d deliveries, want %d: each once, and not its own", i, got, n-1)
		}
	}
	want := map[bool]string{true: "quic-v1", false: "tcp"}[len(listen[0]) > len("/ip4/127.0.0.1/tcp/0")]
	for _, p := range hosts[1].Peers() {
		if p.Transport != want || p.Since.IsZero() || p.Addr == "" {
			t.Errorf("peer %+v, want transport %s, a time and an address", p, want)
		}
	}
}
