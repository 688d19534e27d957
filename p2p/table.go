package p2p

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

const (
	// retainPeer is how long a disconnected peer's buckets and penalties are kept, so
	// that reconnecting does not wash them away.
	retainPeer = 10 * time.Minute
	// maxTable bounds the table; beyond it the longest-gone peers are forgotten first.
	maxTable = 4096
	// maxTopics is how many topics one peer may announce.
	maxTopics = 32
	// ownRate and ownBurst are the token bucket of what one peer's host asks for itself.
	ownRate  = 2
	ownBurst = 16
	// penaltyHalfLife is how fast penalty points fade; maxPenalty bounds them.
	penaltyHalfLife = time.Minute
	maxPenalty      = 1000.0
)

// peerState is what we remember about one peer.
type peerState struct {
	id   peer.ID
	text PeerID // id in text form: encoding it for every message would cost more than the checks

	messages *rate.Limiter // gossip messages
	frames   *rate.Limiter // cost of reading frames, see frameCost
	streams  *rate.Limiter // gossip streams opened
	requests *rate.Limiter
	own      *rate.Limiter // requests of the network itself
	tunnels  *rate.Limiter // streams opened for tunnels
	inflight atomic.Int64  // messages between inspection and verdict, an estimate that heals
	wake     chan struct{} // capacity 1: inflight fell
	serving  atomic.Int64  // requests being handled
	probes   probes        // of several connections
	probing  atomic.Bool   // its connections are being probed

	mu         sync.Mutex
	penalty    float64 // points at the time penalised
	penalised  time.Time
	stream     *inStream           // the gossip stream that the peer sends on, if any
	topics     map[string]struct{} // announced on it, at most maxTopics
	deaf       int                 // audits in a row that found the peer missing from a topic
	connected  bool
	lastActive time.Time
}

// punish adds points, which fade with penaltyHalfLife.
func (s *peerState) punish(points float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.penalty = min(maxPenalty, s.faded(now)+points)
	s.penalised = now
}

func (s *peerState) faded(now time.Time) float64 {
	if s.penalty == 0 {
		return 0
	}
	return s.penalty * math.Exp2(-float64(now.Sub(s.penalised))/float64(penaltyHalfLife))
}

func (s *peerState) points() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faded(time.Now())
}

// begin notes the stream that the peer announces its topics on from now on.
func (s *peerState) begin(in *inStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream, s.deaf = in, 0
	clear(s.topics)
}

// finish notes the end of a stream, which may have been replaced meanwhile.
func (s *peerState) finish(in *inStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stream == in {
		s.stream, s.deaf = nil, 0
		clear(s.topics)
	}
}

// deafness takes the result of an audit, which says for each topic whether all is well,
// and returns how many in a row have found something wrong.
func (s *peerState) deafness(well func(topic string) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf++
	for topic := range s.topics {
		if !well(topic) {
			return s.deaf
		}
	}
	s.deaf = 0
	return 0
}

// announce records a topic and reports whether the peer may announce it.
func (s *peerState) announce(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.topics[topic]; ok {
		return true
	}
	if len(s.topics) >= maxTopics {
		return false
	}
	s.topics[topic] = struct{}{}
	return true
}

func (s *peerState) withdraw(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.topics, topic)
}

// release ends the validation of one message.
func (s *peerState) release() {
	for {
		n := s.inflight.Load()
		if n <= 0 {
			return
		}
		if s.inflight.CompareAndSwap(n, n-1) {
			break
		}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// table holds the state of all peers that are connected or were so lately.
type table struct {
	limits Limits
	mu     sync.Mutex
	peers  map[peer.ID]*peerState
}

func newTable(l Limits) *table {
	return &table{limits: l, peers: make(map[peer.ID]*peerState)}
}

// get returns the peer's state, which it creates if need be. Only members get that far.
func (t *table) get(id peer.ID) *peerState {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.peers[id]
	if !ok {
		s = &peerState{
			id: id, text: PeerID(id.String()),
			messages: rate.NewLimiter(rate.Limit(t.limits.MessageRate), t.limits.MessageBurst),
			frames:   rate.NewLimiter(frameRate, frameBurst),
			streams:  rate.NewLimiter(streamRate, streamBurst),
			requests: rate.NewLimiter(rate.Limit(t.limits.RequestRate), t.limits.RequestBurst),
			own:      rate.NewLimiter(ownRate, ownBurst),
			tunnels:  rate.NewLimiter(tunnelRate, tunnelBurst),
			wake:     make(chan struct{}, 1),
			topics:   make(map[string]struct{}),
		}
		s.lastActive = time.Now()
		t.peers[id] = s
	}
	return s
}

// lookup returns the peer's state or nil.
func (t *table) lookup(id peer.ID) *peerState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.peers[id]
}

// setConnected notes that a peer has come or gone.
func (t *table) setConnected(id peer.ID, on bool) {
	s := t.get(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.lastActive = on, time.Now()
}

// sweep forgets peers that have been gone for long, and the longest-gone ones above
// maxTable.
func (t *table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for keep := retainPeer; ; keep /= 2 {
		for id, s := range t.peers {
			s.mu.Lock()
			gone := !s.connected && now.Sub(s.lastActive) >= keep
			s.mu.Unlock()
			if gone {
				delete(t.peers, id)
			}
		}
		if len(t.peers) <= maxTable || keep == 0 {
			return
		}
	}
}
