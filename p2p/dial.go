package p2p

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	dialTimeout = 10 * time.Second
	backoffMin  = 200 * time.Millisecond
	// backoffMax is short, because after an outage a street should be whole again within
	// seconds. A peer that nobody has met for absentAfter is dialled every absentMax only,
	// until somebody else connects: then the network may be back, and all are tried at once.
	backoffMax  = 8 * time.Second
	absentAfter = 10 * time.Minute
	absentMax   = time.Minute
	// stableAfter is how long a connection must last before the next back-off begins
	// small again. Otherwise a peer that takes us and drops us at once would be dialled
	// without pause.
	stableAfter = 10 * time.Second
	// directMin and directMax are between which times a direct connection is tried to a peer
	// that we reach through a relay only. Holes are punched besides, see punch.go.
	directMin = 15 * time.Second
	directMax = 5 * time.Minute
	// quicMin and quicMax are between which times QUIC is tried with a peer outside that we
	// reach by TCP only: holes can be punched by QUIC only, and the path by which others see
	// us is where they punch.
	quicMin = 4 * time.Second
	quicMax = 10 * time.Minute
	// hurryEvery is how often at most a new connection makes the others try at once.
	hurryEvery = 5 * time.Second
	// maxTargets bounds the peers that are dialled and not configured; foundTries is how
	// often one that only mDNS knows is tried before it is forgotten until it is found again.
	maxTargets = 256
	foundTries = 6
)

// standing is how we are connected to a peer.
type standing int

const (
	apart standing = iota
	byRelay
	straight
)

// dialer keeps the host connected to its bootstrap peers, to the members in the book of
// addresses as long as there is room for them, and to those that mDNS found for as long as
// they answer. One goroutine per target.
type dialer struct {
	h       *Host
	mu      sync.Mutex
	targets map[peer.ID]*target
	hurried time.Time
}

type target struct {
	id        peer.ID
	permanent bool          // configured
	wake      chan struct{} // capacity 1: how we are connected has changed
	hurry     chan struct{} // capacity 1: there is a reason to try now

	mu         sync.Mutex
	configured []ma.Multiaddr
	found      []ma.Multiaddr // by mDNS; the book knows more
	seen       time.Time      // when it was last connected, at first when we began
}

func newDialer(h *Host) *dialer {
	return &dialer{h: h, targets: make(map[peer.ID]*target)}
}

// add begins to dial a peer, or tells a running attempt about new addresses.
func (d *dialer) add(info peer.AddrInfo, permanent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.targets[info.ID]; ok {
		if len(info.Addrs) > 0 {
			t.mu.Lock()
			t.found = info.Addrs
			t.mu.Unlock()
		}
		poke(t.hurry)
		return
	}
	if !permanent && len(d.targets) >= maxTargets {
		return
	}
	t := &target{id: info.ID, permanent: permanent, wake: make(chan struct{}, 1), hurry: make(chan struct{}, 1), seen: time.Now()}
	if permanent {
		t.configured = info.Addrs
	} else {
		t.found = info.Addrs
	}
	if d.h.spawn(func(ctx context.Context) { d.run(ctx, t) }) {
		d.targets[info.ID] = t
	}
}

// know begins to dial a member that the book has learnt of. News are worth a try at once.
func (d *dialer) know(id peer.ID, news bool) {
	d.mu.Lock()
	_, have := d.targets[id]
	d.mu.Unlock()
	if !have || news {
		d.add(peer.AddrInfo{ID: id}, false)
	}
}

// lost wakes the peer's goroutine, if it has one.
func (d *dialer) lost(id peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.targets[id]; ok {
		poke(t.wake)
	}
}

// met is called when somebody has connected: those that are missing may be back too.
func (d *dialer) met(id peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	hurry := now.Sub(d.hurried) >= hurryEvery
	if hurry {
		d.hurried = now
	}
	for _, t := range d.targets {
		switch {
		case t.id == id:
			poke(t.wake)
		case hurry:
			poke(t.hurry)
		}
	}
}

// poke leaves a message in a channel of capacity 1, unless there is one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// run dials until the host closes or nothing speaks for the peer any more.
func (d *dialer) run(ctx context.Context, t *target) {
	defer func() {
		d.mu.Lock()
		delete(d.targets, t.id)
		d.mu.Unlock()
	}()
	backoff, failures, longer, quic := backoffMin, 0, directMin, quicMin
	for ctx.Err() == nil {
		switch d.standing(t.id) {
		case straight:
			since := time.Now()
			t.touch()
			if d.await(ctx, t, straight, quic) {
				d.preferQUIC(ctx, t)
				quic, backoff, failures = min(2*quic, quicMax), backoffMin, 0
				continue
			}
			if time.Since(since) >= stableAfter {
				backoff = backoffMin
			}
			failures, longer, quic = 0, directMin, quicMin
			t.touch()
		case byRelay:
			failures = 0
			t.touch()
			if d.await(ctx, t, byRelay, longer) {
				d.attempt(network.WithForceDirectDial(ctx, "leave the relay"), t)
				longer = min(2*longer, directMax)
			}
			continue
		case apart:
			if d.wanted(t) && d.attempt(ctx, t) {
				continue
			}
			if failures++; !t.permanent && failures >= foundTries && !d.h.book.has(t.id) {
				return
			}
		}
		if t.pause(ctx, backoff) {
			backoff = min(2*backoff, t.backoffMax(time.Now()))
		} else {
			backoff = backoffMin
		}
	}
}

// wanted reports whether there is room for the peer, and need. Configured ones always have it.
func (d *dialer) wanted(t *target) bool {
	return t.permanent || d.h.gate.seeks(t.id) && len(d.h.host.Network().Peers()) < d.h.limits.Outgoing
}

func (d *dialer) standing(id peer.ID) standing {
	switch net := d.h.host.Network(); {
	case net.Connectedness(id) != network.Connected:
		return apart
	case len(direct(net.ConnsToPeer(id))) == 0:
		return byRelay
	default:
		return straight
	}
}

// preferQUIC begins anew with a peer outside that we dialled and reach by TCP only, if QUIC
// turns out to work: it has lost the race in which both were dialled.
func (d *dialer) preferQUIC(ctx context.Context, t *target) {
	conns := direct(d.h.host.Network().ConnsToPeer(t.id))
	for _, c := range conns {
		if c.Stat().Direction != network.DirOutbound || transportOf(c.RemoteMultiaddr()) != "tcp" || !publicAddr(c.RemoteMultiaddr()) {
			return
		}
	}
	if len(conns) == 0 || len(d.h.punch.listens()) == 0 {
		return
	}
	for _, a := range d.addrs(t) {
		if publicAddr(a) && transportOf(a) != "tcp" && tryAddr(ctx, t.id, a) == nil {
			d.h.restart(t.id, "connected by TCP, and QUIC works")
			return
		}
	}
}

// await waits for as long as the peer stands as it does. After some time it returns true
// although nothing has changed.
func (d *dialer) await(ctx context.Context, t *target, now standing, longest time.Duration) bool {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	for d.standing(t.id) == now {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-t.wake:
		}
	}
	return false
}

// attempt dials once and reports whether the peer is connected.
func (d *dialer) attempt(ctx context.Context, t *target) bool {
	info := peer.AddrInfo{ID: t.id, Addrs: d.addrs(t)}
	if len(info.Addrs) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	// The back-off is ours; libp2p's own would refuse the dial for longer.
	if s, ok := d.h.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(t.id)
	}
	d.h.count.dials.Add(1)
	if err := d.h.host.Connect(ctx, info); err != nil {
		d.h.count.dialFailures.Add(1)
		d.h.log.DebugContext(ctx, "dialling peer", "peer", t.id.String(), "err", err)
		return false
	}
	return d.standing(t.id) != apart
}

// addrs are all addresses that are known of a peer.
func (d *dialer) addrs(t *target) []ma.Multiaddr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return ma.Unique(slices.Concat(d.h.book.addrs(t.id), t.configured, t.found))
}

func (t *target) touch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = time.Now()
}

func (t *target) backoffMax(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.seen) > absentAfter {
		return absentMax
	}
	return backoffMax
}

// pause waits for about the given time. It waits for less, and returns false, if meanwhile
// something makes it worthwhile to try at once.
func (t *target) pause(ctx context.Context, about time.Duration) bool {
	// Jitter: a street whose power returns should not dial in step.
	timer := time.NewTimer(about*3/4 + rand.N(about/2)) //nolint:gosec // not a secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-timer.C:
		return true
	case <-t.hurry:
		// Never at once: what makes it hurry may come from the peer itself.
		timer.Reset(backoffMin)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		return false
	}
}
