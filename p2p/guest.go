package p2p

import (
	"context"
	"crypto/ed25519"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Guests are peers that are not members, and may ask for something all the same: somebody
// who was invited, or a household that has lost its gateway (invariant P8).
const (
	// guestStay is how long a connection of a guest may last, give or take a second.
	guestStay = 2 * time.Minute
	// guestRate and guestBurst are the token bucket of all guests' requests together.
	guestRate  = 10
	guestBurst = 40
	// guestConns is how many connections one guest may have at the same time: an invitation
	// for several households is one guest.
	guestConns = 6
)

// HandleGuest is Handle for a protocol that guests may use too.
func (h *Host) HandleGuest(protocolID string, maxRequest int,
	handler func(ctx context.Context, from PeerID, request []byte) ([]byte, error),
) {
	h.guestProtocols.Store(protocol.ID(protocolID), true)
	h.Handle(protocolID, maxRequest, handler)
}

// receives says whether a peer may use a protocol, and takes a guest's token if it is one.
func (h *Host) receives(id peer.ID, p protocol.ID) (ok, busy bool) {
	if h.gate.allows(id) {
		return true, false
	}
	if _, open := h.guestProtocols.Load(p); !open || !h.gate.hosts(id) {
		return false, false
	}
	return true, !h.guestRequests.Allow()
}

// hosts asks the caller whether a peer is a guest now.
func (g *gate) hosts(id peer.ID) bool {
	if g.guest == nil {
		return false
	}
	pub, ok := networkKey(id)
	return ok && g.guest(pub)
}

// admitGuest lets a guest in that comes by itself, while there is room. Guests never
// supersede: there is nothing of theirs that a dead connection could harm.
func (g *gate) admitGuest(dir network.Direction, id peer.ID) bool {
	if dir != network.DirInbound || !g.hosts(id) {
		return false
	}
	box, ok := g.network.Load().(networkBox)
	if !ok {
		return false
	}
	guests := 0
	for _, p := range box.Peers() {
		if p != id && !g.allows(p) {
			guests++
		}
	}
	if guests >= g.guests || len(box.ConnsToPeer(id)) >= guestConns {
		g.count.full.Add(1)
		return false
	}
	return true
}

// dismiss ends connections of guests that have stayed long enough.
func (h *Host) dismiss(now time.Time) {
	if h.gate.guest == nil {
		return
	}
	for _, c := range h.host.Network().Conns() {
		if now.Sub(c.Stat().Opened) < guestStay || h.gate.allows(c.RemotePeer()) {
			continue
		}
		if err := c.Close(); err != nil {
			h.log.Debug("closing a guest's connection", "peer", c.RemotePeer().String(), "err", err)
		}
	}
}

// networkKey is the key that an identity contains; only Ed25519 ones do.
func networkKey(id peer.ID) (ed25519.PublicKey, bool) {
	pub, err := id.ExtractPublicKey()
	if err != nil {
		return nil, false
	}
	raw, err := pub.Raw()
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, false
	}
	return raw, true
}
