package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// deliverQueue is how many accepted messages of one topic wait for deliver before more
// are dropped (and counted as Undelivered).
const deliverQueue = 1024

// Verdict is the caller's judgement of a message. The zero Verdict is not one of them
// and counts as Ignore.
type Verdict int

// The verdicts.
const (
	// Accept delivers the message here and forwards it.
	Accept Verdict = iota + 1
	// Reject drops the message and counts against every peer that sent it: for what no
	// honest peer can have forwarded, such as a bad signature.
	Reject
	// Ignore drops the message without blame: for what an honest peer may have forwarded,
	// such as a message that is late, or whose author is not known here yet.
	Ignore
)

func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	case Ignore:
		return "ignore"
	}
	return fmt.Sprintf("verdict(%d)", int(v))
}

// topicSet is the topics that are joined.
type topicSet struct {
	mu     sync.RWMutex
	byName map[string]*Topic
}

func (s *topicSet) get(name string) *Topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byName[name]
}

func (s *topicSet) names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.byName))
}

func (s *topicSet) add(name string, t *Topic) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.byName[name]; ok {
		return false
	}
	s.byName[name] = t
	return true
}

func (s *topicSet) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
}

// forget takes a peer that has gone out of all meshes.
func (s *topicSet) forget(id peer.ID) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.byName {
		t.mesh.remove(id)
	}
}

// peerSet is a set of peers, written by the router's loop.
type peerSet struct {
	mu  sync.Mutex
	ids map[peer.ID]struct{}
}

func (s *peerSet) add(id peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = make(map[peer.ID]struct{})
	}
	s.ids[id] = struct{}{}
}

func (s *peerSet) remove(id peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ids, id)
}

func (s *peerSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

// Topic is a joined topic.
type Topic struct {
	h        *Host
	name     string
	maxSize  int
	mesh     peerSet
	validate func(ctx context.Context, from PeerID, data []byte) Verdict
	topic    *pubsub.Topic
	sub      *pubsub.Subscription
	done     chan struct{} // closed when the delivery goroutine has ended
	close    sync.Once
	closeErr error
}

// Join subscribes to a topic. Payloads are at most maxSize bytes, which is at most
// Limits.MessageSize.
//
// validate judges every payload of another peer that passed the limits (invariant P2),
// once per payload and minute. It runs concurrently with itself, on as many goroutines as
// there are cores, and holds up other messages while it runs.
//
// deliver gets every accepted payload of another peer, sequentially, from one goroutine
// of the topic, through a queue of 1024. Own messages are not delivered: their publisher
// has them. A deliver that is slower than the traffic loses messages (Stats.Undelivered).
//
// from is the peer that passed the payload on, not its author. Neither function may
// change data; deliver may keep it.
func (h *Host) Join(topic string, maxSize int,
	validate func(ctx context.Context, from PeerID, data []byte) Verdict,
	deliver func(from PeerID, data []byte),
) (*Topic, error) {
	switch {
	case topic == "" || len(topic) > maxTopicName:
		return nil, fmt.Errorf("%w: topic name has %d bytes, want 1 to %d", ErrConfig, len(topic), maxTopicName)
	case maxSize <= 0 || maxSize > h.limits.MessageSize:
		return nil, fmt.Errorf("%w: topic %q has maxSize %d, want 1 to Limits.MessageSize %d", ErrConfig, topic, maxSize, h.limits.MessageSize)
	case validate == nil || deliver == nil:
		return nil, fmt.Errorf("%w: topic %q needs validate and deliver", ErrConfig, topic)
	}
	t := &Topic{h: h, name: topic, maxSize: maxSize, validate: validate, done: make(chan struct{})}
	if !h.topics.add(topic, t) {
		return nil, fmt.Errorf("%w: topic %q is joined already", ErrConfig, topic)
	}
	if err := t.join(deliver); err != nil {
		h.topics.remove(topic)
		if h.lifetime.Err() != nil {
			err = ErrClosed
		}
		return nil, fmt.Errorf("joining topic %q: %w", topic, err)
	}
	return t, nil
}

// join leaves nothing behind in the router if it fails.
func (t *Topic) join(deliver func(from PeerID, data []byte)) (err error) {
	g := t.h.gossip
	err = g.RegisterTopicValidator(t.name, pubsub.ValidatorEx(t.judge),
		pubsub.WithValidatorInline(true), pubsub.WithValidatorTimeout(validateTimeout))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.UnregisterTopicValidator(t.name))
		}
	}()
	if t.topic, err = g.Join(t.name); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.topic.Close())
		}
	}()
	if err := t.topic.SetScoreParams(topicScore()); err != nil {
		return err
	}
	self := t.h.host.ID()
	t.sub, err = t.topic.Subscribe(pubsub.WithBufferSize(deliverQueue),
		pubsub.WithMessageFilter(func(m *pubsub.Message) bool { return m.ReceivedFrom != self }))
	if err != nil {
		return err
	}
	if !t.h.spawn(func(ctx context.Context) { t.run(ctx, deliver) }) {
		t.sub.Cancel()
		return ErrClosed
	}
	return nil
}

// judge asks the caller and keeps the accounts.
func (t *Topic) judge(ctx context.Context, from peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	if from == t.h.host.ID() {
		return pubsub.ValidationAccept // invariant P5
	}
	st := t.h.table.get(from)
	defer st.release()
	switch t.validate(ctx, st.text, m.GetData()) {
	case Accept:
		t.h.count.accepted.Add(1)
		return pubsub.ValidationAccept
	case Reject:
		t.h.count.rejected.Add(1)
		st.punish(costRejected)
		return pubsub.ValidationReject
	case Ignore:
	}
	t.h.count.ignored.Add(1)
	return pubsub.ValidationIgnore
}

func (t *Topic) run(ctx context.Context, deliver func(from PeerID, data []byte)) {
	defer close(t.done)
	for {
		m, err := t.sub.Next(ctx)
		if err != nil {
			return
		}
		deliver(PeerID(m.ReceivedFrom.String()), m.GetData())
		t.h.count.delivered.Add(1)
	}
}

// Publish sends a payload to every peer of the topic. It returns when the payload is on
// its way, not when it has arrived; with no peers it goes nowhere. It does not validate:
// the caller must know that its peers will accept the payload. A payload above the
// topic's maxSize is ErrTooLarge. What was published or accepted within the last minute
// is not sent again.
func (t *Topic) Publish(ctx context.Context, data []byte) error {
	if len(data) > t.maxSize {
		return fmt.Errorf("publishing on %q: %w: %d bytes, want at most %d", t.name, ErrTooLarge, len(data), t.maxSize)
	}
	// The router keeps the payload for a while, so it must not be the caller's slice.
	if err := t.topic.Publish(ctx, bytes.Clone(data)); err != nil {
		if errors.Is(err, pubsub.ErrTopicClosed) || t.h.lifetime.Err() != nil {
			err = ErrClosed
		}
		return fmt.Errorf("publishing on %q: %w", t.name, err)
	}
	t.h.count.published.Add(1)
	return nil
}

// Peers returns how many connected peers have joined the topic too: our own messages go
// to all of them.
func (t *Topic) Peers() int { return len(t.h.gossip.ListPeers(t.name)) }

// Mesh returns how many of them we forward other peers' messages to. It lags behind
// Peers by up to a second, during which a message may miss a peer that is not connected
// to its publisher.
func (t *Topic) Mesh() int { return t.mesh.len() }

// Close leaves the topic and waits for a running deliver. It must not be called from
// deliver. It may be called more than once.
func (t *Topic) Close() error {
	t.close.Do(func() {
		t.sub.Cancel()
		<-t.done
		t.h.topics.remove(t.name)
		if t.h.lifetime.Err() != nil {
			return // the router has ended with the host
		}
		err := errors.Join(t.topic.Close(), t.h.gossip.UnregisterTopicValidator(t.name))
		if err != nil && t.h.lifetime.Err() == nil {
			t.closeErr = fmt.Errorf("leaving topic %q: %w", t.name, err)
		}
	})
	return t.closeErr
}
