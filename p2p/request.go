package p2p

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Handle answers requests on a protocol, such as /commonwatt/proof/1. A request body is
// at most maxRequest bytes; 0 or more than Limits.RequestSize means Limits.RequestSize. A
// later Handle for the same protocol replaces the earlier one.
//
// The handler runs concurrently with itself, within Limits.Requests. Its context ends
// after Limits.RequestTimeout and when the host closes; Close waits for it. Its error goes
// to the requester as text, cut to 256 bytes: it must not say what a stranger should not
// know.
func (h *Host) Handle(protocolID string, maxRequest int,
	handler func(ctx context.Context, from PeerID, request []byte) ([]byte, error),
) {
	if maxRequest <= 0 || maxRequest > h.limits.RequestSize {
		maxRequest = h.limits.RequestSize
	}
	h.host.SetStreamHandler(protocol.ID(protocolID), func(s network.Stream) {
		// libp2p runs this in a goroutine of its own, which Close must wait for too.
		leave, ok := h.enter()
		if !ok {
			_ = s.Reset() // the host is closing
			return
		}
		defer leave()
		h.serve(h.lifetime, s, maxRequest, handler)
	})
}

func (h *Host) serve(ctx context.Context, s network.Stream, maxRequest int,
	handler func(ctx context.Context, from PeerID, request []byte) ([]byte, error),
) {
	ctx, cancel := context.WithTimeout(ctx, h.limits.RequestTimeout)
	defer cancel()
	defer bind(ctx, s)()
	st, body, err := h.answer(ctx, s, maxRequest, handler)
	if err != nil {
		if !own(s.Protocol()) {
			h.count.requestsFailed.Add(1)
		}
		h.log.DebugContext(ctx, "answering request", "peer", s.Conn().RemotePeer().String(), "protocol", string(s.Protocol()), "err", err)
	}
	if st == statusNone {
		_ = s.Reset() // nothing to say to this peer
		return
	}
	if err := reply(s, st, body); err != nil {
		h.log.DebugContext(ctx, "writing reply", "peer", s.Conn().RemotePeer().String(), "protocol", string(s.Protocol()), "err", err)
		_ = s.Reset() // it is broken anyway
	}
}

// answer reads one request and has it handled. It returns what to reply, and the error if
// that is not the handler's body.
func (h *Host) answer(ctx context.Context, s network.Stream, maxRequest int,
	handler func(ctx context.Context, from PeerID, request []byte) ([]byte, error),
) (status, []byte, error) {
	id := s.Conn().RemotePeer()
	welcome, busy := h.receives(id, s.Protocol())
	switch {
	case !welcome:
		h.spawn(func(context.Context) { h.expel(id) })
		return statusNone, nil, ErrNotMember
	case busy:
		h.count.limitedRequest.Add(1)
		return statusBusy, nil, ErrBusy
	}
	st := h.table.get(id)
	release, ok := h.admitRequest(st, own(s.Protocol()))
	if !ok {
		if !own(s.Protocol()) {
			h.count.limitedRequest.Add(1)
		}
		return statusBusy, nil, ErrBusy
	}
	defer release()
	request, err := readFrame(s, maxRequest)
	if errors.Is(err, ErrTooLarge) {
		h.count.oversized.Add(1)
		return statusTooLarge, nil, fmt.Errorf("reading request: %w", err)
	} else if err != nil {
		return statusNone, nil, fmt.Errorf("reading request: %w", err)
	}
	if !own(s.Protocol()) {
		h.count.requestsIn.Add(1)
		h.count.requestBytesIn.Add(uint64(len(request)))
	}
	body, err := handler(ctx, st.text, request)
	if err == nil && len(body) > h.limits.ReplySize {
		err = fmt.Errorf("reply: %w: %d bytes, want at most %d", ErrTooLarge, len(body), h.limits.ReplySize)
	}
	if err != nil {
		return statusFailed, []byte(errorText(err.Error())), fmt.Errorf("handling request: %w", err)
	}
	if !own(s.Protocol()) {
		h.count.requestBytesOut.Add(uint64(len(body)))
	}
	return statusOK, body, nil
}

// own reports whether a protocol is the network's own. What hosts ask each other for
// themselves has a bucket of its own and is not counted among the caller's requests.
func own(id protocol.ID) bool { return id == ReachProtocol || id == AddressProtocol }

// admitRequest applies the peer's bucket, then its share of handlers, then all of them.
func (h *Host) admitRequest(st *peerState, own bool) (release func(), ok bool) {
	bucket := st.requests
	if own {
		bucket = st.own
	}
	if !bucket.Allow() {
		return nil, false
	}
	if st.serving.Add(1) > int64(h.limits.Requests) {
		st.serving.Add(-1)
		return nil, false
	}
	select {
	case h.serving <- struct{}{}:
	default:
		st.serving.Add(-1)
		return nil, false
	}
	return func() {
		<-h.serving
		st.serving.Add(-1)
	}, true
}

func reply(s network.Stream, st status, body []byte) error {
	if err := writeFrame(s, []byte{byte(st)}, body); err != nil {
		return fmt.Errorf("writing reply: %w", err)
	}
	return s.Close()
}

// Request sends a request and waits for its reply of at most maxReply bytes; 0 or more
// than Limits.ReplySize means Limits.ReplySize. It dials the peer if it is not connected
// and an address of it is known. Without an earlier deadline it takes at most
// Limits.RequestTimeout.
//
// The error wraps ErrRemote if the peer's handler failed, ErrTooLarge if request or reply
// is above its limit, ErrBusy if the peer has too many of our requests, ErrFrame if the
// peer breaks the format, and ctx's error if the time is over.
func (h *Host) Request(ctx context.Context, to PeerID, protocolID string, request []byte, maxReply int) ([]byte, error) {
	if maxReply <= 0 || maxReply > h.limits.ReplySize {
		maxReply = h.limits.ReplySize
	}
	ctx, cancel := context.WithTimeout(ctx, h.limits.RequestTimeout)
	defer cancel()
	defer context.AfterFunc(h.lifetime, cancel)() //nolint:contextcheck // the request ends with the host too
	counted := uint64(1)
	if own(protocol.ID(protocolID)) {
		counted = 0
	}
	h.count.requestsOut.Add(counted)
	h.count.requestBytesOut.Add(counted * uint64(len(request)))
	body, err := h.exchange(ctx, to, protocolID, request, maxReply)
	if err != nil {
		h.count.requestsFailed.Add(counted)
		switch {
		case h.lifetime.Err() != nil:
			err = ErrClosed
		case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, fmt.Errorf("requesting %s of %s: %w", protocolID, to, err)
	}
	h.count.requestBytesIn.Add(counted * uint64(len(body)))
	return body, nil
}

func (h *Host) exchange(ctx context.Context, to PeerID, protocolID string, request []byte, maxReply int) ([]byte, error) {
	if len(request) > h.limits.RequestSize {
		return nil, fmt.Errorf("request: %w: %d bytes, want at most %d", ErrTooLarge, len(request), h.limits.RequestSize)
	}
	id, err := peer.Decode(string(to))
	if err != nil {
		return nil, fmt.Errorf("reading peer id: %w", err)
	}
	if !h.gate.allows(id) {
		return nil, ErrNotMember
	}
	s, err := h.host.NewStream(ctx, id, protocol.ID(protocolID))
	if err != nil {
		return nil, fmt.Errorf("opening stream: %w", err)
	}
	return converse(ctx, s, request, maxReply)
}

// converse is one request and its reply on a stream of its own, which it ends.
func converse(ctx context.Context, s network.Stream, request []byte, maxReply int) ([]byte, error) {
	defer bind(ctx, s)()
	// Written aside, because a peer that refuses may stop reading before it has
	// everything, although its answer, which says why, is on its way.
	written := make(chan struct{})
	go func() {
		defer close(written)
		if err := writeFrame(s, nil, request); err == nil {
			_ = s.CloseWrite() // if this or the writing failed, so does the reading
		}
	}()
	body, err := readReply(s, maxReply)
	_ = s.Reset() // the exchange is over, well or badly; this ends the writing too
	<-written
	if err != nil {
		return nil, fmt.Errorf("reading reply: %w", err)
	}
	return body, nil
}

// bind makes the stream end with the context. The returned function undoes that.
func bind(ctx context.Context, s network.Stream) func() bool {
	if deadline, ok := ctx.Deadline(); ok {
		// Not all transports can; the reset below is what ends the stream for certain.
		_ = s.SetDeadline(deadline.Add(time.Second))
	}
	return context.AfterFunc(ctx, func() { _ = s.Reset() })
}
