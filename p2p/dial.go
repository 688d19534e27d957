package p2p

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

const (
	dialTimeout = 10 * time.Second
	backoffMin  = 200 * time.Millisecond
	backoffMax  = 30 * time.Second
	// stableAfter is how long a connection must last before the next back-off begins
	// small again. Otherwise a peer that takes us and drops us at once would be dialled
	// without pause.
	stableAfter = 10 * time.Second
	// maxTargets bounds the peers found by mDNS; foundTries is how often one of them is
	// tried before it is forgotten until it is found again.
	maxTargets = 256
	foundTries = 6
)

// dialer keeps the host connected to its bootstrap peers, and to those that mDNS found
// for as long as they answer. One goroutine per target.
type dialer struct {
	h       *Host
	mu      sync.Mutex
	targets map[peer.ID]*target
}

type target struct {
	id        peer.ID
	permanent bool
	wake      chan struct{} // capacity 1: lost the peer, or found it again

	mu   sync.Mutex
	info peer.AddrInfo
}

func newDialer(h *Host) *dialer {
	return &dialer{h: h, targets: make(map[peer.ID]*target)}
}

// add begins to dial a peer, or tells a running attempt about new addresses.
func (d *dialer) add(info peer.AddrInfo, permanent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.targets[info.ID]; ok {
		if !t.permanent {
			t.mu.Lock()
			t.info = info
			t.mu.Unlock()
		}
		t.poke()
		return
	}
	if !permanent && len(d.targets) >= maxTargets {
		return
	}
	t := &target{id: info.ID, permanent: permanent, info: info, wake: make(chan struct{}, 1)}
	if d.h.spawn(func(ctx context.Context) { d.run(ctx, t) }) {
		d.targets[info.ID] = t
	}
}

// lost wakes the peer's goroutine, if it has one.
func (d *dialer) lost(id peer.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.targets[id]; ok {
		t.poke()
	}
}

func (t *target) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (d *dialer) run(ctx context.Context, t *target) {
	defer func() {
		d.mu.Lock()
		delete(d.targets, t.id)
		d.mu.Unlock()
	}()
	backoff, failures := backoffMin, 0
	for ctx.Err() == nil {
		if d.connected(t.id) {
			since := time.Now()
			if !d.awaitLoss(ctx, t) {
				return
			}
			if time.Since(since) >= stableAfter {
				backoff = backoffMin
			}
			failures = 0
		} else if d.attempt(ctx, t) {
			continue
		} else if failures++; !t.permanent && failures >= foundTries {
			return
		}
		if !t.pause(ctx, backoff) {
			return
		}
		backoff = min(2*backoff, backoffMax)
	}
}

func (d *dialer) connected(id peer.ID) bool {
	return d.h.host.Network().Connectedness(id) == network.Connected
}

// awaitLoss returns when the peer is no longer connected; false if the host closes.
func (d *dialer) awaitLoss(ctx context.Context, t *target) bool {
	for d.connected(t.id) {
		select {
		case <-ctx.Done():
			return false
		case <-t.wake:
		}
	}
	return true
}

// attempt dials once and reports whether the peer is connected.
func (d *dialer) attempt(ctx context.Context, t *target) bool {
	t.mu.Lock()
	info := t.info
	t.mu.Unlock()
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
	return d.connected(t.id)
}

// pause waits for about the given time, or less if the peer is found again meanwhile.
// It returns false if the host closes.
func (t *target) pause(ctx context.Context, about time.Duration) bool {
	// Jitter: a street whose power returns should not dial in step.
	timer := time.NewTimer(about*3/4 + rand.N(about/2)) //nolint:gosec // not a secret
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
