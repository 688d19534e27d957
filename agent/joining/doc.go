// Package joining lets people into a community: invitations, the desk at which a guest of
// an inviting home asks for admission, and the guest's side of it. A household that has lost
// its gateway comes to the same desk, with its own key in the place of an invitation.
//
// # Invariants
//
// Tests quote these by number.
//
//   - J1 An invitation is used by as many households as it says, and by no other. Each use
//     is a file that is made exclusively and synced before the household is given a place
//     among the requests; whoever asks again with the same key goes on with their own use.
//   - J2 What an invitation that is expired, revoked or used up gets is an answer that says
//     so, and nothing else. What is not known gets no connection (p2p invariant P8).
//   - J3 A guest takes nothing from the inviting home but what has the genesis hash of the
//     invitation; with words alone, whose hash is short, the home proves first that it knows
//     the invitation's secret.
//   - J4 A desk hands to the ledger only what the guest's own household may bring: its
//     admission and its meter; for a household that proves itself by its key, its new
//     gateway and its departure.
//   - J5 Invitations, their uses and requests are bounded in number, requests also in time.
//
// # Goroutines
//
// A [Desk] starts none; its methods are called by the p2p host, concurrently. Files are the
// only state, so that commands beside the running agent see it and change it: an invitation
// is one file, its revocation another, each use another; a request is a decision.File that
// is replaced whole.
//
// # Errors
//
// A [Refused] is what the desk answered, with a code; [ErrGenesis], [ErrClock] and
// [ErrProof] are what the guest found wrong with the desk.
package joining
