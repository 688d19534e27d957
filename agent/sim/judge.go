package sim

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// tolerance is how much earlier than a validator's own clock another's may say that a gate
// has closed, ms.
const tolerance = 500

// dueTick makes the tick of the gates that have closed by a clock and are not on the ledger.
func dueTick(s *ledger.State, now int64) (tick []byte, due bool) {
	calendar, at, from := s.Calendar(), time.UnixMilli(now), s.Next()
	if !at.After(calendar.GateClosure(from)) {
		return nil, false
	}
	to := max(from, min(calendar.NextGate(at)-1, from+ledger.MaxTickSpan-1))
	begun := max(from, min(calendar.At(at)+1, to+1))
	return ledger.NewTick(from, to, begun), true
}

// judge is the rule of proposals, for a replica with that state and clock.
func judge(s *ledger.State, txs [][]byte, now int64, decode func([]byte) (*ledger.Tx, error)) error {
	count := len(txs)
	seen := make(map[[32]byte]bool, len(txs))
	for i, raw := range txs {
		hash := sha256.Sum256(raw)
		if seen[hash] {
			return fmt.Errorf("transaction %d is there twice", i)
		}
		seen[hash] = true
		tx, err := decode(raw)
		if err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
		if tx.Kind() == ledger.KindTick {
			count--
			if i != len(txs)-1 {
				return fmt.Errorf("transaction %d of %d is a tick, want it last", i, len(txs))
			}
			if err := judgeTick(s, tx, now); err != nil {
				return err
			}
			continue
		}
		if err := s.VerifyTx(tx, nil); err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
	}
	if count > perBlock {
		return fmt.Errorf("%d transactions, want at most %d and a tick", count, perBlock)
	}
	return nil
}

func judgeTick(s *ledger.State, tx *ledger.Tx, now int64) error {
	t, ok := tx.Tick()
	if !ok || t.From != s.Next() {
		return fmt.Errorf("tick starts at %d, want the next interval %d", t.From, s.Next())
	}
	calendar, at := s.Calendar(), time.UnixMilli(now+tolerance)
	if calendar.GateClosure(t.To).After(at) {
		return fmt.Errorf("tick closes interval %d too early", t.To)
	}
	if t.Begun > t.From && calendar.Start(t.Begun-1).After(at) {
		return fmt.Errorf("tick says too early that interval %d has begun", t.Begun-1)
	}
	return nil
}
