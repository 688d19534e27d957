package consensus

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// CodePoolFull continues the ledger's codes: the transaction is good, but there is no room
// for it now; try later.
const CodePoolFull ledger.Code = 80

// codeName is the ledger's name of a code, and this package's of its own.
func codeName(c ledger.Code) string {
	if c == CodePoolFull {
		return "pool-full"
	}
	return c.String()
}

const (
	seenSize       = 8192 // hashes remembered, twice that at most
	spentSize      = 4096 // hashes of refused ones remembered until the next block
	republishFirst = 2 * time.Second
	republishLast  = 5 * time.Minute
	recheckAtOnce  = 512 // transactions looked at again per block, which bounds Commit
)

// newcomers is the account of transactions whose household is not registered yet: an id
// costs nothing there, so all of them together have the room of one household.
var newcomers = market.HouseholdID{}

// pool holds checked transactions until a block has them (C5). It is safe for concurrent
// use; nothing in it calls out under its lock.
type pool struct {
	limits PoolLimits

	mu        sync.Mutex
	byHash    map[[32]byte]*entry
	homes     map[market.HouseholdID][]*entry // in the order of arrival; foreign ones only
	own       []*entry                        // in the order of arrival
	bytes     int                             // of all
	urgent    int                             // of all, that a block should not wait for (C2)
	decisions int                             // of all, that officers signed
	count     int                             // of others
	size      int                             // bytes of others
	seen      [2]map[[32]byte]struct{}        // hashes of applied ones: young, old
	spent     map[[32]byte]Verdict            // of those that cost signatures and were refused since the last block
	stale     []*entry                        // to be looked at again, see recheck
}

type entry struct {
	tx     *ledger.Tx
	key    ledger.Key // with which its signatures were found right
	signed bool
	own    bool
	home   market.HouseholdID // whose room it takes
	gone   bool
	stale  bool // in pool.stale
	since  time.Time

	publishAt time.Time // of own ones: when to send it (again)
	pause     time.Duration
}

func newPool(limits PoolLimits) *pool {
	return &pool{
		limits: limits,
		byHash: map[[32]byte]*entry{},
		homes:  map[market.HouseholdID][]*entry{},
		seen:   [2]map[[32]byte]struct{}{{}, {}},
		spent:  map[[32]byte]Verdict{},
	}
}

// urgent says whether a person waits for it, or a market does.
func urgent(k ledger.Kind) bool {
	return k != ledger.KindOrder && k != ledger.KindReport
}

// get returns a transaction that waits here, or nil. Its CheckTx is for consensus only.
func (p *pool) get(hash [32]byte) *ledger.Tx {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.byHash[hash]; ok {
		return e.tx
	}
	return nil
}

// verified says whether all signatures of a waiting transaction were found right with key.
func (p *pool) verified(hash [32]byte, key ledger.Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.byHash[hash]
	return ok && e.signed && e.key == key
}

// add takes a checked transaction. registered says whether its household is on the ledger.
// The error is a *ledger.Refusal with CodePoolFull; a transaction that waits already is none.
func (p *pool) add(tx *ledger.Tx, own, registered bool, now time.Time) (added bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.byHash[tx.Hash()]; ok {
		if own && !e.own { // it came back to its home by gossip first
			p.adopt(e, now)
		}
		return false, nil
	}
	if p.applied(tx.Hash()) { // by a block that came since it was checked
		return false, nil
	}
	e := &entry{tx: tx, own: own, home: newcomers, since: now}
	if registered {
		e.home = tx.Household()
	}
	e.key, e.signed = tx.VerifiedBy()
	if own {
		if len(p.own) >= p.limits.Own {
			return false, full("own", len(p.own), p.limits.Own)
		}
		p.adopt(e, now)
	} else {
		if err := p.makeRoom(e); err != nil {
			return false, err
		}
		p.homes[e.home] = append(p.homes[e.home], e)
		p.count++
		p.size += len(tx.Bytes())
	}
	p.byHash[tx.Hash()] = e
	p.bytes += len(tx.Bytes())
	if urgent(tx.Kind()) {
		p.urgent++
	}
	if tx.OfOffice() {
		p.decisions++
	}
	return true, nil
}

// adopt makes an entry this node's own. It is published soon, and again with growing
// pauses until a block has it: gossip is not replayed to a node that was away.
func (p *pool) adopt(e *entry, now time.Time) {
	if !e.own {
		p.leaveHome(e)
	}
	e.own, e.publishAt, e.pause = true, now, republishFirst
	p.own = append(p.own, e)
}

func full(what string, have, limit int) *ledger.Refusal {
	return &ledger.Refusal{Code: CodePoolFull, Field: what, Text: "the pool is full (" + itoa(have) + " of " + itoa(limit) + "), try again after the next block"}
}

// makeRoom lets a transaction of others in, if need be at the cost of the newest one of
// the household that has most, provided that it has more than the newcomer's.
func (p *pool) makeRoom(e *entry) error {
	for {
		victim, err := p.rival(e)
		if victim == nil || err != nil {
			return err
		}
		p.remove(victim)
	}
}

// rival is whom a transaction has to displace next; nil if there is room.
func (p *pool) rival(e *entry) (*entry, error) {
	mine := len(p.homes[e.home])
	if mine >= p.limits.Household {
		return nil, full("household", mine, p.limits.Household)
	}
	if p.count < p.limits.Txs && p.size+len(e.tx.Bytes()) <= p.limits.Bytes {
		return nil, nil
	}
	var most []*entry
	for _, es := range p.homes {
		// Ties go to the smaller id, so that the choice is not the map's.
		if len(es) > len(most) || len(es) == len(most) && len(es) > 0 && bytes.Compare(es[0].home[:], most[0].home[:]) < 0 {
			most = es
		}
	}
	if len(most) <= mine+1 {
		return nil, full("pool", p.count, p.limits.Txs)
	}
	return most[len(most)-1], nil
}

// remove takes an entry out; the caller holds the lock.
func (p *pool) remove(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	delete(p.byHash, e.tx.Hash())
	p.bytes -= len(e.tx.Bytes())
	if urgent(e.tx.Kind()) {
		p.urgent--
	}
	if e.tx.OfOffice() {
		p.decisions--
	}
	if !e.own {
		p.leaveHome(e)
	}
}

// compact forgets own entries that are gone; in one go, since a block has many of them.
func (p *pool) compact() {
	p.own = slices.DeleteFunc(p.own, func(e *entry) bool { return e.gone })
}

func (p *pool) leaveHome(e *entry) {
	es, ok := p.homes[e.home]
	i := slices.Index(es, e)
	if !ok || i < 0 {
		return
	}
	if es = slices.Delete(es, i, i+1); len(es) == 0 {
		delete(p.homes, e.home)
	} else {
		p.homes[e.home] = es
	}
	p.count--
	p.size -= len(e.tx.Bytes())
}

// load is how much waits.
type load struct{ txs, bytes, urgent int }

func (p *pool) load() load {
	p.mu.Lock()
	defer p.mu.Unlock()
	return load{txs: len(p.byHash), bytes: p.bytes, urgent: p.urgent}
}

// pick returns what a proposal of at most maxBytes should have, in a fair order: one of
// each household in turn, the households in an order that salt decides, so that nobody
// can choose an id to come first. Within a household admissions come before what depends
// on them, then the order of arrival counts.
func (p *pool) pick(salt []byte, maxTxs, maxBytes int) []*ledger.Tx {
	p.mu.Lock()
	defer p.mu.Unlock()
	type queue struct {
		rank [32]byte
		txs  []*ledger.Tx
	}
	byHome := map[market.HouseholdID]*queue{}
	put := func(e *entry) {
		id := e.tx.Household()
		q := byHome[id]
		if q == nil {
			q = &queue{rank: sha256.Sum256(slices.Concat(salt, id[:]))}
			byHome[id] = q
		}
		q.txs = append(q.txs, e.tx)
	}
	for _, e := range p.own {
		put(e)
	}
	for _, es := range p.homes {
		for _, e := range es {
			put(e)
		}
	}
	queues := make([]*queue, 0, len(byHome))
	for _, q := range byHome {
		slices.SortStableFunc(q.txs, func(a, b *ledger.Tx) int { return cmp.Compare(a.Kind(), b.Kind()) })
		queues = append(queues, q)
	}
	slices.SortFunc(queues, func(a, b *queue) int { return bytes.Compare(a.rank[:], b.rank[:]) })
	var picked []*ledger.Tx
	for round := 0; len(picked) < maxTxs; round++ {
		before := len(picked)
		for _, q := range queues {
			if round >= len(q.txs) || len(picked) == maxTxs {
				continue
			}
			if n := len(q.txs[round].Bytes()) + blockOverhead; n <= maxBytes {
				maxBytes -= n
				picked = append(picked, q.txs[round])
			}
		}
		if len(picked) == before {
			break
		}
	}
	return picked
}

// drop takes out a transaction that is not good any more.
func (p *pool) drop(hash [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.byHash[hash]; ok {
		p.remove(e)
		p.compact()
	}
}

// settle takes out what a block had, and notes what has to be looked at again: the
// touched households' transactions, or all if a gate has closed.
func (p *pool) settle(receipts []ledger.Receipt, gateClosed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.spent) // by the new state they may be good
	touched := map[market.HouseholdID]bool{}
	for _, r := range receipts {
		touched[r.Household] = true
		if e, ok := p.byHash[r.Hash]; ok {
			p.remove(e)
		}
		if r.Refusal == nil {
			p.remember(r.Hash)
		}
	}
	p.compact()
	for _, e := range p.byHash {
		if !e.stale && (gateClosed || touched[e.tx.Household()]) {
			e.stale = true
			p.stale = append(p.stale, e)
		}
	}
}

// recheck asks check about what settle noted, oldest first, a bounded number at a time,
// and returns the refusals of what it took out. Only consensus calls it.
func (p *pool) recheck(check func(*ledger.Tx) error) []error {
	p.mu.Lock()
	p.stale = slices.DeleteFunc(p.stale, func(e *entry) bool { return e.gone })
	n := min(recheckAtOnce, len(p.stale))
	batch := slices.Clone(p.stale[:n])
	p.stale = slices.Clone(p.stale[n:])
	for _, e := range batch {
		e.stale = false
	}
	p.mu.Unlock()
	var refusals []error
	for _, e := range batch {
		err := check(e.tx)
		if err == nil {
			continue
		}
		refusals = append(refusals, err)
		p.drop(e.tx.Hash())
	}
	return refusals
}

// toPublish returns the own transactions whose time to be sent has come, and when the
// next ones are due; next is zero if none waits.
func (p *pool) toPublish(now time.Time) (due [][]byte, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.own {
		if !e.publishAt.After(now) {
			due = append(due, e.tx.Bytes())
			e.publishAt = now.Add(e.pause)
			e.pause = min(2*e.pause, republishLast)
		}
		if next.IsZero() || e.publishAt.Before(next) {
			next = e.publishAt
		}
	}
	return due, next
}

// saltOf makes pick's order of households another one at each height.
func saltOf(appHash [32]byte, height int64) []byte {
	return binary.BigEndian.AppendUint64(appHash[:], uint64(height)) //nolint:gosec // heights are positive
}
