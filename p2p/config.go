package p2p

import (
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Config is what a Host needs. Key and Member are required.
type Config struct {
	// Key is the network key: it is this node's identity on the network and nothing
	// else. One key per running host.
	Key ed25519.PrivateKey
	// Listen are multiaddrs, such as /ip4/127.0.0.1/tcp/17001 and
	// /ip4/127.0.0.1/udp/17001/quic-v1. Port 0 lets the system choose: read it back with
	// Addrs. Every one of them must succeed. Empty: the host only dials.
	Listen []string
	// Bootstrap are multiaddrs that end in /p2p/ID and begin with an IP address or a name
	// (/dns4, /dns6, /dns, /dnsaddr), which is looked up anew for each dial. They are redialled with back-off for
	// as long as they are not connected. Our own ID among them is skipped, so that all
	// nodes may share one list.
	Bootstrap []string
	// MDNS is the service tag under which peers of one local network find each other,
	// such as _commonwatt-elm-street._udp. Empty: off.
	MDNS string
	// AddressFile keeps what members said about where they live, across restarts. It is
	// written with mode 0600. Empty: nothing is kept.
	AddressFile string
	// PortMapping asks the router (UPnP, NAT-PMP) to let connections in, if any address of
	// Listen is not of the loopback.
	PortMapping bool
	// Member is the gate (invariant P1). It is asked often and concurrently: it must be
	// quick, and it must not call back into the Host. A community without a gate passes
	// a function that returns true.
	Member func(pub ed25519.PublicKey) bool
	// Guest says who may come without being a member, for protocols of HandleGuest only
	// (invariant P8). It is asked like Member. Nil: nobody.
	Guest func(pub ed25519.PublicKey) bool
	// Seek says which members are to be dialled that are not configured; the others are
	// connected with if they dial. It is asked like Member, before each dial. Nil: all.
	Seek func(pub ed25519.PublicKey) bool
	// Limits bound what peers may cost; zero fields mean the defaults named there.
	Limits Limits
	// Log gets connections, disconnections and refusals. Nil: nothing is logged.
	Log *slog.Logger
}

// Limits bound what peers may cost us. A zero field means its default.
//
// The memory that hostile members can pin follows from them: per peer, payloads that
// await validation (2 MiB of burst plus 32 × MessageSize) and frames that it does not
// read (256, which share their payloads with other peers'); for all together, the ids of
// recent messages (TotalRate × 60 s × about 0.4 kB, 48 MB by default) and requests in
// progress (8 × Requests × RequestSize).
type Limits struct {
	// MessageRate and MessageBurst are the token bucket of gossip messages of one peer,
	// in messages per second. A peer relays other homes' messages, so this is measured
	// against the traffic of the whole community. Default 200, burst 1000.
	MessageRate  float64
	MessageBurst int
	// TotalRate and TotalBurst are the same over all peers together. Default 2000, burst
	// 4000.
	TotalRate  float64
	TotalBurst int
	// MessageSize is the largest gossip payload in bytes; a topic may set less. Default
	// 128 KiB.
	MessageSize int
	// Peers is how many peers may be connected before inbound connections are refused.
	// Default 64.
	Peers int
	// Outgoing is how many peers may be connected before members that are not configured are
	// no longer dialled. Less than Peers, so that those who dial find room. Default 48.
	Outgoing int
	// Guests is how many guests may be connected at the same time. Default 8.
	Guests int
	// Streams is how many streams one peer may have open, both directions. Default 64.
	Streams int
	// RequestRate and RequestBurst are the token bucket of requests of one peer, in
	// requests per second. Default 20, burst 40.
	RequestRate  float64
	RequestBurst int
	// Requests is how many requests of one peer are handled at the same time. Over all
	// peers it is eight times that. Default 8.
	Requests int
	// RequestSize and ReplySize are the largest request and reply bodies in bytes that
	// Handle and Request may allow. Default 1 MiB and 8 MiB.
	RequestSize int
	ReplySize   int
	// RequestTimeout bounds a request that has no earlier deadline, and the handling of
	// one. Default 30 s.
	RequestTimeout time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name  string
		value *int
		def   int
	}{
		{"MessageBurst", &l.MessageBurst, 1000},
		{"TotalBurst", &l.TotalBurst, 4000},
		{"MessageSize", &l.MessageSize, 128 << 10},
		{"Peers", &l.Peers, 64},
		{"Outgoing", &l.Outgoing, 48},
		{"Guests", &l.Guests, 8},
		{"Streams", &l.Streams, 64},
		{"RequestBurst", &l.RequestBurst, 40},
		{"Requests", &l.Requests, 8},
		{"RequestSize", &l.RequestSize, 1 << 20},
		{"ReplySize", &l.ReplySize, 8 << 20},
	} {
		if *f.value < 0 {
			return l, fmt.Errorf("%w: Limits.%s is %d, want 0 (default %d) or more", ErrConfig, f.name, *f.value, f.def)
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	for _, f := range []struct {
		name  string
		value *float64
		def   float64
	}{
		{"MessageRate", &l.MessageRate, 200},
		{"TotalRate", &l.TotalRate, 2000},
		{"RequestRate", &l.RequestRate, 20},
	} {
		if !(*f.value >= 0) {
			return l, fmt.Errorf("%w: Limits.%s is %v, want 0 (default %v) or more", ErrConfig, f.name, *f.value, f.def)
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	if l.RequestTimeout < 0 {
		return l, fmt.Errorf("%w: Limits.RequestTimeout is %v, want 0 (default 30s) or more", ErrConfig, l.RequestTimeout)
	}
	if l.RequestTimeout == 0 {
		l.RequestTimeout = 30 * time.Second
	}
	return l, nil
}

// parsed is a Config after its texts have been read.
type parsed struct {
	listen    []ma.Multiaddr
	bootstrap []peer.AddrInfo
}

func (c Config) parse() (parsed, error) {
	var p parsed
	if len(c.Key) != ed25519.PrivateKeySize {
		return p, fmt.Errorf("%w: Key has %d bytes, want an Ed25519 private key of %d", ErrConfig, len(c.Key), ed25519.PrivateKeySize)
	}
	if c.Member == nil {
		return p, fmt.Errorf("%w: Member is nil, want a function (an open community returns true)", ErrConfig)
	}
	for _, s := range c.Listen {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return p, fmt.Errorf("%w: Listen %q: %w", ErrConfig, s, err)
		}
		p.listen = append(p.listen, a)
	}
	var addrs []ma.Multiaddr
	for _, s := range c.Bootstrap {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			return p, fmt.Errorf("%w: Bootstrap %q: %w", ErrConfig, s, err)
		}
		if at, id := peer.SplitAddr(a); id == "" || at == nil {
			return p, fmt.Errorf("%w: Bootstrap %q: want an address that ends in /p2p/ID", ErrConfig, s)
		}
		addrs = append(addrs, a)
	}
	infos, err := peer.AddrInfosFromP2pAddrs(addrs...)
	if err != nil {
		return p, fmt.Errorf("%w: Bootstrap: %w", ErrConfig, err)
	}
	p.bootstrap = infos
	return p, nil
}
