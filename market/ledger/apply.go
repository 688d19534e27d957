package ledger

import (
	"crypto/sha256"
	"fmt"

	"github.com/commonwatt/commonwatt/market"
)

// Block is what consensus agreed on, in order.
type Block struct {
	Seed [32]byte // the block's hash; breaks ties of the Intervals it closes
	Txs  [][]byte
	// Signed are the validators who signed the block before, and Faulty those whom the
	// block proves to have signed two blocks of one height. Both are part of the block.
	Signed, Faulty []ValidatorAddress
	// Verified may say that this machine has already found all signatures of the
	// transaction with this hash right with that key. It only saves work: it must
	// never be true where a verification would fail.
	Verified func(hash [32]byte, by Key) bool
}

// Receipt is what became of one transaction.
type Receipt struct {
	Hash      [32]byte // SHA-256 of its bytes, also if they mean nothing
	Kind      Kind     // 0 if it could not be decoded
	Household market.HouseholdID
	Refusal   *Refusal // nil: applied
}

// Code returns 0 for an applied transaction.
func (r Receipt) Code() Code {
	if r.Refusal == nil {
		return CodeOK
	}
	return r.Refusal.Code
}

// Apply gives what the block changes in the state, and a receipt for each of its
// transactions. The state is not touched. An error is a broken invariant.
func Apply(s *State, b Block) (*Delta, []Receipt, error) {
	if s.partial {
		return nil, nil, ErrPartial
	}
	d := newDraft(s)
	d.seed = b.Seed
	receipts := make([]Receipt, len(b.Txs))
	for i, raw := range b.Txs {
		d.last = i == len(b.Txs)-1
		r := &receipts[i]
		r.Hash = sha256.Sum256(raw)
		tx, err := DecodeTx(raw)
		if err != nil {
			refusal, ok := err.(*Refusal) //nolint:errorlint // DecodeTx returns nothing else
			if !ok {
				return nil, nil, fmt.Errorf("decoding transaction %d: %w", i, err)
			}
			r.Refusal = refusal
			continue
		}
		r.Kind, r.Household = tx.Kind(), tx.Household()
		if r.Refusal = d.judge(tx, b.Verified); r.Refusal != nil {
			continue
		}
		if err := tx.body.apply(d, tx); err != nil {
			return nil, nil, fmt.Errorf("applying transaction %d (%s): %w", i, tx.Kind(), err)
		}
	}
	d.blame(b.Faulty)
	d.strike(b.Signed)
	if err := d.finish(); err != nil {
		return nil, nil, err
	}
	return d.seal(d.history), receipts, nil
}

// judge says whether a transaction is accepted. What an office sends can be much work to
// check, so that there the signatures come first.
func (d *draft) judge(tx *Tx, known func([32]byte, Key) bool) *Refusal {
	from := kinds[tx.Kind()].from
	if from == fromOffice {
		if err := tx.verify(d, known); err != nil {
			return err
		}
	}
	if err := tx.body.check(d, tx); err != nil {
		return err
	}
	if from != fromHousehold {
		return nil // a tick is the proposer's; consensus judged when it may come
	}
	return tx.verify(d, known)
}
