package p2p

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// runProtocol asks a connection which run of its host is at the other end, and to prove that
// it has the network key. The question is a nonce, the answer the run's id and a signature.
const runProtocol = "/commonwatt/run/1"

const (
	runDomain  = "commonwatt/run/1"
	runIDBytes = 16
	nonceBytes = 32
	proofBytes = runIDBytes + ed25519.SignatureSize
	// runTimeout is how long a connection has to say which run is at its other end. After
	// it, it counts as dead.
	runTimeout = time.Second
	// rivalFor is for how long it is remembered that a peer's earlier connection was alive
	// while the peer dialled anew.
	rivalFor = 10 * time.Second
)

// newRun draws the id of a run. A host that is started again has another one.
func newRun() (id [runIDBytes]byte) {
	_, _ = rand.Read(id[:]) // never fails, see crypto/rand
	return id
}

// proveRun is this run's proof for somebody's nonce.
func (h *Host) proveRun(nonce []byte) []byte {
	return append(slices.Clone(h.run[:]), ed25519.Sign(h.key, runMessage(h.run[:], nonce))...)
}

func runMessage(run, nonce []byte) []byte {
	return slices.Concat([]byte(runDomain), run, nonce)
}

// runOf checks a proof and returns the id of the run that made it.
func runOf(pub ed25519.PublicKey, nonce, proof []byte) (id [runIDBytes]byte, ok bool) {
	if len(proof) != proofBytes || len(nonce) != nonceBytes {
		return id, false
	}
	copy(id[:], proof)
	return id, ed25519.Verify(pub, runMessage(proof[:runIDBytes], nonce), proof[runIDBytes:])
}

// Elsewhere says whether a proof for our nonce was made with our network key, and not by this
// run: another process has the key, and is alive.
func (t *Tunnels) Elsewhere(nonce, proof []byte) bool {
	id, ok := runOf(t.h.key.Public().(ed25519.PublicKey), nonce, proof)
	return ok && id != t.h.run
}

// Runs asks each connection of a member which run is at its other end, and returns the
// proofs of the different ones: more than one if two processes have the same key.
func (t *Tunnels) Runs(ctx context.Context, of ed25519.PublicKey, nonce []byte) [][]byte {
	id, err := idOf(of)
	if err != nil || len(nonce) != nonceBytes {
		return nil
	}
	conns := t.h.host.Network().ConnsToPeer(id)
	conns = conns[:min(len(conns), 8)] // the resource manager lets no more be
	proofs := make([][]byte, len(conns))
	var asking sync.WaitGroup
	for i, c := range conns {
		asking.Go(func() { proofs[i] = t.h.askRun(ctx, c, of, nonce) })
	}
	asking.Wait()
	proofs = slices.DeleteFunc(proofs, func(p []byte) bool { return p == nil })
	slices.SortFunc(proofs, slices.Compare)
	return slices.CompactFunc(proofs, func(a, b []byte) bool { return [runIDBytes]byte(a) == [runIDBytes]byte(b) })
}

// askRun asks one connection; nil if it does not answer in time or not rightly.
func (h *Host) askRun(ctx context.Context, c network.Conn, pub ed25519.PublicKey, nonce []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	s, err := c.NewStream(network.WithAllowLimitedConn(ctx, "run"))
	if err != nil {
		return nil
	}
	defer bind(ctx, s)()
	defer func() { _ = s.Reset() }() // it has served its purpose
	// The host's own NewStream chooses the connection, so the protocol is negotiated here:
	// each side sends the same two lines.
	hello := negotiation(runProtocol)
	if _, err := s.Write(slices.Concat(hello, nonce)); err != nil {
		return nil
	}
	answer := make([]byte, len(hello)+proofBytes)
	if _, err := io.ReadFull(s, answer); err != nil || string(answer[:len(hello)]) != string(hello) {
		return nil
	}
	proof := answer[len(hello):]
	if _, ok := runOf(pub, nonce, proof); !ok {
		return nil
	}
	return proof
}

// negotiation is what the opener of a stream says first: multistream-select's own name and
// the protocol's, each with its length and a line's end.
func negotiation(protocol string) []byte {
	var out []byte
	for _, line := range []string{"/multistream/1.0.0", protocol} {
		out = binary.AppendUvarint(out, uint64(len(line)+1))
		out = append(append(out, line...), '\n')
	}
	return out
}

// serveRuns lets members ask this run for its proof.
func (h *Host) serveRuns() {
	h.host.SetStreamHandler(protocol.ID(runProtocol), func(s network.Stream) {
		leave, ok := h.enter()
		if !ok {
			_ = s.Reset() // the host is closing
			return
		}
		defer leave()
		if err := h.answerRun(h.lifetime, s); err != nil {
			h.log.Debug("answering which run this is", "peer", s.Conn().RemotePeer().String(), "err", err)
			_ = s.Reset() // nothing to say
		}
	})
}

func (h *Host) answerRun(ctx context.Context, s network.Stream) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	defer bind(ctx, s)()
	id := s.Conn().RemotePeer()
	if !h.gate.allows(id) {
		return ErrNotMember
	}
	if !h.table.get(id).requests.Allow() {
		return ErrBusy
	}
	nonce := make([]byte, nonceBytes)
	if _, err := io.ReadFull(s, nonce); err != nil {
		return fmt.Errorf("reading nonce: %w", err)
	}
	if _, err := s.Write(h.proveRun(nonce)); err != nil {
		return fmt.Errorf("writing proof: %w", err)
	}
	return s.Close()
}

// rivals remembers peers whose earlier connection was found alive when they dialled anew:
// the same network key in two places.
type rivals struct {
	mu     sync.Mutex
	at     map[peer.ID]time.Time // at most one for each member, the old ones swept
	asking map[network.Conn]bool // connections that are being asked
}

// begin says whether a connection is to be asked; it is, once at a time.
func (r *rivals) begin(c network.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asking[c] {
		return false
	}
	if r.asking == nil {
		r.asking = make(map[network.Conn]bool)
	}
	r.asking[c] = true
	return true
}

func (r *rivals) end(c network.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asking, c)
}

func (r *rivals) note(id peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for old, at := range r.at {
		if now.Sub(at) > rivalFor {
			delete(r.at, old)
		}
	}
	if r.at == nil {
		r.at = make(map[peer.ID]time.Time)
	}
	r.at[id] = now
}

func (r *rivals) has(id peer.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.at[id]
	return ok && time.Since(at) <= rivalFor
}

// dropDead closes a connection that its peer seems to have lost, unless somebody is alive at
// its other end: then two processes have the same network key, and both are let in, so that
// the younger one can be told.
func (h *Host) dropDead(ctx context.Context, c network.Conn) {
	if !h.gate.rivals.begin(c) {
		return
	}
	defer h.gate.rivals.end(c)
	id := c.RemotePeer()
	pub, ok := networkKey(id)
	nonce := make([]byte, nonceBytes)
	_, _ = rand.Read(nonce) // never fails, see crypto/rand
	if ok && h.askRun(ctx, c, pub, nonce) != nil {
		h.gate.rivals.note(id)
		h.log.InfoContext(ctx, "a peer dials though its connection is alive", "peer", id.String())
		return
	}
	h.count.superseded.Add(1)
	if err := c.Close(); err != nil {
		h.log.DebugContext(ctx, "closing superseded connection", "peer", id.String(), "err", err)
	}
}
