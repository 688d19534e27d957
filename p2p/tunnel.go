package p2p

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
)

const (
	// tunnelOpen bounds the opening of a stream for a tunnel: the engine at its end gives a
	// connection three seconds for its own handshake.
	tunnelOpen = 2500 * time.Millisecond
	// tunnelDial bounds the dial of our own service, which is on this machine.
	tunnelDial = time.Second
	// tunnelOld is how old a tunnel must be for another one of the same peer to mean that the
	// peer has lost it; tunnelSettle is how long the service then gets to notice its end.
	tunnelOld    = 2 * time.Second
	tunnelSettle = 100 * time.Millisecond
	// tunnelRate and tunnelBurst are the token bucket of streams that one peer opens.
	tunnelRate  = 1
	tunnelBurst = 16
)

// Tunnels lead the TCP connections of one local service through streams to the same service
// of other members, so that it needs no port of its own in the world (P7). Make them with
// Host.Tunnel.
type Tunnels struct {
	h        *Host
	protocol protocol.ID
	perPeer  int
	old      time.Duration // tunnelOld, but in tests
	changed  chan struct{} // capacity 1

	// making is held for reading while a socket of ours is made and noted, see Ours.
	making sync.RWMutex

	mu      sync.Mutex
	service string               // where streams of peers lead; empty: nowhere
	open    map[*tunnel]struct{} // at most perPeer inbound and perPeer outbound ones for each peer
	ours    map[string]struct{}  // local addresses of the tunnels' sockets
}

// tunnel is one stream and one connection.
type tunnel struct {
	peer  peer.ID
	dir   network.Direction
	since time.Time
	end   func() // may be called more than once
}

// Tunnel prepares tunnels on a protocol such as /commonwatt/consensus/1, of which one peer
// may have perPeer open in each direction. They end with the host.
func (h *Host) Tunnel(protocolID string, perPeer int) (*Tunnels, error) {
	if perPeer < 1 {
		return nil, fmt.Errorf("%w: Tunnel: perPeer is %d, want 1 or more", ErrConfig, perPeer)
	}
	t := &Tunnels{
		h: h, protocol: protocol.ID(protocolID), perPeer: perPeer, old: tunnelOld, changed: make(chan struct{}, 1),
		open: make(map[*tunnel]struct{}), ours: make(map[string]struct{}),
	}
	sub, err := h.host.EventBus().Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted), new(event.EvtPeerProtocolsUpdated), new(event.EvtPeerConnectednessChanged),
	}, eventbus.Name("tunnels"))
	if err != nil {
		return nil, fmt.Errorf("watching peers: %w", err)
	}
	if !h.spawn(func(ctx context.Context) { t.watch(ctx, sub) }) {
		return nil, errors.Join(ErrClosed, sub.Close())
	}
	return t, nil
}

// watch pokes Changed when a peer has come or gone, or begins or ends to serve.
func (t *Tunnels) watch(ctx context.Context, sub event.Subscription) {
	defer sub.Close() //nolint:errcheck // it has no error
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-sub.Out():
			if !ok {
				return
			}
			select {
			case t.changed <- struct{}{}:
			default:
			}
		}
	}
}

// Serve leads the streams that members open to the service at a loopback address from now
// on, and tells connected peers that we do. With an empty address it ends that, and the
// tunnels that there are.
func (t *Tunnels) Serve(address string) {
	t.mu.Lock()
	t.service = address
	t.mu.Unlock()
	if address != "" {
		t.h.host.SetStreamHandler(t.protocol, t.incoming)
		return
	}
	t.h.host.RemoveStreamHandler(t.protocol)
	t.endWhere(func(*tunnel) bool { return true })
}

// Peers are the network keys of the connected members that serve this protocol, sorted.
func (t *Tunnels) Peers() []ed25519.PublicKey {
	var keys []ed25519.PublicKey
	for _, id := range t.h.host.Network().Peers() {
		if t.h.host.Network().Connectedness(id) != network.Connected {
			continue
		}
		key, ok := t.member(id)
		if !ok {
			continue
		}
		if known, err := t.h.host.Peerstore().SupportsProtocols(id, t.protocol); err == nil && len(known) > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b ed25519.PublicKey) int { return bytes.Compare(a, b) })
	return keys
}

// Changed is poked when Peers may have changed. It has room for one poke and one reader.
func (t *Tunnels) Changed() <-chan struct{} { return t.changed }

// Ours says whether the far end of one of the service's sockets is one of these tunnels,
// and not another program of this machine.
func (t *Tunnels) Ours(remote string) bool {
	// Who has just been accepted by the service, or has just dialled it, is noted by the time
	// the lock is free.
	t.making.Lock()
	defer t.making.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.ours[remote]
	return ok
}

// Forward opens a tunnel to a connected peer. Its near end is a loopback address that takes
// one connection, within the time that the returned function is not called. An established
// tunnel is not ended by it.
func (t *Tunnels) Forward(ctx context.Context, to ed25519.PublicKey) (address string, release func(), err error) {
	leave, ok := t.h.enter()
	if !ok {
		return "", nil, ErrClosed
	}
	defer leave()
	id, err := idOf(to)
	if err != nil {
		return "", nil, err
	}
	s, err := t.outgoing(ctx, id)
	if err != nil {
		return "", nil, fmt.Errorf("opening tunnel to %s: %w", id, err)
	}
	t.making.RLock()
	defer t.making.RUnlock()
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		_ = s.Reset() // it was only just opened
		return "", nil, fmt.Errorf("opening tunnel to %s: %w", id, err)
	}
	address = l.Addr().String()
	tn, err := t.enter(id, network.DirOutbound, func() {
		_ = s.Reset() // ends both directions, whatever state they are in
		_ = l.Close() // nobody else is to come
	})
	if err != nil {
		return "", nil, errors.Join(err, s.Reset(), l.Close())
	}
	forget := t.note(address)
	if !t.h.spawn(func(ctx context.Context) {
		defer t.leave(tn)
		defer forget()
		c, err := l.Accept()
		_ = l.Close() // one connection is all it takes
		if err != nil {
			return // released, or the peer has gone
		}
		pipe(ctx, c, s)
	}) {
		t.leave(tn)
		forget()
		return "", nil, ErrClosed
	}
	return address, func() { _ = l.Close() }, nil
}

// outgoing opens a stream over a connection that exists.
func (t *Tunnels) outgoing(ctx context.Context, id peer.ID) (network.Stream, error) {
	if _, ok := t.member(id); !ok {
		return nil, ErrNotMember
	}
	ctx, cancel := context.WithTimeout(ctx, tunnelOpen)
	defer cancel()
	defer context.AfterFunc(t.h.lifetime, cancel)() //nolint:contextcheck // the tunnel ends with the host too
	return t.h.host.NewStream(network.WithNoDial(ctx, "tunnel"), id, t.protocol)
}

// incoming handles a stream that a peer opened. libp2p gives it a goroutine of its own.
func (t *Tunnels) incoming(s network.Stream) {
	leave, ok := t.h.enter()
	if !ok {
		_ = s.Reset() // the host is closing
		return
	}
	defer leave()
	if code, err := t.lead(t.h.lifetime, s); err != nil {
		t.h.count.tunnelsRefused.Add(1)
		t.h.log.Debug("tunnel refused", "peer", s.Conn().RemotePeer().String(), "err", err)
		_ = s.ResetWithError(code) // it is of no more use
	}
}

// lead connects a peer's stream with our service, until one of them ends.
func (t *Tunnels) lead(ctx context.Context, s network.Stream) (network.StreamErrorCode, error) {
	id := s.Conn().RemotePeer()
	if _, ok := t.member(id); !ok {
		return network.StreamGated, ErrNotMember
	}
	if !t.h.table.get(id).tunnels.Allow() {
		return network.StreamRateLimited, fmt.Errorf("%w: more than %d tunnels a second", ErrBusy, tunnelRate)
	}
	superseded := t.endWhere(func(o *tunnel) bool { return o.peer == id && time.Since(o.since) > t.old })
	tn, err := t.enter(id, network.DirInbound, func() { _ = s.Reset() }) // ends both directions
	if err != nil {
		return network.StreamResourceLimitExceeded, err
	}
	defer t.leave(tn)
	if superseded > 0 {
		t.h.count.tunnelsSuperseded.Add(uint64(superseded))
		wait := time.NewTimer(tunnelSettle)
		defer wait.Stop()
		select {
		case <-ctx.Done():
			return network.StreamShutdown, ErrClosed
		case <-wait.C:
		}
	}
	c, forget, err := t.dial(ctx)
	if err != nil {
		return network.StreamNoError, err
	}
	defer forget()
	pipe(ctx, c, s)
	return network.StreamNoError, nil
}

// dial connects with our own service.
func (t *Tunnels) dial(ctx context.Context) (c net.Conn, forget func(), err error) {
	t.mu.Lock()
	service := t.service
	t.mu.Unlock()
	if service == "" {
		return nil, nil, errors.New("dialling own service: it is not there")
	}
	t.making.RLock()
	defer t.making.RUnlock()
	if c, err = (&net.Dialer{Timeout: tunnelDial}).DialContext(ctx, "tcp", service); err != nil {
		return nil, nil, fmt.Errorf("dialling own service: %w", err)
	}
	return c, t.note(c.LocalAddr().String()), nil
}

// note remembers an address as one of ours, until forget.
func (t *Tunnels) note(address string) (forget func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ours[address] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.ours, address)
	}
}

// enter counts a tunnel, unless the peer has too many.
func (t *Tunnels) enter(id peer.ID, dir network.Direction, end func()) (*tunnel, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for o := range t.open {
		if o.peer == id && o.dir == dir {
			n++
		}
	}
	if n >= t.perPeer {
		return nil, fmt.Errorf("%w: %d tunnels are open, want at most %d", ErrBusy, n, t.perPeer)
	}
	tn := &tunnel{peer: id, dir: dir, since: time.Now(), end: end}
	t.open[tn] = struct{}{}
	return tn, nil
}

func (t *Tunnels) leave(tn *tunnel) {
	tn.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, tn)
}

// endWhere ends tunnels and says how many. Their goroutines follow.
func (t *Tunnels) endWhere(which func(*tunnel) bool) int {
	t.mu.Lock()
	var ending []*tunnel
	for o := range t.open {
		if which(o) {
			ending = append(ending, o)
			delete(t.open, o)
		}
	}
	t.mu.Unlock()
	for _, o := range ending {
		o.end()
	}
	return len(ending)
}

// member says whether a peer may have tunnels, and with which key. A guest may not.
func (t *Tunnels) member(id peer.ID) (ed25519.PublicKey, bool) {
	key, ok := networkKey(id)
	return key, ok && t.h.gate.allows(id)
}

func idOf(pub ed25519.PublicKey) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("reading network key: %w", err)
	}
	return peer.IDFromPublicKey(key)
}
