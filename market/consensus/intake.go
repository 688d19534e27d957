package consensus

import (
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/cometbft/cometbft/consensus"
	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// fate is what became of a transaction that was taken.
type fate struct {
	added bool
	err   error // a *ledger.Refusal
}

// take checks transactions against the state, the cheap things first and then the signatures of
// all of them as one batch, and puts the good ones into the pool. Own ones have room of their
// own there.
func (n *Node) take(txs []*ledger.Tx, own bool) []fate {
	fates := make([]fate, len(txs))
	registered := make([]bool, len(txs))
	roomy := make([]*ledger.Tx, 0, len(txs))
	at := make([]int, 0, len(txs)) // of each roomy one
	n.book.read(func(s *ledger.State) {
		for i, tx := range txs {
			_, registered[i] = s.Household(tx.Household())
			if !own {
				if fates[i].err = n.pool.room(tx, registered[i]); fates[i].err != nil {
					continue
				}
			}
			roomy, at = append(roomy, tx), append(at, i)
		}
		for j, err := range s.CheckTxs(roomy) {
			fates[at[j]].err = err
		}
	})
	now := time.Now()
	for i, tx := range txs {
		if f := &fates[i]; f.err == nil {
			f.added, f.err = n.pool.add(tx, own, registered[i], now)
		}
	}
	return fates
}

// Validate judges one gossip message of others (C12). Its good transactions go into the pool,
// also where the message as a whole is not to be forwarded. It is safe for concurrent use.
//
// Reject: no honest node sends this. Ignore: nothing new in it, or it may be good by what
// we do not know yet, or there is no room for it.
func (n *Node) Validate(raw []byte) Verdict {
	txs, err := decodeBundle(raw)
	if err != nil {
		n.refused(&ledger.Refusal{Code: ledger.CodeMalformed})
		return Reject
	}
	verdict := Ignore
	worst := func(v Verdict) {
		if v == Reject || verdict == Ignore {
			verdict = v
		}
	}
	fresh := make([]*ledger.Tx, 0, len(txs))
	twice := make(map[[32]byte]bool, len(txs))
	for _, b := range txs {
		tx, err := ledger.DecodeTx(b)
		if err != nil {
			worst(n.judge(nil, err))
			continue
		}
		if twice[tx.Hash()] || n.pool.known(tx.Hash()) {
			continue
		}
		twice[tx.Hash()] = true
		if v, ok := n.pool.spentOn(tx.Hash()); ok {
			worst(v)
			continue
		}
		fresh = append(fresh, tx)
	}
	added := false
	for i, f := range n.take(fresh, false) {
		if f.err != nil {
			worst(n.judge(fresh[i], f.err))
		} else if f.added {
			added = true
			worst(Accept)
		}
	}
	if added {
		poke(n.bell.wake)
	}
	return verdict
}

// blame lists the refusals that no honest node forwards, whatever it may not know yet:
// they follow from the bytes, and from rules that never change.
var blame = map[ledger.Code]bool{
	ledger.CodeMalformed: true, ledger.CodeOversized: true, ledger.CodeUnknownKind: true,
	ledger.CodeBadSteps: true, ledger.CodeBadKey: true, ledger.CodeTickMisplaced: true,
}

// blameByRules lists those that follow from the bytes and what the community has decided, so
// that for a moment after a decision two honest nodes may differ.
var blameByRules = map[ledger.Code]bool{
	ledger.CodeBadQuantity: true, ledger.CodePriceOutOfBounds: true, ledger.CodeTooManySteps: true,
	ledger.CodeBadPreference: true, ledger.CodeUnknownNode: true, ledger.CodeNotApproved: true,
}

// judge says what a refused transaction is worth, and counts it; tx is nil if it could not be
// read. What speaks for a sender must cost whoever wants to be spared: a signature that is
// wrong is forgiven only if it is right by a key that the household had until lately, or that
// a change that waits here brings it.
func (n *Node) judge(tx *ledger.Tx, err error) Verdict {
	if tx != nil && n.pool.known(tx.Hash()) {
		return Ignore // by now it waits here, or has been applied
	}
	n.refused(err)
	r, ok := errors.AsType[*ledger.Refusal](err)
	if !ok {
		return Ignore
	}
	verdict := Ignore
	switch {
	case blame[r.Code]:
		verdict = Reject
	case blameByRules[r.Code] && !n.pool.turning() && !n.turns.decidedLately(time.Now()),
		r.Code == ledger.CodeBadSignature && !n.otherwiseSigned(tx):
		if !n.behind() {
			verdict = Reject
		}
	}
	if tx != nil && (tx.OfOffice() || r.Code == ledger.CodeBadSignature || r.Code == ledger.CodeNotApproved) {
		n.pool.spend(tx.Hash(), verdict)
	}
	return verdict
}

// otherwiseSigned says whether a transaction is signed with a device key that its household
// had until lately, or is about to get.
func (n *Node) otherwiseSigned(tx *ledger.Tx) (is bool) {
	if tx == nil {
		return false // its signature has not even the right length
	}
	keys := n.pool.devices(tx.Household())
	if k, ok := n.turns.formerDevice(tx.Household(), time.Now()); ok {
		keys = append(keys, k)
	}
	n.book.read(func(s *ledger.State) {
		if h, ok := s.Household(tx.Household()); ok {
			keys = append(keys, h.Device) // a block may have come since it was checked
		}
		for _, k := range keys {
			is = is || s.SignedBy(tx, k)
		}
	})
	return is
}

const (
	// turnFor is how long after a change of keys or rules those who had not yet heard of it,
	// and what they passed on, are not blamed: more than a block and a bundle take.
	turnFor = time.Minute
	// maxTurns bounds the former device keys that are remembered; each costs its household a
	// transaction on the ledger. The oldest goes first.
	maxTurns = 256
)

// turns is what has changed lately.
type turns struct {
	mu      sync.Mutex
	decided time.Time // when the last decision was applied
	former  map[market.HouseholdID]formerKey
}

type formerKey struct {
	key   ledger.Key
	until time.Time
}

// note takes what a block has applied; before is the state before it.
func (t *turns) note(receipts []ledger.Receipt, before *ledger.State, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range receipts {
		switch {
		case r.Refusal != nil:
		case r.Kind == ledger.KindDevice:
			if h, ok := before.Household(r.Household); ok {
				t.retire(r.Household, formerKey{h.Device, now.Add(turnFor)}, now)
			}
		case r.Kind.Decides():
			t.decided = now
		}
	}
}

func (t *turns) retire(id market.HouseholdID, k formerKey, now time.Time) {
	if t.former == nil {
		t.former = map[market.HouseholdID]formerKey{}
	}
	maps.DeleteFunc(t.former, func(_ market.HouseholdID, k formerKey) bool { return now.After(k.until) })
	if _, ok := t.former[id]; !ok && len(t.former) >= maxTurns {
		var oldest market.HouseholdID
		first := k.until
		for id, k := range t.former {
			if !k.until.After(first) {
				oldest, first = id, k.until
			}
		}
		delete(t.former, oldest)
	}
	t.former[id] = k
}

func (t *turns) formerDevice(id market.HouseholdID, now time.Time) (ledger.Key, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.former[id]
	return k.key, ok && !now.After(k.until)
}

func (t *turns) decidedLately(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.decided.IsZero() && now.Sub(t.decided) <= turnFor
}

// behind says whether this node may not know what everybody else does: it has not started, or
// fetches blocks, or more of the validators than can be lying say that they have a block that
// this node has not.
func (n *Node) behind() bool {
	e := n.engine.Load()
	if e == nil || e.syncing() {
		return true
	}
	height, _ := n.book.tip()
	validators := map[p2p.ID]bool{}
	n.book.read(func(s *ledger.State) {
		for _, v := range s.Validators() {
			validators[engineID(v.Network[:])] = true
		}
	})
	ahead := 0
	e.node.Switch().Peers().ForEach(func(p p2p.Peer) {
		ps, ok := p.Get(types.PeerStateKey).(*consensus.PeerState)
		if ok && validators[p.ID()] && ps.GetHeight() > height+1 {
			ahead++
		}
	})
	return ahead > (len(validators)-1)/3
}
