package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/privval"
	"github.com/cometbft/cometbft/types"
	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// Node is one machine's part in the ledger: a validator if its key is in the validator
// set, a replica otherwise. Make it with New, let it live in Run.
type Node struct {
	cfg        Config
	log        *slog.Logger
	doc        *types.GenesisDoc
	validator  *privval.FilePV
	guard      *guard
	beforeGate time.Duration
	patience   time.Duration // see C10

	book    *book
	pool    *pool
	app     *app
	bell    *bell
	outbox  chan struct{} // capacity 1: own transactions wait to be sent
	swept   atomic.Int64  // Interval before whose gate the pool has been emptied, see dueTxs
	fair    fairness
	conduct *conductBook
	history blockConduct
	members members
	changes *changeBook
	events  events
	counts  counts
	turns   turns

	snapshots *snapshots
	results   resultChain
	waiting   atomic.Int64 // questions that wait for news

	network Network                // of Run
	engine  atomic.Pointer[engine] // nil before Run, and after
	ran     atomic.Bool
	failed  chan error // capacity 1: why the node must end

	closedMonths chan struct{} // capacity 1: some have been closed since it was last looked
	last         atomic.Int64
	closed       sync.Once
}

// New opens the node's folder and checks all that can be checked without taking part. It
// starts nothing. Close the node if it is not Run.
func New(cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	doc, g, err := parseGenesis(cfg.Genesis)
	if err != nil {
		return nil, err
	}
	if least := MinRetention(g); cfg.Retention != 0 && cfg.Retention < least {
		return nil, fmt.Errorf("%w: Retention: is %v, want 0 (all is kept) or at least %v: corrections, evidence and homes that were away need it", ErrConfig, cfg.Retention, least)
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, doc: doc, pool: newPool(cfg.Pool), bell: newBell(),
		outbox: make(chan struct{}, 1), failed: make(chan error, 1),
		closedMonths: make(chan struct{}, 1), beforeGate: cfg.Pace.BeforeGate,
	}
	interval := g.Clock().WallDuration(g.Calendar().Length)
	setDefault(&n.cfg.Pace.Heartbeat, max(10*time.Minute, 2*interval))
	if n.beforeGate == 0 {
		n.beforeGate = min(max(interval/5, 200*time.Millisecond), 30*time.Second)
	}
	n.patience = min(longest, n.beforeGate/2)
	n.swept.Store(noSweep)
	n.app = &app{n: n, trusted: map[[32]byte]ledger.Key{}, judged: map[[32]byte]*judgement{}}
	n.snapshots = &snapshots{dir: snapshotFolder(cfg.Home), chainID: doc.ChainID, every: cfg.SnapshotEvery, begun: make(chan *store.SnapshotCopy, 1)}
	for _, dir := range []string{cfg.Home, filepath.Join(cfg.Home, "config"), filepath.Join(cfg.Home, "data")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("opening node: %w", err)
		}
	}
	if err := keepGenesis(cfg.Home, cfg.Genesis); err != nil {
		return nil, err
	}
	n.conduct = openConduct(cfg.Home, n.log)
	if n.validator, err = loadValidator(cfg.ValidatorKeyFile, cfg.ValidatorStateFile); err != nil {
		return nil, err
	}
	if err := installJoined(cfg.Home); err != nil {
		return nil, err
	}
	if n.changes, err = openChanges(cfg.Home, g); err != nil {
		return nil, err
	}
	if err := n.snapshots.open(); err != nil {
		return nil, err
	}
	if cfg.Replica {
		// A key that nobody knows has no vote, so the engine asks for no signature.
		n.validator = privval.NewFilePV(cmted25519.GenPrivKey(), "", "")
	}
	n.guard = newGuard(n.validator)
	if mark := lostMark(cfg.ValidatorStateFile); !cfg.Replica {
		if _, err := os.Stat(mark); err == nil {
			n.guard.lost = mark
		}
	}
	if n.book, err = openBook(LedgerFile(cfg.Home), doc.ChainID, g); err != nil {
		return nil, err
	}
	return n, nil
}

// LedgerFile is where a node keeps the ledger, for store.Check.
func LedgerFile(home string) string { return filepath.Join(home, "ledger.db") }

// Run takes part, over a network, until ctx ends (then it returns nil) or the node has to
// end by itself (C7). It may be called once, and closes the node. The network may be nil:
// then there is nobody else.
func (n *Node) Run(ctx context.Context, network Network) (err error) {
	if n.ran.Swap(true) {
		return ErrClosed
	}
	defer func() { err = errors.Join(err, n.close()) }()
	if n.network = network; network == nil {
		n.network = alone{}
	}
	if !n.awaitGenesis(ctx) {
		return nil
	}
	e, err := startEngine(ctx, n)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	n.network.Serve(e.address)
	height, _ := n.book.tip()
	n.log.InfoContext(ctx, "consensus started", "chain", n.doc.ChainID, "height", height,
		"validator", n.isValidator(), "node", string(e.node.NodeInfo().ID()))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.tend(ctx, e) })
	g.Go(func() error { return n.publish(ctx) })
	g.Go(func() error { return n.patrol(ctx, e) })
	g.Go(func() error { return n.keepSnapshots(ctx) })
	g.Go(func() error { return n.trimWAL(ctx) })
	g.Go(func() error { return n.keepChanges(ctx, e) })
	if n.cfg.Retention > 0 {
		g.Go(func() error { return n.prune(ctx) })
	}
	g.Go(func() error { return n.watchPeers(ctx, e) })
	g.Go(func() error { return n.clear(ctx, e) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			n.network.Serve("") // whoever waits for a peer need not any more
			return nil
		case err := <-n.failed:
			n.network.Serve("")
			return err
		}
	})
	err = g.Wait()
	close(n.guard.done)
	err = errors.Join(err, e.stop())
	n.engine.Store(nil)
	return err
}

// awaitGenesis waits for the chain's first instant, unless ctx ends before. The engine would
// wait deaf.
func (n *Node) awaitGenesis(ctx context.Context) bool {
	timer := time.NewTimer(time.Until(n.doc.GenesisTime))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// fail ends Run with the first error that it is told.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// Close gives the folder of a node back that is not Run.
func (n *Node) Close() error {
	if n.ran.Swap(true) {
		return nil
	}
	return n.close()
}

func (n *Node) close() (err error) {
	n.closed.Do(func() {
		n.events.close()
		err = errors.Join(n.snapshots.close(), n.book.close())
	})
	return err
}

// Submit takes a transaction of this home: it is checked, waits for a block, and is sent
// to the others until one has it. Submitting it again is no error as long as it waits. A
// refusal is a *ledger.Refusal; the pool's own is CodePoolFull.
func (n *Node) Submit(ctx context.Context, raw []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		n.refused(err)
		return err
	}
	if n.pool.get(tx.Hash()) != nil {
		return nil
	}
	fates := n.take([]*ledger.Tx{tx}, true)
	if err := fates[0].err; err != nil {
		n.refused(err)
		return err
	}
	if fates[0].added {
		poke(n.outbox)
		poke(n.bell.wake)
	}
	return nil
}

// Read calls f with the state after the last block. f must be quick, must not keep or
// change the state, and must not call methods of the node: commits wait for it.
func (n *Node) Read(f func(*ledger.State)) { n.book.read(f) }

// AppHashAt returns the AppHash after a block that this node has.
func (n *Node) AppHashAt(height int64) ([]byte, bool) { return n.book.appHashAt(height) }

// committed tells everybody about a block.
func (n *Node) committed(f *finalized) {
	n.last.Store(n.cfg.Now().UnixNano())
	if slices.ContainsFunc(f.delta.History, func(e ledger.Event) bool { return e.Month != nil }) {
		poke(n.closedMonths)
	}
	hash := f.delta.AppHash()
	n.events.send(Event{Height: f.height, AppHash: hash[:], Receipts: f.receipts})
	poke(n.bell.wake)
}
