package p2p

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"runtime"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Score thresholds. Below GossipScore a peer gets no gossip from us and its gossip is
// not followed; below PublishScore it does not get our own messages; below GraylistScore
// nothing is taken from it.
const (
	GossipScore   = -40.0
	PublishScore  = -80.0
	GraylistScore = -160.0
)

const (
	// seenFor is how long message ids are remembered.
	seenFor = time.Minute
	// outboundFrames is how many frames wait for one slow reader before more are dropped.
	// Frames to several peers share their payloads.
	outboundFrames = 256
	// validateSlack is what the validation queue holds beyond a burst of all peers at
	// once, which the token buckets let through.
	validateSlack = 1024
	// validateTimeout ends the context that the caller's validate gets.
	validateTimeout = 5 * time.Second
	maxTopicName    = 128
)

// messageID is SHA-256 over the topic's SHA-256 and the payload.
func messageID(m *pb.Message) string {
	topic := sha256.Sum256([]byte(m.GetTopic()))
	h := sha256.New()
	h.Write(topic[:])
	h.Write(m.GetData())
	return string(h.Sum(nil))
}

func newGossip(ctx context.Context, h *Host) (*pubsub.PubSub, error) {
	params := pubsub.DefaultGossipSubParams()
	// IDONTWANT saves bytes and costs CPU; for small payloads CPU is the dearer one.
	params.IDontWantMessageThreshold = 8 << 10
	quiet := slog.New(slog.DiscardHandler)
	return pubsub.NewGossipSub(ctx, &gossipHost{Host: h.host, in: h.intake},
		pubsub.WithMessageSignaturePolicy(pubsub.StrictNoSign),
		pubsub.WithNoAuthor(),
		pubsub.WithMessageIdFn(messageID),
		pubsub.WithGossipSubParams(params),
		pubsub.WithFloodPublish(true),
		pubsub.WithPeerExchange(false),
		pubsub.WithMaxMessageSize(h.intake.maxFrame),
		pubsub.WithMaxControlMessageSize(min(h.intake.maxFrame, 64<<10)),
		pubsub.WithPeerOutboundQueueSize(outboundFrames),
		pubsub.WithValidateQueueSize(h.limits.TotalBurst+validateSlack),
		pubsub.WithValidateWorkers(max(2, runtime.NumCPU())),
		pubsub.WithSeenMessagesTTL(seenFor),
		pubsub.WithSubscriptionFilter(subscriptions{h}),
		pubsub.WithAppSpecificRpcInspector(h.intake.inspect),
		pubsub.WithRawTracer(tracer{h}),
		pubsub.WithPeerScore(peerScore(h), &pubsub.PeerScoreThresholds{
			GossipThreshold: GossipScore, PublishThreshold: PublishScore, GraylistThreshold: GraylistScore,
			AcceptPXThreshold: 1000, OpportunisticGraftThreshold: 1,
		}),
		pubsub.WithPeerScoreInspect(func(m map[peer.ID]float64) { h.intake.snapshot.Store(&m) }, time.Second),
		// The router's own log lines can be provoked by any peer; what matters of them is
		// counted in Stats.
		pubsub.WithLogger(quiet), pubsub.WithRPCLogger(quiet),
	)
}

// peerScore has no term for peers that share an address (homes behind one router do),
// nor for peers that deliver little (a quiet community is no fault of theirs).
func peerScore(h *Host) *pubsub.PeerScoreParams {
	return &pubsub.PeerScoreParams{
		Topics:            make(map[string]*pubsub.TopicScoreParams),
		TopicScoreCap:     10,
		AppSpecificWeight: 1,
		AppSpecificScore: func(id peer.ID) float64 {
			if st := h.table.lookup(id); st != nil {
				return -st.points()
			}
			return 0
		},
		// Grafting against the back-off, and IHAVE without the message: forgiven up to
		// ten, for a limited message looks like a broken promise too.
		BehaviourPenaltyWeight:    -1,
		BehaviourPenaltyThreshold: 10,
		BehaviourPenaltyDecay:     pubsub.ScoreParameterDecay(10 * time.Minute),
		DecayInterval:             time.Second,
		DecayToZero:               0.01,
		RetainScore:               retainPeer,
		SeenMsgTTL:                seenFor,
	}
}

// topicScore: at most a few points of credit for usefulness, which order the mesh, and
// n² × 2 against rejected messages, which also reaches those who relayed them.
func topicScore() *pubsub.TopicScoreParams {
	return &pubsub.TopicScoreParams{
		TopicWeight:                     1,
		TimeInMeshWeight:                0.01,
		TimeInMeshQuantum:               time.Second,
		TimeInMeshCap:                   300,
		FirstMessageDeliveriesWeight:    0.1,
		FirstMessageDeliveriesDecay:     pubsub.ScoreParameterDecay(10 * time.Minute),
		FirstMessageDeliveriesCap:       50,
		MeshMessageDeliveriesDecay:      0.5,
		MeshMessageDeliveriesCap:        1,
		MeshMessageDeliveriesThreshold:  1,
		MeshMessageDeliveriesActivation: time.Minute,
		MeshFailurePenaltyDecay:         0.5,
		InvalidMessageDeliveriesWeight:  -2,
		InvalidMessageDeliveriesDecay:   pubsub.ScoreParameterDecay(10 * time.Minute),
	}
}

// subscriptions bounds what peers may announce. Topics not joined yet are remembered,
// since a peer announces each only once.
type subscriptions struct{ h *Host }

func (s subscriptions) CanSubscribe(topic string) bool {
	return topic != "" && len(topic) <= maxTopicName
}

func (s subscriptions) FilterIncomingSubscriptions(from peer.ID, subs []*pb.RPC_SubOpts) ([]*pb.RPC_SubOpts, error) {
	if len(subs) > 4*maxTopics {
		return nil, pubsub.ErrTooManySubscriptions
	}
	st := s.h.table.get(from)
	kept := pubsub.FilterSubscriptions(subs, s.CanSubscribe)
	out := kept[:0]
	for _, sub := range kept {
		if !sub.GetSubscribe() {
			st.withdraw(sub.GetTopicid())
		} else if !st.announce(sub.GetTopicid()) {
			continue
		}
		out = append(out, sub)
	}
	return out, nil
}

// tracer counts what the router decides by itself.
type tracer struct{ h *Host }

func (t tracer) DuplicateMessage(m *pubsub.Message) {
	if m.ReceivedFrom == t.h.host.ID() {
		return
	}
	t.h.count.duplicates.Add(1)
	t.release(m)
}

func (t tracer) RejectMessage(m *pubsub.Message, reason string) {
	switch reason {
	case pubsub.RejectValidationFailed, pubsub.RejectValidationIgnored:
		return // counted and released where the verdict was given
	case pubsub.RejectValidationQueueFull, pubsub.RejectValidationThrottled:
		t.h.count.limitedQueue.Add(1)
	default:
		t.h.count.malformed.Add(1)
	}
	t.release(m)
}

func (t tracer) release(m *pubsub.Message) {
	if st := t.h.table.lookup(m.ReceivedFrom); st != nil {
		st.release()
	}
}

// Graft and Prune are told of every change of a topic's mesh, but for a peer that leaves.
func (t tracer) Graft(id peer.ID, topic string) {
	if tp := t.h.topics.get(topic); tp != nil {
		tp.mesh.add(id)
	}
}

func (t tracer) Prune(id peer.ID, topic string) {
	if tp := t.h.topics.get(topic); tp != nil {
		tp.mesh.remove(id)
	}
}

func (t tracer) OnClosedOutboundStream(id peer.ID) { t.h.topics.forget(id) }

func (t tracer) DropRPC(*pubsub.RPC, peer.ID)             { t.h.count.unsent.Add(1) }
func (t tracer) UndeliverableMessage(*pubsub.Message)     { t.h.count.undelivered.Add(1) }
func (t tracer) OnNewOutboundStream(peer.ID, protocol.ID) {}
func (t tracer) Join(string)                              {}
func (t tracer) Leave(string)                             {}
func (t tracer) ValidateMessage(*pubsub.Message)          {}
func (t tracer) DeliverMessage(*pubsub.Message)           {}
func (t tracer) ThrottlePeer(peer.ID)                     {}
func (t tracer) RecvRPC(*pubsub.RPC)                      {}
func (t tracer) SendRPC(*pubsub.RPC, peer.ID)             {}
