package consensus

import (
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// known says whether the transaction waits here, or was applied lately.
func (p *pool) known(hash [32]byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.byHash[hash]; ok {
		return true
	}
	return p.applied(hash)
}

// applied says whether a block has applied it lately.
func (p *pool) applied(hash [32]byte) bool {
	_, young := p.seen[0][hash]
	_, old := p.seen[1][hash]
	return young || old
}

// room says whether a transaction of others would find room now, so that nobody's signature
// is verified for nothing. The error is a *ledger.Refusal.
func (p *pool) room(tx *ledger.Tx, registered bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &entry{tx: tx, home: newcomers}
	if registered {
		e.home = tx.Household()
	}
	_, err := p.rival(e)
	return err
}

// spend remembers the verdict on a transaction whose signatures have been verified for
// nothing, so that who repeats it until the next block is answered without.
func (p *pool) spend(hash [32]byte, v Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spent) < spentSize {
		p.spent[hash] = v
	}
}

// spentOn is what spend was told; false if nothing.
func (p *pool) spentOn(hash [32]byte) (Verdict, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.spent[hash]
	return v, ok
}

// turning says whether a decision waits here that may change what is right for everybody.
func (p *pool) turning() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.decisions > 0
}

// devices are the device keys that a household is about to get.
func (p *pool) devices(id market.HouseholdID) (keys []ledger.Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, es := range [][]*entry{p.homes[id], p.own} {
		for _, e := range es {
			if key, ok := e.tx.NewDevice(); ok && !e.gone && e.tx.Household() == id {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func (p *pool) remember(hash [32]byte) {
	if len(p.seen[0]) >= seenSize {
		p.seen[0], p.seen[1] = map[[32]byte]struct{}{}, p.seen[0]
	}
	p.seen[0][hash] = struct{}{}
}
