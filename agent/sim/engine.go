package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	roundTime    = 3 * second
	longestRound = 30 * second
)

// block is a decided one.
type block struct {
	seed           [32]byte
	txs            [][]byte
	signed, faulty []ledger.ValidatorAddress
	at             int64 // when it was decided
}

// proposal is what a proposer sends for a height.
type proposal struct {
	height int64
	round  int
	from   int
	txs    [][]byte
	id     [32]byte
	votes  []int
	second bool // of two for one height
}

// engine stands for consensus: proposers take turns, validators judge and vote, and what has
// more than two thirds of the votes is decided. It also remembers what was decoded and whose
// signatures were found right, for all replicas: a signature is right or wrong for all alike.
type engine struct {
	w       *world
	rnd     *rand.Rand
	chain   []block
	busy    bool
	round   int
	faulty  []ledger.ValidatorAddress // to be proven in the next block
	decoded map[[32]byte]*ledger.Tx
	set     []int // those who vote, see voters
	setAt   int64 // at this height
}

func newEngine(w *world) *engine {
	return &engine{w: w, rnd: w.stream("engine"), decoded: map[[32]byte]*ledger.Tx{}}
}

func (e *engine) decode(raw []byte) (*ledger.Tx, error) {
	hash := sha256.Sum256(raw)
	if tx, ok := e.decoded[hash]; ok {
		return tx, nil
	}
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		return nil, err
	}
	e.decoded[hash] = tx
	return tx, nil
}

// verified says that all signatures of a transaction have been found right with that key.
func (e *engine) verified(hash [32]byte, by ledger.Key) bool {
	tx, ok := e.decoded[hash]
	if !ok {
		return false
	}
	key, ok := tx.VerifiedBy()
	return ok && key == by
}

// ring asks for a block at the height after the caller's.
func (e *engine) ring(r *replica) {
	if r.height != int64(len(e.chain)) {
		return // it is behind, and will look again when it is not
	}
	if r.clock() > e.w.gate(r.state.Next()) {
		r.pause = min(max(2*r.pause, 100), 5*minute)
		r.ringAt = e.w.now + r.pause
		e.w.at(r.ringAt, r.wake)
	}
	if e.busy {
		return
	}
	e.busy, e.round = true, 0
	e.next()
}

// next begins a round.
func (e *engine) next() {
	height, round := int64(len(e.chain))+1, e.round
	voters := e.voters()
	from := e.w.replicas[voters[(int(height)+round)%len(voters)]]
	if from.up && from.height == height-1 && (from.adversary == nil || !from.adversary.silent) {
		for _, p := range e.proposals(from, height, round) {
			for _, r := range e.w.replicas {
				e.w.net.carry(from.i, r.i, func() { e.judge(r, p) })
			}
		}
	}
	pause := min(roundTime<<min(round/validators, 8), longestRound)
	e.w.after(pause, func() {
		if int64(len(e.chain)) >= height || e.round != round {
			return
		}
		for _, r := range e.w.replicas {
			if !r.up {
				continue
			}
			if due, _ := r.due(); due || e.w.now < r.ringAt {
				e.round++
				e.next()
				return
			}
		}
		e.busy = false
		e.wakeAll()
	})
}

func (e *engine) wakeAll() {
	for _, r := range e.w.replicas {
		r.wake()
	}
}

// voters are those who commit the next block, by the ledger.
func (e *engine) voters() []int {
	if e.setAt == int64(len(e.chain))+1 {
		return e.set
	}
	for _, r := range e.w.replicas {
		if !r.up || r.height != int64(len(e.chain)) {
			continue
		}
		e.set, e.setAt = nil, r.height+1
		for _, v := range r.state.Validators() {
			for _, o := range e.w.replicas {
				if o.key == v.Key {
					e.set = append(e.set, o.i)
				}
			}
		}
		slices.Sort(e.set)
		return e.set
	}
	return e.set // nobody is there to ask, and nobody to vote
}

// prove notes that a validator has signed two blocks of one height.
func (e *engine) prove(r *replica) {
	if a := ledger.AddressOf(r.key); !slices.Contains(e.faulty, a) {
		e.faulty = append(e.faulty, a)
	}
}

// proposals are what a proposer sends: one, unless it has two faces.
func (e *engine) proposals(from *replica, height int64, round int) []*proposal {
	out := []*proposal{e.proposal(from, height, round, from.propose(height))}
	if a := from.adversary; a != nil && a.second != nil {
		p := e.proposal(from, height, round, a.second(from, height, out[0].txs))
		p.second = true
		out = append(out, p)
	}
	return out
}

func (e *engine) proposal(from *replica, height int64, round int, txs [][]byte) *proposal {
	p := &proposal{height: height, round: round, from: from.i, txs: txs}
	h := sha256.New()
	b := binary.BigEndian.AppendUint64(nil, uint64(height)) //nolint:gosec // positive
	b = binary.BigEndian.AppendUint64(b, e.w.opt.Seed)
	b = append(b, byte(round), byte(from.i)) //nolint:gosec // of a round its last byte tells it from those before
	_, _ = h.Write(b)                        // never fails
	for _, tx := range txs {
		sum := sha256.Sum256(tx)
		_, _ = h.Write(sum[:])
	}
	h.Sum(p.id[:0])
	return p
}

// judge has a replica vote on a proposal; the vote goes back to its proposer.
func (e *engine) judge(r *replica, p *proposal) {
	if !r.up || r.height != p.height-1 || !slices.Contains(e.voters(), r.i) || int64(len(e.chain)) >= p.height || !r.judge(p) {
		return
	}
	e.w.net.carry(r.i, p.from, func() { e.count(r, p) })
}

// count takes a vote, and decides.
func (e *engine) count(r *replica, p *proposal) {
	if int64(len(e.chain)) >= p.height || !e.w.replicas[p.from].up {
		return
	}
	if slices.Contains(p.votes, r.i) {
		return
	}
	p.votes = append(p.votes, r.i)
	if 3*len(p.votes) <= 2*len(e.voters()) {
		return
	}
	b := block{seed: p.id, txs: p.txs, at: e.w.now, faulty: e.faulty}
	for _, v := range p.votes {
		b.signed = append(b.signed, ledger.AddressOf(e.w.replicas[v].key))
	}
	e.faulty = nil
	e.chain = append(e.chain, b)
	e.busy = false
	e.w.report.Blocks++
	e.w.report.Txs += len(b.txs)
	if len(b.txs) == 0 {
		e.w.report.Empty++
	}
	e.w.trace("height %d: %d transactions of validator %d in round %d", p.height, len(b.txs), p.from, p.round)
	for _, r := range e.w.replicas {
		e.w.net.carry(p.from, r.i, func() {
			if r.up && r.height == p.height-1 {
				r.apply(p.height)
				r.wake()
			}
		})
		e.w.after(2*second, r.catchUp)
	}
}
