// Package consensus keeps one ledger on several machines: CometBFT runs inside the
// process, and this package is the thin adapter between it and market/ledger. It
// decides when a block is worth making, which transactions wait, and when a gate has
// closed; what a transaction means is decided in market/ledger alone.
//
// # The way of a transaction
//
// Submit (own) or Validate (gossip) → pool → PrepareProposal of whoever's turn it is →
// ProcessProposal at every validator → FinalizeBlock (ledger.Apply) → Commit (store.Commit,
// then State.Absorb). The engine's own mempool never carries a transaction: it holds at
// most one bell.
//
// # Invariants
//
// Tests quote these by number.
//
//	C1  The engine makes no block on an idle chain but its slow heartbeat. A block is asked
//	    for by a bell: a CheckTx of a secret that this node drew itself, so that no peer can
//	    ring it. A bell never reaches a block, and lives until the next commit at most.
//	C2  Orders and reports wait for one block shortly before the next gate; what a person did
//	    (joining, a preference) and a full pool do not wait. What comes after that block goes
//	    with the gate's, or is called up once more, see C10.
//	C3  A tick is accepted if and only if it is the last transaction, starts at the state's
//	    next Interval, and the gate of its last Interval has closed by our own clock plus
//	    Tolerance. Nothing that a validator accepts becomes wrong by waiting, and no block is
//	    refused for what it lacks.
//	C4  What ProcessProposal accepts depends on the block, the state before it and, one-sidedly,
//	    the clock (C3); never on the pool. Every signature of a block that can be judged in that
//	    state has been judged before this node votes for it.
//	C5  The pool is bounded in count and bytes, over all and per household. A full pool gives way
//	    to a household that has less in it; own transactions have room of their own.
//	C6  The state changes in Commit only: first on disk, in one transaction with its height and
//	    hash, then in memory. After a crash at any point the engine's handshake replays what the
//	    disk does not have (see app.Commit).
//	C7  A broken invariant, or a disk that does not take a block, ends Run with the cause. The
//	    process is not taken down.
//	C8  A validator key signs nothing new before it is clear that nobody else signs with it: no
//	    block has a signature of it above the last one of this home, and those who could decide
//	    a block with us know of no such vote, of no other home with the key, and of no other
//	    process with our network key. What speaks against us must be proven. A vote of the key
//	    that this home did not make ends Run at any time.
//	C9  The engine's validators are the ledger's, two blocks later, on every node, after any
//	    crash: what a block changes follows from the state before it and the block alone, and
//	    is noted on disk before the ledger has the block.
//	C10 An order that an honest validator has held for its patience (five seconds; half of
//	    BeforeGate if that is less) at the last call (a third of BeforeGate before the gate)
//	    is in a block before the gate, as long as fewer than a third of the validators leave
//	    it out: whoever finds after a block that what it had held for so long was left out
//	    rings again, for at most as many blocks in a row as have an honest proposer among
//	    them. Honest proposers make no block more for it.
//	C11 What a block left out though this node had held it for its patience, and there was
//	    room, is counted against its proposer and shown, as are refused proposals and double
//	    votes. Nothing is decided by it: it is what this node saw, and a proposer that has
//	    just been restarted, or whose clock is slow by more than the patience, looks the same.
//	C12 A gossip message is judged by the cheapest first: size and form, what is known here
//	    already or was refused since the last block, room in the pool, what the state says, and last
//	    the signatures, all of a bundle as one batch, before anything is forwarded. Nothing is
//	    verified twice, and nothing for which there is no room. Who forwards what no honest node
//	    would is blamed, however the message is mixed; not so for what honest nodes may see
//	    differently while keys or rules change, or while this node is behind.
//
// # Bounds
//
// What others can make a node hold, with what it is bounded by:
//
//	pool                   PoolLimits: Txs and Bytes over all, Household for each; Own beside it
//	applied transactions   2 × 8192 hashes (seenSize)
//	refused transactions   4096 hashes and verdicts, until the next block (spentSize)
//	former device keys     256, for a minute (maxTurns, turnFor)
//	signatures' keys       1024 expanded keys, 2.5 kB each (ledger's cachedKeys)
//	one message            64 KiB, 64 transactions of 8 KiB (MaxBundleBytes, MaxBundleTxs)
//	signatures per block   Household for each household, and six forged bundles for each peer,
//	                       whom p2p then hears no more
//
// # Snapshots
//
//	S1  Nothing of a snapshot is used before its records hash to the AppHash in a header that the
//	    validators signed, whose way from the genesis document was verified.
//	S2  A folder has a whole ledger and the engine's stores that fit it, or neither: both are made in
//	    joinFolder and get their names by one rename; New goes on with what a crash left.
//	S3  A provider whose part is not what the records say is named, and asked no more in that run
//	    as long as there is another.
//	S4  Blocks behind the older snapshot that is kept are never removed.
//
// # Proofs
//
// The AppHash after a block is in the header of the next, and more than two thirds of the
// validators sign that. Node.Proof and StoredProof find the header of a state; an Anchor
// checks it on a machine that has nothing but the genesis document, whose GenesisHash is
// all that has to be trusted. Where the validators have changed, the header comes with the
// changes, each signed by those before it (see Change); they are kept apart from the blocks.
//
// # Goroutines and locks
//
// New starts none. Run owns all of them: the engine's, the bell's, the outbox's and one
// dialler per peer; it returns when they have ended, save those of the engine listed at
// engine.stop. All methods of Node are safe for concurrent use.
//
// The ledger state is guarded by book.mu: consensus reads it freely (it is its only writer)
// and takes the write lock only to absorb a finished delta. The pool has its own lock and
// never calls out while it holds it. The engine's locks come before ours: nothing of ours
// that the engine calls may call the engine.
//
// # Time
//
// Config.Now is the only clock of decisions. Header times are stale after idling and are
// not used at all.
//
// # Errors
//
// A *ledger.Refusal is the sender's fault and carries a stable code. Errors of New name the
// field of Config. Errors of Run are the node's end.
package consensus
