package consensus

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cometbft/cometbft/p2p"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Status is what a node knows about itself and the others.
type Status struct {
	ChainID string
	Height  int64  // of the last block that is in the ledger
	AppHash []byte // after it
	// CatchingUp: this node is fetching blocks that others have, or has not started.
	CatchingUp bool

	Validators      []ValidatorStatus
	ValidatorsTotal int
	IsValidator     bool

	Peers         int       // connected engine peers
	LastBlockWall time.Time // when this node committed its last block; zero: none since it started

	Pool, PoolBytes int // transactions that wait, and their bytes
	// Rejected counts refusals since the start by the name of their code: of what was
	// submitted or gossiped here, and of what blocks carried.
	Rejected map[string]uint64
	// Omitted counts, by the address of the validator who proposed the block, orders that
	// were left out though this node had long held them (C11).
	Omitted map[string]uint64
	// BadProposals counts refused proposals, by the address of their proposer and the reason.
	BadProposals map[string]map[string]uint64
	// DoubleVoted are the validators that are proven to have signed two blocks of one height.
	DoubleVoted []DoubleVote
	// Waiting says what the node waits for, in words for people; empty: nothing.
	Waiting string

	// Of a light home.
	Light     bool
	Providers []ProviderStatus // whom it asks
	Accused   []Accusation     // providers that were found lying
	Fork      *Fork            // why it stopped for good; nil: it did not
	Alone     bool             // the newest header was confirmed by nobody but the one who gave it
}

// ValidatorStatus is one of those who commit.
type ValidatorStatus struct {
	Name    string
	Address string // hexadecimal
	Power   int64
	Self    bool
	// Online: it is connected to this node (or is this node). Peers say themselves whose
	// validator key they have, so this is for people, not for decisions.
	Online bool
}

// DoubleVote is a validator that signed two blocks of one height.
type DoubleVote struct {
	Name      string // that of the genesis document, or its household's
	Address   string
	Household market.HouseholdID // zero: its home is no household yet
	Struck    bool               // it is no validator any more; else the others cannot do without it yet
}

// Status returns a snapshot.
func (n *Node) Status() Status {
	height, hash := n.book.tip()
	l := n.pool.load()
	s := Status{
		ChainID: n.doc.ChainID, Height: height, AppHash: hash[:], CatchingUp: n.behind(),
		Pool: l.txs, PoolBytes: l.bytes,
		Rejected: n.counts.snapshot(), Omitted: map[string]uint64{}, BadProposals: map[string]map[string]uint64{},
	}
	for a, seen := range n.conduct.all() {
		if seen.Omitted > 0 {
			s.Omitted[addressText(a)] = seen.Omitted
		}
		if len(seen.Refused) > 0 {
			s.BadProposals[addressText(a)] = seen.Refused
		}
	}
	s.DoubleVoted = n.doubleVoted()
	if at := n.last.Load(); at != 0 {
		s.LastBlockWall = time.Unix(0, at).UTC()
	}
	online := map[string]bool{}
	if e := n.engine.Load(); e != nil {
		e.node.Switch().Peers().ForEach(func(p p2p.Peer) {
			s.Peers++
			if info, ok := p.NodeInfo().(p2p.DefaultNodeInfo); ok {
				online[info.Moniker] = true
			}
		})
		online[n.validator.GetAddress().String()] = true
	}
	s.Validators = n.validators()
	s.ValidatorsTotal = len(s.Validators)
	up := 0
	for i := range s.Validators {
		v := &s.Validators[i]
		v.Online = online[v.Address]
		s.IsValidator = s.IsValidator || v.Self
		if v.Online {
			up++
		}
	}
	switch {
	case n.engine.Load() == nil:
		s.Waiting = "waiting for the ledger to start"
	case up < quorum(len(s.Validators)):
		s.Waiting = fmt.Sprintf("waiting for quorum: %d of %d needed validators are connected", up, quorum(len(s.Validators)))
	case s.IsValidator && !n.guard.isOpen():
		s.Waiting = "asking the others whether this home's validator key is at work elsewhere"
	case s.CatchingUp:
		s.Waiting = fmt.Sprintf("catching up: block %d", height)
	}
	return s
}

// quorum is how many of n equal validators are more than two thirds of them.
func quorum(n int) int { return 2*n/3 + 1 }

// counts counts refusals by code.
type counts struct {
	mu     sync.Mutex
	byName map[string]uint64
}

func (c *counts) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.byName)
}

// refused counts a refusal.
func (n *Node) refused(err error) {
	name := "other"
	if r, ok := errors.AsType[*ledger.Refusal](err); ok {
		name = codeName(r.Code)
	}
	n.counts.mu.Lock()
	defer n.counts.mu.Unlock()
	if n.counts.byName == nil {
		n.counts.byName = map[string]uint64{}
	}
	n.counts.byName[name]++
}

// eventQueue is how many events may wait for a slow subscriber.
const eventQueue = 64

// Event is one committed block.
type Event struct {
	Height   int64
	AppHash  []byte // after the block
	Receipts []ledger.Receipt
	// Missed is how many events before this one were dropped because the subscriber was
	// slow; it can read what it missed from the state.
	Missed uint64
}

// events hands blocks to subscribers and never waits for one.
type events struct {
	mu     sync.Mutex
	closed bool
	subs   map[*subscriber]struct{}
}

type subscriber struct {
	c      chan Event
	missed uint64
}

// Subscribe returns the blocks committed from now on. At most eventQueue wait; then the
// oldest are dropped, and the next one says how many. The channel is closed by cancel, and
// when the node ends.
func (n *Node) Subscribe() (<-chan Event, func()) { return n.events.subscribe() }

func (e *events) subscribe() (<-chan Event, func()) {
	s := &subscriber{c: make(chan Event, eventQueue)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		close(s.c)
		return s.c, func() {}
	}
	if e.subs == nil {
		e.subs = map[*subscriber]struct{}{}
	}
	e.subs[s] = struct{}{}
	return s.c, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if _, ok := e.subs[s]; ok {
			delete(e.subs, s)
			close(s.c)
		}
	}
}

func (e *events) send(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.subs {
		s.send(ev)
	}
}

func (s *subscriber) send(ev Event) {
	for {
		ev.Missed = s.missed
		select {
		case s.c <- ev:
			s.missed = 0
			return
		default:
		}
		select {
		case old := <-s.c:
			s.missed += 1 + old.Missed
		default: // it has just been read
		}
	}
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for s := range e.subs {
		close(s.c)
	}
	clear(e.subs)
}
