package p2p

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Speaks says whether a peer has said that it answers requests on a protocol. A peer that
// connected only just now may not have said anything yet.
func (h *Host) Speaks(id PeerID, protocolID string) bool {
	decoded, err := peer.Decode(string(id))
	if err != nil {
		return false
	}
	known, err := h.host.Peerstore().SupportsProtocols(decoded, protocol.ID(protocolID))
	return err == nil && len(known) > 0
}
