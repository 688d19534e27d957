package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cometbft/cometbft/p2p"
)

// Sentinel errors. Every error of this package that a caller may want to tell from others
// wraps one of these, or is a *ledger.Refusal.
var (
	// ErrConfig: New was given something that cannot work; the text names the field.
	ErrConfig = errors.New("invalid consensus configuration")
	// ErrGenesis: the genesis document cannot be used; the text names the key.
	ErrGenesis = errors.New("invalid genesis document")
	// ErrOtherChain: the folder belongs to another community than the genesis document.
	ErrOtherChain = errors.New("folder belongs to another chain")
	// ErrListen: the engine found no port on loopback.
	ErrListen = errors.New("cannot listen")
	// ErrHalted: the node stopped itself, because going on could have spread a fault (C7).
	ErrHalted = errors.New("consensus halted")
	// ErrClosed: the node has been closed, or Run has been called before.
	ErrClosed = errors.New("node closed")
	// ErrElsewhere: another home, or another process, signs with this validator key.
	ErrElsewhere = errors.New("this validator key is at work elsewhere")
	// ErrInUse: the node that a folder belongs to is running.
	ErrInUse = errors.New("the engine's databases are in use by another process")
	// ErrCorrupt: stored blocks do not fit together; the text names the height.
	ErrCorrupt = errors.New("corrupt block store")
	// ErrHeader: a header is not one of this chain's, or is not what was signed.
	ErrHeader = errors.New("header does not verify")
	// ErrSignature: the signatures on a header are not the validators', or too few.
	ErrSignature = errors.New("signatures do not verify")
	// ErrUnproven: no header has the AppHash of the newest state yet.
	ErrUnproven = errors.New("the newest state is not signed yet")
)

// Config is what a Node needs. Home, Genesis, NodeKey, ValidatorKeyFile and
// ValidatorStateFile are required.
type Config struct {
	// Home is the node's folder, of mode 0700: config/ and data/ of the engine, and
	// ledger.db. It is created where it is missing, and belongs to one chain for ever.
	Home string
	// Genesis is the genesis document as GenesisDoc writes it.
	Genesis []byte
	// NodeKey is the network key: the same under which this node gossips, and the
	// engine's identity towards its peers.
	NodeKey ed25519.PrivateKey
	// ValidatorKeyFile and ValidatorStateFile are what NewValidatorKey wrote. A replica
	// has them too; its key is just not in the validator set. The state file is what
	// keeps a validator from signing twice: never restore an older copy of it.
	ValidatorKeyFile, ValidatorStateFile string
	// MaxPeers bounds the engine's inbound connections, those in the middle of a handshake
	// included. Beyond it the engine listens no more, so it must not be less than what the
	// network lets through; default 256, TunnelsPerPeer for each of 64 peers.
	MaxPeers int

	// Publish sends a bundle of own transactions to the others. It is called from one
	// goroutine. Nil: nothing is sent (a replica that only reads).
	Publish func(ctx context.Context, bundle []byte) error

	// Ask brings a question to a member and its answer back, see Node.Answer. Without it a
	// validator that is not alone never knows whether it may sign.
	Ask func(ctx context.Context, to ed25519.PublicKey, question []byte) ([]byte, error)
	// Replica: this node signs nothing, even if its key is a validator's.
	Replica bool

	// Pace says when a block is worth making; zero fields mean their defaults.
	Pace Pace
	// Pool bounds what waits; zero fields mean their defaults.
	Pool PoolLimits

	// Retention is how long, in community time, blocks are kept, and the settlements of
	// households line by line. What a month came to is kept for ever. 0: all is kept; else
	// at least MinRetention.
	Retention time.Duration

	// SnapshotEvery is after how many blocks a snapshot is made for those who join; default
	// DefaultSnapshotEvery. It must be the same on all nodes, so that they make the same ones.
	// Less than 0: none are made.
	SnapshotEvery int64

	// Now is the wall clock; default time.Now.
	Now func() time.Time
	// Log gets this node's and the engine's log; default: nothing is logged.
	Log *slog.Logger

	faults faults // set by this package's tests only
}

// Pace says when a block is worth making (C1, C2).
type Pace struct {
	// BeforeGate is how long before a gate, on the wall clock, orders and reports are
	// collected into a block. Default: a fifth of the Interval on the wall clock, at
	// least 200 ms and at most 30 s.
	BeforeGate time.Duration
	// Backlog and BacklogBytes are how much may wait before a block is made at once;
	// defaults 500 and 256 KiB. Backlog 1: every transaction asks for a block.
	Backlog, BacklogBytes int
	// Heartbeat is after how long an idle chain makes an empty block all the same, as a
	// last resort against a lost bell. Default two Intervals on the wall clock, at least 10 min:
	// where gates close there is a block anyway, and one more costs as much as any.
	Heartbeat time.Duration
	// Gossip is how long the engine's gossip loops sleep when they have nothing to send.
	// It decides latency and idle cost: see ADR 0101. Default 20 ms.
	Gossip time.Duration
}

// PoolLimits bound what waits for a block (C5).
type PoolLimits struct {
	// Txs and Bytes bound what came from others; defaults 5000 and 4 MiB.
	Txs, Bytes int
	// Household bounds one household's transactions; those that are not registered yet
	// count as one household together. Default 64.
	Household int
	// Own bounds this node's own transactions, which count in none of the above.
	// Default 512.
	Own int
}

// faults change behaviour in tests: a byzantine proposer, a disk that fails.
type faults struct {
	propose func(height int64, txs [][]byte) [][]byte
	commit  func(height int64, stored bool) error // called before and after store.Commit
	peers   func(id p2p.ID) bool
	port    func() (int, error) // instead of drawPort
	// unguarded: its validator key signs whoever else does.
	unguarded bool
}

// Limits of proposals and bundles; part of the protocol.
const (
	// Tolerance is how much earlier than our own clock another validator's may say that
	// a gate has closed.
	Tolerance = 500 * time.Millisecond
	// MaxBundleTxs and MaxBundleBytes bound one gossip message.
	MaxBundleTxs   = 64
	MaxBundleBytes = 64 << 10

	maxBlockTxs   = 4000    // transactions in a proposal, the tick not counted
	maxBlockBytes = 1 << 20 // of the whole block, in the genesis document
	blockOverhead = 64      // bytes per transaction that its framing may cost
)

func (c Config) withDefaults() Config {
	setDefault(&c.MaxPeers, 64*TunnelsPerPeer)
	setDefault(&c.Pace.Backlog, 500)
	setDefault(&c.Pace.BacklogBytes, 256<<10)
	setDefault(&c.Pace.Gossip, 20*time.Millisecond)
	setDefault(&c.Pool.Txs, 5000)
	setDefault(&c.Pool.Bytes, 4<<20)
	setDefault(&c.Pool.Household, 64)
	setDefault(&c.Pool.Own, 512)
	setDefault(&c.SnapshotEvery, DefaultSnapshotEvery)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T ~int | ~int64](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func (c Config) validate() error {
	bad := func(field, format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Home == "":
		return bad("Home", "is empty, want a folder")
	case len(c.NodeKey) != ed25519.PrivateKeySize:
		return bad("NodeKey", "has %d bytes, want an Ed25519 private key of %d", len(c.NodeKey), ed25519.PrivateKeySize)
	case c.ValidatorKeyFile == "" || c.ValidatorStateFile == "":
		return bad("ValidatorKeyFile, ValidatorStateFile", "both are needed (a replica has a key as well)")
	case c.MaxPeers < 1:
		return bad("MaxPeers", "is %d, want 1 or more", c.MaxPeers)
	case c.Pace.BeforeGate < 0 || c.Pace.Backlog < 1 || c.Pace.BacklogBytes < 1 || c.Pace.Heartbeat != 0 && c.Pace.Heartbeat < time.Second || c.Pace.Gossip < time.Millisecond:
		return bad("Pace", "got %+v, want positive values, Heartbeat at least 1s and Gossip at least 1ms", c.Pace)
	case c.Pool.Txs < 1 || c.Pool.Bytes < 1 || c.Pool.Household < 1 || c.Pool.Own < 1:
		return bad("Pool", "got %+v, want 1 or more in each field", c.Pool)
	}
	return nil
}
