package p2p_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/commonwatt/commonwatt/p2p"
)

// attacker is a libp2p node that does not run our code: it respects no limit and has no
// gate. It speaks the same gossip protocol.
type attacker struct {
	host   host.Host
	gossip *pubsub.PubSub
	topic  *pubsub.Topic
}

func newAttacker(tb testing.TB, key ed25519.PrivateKey) *attacker {
	tb.Helper()
	a := newRawAttacker(tb, key)
	ctx, cancel := context.WithCancel(context.Background())
	tb.Cleanup(cancel)
	var err error
	a.gossip, err = pubsub.NewGossipSub(ctx, a.host, pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign), pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(func(m *pb.Message) string { return string(m.GetData()) }),
		pubsub.WithFloodPublish(true), pubsub.WithPeerOutboundQueueSize(1<<16), pubsub.WithMaxMessageSize(1<<24))
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// newRawAttacker has no gossip router, whose own streams would replace those that a test
// opens by hand.
func newRawAttacker(tb testing.TB, key ed25519.PrivateKey) *attacker {
	tb.Helper()
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(k), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &attacker{host: h}
}

func (a *attacker) id() p2p.PeerID { return p2p.PeerID(a.host.ID().String()) }

func (a *attacker) connect(tb testing.TB, victim *p2p.Host) error {
	tb.Helper()
	var err error
	for _, s := range victim.Addrs() {
		info, perr := peer.AddrInfoFromString(s)
		if perr != nil {
			tb.Fatal(perr)
		}
		if err = a.host.Connect(tb.Context(), *info); err == nil {
			return nil
		}
	}
	return err
}

// join joins the topic "orders" and waits until it knows that the victim is there.
func (a *attacker) join(tb testing.TB) {
	tb.Helper()
	var err error
	if a.topic, err = a.gossip.Join("orders"); err != nil {
		tb.Fatal(err)
	}
	if _, err = a.topic.Subscribe(); err != nil {
		tb.Fatal(err)
	}
	eventually(tb, "attacker knows the victim's topic", func() bool { return len(a.topic.ListPeers()) > 0 })
}

func (a *attacker) publish(tb testing.TB, payload string) {
	tb.Helper()
	if err := a.topic.Publish(tb.Context(), []byte(payload)); err != nil {
		tb.Fatal(err)
	}
}

func score(h *p2p.Host, id p2p.PeerID) float64 {
	for _, p := range h.Peers() {
		if p.ID == id {
			return p.Score
		}
	}
	return 0
}

// TestNonMember: invariant P1, for one who is not a member from the start.
func TestNonMember(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) {
			member, stranger := newKey(t), newKey(t)
			a := newAttacker(t, stranger)
			var toStranger []string
			for _, addr := range a.host.Addrs() {
				toStranger = append(toStranger, addr.String()+"/p2p/"+a.host.ID().String())
			}
			var box inbox
			h := start(t, p2p.Config{Key: member, Listen: listen, Member: newCommunity(member).has, Bootstrap: toStranger})
			tp := join(t, h, "orders", acceptAll, &box)

			// Outwards: the member's own bootstrap list names the stranger.
			eventually(t, "the dial is refused", func() bool { return h.Stats().Gated > 0 && h.Stats().DialFailures > 0 })
			if len(a.host.Network().Peers()) != 0 {
				t.Error("the stranger has a connection, want none")
			}

			// Inwards: the stranger dials. It may believe for a moment that it is connected.
			gated := h.Stats().Gated
			if err := a.connect(t, h); err == nil {
				eventually(t, "the stranger is cut off", func() bool { return len(a.host.Network().Peers()) == 0 })
			}
			eventually(t, "the gate has counted it", func() bool { return h.Stats().Gated > gated })
			var err error
			if a.topic, err = a.gossip.Join("orders"); err != nil {
				t.Fatal(err)
			}
			a.publish(t, "let me in")
			if _, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), "/meshsub/1.1.0"); err == nil {
				t.Error("the stranger has opened a stream, want an error")
			}
			if _, err := h.Request(t.Context(), a.id(), "/test/1", nil, 0); !errors.Is(err, p2p.ErrNotMember) {
				t.Errorf("request to a stranger: got %v, want ErrNotMember", err)
			}
			if s := h.Stats(); s.Received != 0 || s.Peers != 0 || tp.Peers() != 0 {
				t.Errorf("received %d, peers %d, topic peers %d, want none", s.Received, s.Peers, tp.Peers())
			}
		})
	}
}

// TestFormerMember: invariant P1, for one who was a member.
func TestFormerMember(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) {
			key, former := newKey(t), newKey(t)
			members := newCommunity(key, former)
			h := start(t, p2p.Config{Key: key, Listen: listen, Member: members.has})
			a := newAttacker(t, former)
			if err := a.connect(t, h); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the member is connected", func() bool { return connected(h, a.id()) })
			h.Recheck()
			if !connected(h, a.id()) {
				t.Fatal("Recheck has disconnected a member")
			}
			members.set(former, false)
			h.Recheck()
			eventually(t, "the former member is disconnected", func() bool { return !connected(h, a.id()) })
			eventually(t, "the former member knows", func() bool { return len(a.host.Network().Peers()) == 0 })
			if got := h.Stats().Expelled; got != 1 {
				t.Errorf("expelled %d, want 1", got)
			}
		})
	}
}

// TestFormerMemberSpeaks: invariant P1 without Recheck.
func TestFormerMemberSpeaks(t *testing.T) {
	key, former := newKey(t), newKey(t)
	members := newCommunity(key, former)
	h := start(t, p2p.Config{Key: key, Listen: both, Member: members.has})
	var box inbox
	join(t, h, "orders", acceptAll, &box)
	a := newAttacker(t, former)
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	a.join(t)
	a.publish(t, "as a member")
	eventually(t, "the member's message arrives", func() bool { return box.has("as a member") })
	members.set(former, false)
	a.publish(t, "as a former member")
	// Host.Peers lists members only, so the former one is gone from it at once.
	eventually(t, "the former member's message is counted, and itself disconnected", func() bool {
		s := h.Stats()
		return s.NotMember > 0 && s.Expelled > 0 && !connected(h, a.id())
	})
	if box.has("as a former member") {
		t.Error("the former member's message was delivered")
	}
}

func peerID(tb testing.TB, id p2p.PeerID) peer.ID {
	tb.Helper()
	out, err := peer.Decode(string(id))
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestOversizedMessage: a payload above the topic's limit, in a frame of allowed size.
func TestOversizedMessage(t *testing.T) {
	keys := newKeys(t, 2)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: newCommunity(keys...).has})
	var judged atomic.Int64
	var box inbox
	join(t, h, "orders", func(context.Context, p2p.PeerID, []byte) p2p.Verdict {
		judged.Add(1)
		return p2p.Accept
	}, &box)
	a := newAttacker(t, keys[1])
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	a.join(t)
	for i := range 5 {
		a.publish(t, fmt.Sprintf("%d", i)+string(make([]byte, 1024)))
	}
	eventually(t, "the sender is graylisted", func() bool { return score(h, a.id()) < p2p.GraylistScore })
	if s := h.Stats(); s.Oversized != 5 || judged.Load() != 0 {
		t.Errorf("oversized %d, judged %d, want 5 and 0", s.Oversized, judged.Load())
	}
}

// TestOversizedFrame: a frame above the limit is refused by its length alone.
func TestOversizedFrame(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) {
			keys := newKeys(t, 2)
			h := start(t, p2p.Config{Key: keys[0], Listen: listen, Member: newCommunity(keys...).has, Limits: p2p.Limits{MessageSize: 4096}})
			a := newRawAttacker(t, keys[1])
			if err := a.connect(t, h); err != nil {
				t.Fatal(err)
			}
			for range 5 {
				s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), "/meshsub/1.1.0")
				if err != nil {
					t.Fatal(err)
				}
				before := h.Stats().Oversized
				// Only the length is sent: nothing may wait for the body.
				if _, err := s.Write(binary.AppendUvarint(nil, 1<<20)); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the frame is refused", func() bool { return h.Stats().Oversized > before })
			}
			eventually(t, "the sender is graylisted", func() bool { return score(h, a.id()) < p2p.GraylistScore })
		})
	}
}

// TestDeafSender: a peer that sends but takes no stream of ours, of whom the router keeps
// no score, is graylisted all the same.
func TestDeafSender(t *testing.T) {
	keys := newKeys(t, 2)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: newCommunity(keys...).has})
	join(t, h, "orders", func(context.Context, p2p.PeerID, []byte) p2p.Verdict { return p2p.Reject }, &inbox{})
	a := newRawAttacker(t, keys[1])
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), "/meshsub/1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	field := func(tag byte, value []byte) []byte { return append([]byte{tag, byte(len(value))}, value...) }
	sent := 0
	send := func() {
		// By hand: an RPC (field 2: a message (field 2: data, field 4: topic)).
		message := append(field(0x12, fmt.Appendf(nil, "junk %d", sent)), field(0x22, []byte("orders"))...)
		rpc := field(0x12, message)
		if _, err := s.Write(append([]byte{byte(len(rpc))}, rpc...)); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	eventually(t, "the sender is graylisted", func() bool {
		send()
		return h.Stats().Limited.Graylist > 0
	})
	eventually(t, "everything is accounted for", func() bool {
		s := h.Stats()
		return s.Rejected+s.Limited.Graylist == uint64(sent)
	})
}

// TestUndecodableFrames: whoever sends rubbish must open a new stream each time, and may
// not do so for ever.
func TestUndecodableFrames(t *testing.T) {
	keys := newKeys(t, 2)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: newCommunity(keys...).has})
	a := newRawAttacker(t, keys[1])
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	rubbish := append([]byte{200, 1}, bytes.Repeat([]byte{0xff}, 200)...)
	eventually(t, "streams are refused", func() bool {
		if s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), "/meshsub/1.1.0"); err == nil {
			_, _ = s.Write(rubbish) // it may be refused already
		}
		return h.Stats().Limited.Streams > 0
	})
}

// TestFlood: invariants P2 and P4. The flooder is limited, the honest peer is not.
func TestFlood(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) { testFlood(t, listen) })
	}
}

func testFlood(t *testing.T, listen []string) {
	t.Helper()
	keys := newKeys(t, 3)
	members := newCommunity(keys...)
	limits := p2p.Limits{MessageRate: 50, MessageBurst: 200, Outgoing: 1} // the honest peer meets the victim only
	victim := start(t, p2p.Config{Key: keys[0], Listen: listen, Member: members.has, Limits: limits})
	honest := start(t, p2p.Config{Key: keys[1], Listen: listen, Member: members.has, Limits: limits, Bootstrap: victim.Addrs()})
	var flooded atomic.Int64
	var box, honestBox inbox
	vt := join(t, victim, "orders", func(_ context.Context, _ p2p.PeerID, data []byte) p2p.Verdict {
		if bytes.HasPrefix(data, []byte("flood")) {
			flooded.Add(1)
			return p2p.Ignore
		}
		return p2p.Accept
	}, &box)
	ht := join(t, honest, "orders", acceptAll, &honestBox)
	eventually(t, "the honest peer is there", func() bool { return ht.Peers() == 1 && vt.Peers() == 1 })
	a := newAttacker(t, keys[2])
	if err := a.connect(t, victim); err != nil {
		t.Fatal(err)
	}
	a.join(t)

	const flood, real = 5000, 150
	done := make(chan error, 1)
	go func() {
		for i := range flood {
			if err := a.topic.Publish(context.Background(), fmt.Appendf(nil, "flood %d", i)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	eventually(t, "the flood is on", func() bool { return victim.Stats().Limited.Rate > 0 })
	for i := range real {
		if err := ht.Publish(t.Context(), fmt.Appendf(nil, "order %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all honest messages arrive", func() bool { return box.count() == real })
	eventually(t, "the flooder is graylisted", func() bool { return score(victim, a.id()) < p2p.GraylistScore })
	if err := receive(t, "the flood ends", done); err != nil {
		t.Fatal(err)
	}
	s := victim.Stats()
	if flooded.Load() > 2000 || s.Limited.Queue != 0 || s.Undelivered != 0 {
		t.Errorf("of %d flood messages %d were judged; queue full %d, undelivered %d", flood, flooded.Load(), s.Limited.Queue, s.Undelivered)
	}
	if got := score(victim, honest.ID()); got < 0 {
		t.Errorf("the honest peer has score %v, want 0 or more", got)
	}
}

// TestLimitedIsNotSeen: invariant P3. A flooder relays an honest message when its own
// bucket is empty, to have the honest copy taken for a duplicate.
func TestLimitedIsNotSeen(t *testing.T) {
	keys := newKeys(t, 3)
	members := newCommunity(keys...)
	victim := start(t, p2p.Config{Key: keys[0], Listen: both, Member: members.has, Limits: p2p.Limits{MessageRate: 0.001, MessageBurst: 3}})
	honest := start(t, p2p.Config{Key: keys[1], Listen: both, Member: members.has, Bootstrap: victim.Addrs()})
	var box, honestBox inbox
	vt := join(t, victim, "orders", acceptAll, &box)
	ht := join(t, honest, "orders", acceptAll, &honestBox)
	eventually(t, "the honest peer is there", func() bool { return ht.Peers() == 1 && vt.Peers() == 1 })
	a := newAttacker(t, keys[2])
	if err := a.connect(t, victim); err != nil {
		t.Fatal(err)
	}
	a.join(t)
	for i := range 3 {
		a.publish(t, fmt.Sprintf("filler %d", i))
	}
	a.publish(t, "the order")
	eventually(t, "the relayed order is limited", func() bool { return victim.Stats().Limited.Rate == 1 })
	if box.has("the order") {
		t.Fatal("the relayed order was delivered, want it limited")
	}
	if err := ht.Publish(t.Context(), []byte("the order")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the honest copy is delivered", func() bool { return box.has("the order") })
}

// TestVerdicts: Reject graylists, Ignore does not.
func TestVerdicts(t *testing.T) {
	keys := newKeys(t, 3)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: newCommunity(keys...).has})
	var box inbox
	join(t, h, "orders", func(_ context.Context, _ p2p.PeerID, data []byte) p2p.Verdict {
		switch data[0] {
		case 'r':
			return p2p.Reject
		case 'i':
			return p2p.Ignore
		case 'z':
			return 0 // no verdict: counts as Ignore
		}
		return p2p.Accept
	}, &box)
	bad, dull := newAttacker(t, keys[1]), newAttacker(t, keys[2])
	for _, a := range []*attacker{bad, dull} {
		if err := a.connect(t, h); err != nil {
			t.Fatal(err)
		}
		a.join(t)
	}
	const n = 20
	for i := range n {
		bad.publish(t, fmt.Sprintf("r%d", i))
		dull.publish(t, fmt.Sprintf("i%d", i))
		dull.publish(t, fmt.Sprintf("z%d", i))
	}
	eventually(t, "everything is judged", func() bool {
		s := h.Stats()
		return s.Ignored == 2*n && s.Rejected >= 6
	})
	more := n
	eventually(t, "the rejected sender is graylisted", func() bool {
		// It goes on, or else its score, which heals slowly, may hover at the threshold.
		bad.publish(t, fmt.Sprintf("r%d", more))
		more++
		return score(h, bad.id()) < p2p.GraylistScore
	})
	if got := score(h, dull.id()); got < 0 {
		t.Errorf("the ignored sender has score %v, want 0 or more", got)
	}
	bad.publish(t, "a good one, too late")
	dull.publish(t, "a good one")
	eventually(t, "the ignored sender is still heard", func() bool { return box.has("a good one") })
	eventually(t, "the graylisted sender is not", func() bool { return h.Stats().Limited.Graylist > 0 })
	if box.has("a good one, too late") {
		t.Error("a graylisted peer's message was delivered")
	}
	if !connected(h, bad.id()) {
		t.Error("the graylisted peer is disconnected, want it to stay")
	}
}
