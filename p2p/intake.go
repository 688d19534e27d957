package p2p

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"
)

const (
	// frameOverhead is what a frame may hold besides one payload of the largest size:
	// topic, framing, and piggybacked control messages.
	frameOverhead = 8 << 10
	// frameRate and frameBurst pace the reading of one peer's frames, in cost units of
	// one per frame plus one per KiB: about 4 MiB or 4000 small frames per second. Above
	// it the peer is read later, never dropped.
	frameRate  = 4096
	frameBurst = 2048
	// streamRate and streamBurst bound how often a peer may open a gossip stream, which
	// is what it must do again after each frame that cannot be decoded.
	streamRate  = 1
	streamBurst = 16
	// inflightPerPeer is how many messages of one peer may await their verdict before
	// its next frame is read; inflightPatience is how long that is waited for. The
	// estimate can be too high (a graylisted peer's messages get no verdict), so the
	// wait ends by resetting it.
	inflightPerPeer  = 32
	inflightPatience = 250 * time.Millisecond

	costOversized = 40.0
	costRejected  = 20.0
	costLimited   = 0.25
)

var (
	errFormerMember = errors.New("sender is not a member")
	errGraylisted   = errors.New("sender is graylisted")
)

// intake is what a gossip message meets before the router sees it (invariants P2 to P4).
type intake struct {
	h        *Host
	total    *rate.Limiter
	maxFrame int
	snapshot atomic.Pointer[map[peer.ID]float64]
}

func newIntake(h *Host) *intake {
	return &intake{
		h: h, total: rate.NewLimiter(rate.Limit(h.limits.TotalRate), h.limits.TotalBurst),
		maxFrame: h.limits.MessageSize + frameOverhead,
	}
}

// score returns the router's score of a peer, at most a second old, or our own penalty
// points if they are worse. The router keeps no score of a peer that does not accept its
// stream, so that by its account such a peer may do anything.
func (in *intake) score(id peer.ID) float64 {
	var score float64
	if m := in.snapshot.Load(); m != nil {
		score = (*m)[id]
	}
	if st := in.h.table.lookup(id); st != nil {
		score = min(score, -st.points())
	}
	return score
}

// inspect is called by the router's loop for every frame, before anything else happens
// to it. It takes out of the frame what must not go on.
func (in *intake) inspect(from peer.ID, rpc *pubsub.RPC) error {
	c := &in.h.count
	n := uint64(len(rpc.Publish))
	c.received.Add(n)
	if !in.h.gate.allows(from) {
		c.notMember.Add(n)
		in.h.spawn(func(context.Context) { in.h.expel(from) })
		return errFormerMember
	}
	if in.score(from) < GraylistScore {
		c.limitedGraylist.Add(n)
		return errGraylisted
	}
	if n == 0 {
		return nil
	}
	st := in.h.table.get(from)
	kept := rpc.Publish[:0]
	for _, m := range rpc.Publish {
		if in.admit(st, m) {
			kept = append(kept, m)
		}
	}
	clear(rpc.Publish[len(kept):])
	rpc.Publish = kept
	st.inflight.Add(int64(len(kept)))
	return nil
}

// admit applies the limits to one message, cheapest first.
func (in *intake) admit(st *peerState, m *pb.Message) bool {
	c := &in.h.count
	t := in.h.topics.get(m.GetTopic())
	switch {
	case t == nil:
		c.noTopic.Add(1)
	case len(m.GetData()) > t.maxSize:
		c.oversized.Add(1)
		st.punish(costOversized)
	case !st.messages.Allow():
		c.limitedRate.Add(1)
		st.punish(costLimited)
	case !in.total.Allow():
		c.limitedTotal.Add(1)
	default:
		return true
	}
	return false
}

// gossipHost is the host as the gossip router sees it: its streams pass through intake.
type gossipHost struct {
	host.Host
	in *intake
}

func (g *gossipHost) SetStreamHandler(id protocol.ID, handle network.StreamHandler) {
	g.Host.SetStreamHandler(id, func(s network.Stream) {
		id := s.Conn().RemotePeer()
		if !g.in.h.gate.allows(id) {
			g.in.h.spawn(func(context.Context) { g.in.h.expel(id) })
			_ = s.Reset() // nothing else can be done about it
			return
		}
		st := g.in.h.table.get(id)
		if !st.streams.Allow() {
			g.in.h.count.limitedStreams.Add(1)
			st.punish(costLimited)
			_ = s.Reset() // the stream is refused; nothing else can be done about it
			return
		}
		ctx, cancel := context.WithCancel(g.in.h.lifetime)
		in := &inStream{Stream: s, in: g.in, st: st, ctx: ctx, cancel: cancel}
		st.begin(in)
		handle(in)
		in.finish()
	})
}

func (g *gossipHost) NewStream(ctx context.Context, id peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	if !g.in.h.gate.allows(id) {
		return nil, ErrNotMember // a guest is not told which topics there are
	}
	s, err := g.Host.NewStream(ctx, id, protocols...)
	if err != nil {
		return nil, err
	}
	return &outStream{Stream: s, count: &g.in.h.count}, nil
}

// outStream counts what is sent.
type outStream struct {
	network.Stream
	count *counters
}

func (s *outStream) Write(p []byte) (int, error) {
	n, err := s.Stream.Write(p)
	s.count.gossipOut.Add(uint64(len(p[:n])))
	return n, err
}

// inStream watches the frames that a peer sends: it refuses those above the limit before
// they are read, and delays the next one while the peer is ahead of what it may cost.
type inStream struct {
	network.Stream
	in     *intake
	st     *peerState
	ctx    context.Context // ends with the stream or the host; a stream's Read has none
	cancel context.CancelFunc
	end    sync.Once
	frames frameMeter
}

// errOversized is what the router gets to read instead of an oversized frame.
var errOversized = errors.New("gossip frame too large")

func (s *inStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	s.in.h.count.gossipIn.Add(uint64(len(p[:n])))
	cost := 0
	for _, size := range s.frames.feed(p[:n]) {
		if size > uint64(s.in.maxFrame) { //nolint:gosec // a positive size
			s.in.h.count.oversized.Add(1)
			s.st.punish(costOversized)
			_ = s.Reset() // the read fails anyway
			return 0, errOversized
		}
		cost += 1 + int(size>>10)
	}
	if cost > 0 {
		if werr := s.admitFrames(cost); werr != nil {
			return 0, werr
		}
	}
	return n, err
}

// admitFrames waits until the peer may be read further.
func (s *inStream) admitFrames(cost int) error {
	if err := s.st.frames.WaitN(s.ctx, min(cost, frameBurst)); err != nil {
		return err
	}
	if s.st.inflight.Load() < inflightPerPeer {
		return nil
	}
	patience := time.NewTimer(inflightPatience)
	defer patience.Stop()
	for s.st.inflight.Load() >= inflightPerPeer {
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-s.st.wake:
		case <-patience.C:
			s.st.inflight.Store(0)
		}
	}
	return nil
}

func (s *inStream) finish() {
	s.end.Do(func() {
		s.cancel()
		s.st.finish(s)
	})
}

func (s *inStream) Reset() error {
	s.finish()
	return s.Stream.Reset()
}

func (s *inStream) Close() error {
	s.finish()
	return s.Stream.Close()
}

// insane is the size of a frame whose length is not a sane number.
const insane = math.MaxUint64

// frameMeter finds the frames in a stream of varint-prefixed frames, however it is cut.
type frameMeter struct {
	prefix uint64 // value of the prefix so far
	shift  uint   // bits of the prefix so far
	body   uint64 // bytes of the frame still to come
}

// feed takes the next bytes and returns the sizes of the frames that begin in them. After
// an insane one it must not be fed again.
func (m *frameMeter) feed(p []byte) []uint64 {
	var sizes []uint64
	for len(p) > 0 {
		if m.body > 0 {
			n := min(m.body, uint64(len(p)))
			m.body -= n
			p = p[n:]
			continue
		}
		b := p[0]
		p = p[1:]
		if m.shift >= 63 {
			return append(sizes, insane)
		}
		m.prefix |= uint64(b&0x7f) << m.shift
		m.shift += 7
		if b&0x80 == 0 {
			sizes = append(sizes, m.prefix)
			m.body, m.prefix, m.shift = m.prefix, 0, 0
		}
	}
	return sizes
}
