package consensus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// The reasons for which proposals are refused. The names are shown and kept, so they stay.
const (
	reasonEarlyTick = "early-tick"     // a gate has not closed, or an Interval not begun
	reasonBadTick   = "bad-tick"       // not the next Interval, or too long
	reasonMisplaced = "misplaced-tick" // something stands behind it
	reasonTooMany   = "too-many"       // transactions
	reasonTooLarge  = "too-large"      // altogether, or one of them
	reasonTwice     = "twice"          // the same transaction
	reasonMalformed = "malformed"      // no transaction at all, such as a bell
	reasonForged    = "forged"         // a signature is not its household's
)

// proposalError says why a proposal is refused.
type proposalError struct {
	reason string
	err    error
}

func (e *proposalError) Error() string { return "bad proposal: " + e.err.Error() }
func (e *proposalError) Unwrap() error { return e.err }

func badProposal(reason, format string, args ...any) error {
	return &proposalError{reason, fmt.Errorf(format, args...)}
}

// ProcessProposal judges another validator's proposal, and our own.
func (a *app) ProcessProposal(ctx context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	j := newJudgement(req.ProposerAddress, len(req.Txs))
	var refusal error
	a.n.book.read(func(s *ledger.State) {
		if refusal = a.judge(s, req.Txs, a.n.cfg.Now(), j); refusal == nil {
			a.n.expect(s, j)
		}
	})
	if refusal == nil {
		a.note(req.Hash, j)
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
	}
	reason := reasonMalformed
	if e, ok := errors.AsType[*proposalError](refusal); ok {
		reason = e.reason
	}
	a.n.conduct.refused(j.proposer, req.Height, reason)
	a.n.log.WarnContext(ctx, "proposal refused", "height", req.Height, "proposer", fmt.Sprintf("%X", req.ProposerAddress), "reason", reason, "err", refusal)
	return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
}

// note keeps the first judgement of a block: proposed again in a later round, it could not
// have what came since.
func (a *app) note(hash []byte, j *judgement) {
	h, ok := [32]byte{}, len(hash) == 32
	if copy(h[:], hash); !ok || a.judged[h] != nil || len(a.judged) >= maxJudged {
		return
	}
	a.judged[h] = j
}

// judge holds C3 and C4, and notes in j what the proposal has.
func (a *app) judge(s *ledger.State, txs [][]byte, now time.Time, j *judgement) error {
	if len(txs) > maxBlockTxs+1 {
		return badProposal(reasonTooMany, "%d transactions, want at most %d and a tick", len(txs), maxBlockTxs)
	}
	for i, raw := range txs {
		hash := sha256.Sum256(raw)
		if j.hashes[hash] {
			return badProposal(reasonTwice, "transaction %d is there twice", i)
		}
		j.hashes[hash] = true
		tx := a.n.pool.get(hash)
		if tx == nil {
			var err error
			if tx, err = ledger.DecodeTx(raw); err != nil { // a bell is refused here as well
				reason := reasonMalformed
				if len(raw) > ledger.MaxTxBytes {
					reason = reasonTooLarge
				}
				return badProposal(reason, "transaction %d: %w", i, err)
			}
		}
		j.add(tx)
		if tx.Kind() == ledger.KindTick {
			if i != len(txs)-1 {
				return badProposal(reasonMisplaced, "transaction %d of %d is a tick, want it last", i, len(txs))
			}
			if err := checkTick(s, tx, now); err != nil {
				return err
			}
			continue
		}
		if err := s.VerifyTx(tx, a.known); err != nil {
			return badProposal(reasonForged, "transaction %d: %w", i, err)
		}
		if key, ok := tx.VerifiedBy(); ok && len(a.trusted) < maxTrusted {
			a.trusted[hash] = key
		}
	}
	switch {
	case j.txs > maxBlockTxs:
		return badProposal(reasonTooMany, "%d transactions without a tick, want at most %d", j.txs, maxBlockTxs)
	case j.bytes > maxBlockBytes:
		return badProposal(reasonTooLarge, "transactions of %d bytes, want at most %d", j.bytes, maxBlockBytes)
	}
	return nil
}
