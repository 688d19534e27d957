package p2p

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
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
	Direction Direction // who made the connection: the oldest one, direct ones before relayed
	Path      Path      // how it leads there
	Via       PeerID    // the relay, if Path is relayed
	Since     time.Time // when the connection was made
	Transport string    // "quic-v1" or "tcp"
	Score     float64   // gossip score, at most one second old; 0 is neutral
}

// Host is one node of the network. Make one with New; end it with Close.
type Host struct {
	limits Limits
	log    *slog.Logger
	count  counters
	key    ed25519.PrivateKey
	run    [runIDBytes]byte // of this run alone, see runProtocol
	gate   *gate
	table  *table
	intake *intake
	dialer *dialer
	reach  *reach
	relays *relays
	punch  *puncher
	book   *book
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

	guestProtocols sync.Map // protocol.ID → true: those that guests may use
	guestRequests  *rate.Limiter
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
		key: cfg.Key, run: newRun(), limits: limits, log: log, table: newTable(limits),
		serving: make(chan struct{}, 8*limits.Requests),
	}
	h.topics.byName = make(map[string]*Topic)
	h.guestRequests = rate.NewLimiter(guestRate, guestBurst)
	h.gate = &gate{member: cfg.Member, guest: cfg.Guest, seek: cfg.Seek, capacity: limits.Peers, guests: limits.Guests, count: &h.count, log: log, old: supersedeAfter}
	h.gate.drop = func(c network.Conn) {
		h.spawn(func(ctx context.Context) { h.dropDead(ctx, c) })
	}
	h.reach = newReach(h)
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
	mapping := cfg.PortMapping && slices.ContainsFunc(addrs.listen, func(a ma.Multiaddr) bool { return !manet.IsIPLoopback(a) })
	if h.host, err = newLibp2p(key, h, mapping); err != nil {
		return fmt.Errorf("starting libp2p: %w", err)
	}
	if h.relays, err = newRelays(h); err != nil {
		return err
	}
	h.book = newBook(h, key, cfg.AddressFile)
	h.intake = newIntake(h)
	h.dialer = newDialer(h)
	if h.punch, err = newPuncher(h); err != nil {
		return err
	}
	h.gate.network.Store(networkBox{h.host.Network()})
	h.host.Network().Notify(h.notifiee())
	if h.gossip, err = newGossip(h.lifetime, h); err != nil {
		return fmt.Errorf("starting gossip: %w", err)
	}
	h.serveRuns()
	h.Handle(ReachProtocol, maxReach*(2+maxAddrBytes), h.reach.answer)
	h.Handle(AddressProtocol, (maxRecords+1)*digestBytes, h.book.answer)
	// Listening comes last: whoever reaches us finds everything in place.
	if err := h.listen(addrs.listen); err != nil {
		return err
	}
	for _, info := range addrs.bootstrap {
		if info.ID != h.host.ID() {
			h.dialer.add(info, true)
		}
	}
	if err := h.book.open(); err != nil {
		return fmt.Errorf("opening the addresses of other homes: %w", err)
	}
	if cfg.MDNS != "" {
		h.spawn(func(ctx context.Context) { h.discover(ctx, cfg.MDNS) })
	}
	h.spawn(h.book.run)
	h.spawn(h.relays.run)
	h.spawn(h.reach.run)
	h.spawn(h.patrol)
	return nil
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
	if !already && h.punch != nil {
		err = h.punch.service.Close() // its goroutines use the host
	}
	if !already && h.host != nil {
		err = errors.Join(err, h.host.Close()) // ends the streams, and with them whoever waits on one
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
		if !relayed(a) { // the relay transport listens too, on no address in particular
			out = append(out, a.String()+"/p2p/"+h.host.ID().String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Stats returns the counters.
func (h *Host) Stats() Stats {
	s := h.count.stats()
	s.Peers = len(h.host.Network().Peers())
	return s
}
