package p2p

import (
	"time"

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

// SetConnOld says how old a connection must be to be superseded, while nobody dials.
func (h *Host) SetConnOld(d time.Duration) { h.gate.old = d }

// SetOld says how old a tunnel must be to be superseded, while none is being opened.
func (t *Tunnels) SetOld(d time.Duration) { t.old = d }
