package ledger

import (
	"github.com/commonwatt/commonwatt/market"
)

// MaxTickSpan bounds how many gates one tick may close, so that the block after a
// long outage stays small; the next blocks close the rest.
const MaxTickSpan = 10_000

// Tick closes the gates of the Intervals From to To, both included. Only the
// proposer of a block brings one, last in the block; it carries no signature,
// since the block is signed.
type Tick struct {
	_    struct{} `cbor:",toarray"`
	From market.Interval
	To   market.Interval

	seed [32]byte // of the block, set by Apply
	last bool
}

// NewTick makes the transaction that closes the gates of from to to.
func NewTick(from, to market.Interval) []byte {
	return encode(envelope{Kind: KindTick, Body: encode(&Tick{From: from, To: to}), Signature: []byte{}})
}

// Tick returns the span of a tick; ok is false for every other kind.
func (tx *Tx) Tick() (from, to market.Interval, ok bool) {
	t, ok := tx.body.(*Tick)
	if !ok {
		return 0, 0, false
	}
	return t.From, t.To, true
}

func (t *Tick) shape() *Refusal {
	if t.From < 0 || t.To < t.From || t.To-t.From >= MaxTickSpan || t.To > market.MaxInterval {
		return refuse(CodeMalformed, "tick", "got %d to %d, want a rising span of at most %d", t.From, t.To, MaxTickSpan)
	}
	return nil
}

func (t *Tick) check(d *draft, tx *Tx) *Refusal {
	if !t.last || tx.env.Household != (market.HouseholdID{}) || len(tx.env.Signature) != 0 {
		return refuse(CodeTickMisplaced, "tick", "a tick is unsigned and the last transaction of its block")
	}
	if t.From != d.next() {
		return refuse(CodeTickNotNext, "from", "got %d, want %d", t.From, d.next())
	}
	return nil
}

func (t *Tick) signer(*draft, *Tx) (Key, *Refusal) { return Key{}, nil }
func (t *Tick) verify(*draft, *Tx) *Refusal        { return nil }

func (t *Tick) apply(d *draft, _ *Tx) error {
	for k := t.From; k <= t.To; k++ {
		if err := d.closeGate(k, t.seed); err != nil {
			return err
		}
	}
	return d.passDeadlines()
}
