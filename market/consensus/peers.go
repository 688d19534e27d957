package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"

	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	watchEvery  = 500 * time.Millisecond // how often it is looked who is missing
	dialFirst   = 30 * time.Millisecond  // who has the smaller id dials this soon
	dialYield   = 700 * time.Millisecond // and who has the greater this late, lest they cross
	dialPause   = 500 * time.Millisecond // after a dial that failed; doubles
	dialPauseTo = 10 * time.Second
	patrolEvery = 5 * time.Second
)

// TunnelProtocol is what nodes that keep a ledger speak to each other, and TunnelsPerPeer how
// many connections one of them may have open in one direction: one is in use, and others
// may be on their way in or out.
const (
	TunnelProtocol = "/commonwatt/consensus/1"
	TunnelsPerPeer = 4
)

// Network brings the engine's connections to other homes and theirs to it.
type Network interface {
	Inbound
	Outbound
	Witness
}

// Witness tells processes with the same network key apart.
type Witness interface {
	// Runs are the proofs of the different processes that the network is connected with under
	// one network key, made for a nonce of 32 bytes.
	Runs(ctx context.Context, of ed25519.PublicKey, nonce []byte) [][]byte
	// Elsewhere says whether a proof for our nonce was made with our network key by another
	// process than this.
	Elsewhere(nonce, proof []byte) bool
}

// Inbound is how others reach this node's engine.
type Inbound interface {
	// Serve leads members' connections to the engine at a loopback address; an empty one
	// ends that, and all connections that there are.
	Serve(address string)
	// Ours says whether the far end of one of the engine's sockets is the network, and not
	// another program of this machine.
	Ours(remote string) bool
}

// Outbound is how this node's engine reaches others'.
type Outbound interface {
	// Peers are the network keys of those connected members that keep a ledger too.
	Peers() []ed25519.PublicKey
	// Changed is poked when that may have changed.
	Changed() <-chan struct{}
	// Forward gives the loopback address at which a peer's engine can be dialled, once, until
	// release is called.
	Forward(ctx context.Context, to ed25519.PublicKey) (address string, release func(), err error)
}

// alone is the network of a node that has none.
type alone struct{}

func (alone) Serve(string)                                             {}
func (alone) Ours(string) bool                                         { return false }
func (alone) Peers() []ed25519.PublicKey                               { return nil }
func (alone) Changed() <-chan struct{}                                 { return nil }
func (alone) Elsewhere(_, _ []byte) bool                               { return false }
func (alone) Runs(context.Context, ed25519.PublicKey, []byte) [][]byte { return nil }
func (alone) Forward(context.Context, ed25519.PublicKey) (string, func(), error) {
	return "", nil, errors.New("this node has no network")
}

// engineID is the engine's name of a node, derived from its network key.
func engineID(pub ed25519.PublicKey) p2p.ID { return p2p.PubKeyToID(cmted25519.PubKey(pub)) }

// members are the engine ids of all who may connect, as of one AppHash.
type members struct {
	mu    sync.Mutex
	as    [32]byte
	known bool
	ids   map[p2p.ID]struct{}
}

// isMember says whether a peer's network key belongs to a founder or a household.
func (n *Node) isMember(id p2p.ID) bool {
	if f := n.cfg.faults.peers; f != nil {
		return f(id)
	}
	m := &n.members
	m.mu.Lock()
	defer m.mu.Unlock()
	n.book.read(func(s *ledger.State) {
		if m.known && m.as == s.AppHash() {
			return
		}
		m.ids, m.as, m.known = map[p2p.ID]struct{}{}, s.AppHash(), true
		put := func(k ledger.Key) { m.ids[engineID(k[:])] = struct{}{} }
		for k := range s.Members() {
			put(k)
		}
	})
	_, ok := m.ids[id]
	return ok
}

// patrol disconnects peers that are no members any more.
func (n *Node) patrol(ctx context.Context, e *engine) error {
	ticker := time.NewTicker(patrolEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		sw := e.node.Switch()
		for _, p := range sw.Peers().Copy() {
			if !n.isMember(p.ID()) {
				n.log.InfoContext(ctx, "engine peer expelled", "peer", string(p.ID()))
				sw.StopPeerGracefully(p)
			}
		}
	}
}

// missing is a peer of the network with which the engine has no connection.
type missing struct {
	key     ed25519.PublicKey
	at      time.Time // when it is dialled next
	pause   time.Duration
	dialing bool
}

// watchPeers is the goroutine that keeps the engine connected with everybody whom the
// network is connected with. The engine's own redialling is not used: it waits ever longer,
// up to 16 hours, and two nodes that dial each other at the same moment may refuse each
// other's call.
func (n *Node) watchPeers(ctx context.Context, e *engine) error {
	w := &watch{n: n, e: e, own: e.node.NodeInfo().ID(), missing: map[p2p.ID]*missing{}, dialed: make(chan p2p.ID)}
	var dials sync.WaitGroup
	defer dials.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := false
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-n.network.Changed():
			changed = true
		case id := <-w.dialed:
			w.rest(id)
		}
		for id, m := range w.due(time.Now(), changed) {
			m.dialing = true
			dials.Go(func() { w.dial(ctx, id, m.key) })
		}
		timer.Reset(w.wait(time.Now()))
	}
}

// watch is the state of watchPeers, of its goroutine alone but for dialed.
type watch struct {
	n       *Node
	e       *engine
	own     p2p.ID
	missing map[p2p.ID]*missing // one for each of the network's peers at most
	dialed  chan p2p.ID         // a dial has ended
}

// due updates who is missing and says who is to be dialled now. When the network has
// changed, somebody may be back who has not been reached for long, so pauses end.
func (w *watch) due(now time.Time, changed bool) map[p2p.ID]*missing {
	there := map[p2p.ID]bool{}
	sw := w.e.node.Switch()
	for _, key := range w.n.network.Peers() {
		id := engineID(key)
		if id == w.own || sw.Peers().Has(id) || !w.n.isMember(id) || !w.n.mayDial(id) {
			continue
		}
		there[id] = true
		head := now.Add(dialFirst)
		if w.own > id {
			head = now.Add(dialYield)
		}
		m, known := w.missing[id]
		switch {
		case !known:
			w.missing[id] = &missing{key: key, at: head, pause: dialPause}
		case changed && m.at.After(head):
			m.at, m.pause = head, dialPause
		}
	}
	due := map[p2p.ID]*missing{}
	for id, m := range w.missing {
		switch {
		case m.dialing:
		case !there[id]:
			delete(w.missing, id)
		case !m.at.After(now):
			due[id] = m
		}
	}
	return due
}

// rest puts the next dial off, which does not matter if this one was good.
func (w *watch) rest(id p2p.ID) {
	if m, ok := w.missing[id]; ok {
		m.dialing = false
		m.at = time.Now().Add(m.pause/2 + rand.N(m.pause)) //nolint:gosec // jitter is no secret
		m.pause = min(2*m.pause, dialPauseTo)
	}
}

// wait is how long nothing has to be done.
func (w *watch) wait(now time.Time) time.Duration {
	wait := watchEvery
	for _, m := range w.missing {
		if !m.dialing {
			wait = min(wait, m.at.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
}

func (w *watch) dial(ctx context.Context, id p2p.ID, key ed25519.PublicKey) {
	if err := w.n.dial(ctx, w.e.node.Switch(), id, key); err != nil {
		w.n.log.DebugContext(ctx, "engine peer not reached", "peer", string(id), "err", err)
	}
	select {
	case w.dialed <- id:
	case <-ctx.Done():
	}
}

// dial connects the engine with a peer through a tunnel.
func (n *Node) dial(ctx context.Context, sw p2p.Switcher, id p2p.ID, key ed25519.PublicKey) error {
	address, release, err := n.network.Forward(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	addr, err := p2p.NewNetAddressString(p2p.IDAddressString(id, address))
	if err != nil {
		return err
	}
	err = sw.DialPeerWithAddress(addr)
	if busy := (p2p.ErrCurrentlyDialingOrExistingAddress{}); errors.As(err, &busy) {
		return nil // it was faster
	}
	return err
}
