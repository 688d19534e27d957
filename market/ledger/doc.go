// Package ledger is the replicated state machine of a community: who belongs to
// it, what they ordered, what they metered, what they owe. It is pure: no I/O, no
// clock, no logger, no float, no map iteration that reaches an output. The same
// blocks give the same state, byte for byte, on every machine.
//
//	delta, receipts, err := ledger.Apply(state, block) // state is not touched
//	...the caller makes delta durable...
//	state.Absorb(delta)
//
// # Invariants
//
//	L1  The sum over all accounts is zero after every block.
//	L2  A transaction is applied whole or refused whole; a refusal carries a stable Code.
//	L3  A refused transaction changes nothing, not even a sequence number.
//	L4  A Household's Settlement for an Interval exists at most once per version;
//	    a correction is a new version with new Transfers, never an edit. Past the
//	    correction window there is no other.
//	L5  The AppHash depends on the state alone, not on heights or times, so that
//	    an empty block changes nothing.
//	L6  What is encoded is canonical: decoding and encoding again gives the same
//	    bytes, and anything else is refused.
//	L7  Two reports of neighbouring Intervals share the reading between them, in
//	    whatever order they come: no energy is counted twice, or never. No report spans
//	    two epochs of a counter, and a new epoch needs a replacement that officers approve.
//	L8  No transaction that is accepted can make Apply fail: the rules bound every
//	    amount, and a tick bounds what a block has to do. Rules and networks that do
//	    not fit each other are refused when they are decided.
//	L9  What is decided holds from a named Interval on, the next gate's at the
//	    earliest. An Interval is cleared, settled and corrected under the rules, the
//	    tariff and the network that held for it.
//	L10 Months are what their Settlements come to: number, hash chain, energy and
//	    money. A closed Month never changes.
//
//	L11 A gateway's keys hold as long as its household has not named others: after a SetDevice
//	    the old device key signs nothing, of whatever kind, and the old network key is no
//	    member's. The zero key is nobody's.
//	L12 Who has left takes no part from a named Interval on, is settled up to it, and is a
//	    member until the tick after the one that closes its last month.
//	L13 There is always a validator, a household has one vote at most, and all votes are
//	    equal. Whoever follows Delta.Validators has the set that State.Validators says. A key
//	    that has signed two blocks of one height is no validator's again.
//
// State.Audit looks for violations of these in a state.
//
// # Who may do what
//
// A household's device orders, reports and prefers; its cold key puts another device in its
// place; either ends its membership. Officers of the cooperative approve members, meters and
// their replacement, memberships and corrections, exclude, and decide rules, network and
// validators, as many as the rules say. A grid operator sets Envelopes. The keys of officers and operators are
// the genesis's.
//
// # Where what is
//
// tx_*.go: a kind of transaction each. charter.go: what holds for an Interval. close.go:
// gates and clearing. settle.go: settlements and corrections. history.go: what is kept of
// them, and the proofs. validators.go: who commits blocks. network.go, rules.go, records.go: the words.
//
// # Bytes
//
// Canonical CBOR (RFC 8949 section 4.2.1) of arrays. What is signed is the domain tag
// of the kind, the chain id and the body (see Tx), with Ed25519. The chain id in
// the signed bytes keeps a transaction of one community worthless in another.
//
// # Time
//
// The ledger has no clock. It knows that the gate of an Interval has closed because
// a tick says so (see NewTick); deadlines are counted from the newest tick.
//
// # Errors
//
// A *Refusal is the sender's fault. Any other error from Apply is a broken
// invariant: the caller must stop, because going on would spread it.
package ledger
