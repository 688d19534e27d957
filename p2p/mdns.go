package p2p

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// mdnsRetry is how long to wait when there is no interface to announce on.
const mdnsRetry = 30 * time.Second

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

// discover announces the host on every multicast interface and looks for others. A
// gateway may start before its network does, and may have none that can do multicast:
// that is no reason not to start, so it is tried again.
func (h *Host) discover(ctx context.Context, tag string) {
	for warned := false; ; warned = true {
		s := mdns.NewMdnsService(h.host, tag, found{h})
		err := s.Start()
		if err == nil {
			<-ctx.Done()
		}
		if cerr := s.Close(); cerr != nil {
			h.log.DebugContext(ctx, "ending mdns", "err", cerr)
		}
		if err != nil && !warned {
			h.log.WarnContext(ctx, "mdns is not available, trying again", "every", mdnsRetry, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(mdnsRetry):
		}
	}
}
