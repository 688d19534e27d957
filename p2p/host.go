package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
)

// PeerID is a peer's identity in text form (base58). It is derived from the peer's
// network key, see IDOf.
type PeerID string

// IDOf returns the identity that belongs to a network key.
func IDOf(pub ed25519.PublicKey) (PeerID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("reading network key: %w", err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("deriving peer id: %w", err)
	}
	return PeerID(id.String()), nil
}

// Direction says who opened a connection.
type Direction string

// The directions of a connection.
const (
	Inbound  Direction = "in"
	Outbound Direction = "out"
)

// PeerInfo describes a connected peer.
type PeerInfo struct {
	ID        PeerID
	Addr      string    // the peer's multiaddr, without /p2p/
	Direction Direction // of the oldest connection
	Since     time.Time // when that connection was made
	Transport string    // "quic-v1" or "tcp"
	Score     float64   // gossip score, at most one second old; 0 is neutral
}

// Host is one node of the network. Make one with New; end it with Close.
type Host struct {
	limits Limits
	log    *slog.Logger
	count  counters
	gate   *gate
	table  *table
	intake *intake
	dialer *dialer
	host   host.Host
	gossip *pubsub.PubSub

	// lifetime ends with Close. It is kept because New and Close, not a Run, delimit the
	// host's life, and handlers of incoming streams have no other context.
	lifetime context.Context
	end      context.CancelFunc

	mu     sync.Mutex // guards closed, and wg.Add against wg.Wait
	closed bool
	wg     sync.WaitGroup // everything that entered
	topics topicSet

	serving chan struct{} // one slot for each request being handled
}

// New starts a host: it listens, and it dials its bootstrap peers until Close. It fails
// with ErrConfig if the configuration cannot work and with ErrListen if any address of
// Config.Listen cannot be listened on.
func New(cfg Config) (*Host, error) {
	limits, err := cfg.Limits.withDefaults()
	if err != nil {
		return nil, err
	}
	addrs, err := cfg.parse()
	if err != nil {
		return nil, err
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Host{
		limits: limits, log: log, table: newTable(limits),
		serving: make(chan struct{}, 8*limits.Requests),
	}
	h.topics.byName = make(map[string]*Topic)
	h.gate = &gate{member: cfg.Member, capacity: limits.Peers, count: &h.count, log: log}
	h.gate.drop = func(c network.Conn) {
		h.spawn(func(context.Context) {
			if err := c.Close(); err != nil {
				log.Debug("closing superseded connection", "peer", c.RemotePeer().String(), "err", err)
			}
		})
	}
	h.lifetime, h.end = context.WithCancel(context.Background())
	if err := h.start(cfg, addrs); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

func (h *Host) start(cfg Config, addrs parsed) error {
	key, err := crypto.UnmarshalEd25519PrivateKey(cfg.Key)
	if err != nil {
		return fmt.Errorf("%w: Key: %w", ErrConfig, err)
	}
	if h.host, err = newLibp2p(key, h.gate, h.limits); err != nil {
		return fmt.Errorf("starting libp2p: %w", err)
	}
	h.gate.network.Store(networkBox{h.host.Network()})
	h.intake = newIntake(h)
	h.dialer = newDialer(h)
	h.host.Network().Notify(h.notifiee())
	if h.gossip, err = newGossip(h.lifetime, h); err != nil {
		return fmt.Errorf("starting gossip: %w", err)
	}
	// Listening comes last: whoever reaches us finds everything in place. Each address
	// separately, because libp2p is content if one of many succeeds.
	for _, a := range addrs.listen {
		if err := h.host.Network().Listen(a); err != nil {
			return fmt.Errorf("%w on %s: %w", ErrListen, a, err)
		}
	}
	for _, info := range addrs.bootstrap {
		if info.ID != h.host.ID() {
			h.dialer.add(info, true)
		}
	}
	if cfg.MDNS != "" {
		h.spawn(func(ctx context.Context) { h.discover(ctx, cfg.MDNS) })
	}
	h.spawn(h.patrol)
	return nil
}

func newLibp2p(key crypto.PrivKey, g *gate, l Limits) (host.Host, error) {
	rm, err := resourceManager(l)
	if err != nil {
		return nil, err
	}
	hst, err := libp2p.New(
		libp2p.Identity(key),
		libp2p.NoListenAddrs,
		libp2p.Transport(quic.NewTransport),
		// Without SO_REUSEPORT a port in use is an error. With it, a second agent of the
		// same user would silently share the first one's port.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ConnectionGater(g),
		libp2p.ResourceManager(rm),
		libp2p.UserAgent("commonwatt"),
		libp2p.DisableRelay(),
		libp2p.DisableMetrics(),
		libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ForceReachabilityPublic(), // no AutoNAT probes
		libp2p.Ping(false),
	)
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

// enter makes Close wait for leave. It reports false when the host is closing.
func (h *Host) enter() (leave func(), ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false
	}
	h.wg.Add(1)
	return h.wg.Done, true
}

// spawn runs f in a goroutine that Close waits for, with a context that Close ends. It
// reports whether it did; after Close it does not.
func (h *Host) spawn(f func(ctx context.Context)) bool {
	leave, ok := h.enter()
	if ok {
		go func() {
			defer leave()
			f(h.lifetime)
		}()
	}
	return ok
}

// Close ends the host and waits for its goroutines. It may be called more than once.
func (h *Host) Close() error {
	h.mu.Lock()
	already := h.closed
	h.closed = true
	h.mu.Unlock()
	h.end()
	var err error
	if !already && h.host != nil {
		err = h.host.Close() // ends the streams, and with them whoever waits on one
	}
	h.wg.Wait()
	if err != nil {
		return fmt.Errorf("closing p2p host: %w", err)
	}
	return nil
}

// ID returns this host's identity.
func (h *Host) ID() PeerID { return PeerID(h.host.ID().String()) }

// Addrs returns the addresses this host listens on, resolved to its interfaces, each
// with /p2p/ID: what another host needs as Bootstrap.
func (h *Host) Addrs() []string {
	addrs, err := h.host.Network().InterfaceListenAddresses()
	if err != nil {
		addrs = h.host.Addrs()
	}
	out := make([]string, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, a.String()+"/p2p/"+h.host.ID().String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Peers returns the connected peers, sorted by ID.
func (h *Host) Peers() []PeerInfo {
	net := h.host.Network()
	var out []PeerInfo
	for _, id := range net.Peers() {
		conns := net.ConnsToPeer(id)
		if len(conns) == 0 {
			continue
		}
		c := slices.MinFunc(conns, func(a, b network.Conn) int { return a.Stat().Opened.Compare(b.Stat().Opened) })
		dir := Outbound
		if c.Stat().Direction == network.DirInbound {
			dir = Inbound
		}
		out = append(out, PeerInfo{
			ID: PeerID(id.String()), Addr: c.RemoteMultiaddr().String(), Direction: dir,
			Since: c.Stat().Opened, Transport: transportOf(c.RemoteMultiaddr()), Score: h.intake.score(id),
		})
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

// Stats returns the counters.
func (h *Host) Stats() Stats {
	s := h.count.stats()
	s.Peers = len(h.host.Network().Peers())
	return s
}
