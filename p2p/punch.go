package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// punchTimeout bounds one attempt of libp2p to punch a hole; it makes three.
	punchTimeout = 5 * time.Second
	// punchMin and punchMax are between which times a punch that failed is tried again. A
	// router that does not let itself be punched will hardly learn it, but homes get new
	// routers and addresses, and at first nobody knows his own address yet.
	punchMin = 3 * time.Second
	punchMax = 10 * time.Minute
	// maxPunching bounds the memory of attempts.
	maxPunching = 1024
)

// puncher turns relayed connections into direct ones (DCUtR). libp2p's service begins by
// itself with each inbound relayed connection; what it does not do is try again.
type puncher struct {
	h       *Host
	service *holepunch.Service

	mu      sync.Mutex
	ready   int // audits in a row that found the service able to work
	tries   map[peer.ID]*punchTry
	through map[string]bool // ids of connections that were made by punching
}

type punchTry struct {
	since time.Time // when the attempt in progress began; zero: none is
	next  time.Time // not again before
	delay time.Duration
}

func newPuncher(h *Host) (*puncher, error) {
	p := &puncher{h: h, tries: make(map[peer.ID]*punchTry), through: make(map[string]bool)}
	ids, ok := h.host.(interface{ IDService() identify.IDService })
	if !ok {
		return nil, errors.New("libp2p's host has no identify service")
	}
	var err error
	p.service, err = holepunch.NewService(h.host, ids.IDService(), p.addrs,
		holepunch.WithTracer(p), holepunch.DirectDialTimeout(punchTimeout))
	if err != nil {
		return nil, fmt.Errorf("starting hole punching: %w", err)
	}
	return p, nil
}

// addrs are where others may punch: what members saw us come from, by QUIC.
func (p *puncher) addrs() []ma.Multiaddr {
	return slices.DeleteFunc(p.h.allAddrs(), func(a ma.Multiaddr) bool {
		_, err := a.ValueForProtocol(ma.P_QUIC_V1)
		return err != nil || !publicAddr(a)
	})
}

// listens are the addresses at which we take QUIC.
func (p *puncher) listens() []ma.Multiaddr {
	return slices.DeleteFunc(p.h.host.Network().ListenAddresses(), func(a ma.Multiaddr) bool { return transportOf(a) == "tcp" || relayed(a) })
}

// Trace is libp2p's account of what it does.
func (p *puncher) Trace(e *holepunch.Event) {
	conns := direct(p.h.host.Network().ConnsToPeer(e.Remote))
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.try(e.Remote)
	switch evt := e.Evt.(type) {
	case *holepunch.StartHolePunchEvt:
		t.since = time.Now()
	case *holepunch.EndHolePunchEvt:
		if evt.Success {
			if len(p.through) >= maxPunching {
				clear(p.through) // the ids of connections that ended before we were told
			}
			for _, c := range conns {
				p.through[c.ID()] = true
			}
		}
		p.h.log.Debug("hole punching", "peer", e.Remote.String(), "success", evt.Success, "err", evt.Error)
		t.since = time.Time{}
	case *holepunch.ProtocolErrorEvt:
		p.h.log.Debug("hole punching", "peer", e.Remote.String(), "err", evt.Error)
		t.since = time.Time{}
	}
}

// try returns the peer's entry; p.mu is held.
func (p *puncher) try(id peer.ID) *punchTry {
	t, ok := p.tries[id]
	if !ok {
		if len(p.tries) >= maxPunching {
			clear(p.tries)
		}
		t = &punchTry{delay: punchMin}
		p.tries[id] = t
	}
	return t
}

// made reports whether a direct connection came about by punching.
func (p *puncher) made(c network.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.through[c.ID()] {
		return true
	}
	t, ok := p.tries[c.RemotePeer()]
	return ok && !t.since.IsZero() && !c.Stat().Opened.Before(t.since)
}

// forget drops what is known of a connection that has ended.
func (p *puncher) forget(c network.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.through, c.ID())
}

// audit tries again for a peer that has been reached by a relay only. The side that was
// dialled begins, as the protocol says.
func (p *puncher) audit(peers []peer.ID) {
	able := len(p.addrs()) > 0 && slices.Contains(p.h.host.Mux().Protocols(), holepunch.Protocol)
	p.mu.Lock()
	p.ready++
	if !able {
		p.ready = 0
	}
	// DirectConnect waits without end for a service that has no address yet, so it is not
	// called before the service has been seen to have one for a while.
	able = p.ready >= 3
	p.mu.Unlock()
	if !able {
		return
	}
	for _, id := range peers {
		conns := p.h.host.Network().ConnsToPeer(id)
		inbound := slices.ContainsFunc(conns, func(c network.Conn) bool {
			return relayed(c.RemoteMultiaddr()) && c.Stat().Direction == network.DirInbound
		})
		if !inbound || len(direct(conns)) > 0 || !p.due(id) {
			continue
		}
		p.h.spawn(func(context.Context) {
			if err := p.service.DirectConnect(id); err != nil {
				p.h.log.Debug("hole punching", "peer", id.String(), "err", err)
			}
		})
	}
}

func (p *puncher) due(id peer.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, now := p.try(id), time.Now()
	if t.next.IsZero() {
		t.next = now.Add(t.delay) // libp2p's own attempt comes first
	}
	if now.Before(t.next) {
		return false
	}
	t.delay = min(2*t.delay, punchMax)
	t.next = now.Add(t.delay)
	return true
}

// lost lets the next connection with a peer begin anew.
func (p *puncher) lost(id peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tries, id)
}
