package p2p

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// recheckEvery is how often the gate asks again about everybody who is connected.
	recheckEvery = 30 * time.Second
	// auditEvery is how often connections and topics are compared with what they should
	// be; deafAfter is how many audits in a row must find the same fault.
	auditEvery = time.Second
	deafAfter  = 3
	// straightAfter is how long a direct connection must have lasted before relayed ones of
	// the same peer are given up.
	straightAfter = 2 * time.Second
	// probeTimeout is how long a connection has to show a sign of life.
	probeTimeout = 3 * time.Second
	// probeMax is how far apart the probes of several connections with one peer get, as long
	// as they stay the same. Two dials that crossed leave two for good, and a probe of both
	// from either side costs two kilobytes.
	probeMax = 5 * time.Minute
)

// patrol rechecks now and then, in case nobody calls Recheck, forgets peers that are
// long gone, and audits.
func (h *Host) patrol(ctx context.Context) {
	recheck, audit := time.NewTicker(recheckEvery), time.NewTicker(auditEvery)
	defer recheck.Stop()
	defer audit.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-recheck.C:
			h.Recheck()
			h.table.sweep(now)
		case now := <-audit.C:
			h.audit()
			h.dismiss(now)
		}
	}
}

// audit finds the two ways in which a peer that died unnoticed and came back can stay
// half connected, and starts over with it: the routers of both sides begin anew with a
// new connection.
//
//   - It has announced a topic on a living stream and yet gets nothing of it. The router
//     loses a peer when the end of an old stream reaches it after the beginning of the
//     new one, or when opening its own stream failed once, and it never tries again.
//   - It has several connections, and one of them is dead. The router may go on writing
//     to that one until it times out.
func (h *Host) audit() {
	gets := make(map[peer.ID]map[string]bool)
	for _, name := range h.topics.names() {
		for _, id := range h.gossip.ListPeers(name) {
			if gets[id] == nil {
				gets[id] = make(map[string]bool)
			}
			gets[id][name] = true
		}
	}
	peers := h.host.Network().Peers()
	h.punch.audit(peers)
	for _, id := range peers {
		h.straighten(id)
		st := h.table.lookup(id)
		if st == nil {
			continue
		}
		if st.deafness(func(topic string) bool { return gets[id][topic] || h.topics.get(topic) == nil }) >= deafAfter {
			h.restart(id, "peer does not get a topic that it has joined")
		} else if conns := direct(h.host.Network().ConnsToPeer(id)); len(conns) > 1 && st.probes.due(conns, time.Now()) && st.probing.CompareAndSwap(false, true) {
			h.spawn(func(ctx context.Context) {
				defer st.probing.Store(false)
				for _, c := range conns {
					if !alive(ctx, c) && !c.IsClosed() && ctx.Err() == nil {
						h.restart(id, "peer has a dead connection besides another one")
						return
					}
				}
			})
		}
	}
}

// probes is when the connections with one peer are probed. The patrol owns it.
type probes struct {
	of    []string // ids of the connections
	next  time.Time
	pause time.Duration
}

// due says whether to probe now: at once when they are others than before, then ever more
// rarely.
func (p *probes) due(conns []network.Conn, now time.Time) bool {
	ids := make([]string, len(conns))
	for i, c := range conns {
		ids[i] = c.ID()
	}
	slices.Sort(ids)
	if !slices.Equal(ids, p.of) {
		*p = probes{of: ids, pause: auditEvery}
	} else if now.Before(p.next) {
		return false
	}
	p.next, p.pause = now.Add(p.pause), min(2*p.pause, probeMax)
	return true
}

// straighten ends the relayed connections of a peer that has had a direct one for a while,
// alive as they are: what runs over them begins anew on that one.
func (h *Host) straighten(id peer.ID) {
	conns := h.host.Network().ConnsToPeer(id)
	if d := direct(conns); len(d) == 0 || time.Since(d[0].Stat().Opened) < straightAfter {
		return
	}
	for _, c := range conns {
		if relayed(c.RemoteMultiaddr()) { // not by dropDead, which keeps what is alive
			h.spawn(func(ctx context.Context) {
				if err := c.Close(); err != nil {
					h.log.DebugContext(ctx, "closing relayed connection", "peer", id.String(), "err", err)
				}
			})
		}
	}
}

// restart ends all connections of a peer. Whichever side knows the other's address dials
// again.
func (h *Host) restart(id peer.ID, why string) {
	h.count.restarted.Add(1)
	h.log.Info("starting over with peer", "peer", id.String(), "reason", why)
	if err := h.host.Network().ClosePeer(id); err != nil {
		h.log.Debug("closing connections", "peer", id.String(), "err", err)
	}
}

// alive opens a stream on a connection and reports whether the other side says anything.
// Every libp2p node answers the first line of a protocol negotiation with its own.
func alive(ctx context.Context, c network.Conn) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	s, err := c.NewStream(ctx)
	if err != nil {
		return false
	}
	defer bind(ctx, s)()
	defer func() { _ = s.Reset() }() // it has served its purpose
	if _, err := io.WriteString(s, "\x13/multistream/1.0.0\n"); err != nil {
		return false
	}
	_, err = io.ReadFull(s, make([]byte, 1))
	return err == nil
}
