package p2p

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Path says how bytes get to a peer.
type Path string

// The paths, from the best to the last resort.
const (
	PathLocal   Path = "local"   // inside the house: a private address, or our own IPv6 prefix
	PathDirect  Path = "direct"  // over the internet, to an address that takes connections
	PathPunched Path = "punched" // over the internet, through holes made in both routers
	PathRelayed Path = "relayed" // through a third member, which sees ciphertext only
)

// relayed reports whether an address leads through a relay.
func relayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// relayOf returns the relay of a relayed address: the last /p2p before the circuit.
func relayOf(a ma.Multiaddr) peer.ID {
	before, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Protocol().Code == ma.P_CIRCUIT })
	_, id := peer.SplitAddr(before)
	return id
}

// direct returns the connections that do not lead through a relay, the oldest first.
func direct(conns []network.Conn) []network.Conn {
	out := slices.DeleteFunc(slices.Clone(conns), func(c network.Conn) bool { return c.IsClosed() || relayed(c.RemoteMultiaddr()) })
	slices.SortStableFunc(out, func(a, b network.Conn) int { return a.Stat().Opened.Compare(b.Stat().Opened) })
	return out
}

// best picks the connection that counts: the oldest direct one, else the oldest.
func best(conns []network.Conn) network.Conn {
	if d := direct(conns); len(d) > 0 {
		return d[0]
	}
	return slices.MinFunc(conns, func(a, b network.Conn) int { return a.Stat().Opened.Compare(b.Stat().Opened) })
}

// path says how a connection leads to its peer, and by whom if it is relayed.
func (h *Host) path(c network.Conn) (Path, peer.ID) {
	switch a := c.RemoteMultiaddr(); {
	case relayed(a):
		return PathRelayed, relayOf(a)
	case h.inHouse(a):
		return PathLocal, ""
	case h.punch.made(c):
		return PathPunched, ""
	default:
		return PathDirect, ""
	}
}

// inHouse reports whether an address is one of this house or building: private, link-local
// or loopback, or IPv6 with the prefix of one of our own interfaces, since there everybody
// has a public one.
func (h *Host) inHouse(a ma.Multiaddr) bool {
	ip, ok := ipOf(a)
	if !ok {
		return false
	}
	if ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
		return true
	}
	if !ip.Is6() {
		return false
	}
	own, err := h.host.Network().InterfaceListenAddresses()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(own, func(o ma.Multiaddr) bool {
		mine, ok := ipOf(o)
		return ok && mine.Is6() && netip.PrefixFrom(mine, 64).Masked().Contains(ip)
	})
}

func ipOf(a ma.Multiaddr) (netip.Addr, bool) {
	raw, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	ip, ok := netip.AddrFromSlice(raw)
	return ip.Unmap(), ok
}

// publicAddr reports whether an address is one of the internet and does not lead through a
// relay.
func publicAddr(a ma.Multiaddr) bool { return manet.IsPublicAddr(a) && !relayed(a) }

// Peers returns the connected members, sorted by ID.
func (h *Host) Peers() []PeerInfo {
	net := h.host.Network()
	var out []PeerInfo
	for _, id := range net.Peers() {
		conns := net.ConnsToPeer(id)
		if len(conns) == 0 || !h.gate.allows(id) { // the others are guests
			continue
		}
		c := best(conns)
		dir := Outbound
		if c.Stat().Direction == network.DirInbound {
			dir = Inbound
		}
		path, via := h.path(c)
		info := PeerInfo{
			ID: PeerID(id.String()), Addr: c.RemoteMultiaddr().String(), Direction: dir, Path: path,
			Since: c.Stat().Opened, Transport: transportOf(c.RemoteMultiaddr()), Score: h.intake.score(id),
		}
		if via != "" {
			info.Via = PeerID(via.String())
		}
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b PeerInfo) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

func transportOf(a ma.Multiaddr) string {
	if _, err := a.ValueForProtocol(ma.P_QUIC_V1); err == nil {
		return "quic-v1"
	}
	return "tcp"
}
