package consensus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/p2p"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// app is the engine's view of the ledger. The engine calls it over four connections, each
// of which is serial: consensus (InitChain to Commit), mempool (CheckTx), query (Info,
// Query) and snapshots (unused). The fields below belong to the consensus connection.
type app struct {
	abci.BaseApplication
	n *Node

	pending *finalized
	// trusted are the transactions of proposals at this height whose signatures were
	// found right, and with which key, though they are not in the pool.
	trusted map[[32]byte]ledger.Key
	// judged are the good proposals at this height, by the hash of their blocks.
	judged map[[32]byte]*judgement
}

// finalized is a block that was applied and is not committed yet.
type finalized struct {
	height   int64
	delta    *ledger.Delta
	receipts []ledger.Receipt
	judged   *judgement // nil: this node was not asked about it
	omitted  uint64
}

const (
	maxTrusted = 4 * maxBlockTxs
	maxJudged  = 16 // proposals of one height that are noted
	codeNo     = 1  // any code but 0 means no; the engine shows it to nobody
)

var _ abci.Application = (*app)(nil)

// Info tells the engine where the ledger stands, so that it can replay what is missing.
func (a *app) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	height, hash := a.n.book.tip()
	return &abci.ResponseInfo{
		Data: "commonwatt", Version: "1", AppVersion: 1,
		LastBlockHeight: height, LastBlockAppHash: hash[:],
	}, nil
}

// Query answers the engine's two questions: is this socket's far end one of the network's
// tunnels, and is this peer's key a member's?
func (a *app) Query(_ context.Context, req *abci.RequestQuery) (*abci.ResponseQuery, error) {
	if id, ok := strings.CutPrefix(req.Path, "/p2p/filter/id/"); ok {
		if a.n.isMember(p2p.ID(id)) {
			return &abci.ResponseQuery{}, nil
		}
		return &abci.ResponseQuery{Code: codeNo, Log: "not a member of this community"}, nil
	}
	if remote, ok := strings.CutPrefix(req.Path, "/p2p/filter/addr/"); ok {
		if a.n.network.Ours(remote) {
			return &abci.ResponseQuery{}, nil
		}
		return &abci.ResponseQuery{Code: codeNo, Log: "not from a tunnel of this node"}, nil
	}
	return &abci.ResponseQuery{Code: codeNo, Log: "unknown path"}, nil
}

// CheckTx takes this node's own bell and nothing else: peers can put transactions into the
// engine's mempool, and what they put there must neither stay nor ring (C1). A bell does
// not survive the next commit, after which the mempool asks again.
func (a *app) CheckTx(_ context.Context, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	height, _ := a.n.book.tip()
	if req.Type == abci.CheckTxType_New && a.n.bell.owns(req.Tx, height+1) {
		return &abci.ResponseCheckTx{}, nil
	}
	return &abci.ResponseCheckTx{Code: codeNo, Log: "not a bell"}, nil
}

// InitChain gives the hash of the state before the first block.
func (a *app) InitChain(_ context.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	height, hash := a.n.book.tip()
	if height != 0 || req.ChainId != a.n.doc.ChainID {
		return nil, a.halt(fmt.Errorf("engine begins chain %q, the ledger is at height %d of %q", req.ChainId, height, a.n.doc.ChainID))
	}
	return &abci.ResponseInitChain{AppHash: hash[:]}, nil
}

// PrepareProposal is asked when it is our turn. What the engine brings are bells only. A
// block that is made for another reason than the pool (a proof of the last one's hash, the
// heartbeat) stays empty: taking orders into it would change the hash again, which calls
// for the next proof, and so on without end.
func (a *app) PrepareProposal(_ context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	n, now := a.n, a.n.cfg.Now()
	var txs [][]byte
	n.book.read(func(s *ledger.State) {
		due, closing := dueTick(s, now)
		var tick []byte
		if closing {
			tick = ledger.NewTick(due.From, due.To, due.Begun)
		}
		if closing || n.dueTxs(s, now).due {
			budget := int(req.MaxTxBytes) - len(tick) - blockOverhead
			for _, tx := range n.pool.pick(saltOf(s.AppHash(), req.Height), maxBlockTxs, budget) {
				if err := s.VerifyTx(tx, a.known); err != nil {
					// It was signed with a key that has been replaced since.
					n.refused(err)
					n.pool.drop(tx.Hash())
					continue
				}
				txs = append(txs, tx.Bytes())
			}
		}
		if closing {
			txs = append(txs, tick)
		}
	})
	if f := n.cfg.faults.propose; f != nil {
		txs = f(req.Height, txs)
	}
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// known says that this node has found all signatures of a transaction right with that key.
func (a *app) known(hash [32]byte, key ledger.Key) bool {
	if k, ok := a.trusted[hash]; ok && k == key {
		return true
	}
	return a.n.pool.verified(hash, key)
}

// FinalizeBlock applies a decided block to the state, which it leaves as it is.
func (a *app) FinalizeBlock(_ context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	block, err := appliedBlock(req)
	if err != nil {
		return nil, a.halt(err)
	}
	block.Verified = a.known
	var delta *ledger.Delta
	var receipts []ledger.Receipt
	judged, omitted := a.judged[block.Seed], uint64(0)
	a.n.book.read(func(s *ledger.State) {
		if delta, receipts, err = ledger.Apply(s, block); err == nil && judged != nil {
			omitted = a.n.leftOut(s, judged)
		}
	})
	if err != nil {
		return nil, a.halt(fmt.Errorf("applying block %d: %w", req.Height, err))
	}
	a.pending = &finalized{height: req.Height, delta: delta, receipts: receipts, judged: judged, omitted: omitted}
	hash := delta.AppHash()
	res := &abci.ResponseFinalizeBlock{
		AppHash: hash[:], TxResults: make([]*abci.ExecTxResult, len(receipts)), ValidatorUpdates: engineUpdates(delta.Validators),
	}
	for i, r := range receipts {
		// The engine hashes codes into the next header; texts it does not, so they are left out.
		res.TxResults[i] = &abci.ExecTxResult{Code: uint32(r.Code())}
	}
	return res, nil
}

// Commit makes the block durable, then visible. Where a crash may come, and what the
// engine's handshake does about it at the next start:
//
//	before store.Commit         the ledger is one block behind: it is applied again
//	after it, before the engine the ledger is level with the block store, the engine's own
//	saved its state             state is not: the engine takes the ledger's answer as it is
//	after that                  nothing
//
// The ledger is never ahead of the block store, because the engine saves a block before it
// has it applied.
func (a *app) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	n, p := a.n, a.pending
	if p == nil {
		return nil, a.halt(errors.New("commit without a block"))
	}
	if err := n.store(p); err != nil {
		return nil, a.halt(err)
	}
	a.pending = nil
	clear(a.trusted)
	clear(a.judged)
	orders := false
	for _, r := range p.receipts {
		orders = orders || r.Kind != ledger.KindTick
		if r.Refusal != nil {
			n.refused(r.Refusal)
		}
	}
	if p.judged != nil {
		n.conduct.omitted(p.judged.proposer, p.height, p.omitted)
	}
	n.book.read(func(s *ledger.State) {
		for _, err := range n.pool.recheck(s.CheckTx) {
			n.refused(err)
		}
		if now := n.cfg.Now(); orders && !now.Before(wallGate(s, s.Next()).Add(-n.beforeGate)) {
			n.swept.Store(int64(s.Next()))
		}
		if p.judged != nil {
			n.learn(s, p.judged)
		}
	})
	n.committed(p)
	return &abci.ResponseCommit{RetainHeight: n.retainHeight(p.height)}, nil
}

func (n *Node) store(p *finalized) error {
	crash := n.cfg.faults.commit
	if crash == nil {
		crash = func(int64, bool) error { return nil }
	}
	if err := crash(p.height, false); err != nil {
		return err
	}
	// The pool learns what was applied before the state has it: whoever finds a transaction
	// refused by the new state can see in the pool that it is because it was applied.
	settle := func() {
		ticked := slices.ContainsFunc(p.receipts, func(r ledger.Receipt) bool { return r.Kind == ledger.KindTick })
		n.book.read(func(s *ledger.State) { n.turns.note(p.receipts, s, time.Now()) })
		n.pool.settle(p.receipts, ticked)
	}
	if err := n.changes.decided(p.height, p.delta.Validators); err != nil {
		return err
	}
	if err := n.book.commit(p.height, p.delta, settle); err != nil {
		return err
	}
	if err := n.audit(p.height); err != nil {
		return err
	}
	if err := n.snapshotDue(p.height); err != nil {
		return err
	}
	return crash(p.height, true)
}

// audit looks for violated invariants after a block, in debug builds.
func (n *Node) audit(height int64) (err error) {
	if !auditing {
		return nil
	}
	n.book.read(func(s *ledger.State) { err = errors.Join(s.Audit()...) })
	if err != nil {
		return fmt.Errorf("auditing block %d: %w", height, err)
	}
	return nil
}

// halt ends the node (C7). In consensus and in the handshake the engine takes an error for
// what it is. While it is catching up it would panic in a goroutine of its own, which ends
// the whole process, and with it what a home can do without a ledger; so that goroutine
// ends here.
func (a *app) halt(err error) error {
	a.n.fail(fmt.Errorf("%w: %w", ErrHalted, err))
	if e := a.n.engine.Load(); e != nil && e.syncing() {
		runtime.Goexit()
	}
	return err
}

// noSweep is an Interval that no chain reaches.
const noSweep = int64(-market.MaxInterval)
