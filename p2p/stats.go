package p2p

import "sync/atomic"

// Stats counts what a Host has done since New. All values only grow, except Peers.
type Stats struct {
	// Peers is how many peers are connected now.
	Peers int
	// Gated counts connections refused or cut by the gate: not a member. Full counts
	// those refused because Limits.Peers are connected.
	Gated, Full uint64
	// Expelled counts peers disconnected because they are no longer members.
	Expelled uint64
	// Superseded counts connections closed because their peer, having lost them, dialled
	// again. Restarted counts peers disconnected because they were only half connected,
	// to be dialled again.
	Superseded, Restarted uint64
	// Dials and DialFailures count attempts to reach bootstrap and mDNS peers.
	Dials, DialFailures uint64

	// Received counts gossip messages of other peers, duplicates included. Each one then
	// counts in one of the fields below.
	Received uint64
	// Accepted, Rejected and Ignored count the caller's verdicts.
	Accepted, Rejected, Ignored uint64
	// Duplicates counts messages that were seen already.
	Duplicates uint64
	// Malformed counts messages that break the envelope's rules: signed, or with author.
	Malformed uint64
	// NotMember counts messages of peers that are not members any more.
	NotMember uint64
	// NoTopic counts messages on topics that are not joined.
	NoTopic uint64
	// Oversized counts frames and messages above their size limit. An oversized frame is
	// never decoded, so it counts here only, not in Received.
	Oversized uint64
	// Limited counts what was dropped for its sender's sake, per reason.
	Limited Limited

	// Published counts own messages, Delivered calls of deliver, Undelivered accepted
	// messages that were lost because deliver is too slow.
	Published, Delivered, Undelivered uint64
	// Unsent counts outgoing frames dropped because a peer reads too slowly.
	Unsent uint64
	// GossipBytesIn and GossipBytesOut count bytes on gossip streams, framing included.
	GossipBytesIn, GossipBytesOut uint64

	// RequestsIn counts requests handled, RequestsOut requests sent; RequestsFailed those
	// of either that did not end in a reply.
	RequestsIn, RequestsOut, RequestsFailed uint64
	// RequestBytesIn and RequestBytesOut count the bodies of requests and replies.
	RequestBytesIn, RequestBytesOut uint64

	// TunnelsRefused counts streams for a tunnel that were not led on: not a member, too many,
	// or no service here. TunnelsSuperseded counts tunnels ended because their peer, having
	// lost them, opened another.
	TunnelsRefused, TunnelsSuperseded uint64
}

// Limited counts drops per reason.
type Limited struct {
	// Rate: above the sender's own token bucket.
	Rate uint64
	// Total: above the token bucket of all peers together.
	Total uint64
	// Queue: the validation queue was full.
	Queue uint64
	// Graylist: the sender's score is below GraylistScore.
	Graylist uint64
	// Streams: the sender opens gossip streams too often.
	Streams uint64
	// Requests: the sender has too many requests.
	Requests uint64
}

// counters is the live form of Stats.
type counters struct {
	gated, full, expelled, superseded, restarted, dials, dialFailures                        atomic.Uint64
	received, accepted, rejected, ignored, duplicates, malformed                             atomic.Uint64
	notMember, noTopic, oversized                                                            atomic.Uint64
	limitedRate, limitedTotal, limitedQueue, limitedGraylist, limitedStreams, limitedRequest atomic.Uint64
	published, delivered, undelivered, unsent, gossipIn, gossipOut                           atomic.Uint64
	requestsIn, requestsOut, requestsFailed, requestBytesIn, requestBytesOut                 atomic.Uint64
	tunnelsRefused, tunnelsSuperseded                                                        atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Gated: c.gated.Load(), Full: c.full.Load(), Expelled: c.expelled.Load(),
		Superseded: c.superseded.Load(), Restarted: c.restarted.Load(),
		Dials: c.dials.Load(), DialFailures: c.dialFailures.Load(),
		Received: c.received.Load(), Accepted: c.accepted.Load(), Rejected: c.rejected.Load(),
		Ignored: c.ignored.Load(), Duplicates: c.duplicates.Load(), Malformed: c.malformed.Load(),
		NotMember: c.notMember.Load(), NoTopic: c.noTopic.Load(), Oversized: c.oversized.Load(),
		Limited: Limited{
			Rate: c.limitedRate.Load(), Total: c.limitedTotal.Load(), Queue: c.limitedQueue.Load(),
			Graylist: c.limitedGraylist.Load(), Streams: c.limitedStreams.Load(), Requests: c.limitedRequest.Load(),
		},
		Published: c.published.Load(), Delivered: c.delivered.Load(), Undelivered: c.undelivered.Load(),
		Unsent: c.unsent.Load(), GossipBytesIn: c.gossipIn.Load(), GossipBytesOut: c.gossipOut.Load(),
		RequestsIn: c.requestsIn.Load(), RequestsOut: c.requestsOut.Load(), RequestsFailed: c.requestsFailed.Load(),
		RequestBytesIn: c.requestBytesIn.Load(), RequestBytesOut: c.requestBytesOut.Load(),
		TunnelsRefused: c.tunnelsRefused.Load(), TunnelsSuperseded: c.tunnelsSuperseded.Load(),
	}
}
