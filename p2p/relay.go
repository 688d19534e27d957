package p2p

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// wantRelays is at how many relays a home that cannot be reached books a place: two, so
	// that it stays reachable when one of them goes.
	wantRelays = 2
	// relayEvery is how often places are looked after, reserveTimeout bounds a booking and
	// relayRetry is the pause after one that failed.
	relayEvery     = time.Second
	reserveTimeout = 5 * time.Second
	relayRetry     = 5 * time.Second
	// relayAddrs is how many addresses of one relay are announced.
	relayAddrs = 3
	// maxCircuits is how many relayed connections one member may have through us.
	maxCircuits = 32
	// relayBuffer is the memory of one direction of a relayed connection.
	relayBuffer = 16 << 10
)

// relays looks after both sides of relaying: the places that this home has booked with
// others, and its own service for others. A home is a relay when members have found it
// reachable (reach.go); else it books places with connected members that are.
type relays struct {
	h    *Host
	emit event.Emitter // makes libp2p look at its addresses again
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	places  map[peer.ID]*place
	failed  map[peer.ID]time.Time
	service *relay.Relay // nil: we are no relay
}

type place struct {
	addrs   []ma.Multiaddr // ours through that relay
	renewAt time.Time
}

func newRelays(h *Host) (*relays, error) {
	emit, err := h.host.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		return nil, fmt.Errorf("preparing relays: %w", err)
	}
	return &relays{
		h: h, emit: emit, wake: make(chan struct{}, 1),
		places: make(map[peer.ID]*place), failed: make(map[peer.ID]time.Time),
	}, nil
}

// acl is the gate of our relay service: members only, at both ends.
type acl struct{ g *gate }

func (a acl) AllowReserve(id peer.ID, _ ma.Multiaddr) bool { return a.g.allows(id) }

func (a acl) AllowConnect(from peer.ID, _ ma.Multiaddr, to peer.ID) bool {
	return a.g.allows(from) && a.g.allows(to)
}

// serve starts or ends the service for others.
func (r *relays) serve(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case on && r.service == nil:
		n := 2 * r.h.limits.Peers
		service, err := relay.New(r.h.host, relay.WithACL(acl{r.h.gate}), relay.WithResources(relay.Resources{
			// No Limit: by default a relayed connection ends after two minutes or 128 kB,
			// which would cut the engine's.
			ReservationTTL: time.Hour, MaxReservations: n, MaxCircuits: maxCircuits, BufferSize: relayBuffer,
			MaxReservationsPerIP: n, MaxReservationsPerASN: n,
		}))
		if err != nil {
			r.h.log.Warn("cannot relay for others", "err", err)
			return
		}
		r.service = service
		r.h.log.Info("reachable from outside, relaying for members that are not")
	case !on && r.service != nil:
		if err := r.service.Close(); err != nil {
			r.h.log.Debug("ending relay service", "err", err)
		}
		r.service = nil
		r.h.log.Info("not reachable from outside any more, no longer a relay")
	}
}

// serving reports whether we are a relay.
func (r *relays) serving() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.service != nil
}

func (r *relays) poke() { poke(r.wake) }

// run keeps places booked.
func (r *relays) run(ctx context.Context) {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	for {
		r.look(ctx, time.Now())
		select {
		case <-ctx.Done():
			r.serve(false)
			return
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// look drops places at relays that are gone, renews those that would end and books what is
// missing.
func (r *relays) look(ctx context.Context, now time.Time) {
	want := wantRelays
	if r.serving() {
		want = 0
	}
	changed := false
	var renew []peer.ID
	r.mu.Lock()
	for id, p := range r.places {
		switch {
		case want == 0, len(direct(r.h.host.Network().ConnsToPeer(id))) == 0:
			delete(r.places, id)
			changed = true
		case now.After(p.renewAt):
			renew = append(renew, id)
		}
	}
	missing := want - len(r.places)
	r.mu.Unlock()
	for _, id := range renew {
		changed = !r.book(ctx, id) || changed
	}
	if missing > 0 {
		for _, id := range r.candidates(now) {
			if missing == 0 || ctx.Err() != nil {
				break
			}
			if r.book(ctx, id) {
				missing--
				changed = true
			}
		}
	}
	if changed {
		r.refresh()
	}
}

// candidates are connected members that relay and that we reach at a public address without
// a relay or a punched hole; those that we dialled ourselves first, in random order.
func (r *relays) candidates(now time.Time) []peer.ID {
	var first, then []peer.ID
	for _, id := range r.h.host.Network().Peers() {
		r.mu.Lock()
		_, have := r.places[id]
		bad := now.Sub(r.failed[id]) < relayRetry
		r.mu.Unlock()
		conns := direct(r.h.host.Network().ConnsToPeer(id))
		if have || bad || len(conns) == 0 || !r.h.gate.allows(id) {
			continue
		}
		c := conns[0]
		protocols, err := r.h.host.Peerstore().SupportsProtocols(id, proto.ProtoIDv2Hop)
		if err != nil || len(protocols) == 0 || !publicAddr(c.RemoteMultiaddr()) || r.h.punch.made(c) {
			continue
		}
		if c.Stat().Direction == network.DirOutbound {
			first = append(first, id)
		} else {
			then = append(then, id)
		}
	}
	for _, ids := range [][]peer.ID{first, then} {
		rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] }) //nolint:gosec // not a secret
	}
	return append(first, then...)
}

// book books or renews a place and reports whether it is ours.
func (r *relays) book(ctx context.Context, id peer.ID) bool {
	ctx, cancel := context.WithTimeout(ctx, reserveTimeout)
	defer cancel()
	got, err := client.Reserve(ctx, r.h.host, peer.AddrInfo{ID: id})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		delete(r.places, id)
		if len(r.failed) > maxTargets {
			clear(r.failed)
		}
		r.failed[id] = time.Now()
		r.h.log.DebugContext(ctx, "booking a place at a relay", "peer", id.String(), "err", err)
		return false
	}
	delete(r.failed, id)
	if _, had := r.places[id]; !had {
		r.h.log.InfoContext(ctx, "reachable through a relay", "relay", id.String())
	}
	r.places[id] = &place{addrs: r.through(id), renewAt: time.Now().Add(time.Until(got.Expiration) / 2)}
	return true
}

// through lists our addresses at a relay: where we reach it, then what else it announces.
func (r *relays) through(id peer.ID) []ma.Multiaddr {
	at := make([]ma.Multiaddr, 0, relayAddrs)
	for _, c := range direct(r.h.host.Network().ConnsToPeer(id)) {
		at = append(at, c.RemoteMultiaddr())
	}
	at = ma.Unique(append(at, r.h.host.Peerstore().Addrs(id)...))
	at = slices.DeleteFunc(at, func(a ma.Multiaddr) bool { return !publicAddr(a) })
	circuit, err := ma.NewMultiaddr("/p2p/" + id.String() + "/p2p-circuit")
	if err != nil {
		return nil // an identity always has this form
	}
	for i, a := range at {
		at[i] = a.Encapsulate(circuit)
	}
	return at[:min(len(at), relayAddrs)]
}

// addrs are our addresses through relays.
func (r *relays) addrs() []ma.Multiaddr {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []ma.Multiaddr
	for _, p := range r.places {
		out = append(out, p.addrs...)
	}
	return out
}

// refresh makes libp2p ask for our addresses now and tell connected peers what changed.
// Otherwise it does so every five seconds.
func (r *relays) refresh() {
	if err := r.emit.Emit(event.EvtAutoRelayAddrsUpdated{}); err != nil {
		r.h.log.Debug("refreshing addresses", "err", err)
	}
	r.h.book.poke()
}
