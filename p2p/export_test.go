package p2p

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// Open is how many tunnels there are.
func (t *Tunnels) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// LiftRate lets a peer open tunnels as fast as it likes.
func (h *Host) LiftRate(id PeerID) {
	if p, err := peer.Decode(string(id)); err == nil {
		h.table.get(p).tunnels.SetLimit(rate.Inf)
	}
}

// Relayed says whether a relayed connection with a peer is open, be there a better one or not.
func (h *Host) Relayed(id PeerID) bool {
	p, err := peer.Decode(string(id))
	return err == nil && slices.ContainsFunc(h.host.Network().ConnsToPeer(p), func(c network.Conn) bool { return relayed(c.RemoteMultiaddr()) })
}

// SetConnOld says how old a connection must be to be superseded, while nobody dials.
func (h *Host) SetConnOld(d time.Duration) { h.gate.old = d }

// SetOld says how old a tunnel must be to be superseded, while none is being opened.
func (t *Tunnels) SetOld(d time.Duration) { t.old = d }
