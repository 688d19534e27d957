package consensus

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"

	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	dialEvery   = 500 * time.Millisecond // how often a peer is missed
	dialYield   = 700 * time.Millisecond // head start of the smaller id, lest both dial at once
	dialPauseTo = 10 * time.Second
	patrolEvery = 5 * time.Second
)

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
		put := func(k ledger.Key) { m.ids[p2p.PubKeyToID(cmted25519.PubKey(k[:]))] = struct{}{} }
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

// keepDialled is the goroutine that keeps one peer connected. The engine's own redialling
// is not used: it waits ever longer, up to 16 hours, and two nodes that dial each other at
// the same moment may refuse each other's call.
func (n *Node) keepDialled(ctx context.Context, e *engine, peer string) error {
	name, _, _ := strings.Cut(peer, "@")
	id, own := p2p.ID(name), e.node.NodeInfo().ID()
	if id == own {
		return nil
	}
	yield := time.Duration(0)
	if own > id {
		yield = dialYield
	}
	timer := time.NewTimer(yield)
	defer timer.Stop()
	pause := dialEvery
	missed := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		sw := e.node.Switch()
		switch {
		case sw.Peers().Has(id):
			pause, missed = dialEvery, false
			timer.Reset(dialEvery)
			continue
		case !missed: // just lost: the one with the smaller id goes first
			missed = true
			timer.Reset(yield)
			continue
		}
		if err := dial(sw, peer); err != nil {
			n.log.DebugContext(ctx, "engine peer not reached", "peer", peer, "again_in", pause, "err", err)
		}
		timer.Reset(pause/2 + rand.N(pause)) //nolint:gosec // jitter is no secret
		pause = min(2*pause, dialPauseTo)
	}
}

// dial resolves the name each time, since a home's address may change.
func dial(sw p2p.Switcher, peer string) error {
	addr, err := p2p.NewNetAddressString(peer)
	if err != nil {
		return err
	}
	err = sw.DialPeerWithAddress(addr)
	if busy := (p2p.ErrCurrentlyDialingOrExistingAddress{}); errors.As(err, &busy) {
		return nil
	}
	return err
}
