package p2p

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// gate lets only members in, and a few guests who come by themselves (invariants P1, P8).
// It implements libp2p's ConnectionGater.
type gate struct {
	member   func(ed25519.PublicKey) bool
	guest    func(ed25519.PublicKey) bool // nil: there are none
	seek     func(ed25519.PublicKey) bool // nil: all members
	capacity int
	guests   int // at once
	count    *counters
	log      *slog.Logger
	network  atomic.Value       // networkBox, set before the first connection
	drop     func(network.Conn) // closes a connection if it is dead, without waiting for it
	rivals   rivals
	old      time.Duration // supersedeAfter, but in tests
}

// supersedeAfter is how old a connection must be for a second one of the same peer to
// mean that the peer has lost it. Younger ones are two dials that crossed.
const supersedeAfter = 5 * time.Second

// networkBox gives atomic.Value one concrete type to hold.
type networkBox struct{ network.Network }

// allows asks the caller. Identities that do not contain an Ed25519 key are nobody's.
func (g *gate) allows(id peer.ID) bool {
	pub, ok := networkKey(id)
	return ok && g.member(pub)
}

// seeks reports whether a peer is a member that we have a use for.
func (g *gate) seeks(id peer.ID) bool {
	pub, ok := networkKey(id)
	return ok && g.member(pub) && (g.seek == nil || g.seek(pub))
}

// InterceptPeerDial is asked before a peer is dialled.
func (g *gate) InterceptPeerDial(id peer.ID) bool { return g.admit(id) }

// InterceptAddrDial lets every address of a member pass.
func (g *gate) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept lets every address try: identities are what counts, and the resource
// manager bounds how many handshakes run at once.
func (g *gate) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured is asked as soon as the peer has proved its identity.
func (g *gate) InterceptSecured(dir network.Direction, id peer.ID, at network.ConnMultiaddrs) bool {
	if !g.allows(id) {
		return g.admitGuest(dir, id) || g.admit(id) // which counts it
	}
	box, ok := g.network.Load().(networkBox)
	if !ok || dir != network.DirInbound {
		return true
	}
	conns := box.ConnsToPeer(id)
	rivals := conns
	if !relayed(at.RemoteMultiaddr()) {
		// It may come besides a relayed one, which it is to replace.
		rivals = direct(conns)
	}
	if len(rivals) > 0 {
		return !g.supersede(id, rivals)
	}
	if len(conns) == 0 && len(box.Peers()) >= g.capacity {
		g.count.full.Add(1)
		return false
	}
	return true
}

// supersede deals with a peer that dials although we believe it connected: it has been
// killed, say, and restarted, and over QUIC nobody told us. The dead connection must go
// before the new one may come, or else the router takes the end of the old streams for
// the end of the new ones. So the new one is refused too, and the peer dials again. If the old one
// turns out to be alive, it stays, and the next one is let in besides it.
func (g *gate) supersede(id peer.ID, conns []network.Conn) bool {
	if g.rivals.has(id) {
		return false
	}
	for _, c := range conns {
		if time.Since(c.Stat().Opened) < g.old {
			return false
		}
	}
	for _, c := range conns {
		g.drop(c)
	}
	return true
}

// InterceptUpgraded is asked when the connection is complete, a round trip later.
func (g *gate) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	id := c.RemotePeer()
	if c.Stat().Direction == network.DirInbound && g.hosts(id) {
		return true, 0
	}
	return g.admit(id), 0
}

func (g *gate) admit(id peer.ID) bool {
	if g.allows(id) {
		return true
	}
	g.count.gated.Add(1)
	// Debug, because strangers can make it happen as often as they like.
	g.log.Debug("connection refused, not a member", "peer", id.String())
	return false
}

// Recheck asks the gate about every connected peer again and disconnects those that are
// neither members nor guests any more. Call it when the membership has changed.
func (h *Host) Recheck() {
	for _, id := range h.host.Network().Peers() {
		if !h.gate.allows(id) && !h.gate.hosts(id) {
			h.expel(id)
		}
	}
}

func (h *Host) expel(id peer.ID) {
	if err := h.host.Network().ClosePeer(id); err != nil {
		h.log.Debug("closing connections of former member", "peer", id.String(), "err", err)
	}
	h.count.expelled.Add(1)
	h.log.Info("peer is not a member, disconnected", "peer", id.String())
}

// notifiee keeps the table of peers and the dialer informed of connections.
func (h *Host) notifiee() network.Notifiee {
	return &network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			id := c.RemotePeer()
			// Membership may have changed between the gate and now, when Recheck did not
			// see this connection yet.
			if !h.gate.allows(id) {
				if !h.gate.hosts(id) {
					h.spawn(func(context.Context) { h.expel(id) })
				}
				return
			}
			h.table.setConnected(id, true)
			h.dialer.met(id)
			h.reach.poke()
			h.relays.poke()
			h.log.Info("peer connected", "peer", id.String(), "addr", c.RemoteMultiaddr().String())
		},
		DisconnectedF: func(n network.Network, c network.Conn) {
			id := c.RemotePeer()
			h.punch.forget(c)
			h.relays.poke()
			h.dialer.lost(id) // the last connection, or the last direct one
			if n.Connectedness(id) == network.Connected {
				return
			}
			h.punch.lost(id)
			if h.table.lookup(id) != nil {
				h.table.setConnected(id, false)
				h.log.Info("peer disconnected", "peer", id.String())
			}
		},
	}
}
