package p2p

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ReachProtocol is how members find out who of them can be reached from outside: one asks
// another to try its addresses from a socket from which it has sent nothing before, so that
// no hole in a router helps. A request is a list of addresses, a reply one byte for each.
const ReachProtocol = "/commonwatt/reach/1"

const (
	// maxReach is how many addresses a request may name, maxAddrBytes how long one may be.
	maxReach     = 4
	maxAddrBytes = 256
	// reachTimeout bounds one try.
	reachTimeout = 4 * time.Second
	// reachMin and reachMax are between which intervals a home asks again; it begins anew
	// with each new connection.
	reachMin = time.Second
	reachMax = 5 * time.Minute
	// reachAsked is how many members are asked before the answer no is believed, and
	// reachLasts how long the answer yes is good for when there is nobody to ask.
	reachAsked = 3
	reachLasts = 3 * reachMax
	// maxAnnounced bounds the addresses that we announce.
	maxAnnounced = 24
)

// reach knows at which public addresses this home has been reached.
type reach struct {
	h     *Host
	wake  chan struct{} // capacity 1: somebody has connected
	trial chan struct{} // one slot: the one member whose addresses we are trying

	mu        sync.Mutex
	confirmed map[string]time.Time // address -> when a member last reached us there
	asked     bool                 // somebody has answered, and that still counts
}

func newReach(h *Host) *reach {
	return &reach{h: h, wake: make(chan struct{}, 1), trial: make(chan struct{}, 1), confirmed: make(map[string]time.Time)}
}

func (r *reach) poke() { poke(r.wake) }

// run asks, at first often and then ever more rarely, and turns the relay on or off.
func (r *reach) run(ctx context.Context) {
	pause := reachMin
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			pause = min(2*pause, reachMax)
		case <-r.wake:
			timer.Stop()
			pause = reachMin
			continue
		}
		if r.look(ctx) {
			r.h.relays.poke()
			r.h.relays.refresh()
		}
	}
}

// look asks others to try our public addresses and reports whether anything has changed.
func (r *reach) look(ctx context.Context) bool {
	mine := slices.DeleteFunc(r.h.allAddrs(), func(a ma.Multiaddr) bool { return !publicAddr(a) })
	yes, answers := make(map[string]bool), 0
	for _, id := range r.helpers(mine) {
		if ctx.Err() != nil || answers >= reachAsked || len(yes) > 0 {
			break
		}
		reached, err := r.ask(ctx, id, mine)
		if err != nil {
			r.h.log.DebugContext(ctx, "asking whether we can be reached", "peer", id.String(), "err", err)
			continue
		}
		answers++
		for _, a := range reached {
			yes[string(a.Bytes())] = true
		}
	}
	return r.judge(mine, yes, answers, time.Now())
}

// judge takes in what the others said.
func (r *reach) judge(mine []ma.Multiaddr, yes map[string]bool, answers int, now time.Time) bool {
	r.mu.Lock()
	before := len(r.confirmed)
	changed := false
	for a, at := range r.confirmed {
		still := slices.ContainsFunc(mine, func(m ma.Multiaddr) bool { return string(m.Bytes()) == a })
		if !still || answers > 0 && len(yes) == 0 || now.Sub(at) > reachLasts {
			delete(r.confirmed, a)
			changed = true
		}
	}
	for a := range yes {
		if _, ok := r.confirmed[a]; !ok {
			changed = true
		}
		r.confirmed[a] = now
	}
	after := len(r.confirmed)
	r.asked = answers > 0 || r.asked && (after > 0 || before == 0)
	r.mu.Unlock()
	if (before > 0) != (after > 0) {
		r.h.relays.serve(after > 0)
	}
	return changed
}

// Reached says whether members have lately reached this home from outside its network; nil if
// it has found none to try.
func (h *Host) Reached() *bool {
	r := h.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.asked {
		return nil
	}
	return new(len(r.confirmed) > 0)
}

// helpers are connected members outside: those whose own public address is none of ours.
func (r *reach) helpers(mine []ma.Multiaddr) []peer.ID {
	var out []peer.ID
	for _, id := range r.h.host.Network().Peers() {
		conns := direct(r.h.host.Network().ConnsToPeer(id))
		if len(conns) == 0 || !publicAddr(conns[0].RemoteMultiaddr()) || r.h.inHouse(conns[0].RemoteMultiaddr()) || !r.h.gate.allows(id) {
			continue
		}
		theirs, ok := ipOf(conns[0].RemoteMultiaddr())
		if !ok || slices.ContainsFunc(mine, func(a ma.Multiaddr) bool { ip, ok := ipOf(a); return ok && ip == theirs }) {
			continue
		}
		out = append(out, id)
	}
	mrand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] }) //nolint:gosec // not a secret
	return out
}

// ask has one member try those of our addresses whose IP it sees us come from: it tries no
// others, lest it be sent against a third party.
func (r *reach) ask(ctx context.Context, id peer.ID, mine []ma.Multiaddr) ([]ma.Multiaddr, error) {
	if len(mine) == 0 {
		return nil, nil
	}
	mine = mine[:min(len(mine), maxReach)]
	reply, err := r.h.Request(ctx, PeerID(id.String()), ReachProtocol, encodeAddrs(mine), maxReach)
	if err != nil {
		return nil, err
	}
	if len(reply) != len(mine) {
		return nil, fmt.Errorf("%w: %d answers about %d addresses", ErrFrame, len(reply), len(mine))
	}
	var out []ma.Multiaddr
	for i, yes := range reply {
		if yes == 1 {
			out = append(out, mine[i])
		}
	}
	return out, nil
}

// answer tries another member's addresses.
func (r *reach) answer(ctx context.Context, from PeerID, request []byte) ([]byte, error) {
	addrs, err := decodeAddrs(request)
	if err != nil {
		return nil, err
	}
	id, err := peer.Decode(string(from))
	if err != nil {
		return nil, fmt.Errorf("reading peer id: %w", err)
	}
	select {
	case r.trial <- struct{}{}:
		defer func() { <-r.trial }()
	default:
		return nil, errors.New("trying another home's addresses, ask again")
	}
	seen := make(map[netip.Addr]bool)
	for _, c := range direct(r.h.host.Network().ConnsToPeer(id)) {
		if ip, ok := ipOf(c.RemoteMultiaddr()); ok {
			seen[ip] = true
		}
	}
	out := make([]byte, len(addrs))
	var wg sync.WaitGroup
	for i, a := range addrs {
		ip, ok := ipOf(a)
		if !ok || !seen[ip] || !publicAddr(a) {
			continue
		}
		wg.Go(func() {
			if err := tryAddr(ctx, id, a); err != nil {
				r.h.log.DebugContext(ctx, "trying a member's address", "peer", from, "addr", a.String(), "err", err)
				return
			}
			out[i] = 1
		})
	}
	wg.Wait()
	return out, nil
}

// tryAddr reports whether a peer answers at an address. Over QUIC the peer proves that it is
// the one; its gate then refuses us, since we come under a name made for the purpose. Over
// TCP that something listens there must do.
func tryAddr(ctx context.Context, id peer.ID, a ma.Multiaddr) (err error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	if transportOf(a) == "tcp" {
		c, err := (&manet.Dialer{}).DialContext(ctx, a)
		if err != nil {
			return err
		}
		return c.Close()
	}
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	sockets, err := quicreuse.NewConnManager([32]byte{}, [32]byte{}) // a socket of its own, which accepts nothing
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sockets.Close()) }()
	transport, err := quic.NewTransport(key, sockets, nil, nil, &network.NullResourceManager{})
	if err != nil {
		return err
	}
	c, err := transport.Dial(ctx, a, id)
	if err != nil {
		return err
	}
	return c.Close()
}

// announce chooses what others are told of our addresses: those of our interfaces, public
// ones that we were only seen at if members reached us there, and, if none did, those
// through relays. Loopback addresses only if we have no others.
func (h *Host) announce(all []ma.Multiaddr) []ma.Multiaddr {
	box, ok := h.gate.network.Load().(networkBox)
	if !ok {
		return all // libp2p is being built
	}
	own, err := box.InterfaceListenAddresses()
	if err != nil {
		own = nil
	}
	h.reach.mu.Lock()
	out := slices.DeleteFunc(slices.Clone(all), func(a ma.Multiaddr) bool {
		_, confirmed := h.reach.confirmed[string(a.Bytes())]
		return relayed(a) || publicAddr(a) && !confirmed && !ma.Contains(own, a)
	})
	public := len(h.reach.confirmed) > 0
	h.reach.mu.Unlock()
	if outside := slices.DeleteFunc(slices.Clone(out), manet.IsIPLoopback); len(outside) > 0 {
		out = outside
	}
	if !public {
		out = append(h.relays.addrs(), out...)
	}
	return out[:min(len(out), maxAnnounced)]
}

// allAddrs are all addresses that we have or were seen at, whoever can reach them.
func (h *Host) allAddrs() []ma.Multiaddr {
	if b, ok := h.host.(interface{ AllAddrs() []ma.Multiaddr }); ok {
		return b.AllAddrs()
	}
	return h.host.Addrs()
}

// encodeAddrs writes each address after its length in two bytes.
func encodeAddrs(addrs []ma.Multiaddr) []byte {
	var b []byte
	for _, a := range addrs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(a.Bytes()))) //nolint:gosec // addresses of ours are short
		b = append(b, a.Bytes()...)
	}
	return b
}

// decodeAddrs reads at most maxReach addresses.
func decodeAddrs(b []byte) ([]ma.Multiaddr, error) {
	var out []ma.Multiaddr
	for len(b) > 0 {
		if len(out) == maxReach {
			return nil, fmt.Errorf("%w: more than %d addresses", ErrFrame, maxReach)
		}
		raw, rest, err := takeBlock(b, maxAddrBytes)
		if err != nil {
			return nil, err
		}
		a, err := ma.NewMultiaddrBytes(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: address %d: %w", ErrFrame, len(out), err)
		}
		out, b = append(out, a), rest
	}
	return out, nil
}

// takeBlock splits off what stands after a length in two bytes.
func takeBlock(b []byte, limit int) (block, rest []byte, err error) {
	if len(b) < 2 {
		return nil, nil, fmt.Errorf("%w: %d bytes where a length of 2 should be", ErrFrame, len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	if n == 0 || n > limit {
		return nil, nil, fmt.Errorf("%w: a block of %d bytes, want 1 to %d", ErrFrame, n, limit)
	}
	if len(b) < 2+n {
		return nil, nil, fmt.Errorf("%w: a block of %d bytes ends after %d", ErrFrame, n, len(b)-2)
	}
	return b[2 : 2+n], b[2+n:], nil
}
