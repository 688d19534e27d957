package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// found hands what mDNS finds to the dialer. Anybody on the local network may announce
// anything, so strangers are dropped before they cost a dial.
type found struct{ h *Host }

func (f found) HandlePeerFound(info peer.AddrInfo) {
	if info.ID == f.h.host.ID() || !f.h.gate.allows(info.ID) {
		return
	}
	if len(f.h.host.Network().Peers()) >= f.h.limits.Peers {
		return
	}
	f.h.dialer.add(info, false)
}

// startMDNS announces the host on every multicast interface, and looks for others.
func startMDNS(h *Host, tag string) (interface{ Close() error }, error) {
	s := mdns.NewMdnsService(h.host, tag, found{h})
	if err := s.Start(); err != nil {
		return nil, err
	}
	return s, nil
}
