package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	cmtcfg "github.com/cometbft/cometbft/config"
	"github.com/cometbft/cometbft/consensus"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/node"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/proxy"
	cmtstate "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/types"
)

// stopWithin is how long the engine may take to end. It has been seen to take two seconds,
// the longest pause of its gossip.
const stopWithin = 30 * time.Second

const (
	listenTries = 10
	lowestPort  = 20_000 // the engine's port is from here
	highestPort = 32_768 // and below
)

// engine is the running CometBFT.
type engine struct {
	node    *node.Node
	dbs     *databases
	mempool mempool.Mempool
	reactor *consensus.Reactor
	state   *consensus.State
	states  cmtstate.Store // the engine's own: validators by height
	address string         // where it listens, once it does

	watched bool // of the goroutine in tend
	wg      sync.WaitGroup
}

// engineConfig are the engine's settings. Why each of them is not the default:
// docs/adr/0101-engine-settings.md.
func engineConfig(c Config, moniker, listen string) *cmtcfg.Config {
	e := cmtcfg.DefaultConfig()
	e.SetRoot(c.Home)
	e.Moniker = moniker
	e.FilterPeers = true
	e.RPC.ListenAddress, e.RPC.GRPCListenAddress, e.RPC.PprofListenAddress = "", "", ""
	e.Instrumentation.Prometheus = false
	e.TxIndex.Indexer = "null"
	e.Storage.DiscardABCIResponses = true
	e.StateSync.Enable = false
	e.BlockSync.AdaptiveSync = false

	e.P2P.ListenAddress = listen
	e.P2P.PersistentPeers, e.P2P.Seeds = "", "" // see watchPeers
	e.P2P.PexReactor = false
	e.P2P.AddrBookStrict = false
	e.P2P.AllowDuplicateIP = true
	e.P2P.MaxNumInboundPeers = c.MaxPeers
	e.P2P.FlushThrottleTimeout = 5 * time.Millisecond

	e.Mempool.Type = cmtcfg.MempoolTypeFlood
	e.Mempool.Broadcast = false
	e.Mempool.Recheck = true
	e.Mempool.Size = 8
	e.Mempool.CacheSize = 64
	e.Mempool.MaxTxBytes = 2 * bellBytes
	e.Mempool.MaxTxsBytes = 16 * bellBytes

	e.Consensus.CreateEmptyBlocks = false
	e.Consensus.CreateEmptyBlocksInterval = c.Pace.Heartbeat
	e.Consensus.TimeoutPropose = time.Second
	e.Consensus.TimeoutPrevote = 300 * time.Millisecond
	e.Consensus.TimeoutPrecommit = 300 * time.Millisecond
	e.Consensus.TimeoutCommit = 100 * time.Millisecond
	e.Consensus.PeerGossipSleepDuration = c.Pace.Gossip
	return e
}

// startEngine opens the engine and has it take part. Its port is drawn anew as long as
// another program takes it first.
func startEngine(ctx context.Context, n *Node) (*engine, error) {
	draw := drawPort
	if n.cfg.faults.port != nil {
		draw = n.cfg.faults.port
	}
	for try := 1; ; try++ {
		port, err := draw()
		if err != nil {
			return nil, err
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if err := n.mendBootstrap(); err != nil { // each newEngine forgets it
			return nil, err
		}
		e, err := newEngine(ctx, n, "tcp://"+address)
		if err != nil {
			return nil, err
		}
		n.engine.Store(e)
		if err = n.openAlone(e); err == nil {
			err = e.start(address)
		}
		if err == nil {
			return e, nil
		}
		n.engine.Store(nil)
		err = errors.Join(err, e.stop())
		if try == listenTries || !errors.Is(err, ErrListen) || ctx.Err() != nil {
			return nil, err
		}
		n.log.InfoContext(ctx, "the engine's port was taken, drawing another", "address", address)
	}
}

// drawPort finds a port for the engine. The engine would take port 0, but does not tell
// which one it got. It is below the range from which the system gives ports to outgoing
// connections, one of which could be there first after a restart.
func drawPort() (int, error) {
	for range 100 {
		port := lowestPort + rand.N(highestPort-lowestPort)                            //nolint:gosec // no secret, anybody can look it up
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // at once, on this machine
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("%w: 100 ports from %d to %d on 127.0.0.1 were all taken", ErrListen, lowestPort, highestPort)
}

// newEngine opens the engine's folder and lets it replay into the ledger what is missing.
func newEngine(ctx context.Context, n *Node, listen string) (e *engine, err error) {
	dbs := &databases{}
	defer func() {
		// The handshake panics when the ledger's hash is not the one in the block store.
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: engine does not start: %s", ErrHalted, firstLine(r))
		}
		if err != nil {
			err = errors.Join(err, dbs.close())
		}
	}()
	conf := engineConfig(n.cfg, n.validator.GetAddress().String(), listen)
	if err := conf.ValidateBasic(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if err := os.MkdirAll(conf.DBDir(), 0o700); err != nil {
		return nil, fmt.Errorf("opening engine: %w", err)
	}
	cmt, err := node.NewNodeWithContext(ctx, conf, n.guard,
		&p2p.NodeKey{PrivKey: cmted25519.PrivKey(n.cfg.NodeKey)},
		proxy.NewConnSyncLocalClientCreator(n.app),
		func() (*types.GenesisDoc, error) { return n.doc, nil },
		dbs.provide,
		node.DefaultMetricsProvider(conf.Instrumentation),
		newEngineLog(n.log))
	if err != nil {
		return nil, fmt.Errorf("opening engine: %w", err)
	}
	env, err := cmt.ConfigureRPC()
	if err != nil {
		return nil, fmt.Errorf("opening engine: %w", err)
	}
	state, ok := env.ConsensusState.(*consensus.State)
	if !ok {
		return nil, fmt.Errorf("opening engine: consensus state is a %T", env.ConsensusState)
	}
	return &engine{node: cmt, dbs: dbs, mempool: cmt.Mempool(), reactor: cmt.ConsensusReactor(), state: state, states: env.StateStore}, nil
}

func firstLine(r any) string {
	line, _, _ := strings.Cut(fmt.Sprint(r), "\n")
	return line
}

// start makes it listen, and take part.
func (e *engine) start(address string) error {
	if err := e.node.Start(); err != nil {
		if _, ok := errors.AsType[*net.OpError](err); ok {
			return fmt.Errorf("%w on %s for engine peers: %w", ErrListen, address, err)
		}
		return fmt.Errorf("starting engine: %w", err)
	}
	e.address = address
	return nil
}

// syncing says whether it is still fetching blocks that others have.
func (e *engine) syncing() bool { return e.reactor.WaitSync() }

// watchConsensus ends the node when the engine's consensus gives up: it writes a line into
// the log then, and goes on as if nothing had happened. Called by tend only, when the
// engine no longer catches up (before that there is nothing to wait for).
func (e *engine) watchConsensus(n *Node) {
	if e.watched {
		return
	}
	e.watched = true
	e.wg.Go(func() {
		e.state.Wait()
		n.fail(fmt.Errorf("%w: the engine's consensus has ended, its reason is in the log", ErrHalted))
	})
}

// stop ends the engine and waits for it. It leaves behind:
//
//   - per peer gossipDataRoutine, gossipVotesRoutine and queryMaj23Routine, for two seconds
//     at most: they look up from their sleep, find the engine stopped and return. What they
//     read meanwhile is guardedDB's business.
//   - for ever, two goroutines of the write-ahead log's AutoFile (closeFileRoutine and its
//     listener for SIGHUP), which the engine never closes; about 10 kB for each Run.
func (e *engine) stop() error {
	done := make(chan error, 1)
	go func() {
		var errs []error
		if e.node.IsRunning() {
			errs = append(errs, e.node.Stop())
		} else {
			// It never started; its event bus runs all the same.
			errs = append(errs, e.node.EventBus().Stop())
		}
		errs = append(errs, e.node.ProxyApp().Stop())
		e.wg.Wait()
		done <- errors.Join(append(errs, e.dbs.close())...)
	}()
	timeout := time.NewTimer(stopWithin)
	defer timeout.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("stopping engine: %w", err)
		}
		return nil
	case <-timeout.C:
		return fmt.Errorf("stopping engine: it has not ended after %v", stopWithin)
	}
}
