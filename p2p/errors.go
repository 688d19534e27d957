package p2p

import "errors"

// Sentinel errors. Every error of this package that a caller may want to tell from
// others wraps one of these.
var (
	// ErrConfig: New or Join was given something that cannot work; the text names it.
	ErrConfig = errors.New("invalid p2p configuration")
	// ErrListen: an address of Config.Listen cannot be listened on, for example because
	// its port is in use.
	ErrListen = errors.New("cannot listen")
	// ErrClosed: the Host or the Topic has been closed.
	ErrClosed = errors.New("closed")
	// ErrTooLarge: a payload, request or reply is above its limit, here or at the peer.
	ErrTooLarge = errors.New("too large")
	// ErrFrame: a request or reply is not framed as it must be: too short, too long, or
	// of an unknown status.
	ErrFrame = errors.New("malformed frame")
	// ErrBusy: the peer answered that it has too many requests of ours.
	ErrBusy = errors.New("peer is busy")
	// ErrRemote: the peer's handler failed; the text is the peer's and is not to be
	// trusted.
	ErrRemote = errors.New("peer's handler failed")
	// ErrNotMember: the peer is not a member of the community.
	ErrNotMember = errors.New("not a member")
)
