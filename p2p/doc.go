// Package p2p carries signed bytes between the homes of one community. It does not
// know what the bytes mean: it moves them, bounds them, and asks its caller what they
// are worth.
//
// One [Host] is one libp2p node (QUIC and TCP) under one Ed25519 network key. It finds
// others by bootstrap addresses, by mDNS if wanted, and by what members say about
// themselves; it has no DHT. Homes behind routers meet through relays, which members are
// for members, and then punch holes (docs/networks.md).
//
//   - Gossip: [Host.Join] a topic, [Topic.Publish] bytes, and get everybody else's
//     bytes delivered, after a validate function has given its [Verdict].
//   - Request and reply: [Host.Handle] and [Host.Request], one stream per request.
//   - Tunnels: [Host.Tunnel], the TCP connections of a local service inside streams.
//
// # Invariants
//
// Tests quote these by number.
//
//   - P1 Members only, but for P8. Config.Member is asked before a dial, after every security
//     handshake (in and out), when the connection is complete, for every gossip frame
//     and for every request. A peer that stops being a member is refused from that
//     instant and disconnected at the next [Host.Recheck] (which also runs by itself
//     every 30 s, and is triggered by the first frame that such a peer sends).
//   - P2 Cheap checks first. A gossip message meets, in this order: frame size (before
//     it is decoded), membership, the topic's size, the sender's token bucket, the
//     duplicate cache, the caller. Signatures cost the caller most, so they come last.
//   - P3 A limited message is not a seen message. A message that is dropped for its
//     sender's sake leaves no trace in the duplicate cache, so no flooder can make an
//     honest copy of it look like a duplicate.
//   - P4 Pressure goes back to the sender. A peer's next frame is not read while too
//     many of its messages await validation: the shared queue is never filled by one
//     peer, and a flood is held up in the flooder's own socket.
//   - P5 Own messages are never crowded out. Publish does not pass the validation queue
//     and own messages are not validated here: the caller does that before it publishes.
//   - P6 Every queue, table and buffer has a bound that is written beside it.
//   - P7 A tunnel joins two services that listen on loopback only. Members may open one,
//     guests and strangers not; one peer has a bounded number of them, and a new one ends
//     those that it has had for more than two seconds. A near end takes one connection, and
//     [Tunnels.Ours] tells the service's own tunnels from other programs of the machine.
//   - P8 Guests only ask. Config.Guest says who they are; a peer that is neither member nor
//     guest is refused as in P1. A guest has come by itself, may use the protocols of
//     [Host.HandleGuest] and no other of ours: no gossip in either direction, no tunnel, no
//     request. A guest that tries is disconnected. Limits.Guests are there at once, with six
//     connections each that last two minutes at most, and all of them together ask ten times
//     a second.
//   - P9 Relays are members, for members at both ends. A relayed connection passes the same
//     gate as any other, and a direct one may come besides it and then replaces it.
//   - P10 Where a member lives is said by itself: addresses are taken, kept and passed on
//     only under its signature. An address at which a home was merely seen is announced only
//     after a member has reached it there from a socket that the home's router had not met.
//
// # Verdicts and scores
//
// Accept delivers and forwards. Ignore does neither and costs the sender nothing.
// Reject does neither and counts against every peer that forwarded the message. A
// peer's score starts at 0; below [GraylistScore] nothing is taken from it. A rejected
// message costs 20 points, and the number of them squared and doubled, so that six in a
// row graylist; an oversized frame or message costs 40 points, a message above the rate
// 0.25. Points halve every minute, the number fades to nothing in ten, and a score
// outlives a reconnection by ten minutes. Peers are graylisted, not disconnected: who
// belongs to the community is the caller's decision.
//
// A relaying peer is answerable for what it forwards. So a caller should Ignore, not
// Accept, what a single member sends beyond its due (P2 bounds peers, not authors).
//
// # Peers that come back
//
// A peer that lost its power, or was killed, and returns may meet a side that still holds
// its old connection: over QUIC nothing tells of a death. Such a peer is heard and hears
// again within seconds: its dial supersedes a connection older than five seconds, younger
// ones are probed, and once a second the router's idea of who has joined what is compared
// with what the peers said. What was published meanwhile is not repeated here.
//
// # Messages
//
// Gossip is unsigned at this layer (StrictNoSign, no author, no sequence number): the
// payload carries its own signature. A message's identity is SHA-256 over topic and
// payload, remembered for one minute, so a payload that is published again later is a
// new message and has to be recognised by the caller.
//
// # Goroutines
//
// New starts them and Close ends them. Close waits for the host's own goroutines, its
// topics' deliveries and its request handlers; those of libp2p's gossip router end on
// their own right after. All methods are safe for concurrent use. Config.Member and the
// validate functions are called concurrently and must be quick; Member must not call
// back into the Host. Deliver is called from one goroutine per topic, sequentially.
package p2p
