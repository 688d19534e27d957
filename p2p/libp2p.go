package p2p

import (
	"errors"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// One observer is enough to believe an address of ours: a street may have one home only
// that sees the others from outside. What it says is tried before it is announced, see
// reach.go.
func init() { observedaddrs.ActivationThresh = 1 }

// newLibp2p makes the node. Three parts of libp2p are left out on purpose:
//
//   - AutoNAT: its servers dial back under an identity made for the purpose, which no gate
//     lets in (P1). Members try each other's addresses instead, see reach.go.
//   - AutoRelay and the relay manager: both hang on AutoNAT. See relay.go.
//   - Black hole detection: after a hundred failed dials it refuses to dial by UDP or by
//     IPv6, and a street without internet fails hundreds.
func newLibp2p(key crypto.PrivKey, h *Host, portMapping bool) (host.Host, error) {
	rm, err := resourceManager(h.limits)
	if err != nil {
		return nil, err
	}
	options := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.NoListenAddrs,
		libp2p.Transport(quic.NewTransport),
		// Without SO_REUSEPORT a port in use is an error. With it, a second agent of the
		// same user would silently share the first one's port. It also means that holes
		// are punched by QUIC only, whose dials leave from the port it listens on.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.EnableRelay(), // the transport: to dial through relays and to be dialled
		libp2p.AddrsFactory(func(all []ma.Multiaddr) []ma.Multiaddr { return h.announce(all) }),
		libp2p.ConnectionGater(h.gate),
		libp2p.ResourceManager(rm),
		libp2p.UserAgent("commonwatt"),
		libp2p.DisableMetrics(),
		libp2p.ForceReachabilityPublic(), // no AutoNAT probes
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
		libp2p.Ping(false),
	}
	if portMapping {
		options = append(options, libp2p.NATPortMap())
	}
	hst, err := libp2p.New(options...)
	if err != nil {
		return nil, errors.Join(err, rm.Close())
	}
	return hst, nil
}

func resourceManager(l Limits) (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	conns := rcmgr.LimitVal(2*l.Peers + 32)
	streams := rcmgr.LimitVal(l.Streams)
	all := rcmgr.LimitVal(l.Streams * l.Peers)
	cfg := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, FD: conns,
			Streams: all, StreamsInbound: all, StreamsOutbound: all, Memory: 256 << 20,
		},
		PeerDefault: rcmgr.ResourceLimits{
			Conns: 8, ConnsInbound: 8, ConnsOutbound: 8, FD: 8,
			Streams: streams, StreamsInbound: streams, StreamsOutbound: streams, Memory: 64 << 20,
		},
		ProtocolDefault:     rcmgr.ResourceLimits{Streams: all, StreamsInbound: all, StreamsOutbound: all},
		ProtocolPeerDefault: rcmgr.ResourceLimits{Streams: streams, StreamsInbound: streams, StreamsOutbound: streams},
	}
	// Homes may share one address (a carrier's NAT), so the subnet limit is that of all.
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(cfg.Build(limits.AutoScale())),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: int(conns)}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: int(conns)}}))
}
