package ledger

import (
	"github.com/commonwatt/commonwatt/market"
)

const (
	// MaxTickSpan bounds the span of a tick.
	MaxTickSpan = 10_000
	// maxTickEntries bounds what a tick makes the ledger write: the households
	// times the gates that it closes, some megabytes of records and history.
	maxTickEntries = 1 << 16
)

// Tick says that the gates of the Intervals From to To, both included, have
// closed. Only the proposer of a block brings one, last in the block; it carries
// no signature, since the block is signed.
//
// The ledger closes them in this block, but after a long outage of a large
// community only as many as a block can carry, at least one. The next tick
// begins where this one stopped, which State.Next tells.
type Tick struct {
	_    struct{} `cbor:",toarray"`
	From market.Interval
	To   market.Interval
	// Begun: the delivery of those before it has begun. They come too late to be
	// cleared on orders, and are cleared by what the meters say (R6). From to To+1.
	Begun market.Interval
}

// NewTick makes the transaction that closes the gates of from to to; those before begun
// after their delivery began.
func NewTick(from, to, begun market.Interval) []byte {
	return encode(envelope{Kind: KindTick, Body: encode(&Tick{From: from, To: to, Begun: begun}), Signature: []byte{}})
}

// Tick returns what a tick says; ok is false for every other kind.
func (tx *Tx) Tick() (t Tick, ok bool) {
	p, ok := tx.body.(*Tick)
	if !ok {
		return Tick{}, false
	}
	return *p, true
}

func (t *Tick) shape() *Refusal {
	if t.From < 0 || t.To < t.From || t.To-t.From >= MaxTickSpan || t.To > market.MaxInterval {
		return refuse(CodeMalformed, "tick", "got %d to %d, want a rising span of at most %d", t.From, t.To, MaxTickSpan)
	}
	if t.Begun < t.From || t.Begun > t.To+1 {
		return refuse(CodeMalformed, "begun", "got %d, want %d to %d", t.Begun, t.From, t.To+1)
	}
	return nil
}

func (t *Tick) check(d *draft, _ *Tx) *Refusal {
	if !d.last {
		return refuse(CodeTickMisplaced, "tick", "a tick is the last transaction of its block")
	}
	if t.From != d.next() {
		return refuse(CodeTickNotNext, "from", "got %d, want %d", t.From, d.next())
	}
	return nil
}

func (t *Tick) signer(*draft, *Tx) (Key, *Refusal) { return Key{}, nil }
func (t *Tick) verify(*draft, *Tx) *Refusal        { return nil }

func (t *Tick) apply(d *draft, _ *Tx) error {
	metered := d.metered() // nobody joins within a tick
	entries := 0
	for k := t.From; k <= t.To; k++ {
		awaited := d.awaited(k, metered)
		if k > t.From && entries+len(awaited) > maxTickEntries {
			break
		}
		if err := d.closeGate(k, awaited, t); err != nil {
			return err
		}
		entries += len(awaited)
	}
	return d.passDeadlines()
}
