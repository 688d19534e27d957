package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	visitTimeout = 20 * time.Second
	maxVisitAddr = 64 // addresses that are tried, and peers that mDNS may find
)

// Visitor is a guest of one host: it asks, and serves nothing. Safe for concurrent use.
type Visitor struct {
	host host.Host
	at   peer.ID
	addr string
}

// Visit connects as a guest to the first of the hosts that lets it in; addresses end in
// /p2p/ID. The errors of all that do not are joined.
func Visit(ctx context.Context, key ed25519.PrivateKey, addrs []string) (*Visitor, error) {
	infos, err := visitAddrs(addrs)
	if err != nil {
		return nil, err
	}
	h, err := guestHost(key, nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	var errs []error
	for _, info := range infos {
		err := h.Connect(ctx, info)
		if err == nil {
			v := &Visitor{host: h, at: info.ID}
			if conns := h.Network().ConnsToPeer(info.ID); len(conns) > 0 {
				v.addr = conns[0].RemoteMultiaddr().String()
			}
			return v, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(append(errs, h.Close())...)
}

func visitAddrs(addrs []string) ([]peer.AddrInfo, error) {
	if len(addrs) == 0 || len(addrs) > maxVisitAddr {
		return nil, fmt.Errorf("%w: got %d addresses, want 1 to %d", ErrConfig, len(addrs), maxVisitAddr)
	}
	parsed, err := Config{Key: make(ed25519.PrivateKey, ed25519.PrivateKeySize), Member: func(ed25519.PublicKey) bool { return false }, Bootstrap: addrs}.parse()
	if err != nil {
		return nil, err
	}
	return parsed.bootstrap, nil
}

// guestHost is a libp2p host that lets nobody in.
func guestHost(key ed25519.PrivateKey, listen []string) (host.Host, error) {
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: Key: %w", ErrConfig, err)
	}
	options := []libp2p.Option{
		libp2p.Identity(k), libp2p.NoListenAddrs,
		libp2p.Transport(quic.NewTransport), libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.Security(noise.ID, noise.New), libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.ConnectionGater(outwards{}), libp2p.UserAgent("commonwatt"),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.DisableIdentifyAddressDiscovery(),
		libp2p.ForceReachabilityPrivate(), libp2p.Ping(false),
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("starting libp2p: %w", err)
	}
	for _, s := range listen {
		a, err := ma.NewMultiaddr(s)
		if err == nil {
			err = h.Network().Listen(a)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%w on %s: %w", ErrListen, s, err), h.Close())
		}
	}
	return h, nil
}

// outwards is a gate through which one goes, but does not come.
type outwards struct{}

func (outwards) InterceptPeerDial(peer.ID) bool               { return true }
func (outwards) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }
func (outwards) InterceptAccept(network.ConnMultiaddrs) bool  { return false }
func (outwards) InterceptSecured(dir network.Direction, _ peer.ID, _ network.ConnMultiaddrs) bool {
	return dir == network.DirOutbound
}

func (outwards) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// At is the host that is visited, and the address at which it was reached.
func (v *Visitor) At() (id PeerID, addr string) { return PeerID(v.at.String()), v.addr }

// Ask is Host.Request for guests.
func (v *Visitor) Ask(ctx context.Context, protocolID string, request []byte, maxReply int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	s, err := v.host.NewStream(ctx, v.at, protocol.ID(protocolID))
	if err != nil {
		return nil, fmt.Errorf("opening stream: %w", err)
	}
	return converse(ctx, s, request, maxReply)
}

// Close ends the visit.
func (v *Visitor) Close() error { return v.host.Close() }

// PeerAt finds out who is at a TCP address, HOST:PORT, by beginning the handshake of a
// connection without knowing whom to expect. Whoever answers has proved that they hold the
// key of their identity, and nothing else. The result is what Visit takes.
func PeerAt(ctx context.Context, key ed25519.PrivateKey, address string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer raw.Close() //nolint:errcheck // nothing was said on it
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	const hello = "\x13/multistream/1.0.0\n\x07/noise\n"
	if _, err := io.WriteString(raw, hello); err != nil {
		return nil, fmt.Errorf("speaking to %s: %w", address, err)
	}
	answer := make([]byte, len(hello))
	if _, err := io.ReadFull(raw, answer); err != nil || !bytes.Equal(answer, []byte(hello)) {
		return nil, fmt.Errorf("%w: what answers at %s is no home of a community", ErrFrame, address)
	}
	k, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: Key: %w", ErrConfig, err)
	}
	transport, err := noise.New(noise.ID, k, nil)
	if err != nil {
		return nil, err
	}
	session, err := transport.WithSessionOptions(noise.DisablePeerIDCheck())
	if err != nil {
		return nil, err
	}
	secured, err := session.SecureOutbound(ctx, raw, "")
	if err != nil {
		return nil, fmt.Errorf("shaking hands with %s: %w", address, err)
	}
	to, err := manet.FromNetAddr(raw.RemoteAddr())
	if err != nil {
		return nil, err
	}
	return []string{to.String() + "/p2p/" + secured.RemotePeer().String()}, nil
}

// Announced are the addresses that others are told of, each with /p2p/ID: what an invitation
// can name. Those through relays are left out, since relays let members in only.
func (h *Host) Announced() []string {
	var out []string
	for _, a := range h.host.Addrs() {
		if !relayed(a) {
			out = append(out, a.String()+"/p2p/"+h.host.ID().String())
		}
	}
	return out
}

// Announce makes the host known on the local network under a tag, beside Config.MDNS,
// until ctx ends or the host closes: so that guests find it.
func (h *Host) Announce(ctx context.Context, tag string) {
	h.spawn(func(life context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		h.discover(ctx, tag)
	})
}

// Discover looks on the local network for hosts that announce themselves under a tag, until
// ctx ends or enough says so of what was found. The result is what Visit takes.
func Discover(ctx context.Context, key ed25519.PrivateKey, tag string, enough func([]string) bool) ([]string, error) {
	h, err := guestHost(key, []string{"/ip4/0.0.0.0/tcp/0"})
	if err != nil {
		return nil, err
	}
	defer h.Close() //nolint:errcheck // nothing was said on it
	c := &collector{self: h.ID(), changed: make(chan struct{}, 1)}
	s := mdns.NewMdnsService(h, tag, c)
	if err := s.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("looking around the local network: %w", err), s.Close())
	}
	for {
		select {
		case <-ctx.Done():
			return c.all(), s.Close()
		case <-c.changed:
			if all := c.all(); enough(all) {
				return all, s.Close()
			}
		}
	}
}

// collector keeps what mDNS finds.
type collector struct {
	self    peer.ID
	changed chan struct{} // capacity 1
	mu      sync.Mutex
	found   []string
}

// HandlePeerFound implements mdns.Notifee.
func (c *collector) HandlePeerFound(info peer.AddrInfo) {
	if info.ID == c.self {
		return
	}
	c.mu.Lock()
	for _, a := range info.Addrs {
		if s := a.String() + "/p2p/" + info.ID.String(); len(c.found) < maxVisitAddr && !slices.Contains(c.found, s) && !strings.Contains(s, "p2p-circuit") {
			c.found = append(c.found, s)
		}
	}
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *collector) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.found)
}
