package consensus

import (
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// wallGate returns the wall-clock instant at which the gate of k closes.
func wallGate(s *ledger.State, k market.Interval) time.Time {
	return s.Clock().Wall(s.Calendar().GateClosure(k))
}

// dueTick says which gates have closed at now and are not on the ledger yet. A gate is
// closed after its last instant, so now has to be later than that.
func dueTick(s *ledger.State, now time.Time) (t ledger.Tick, due bool) {
	from := s.Next()
	if !now.After(wallGate(s, from)) {
		return ledger.Tick{}, false
	}
	community := s.Clock().Community(now)
	// NextGate is the first gate that is still open at this instant.
	to := s.Calendar().NextGate(community) - 1
	to = max(from, min(to, from+ledger.MaxTickSpan-1))
	// The interval that we are in has begun, and all before it.
	begun := s.Calendar().At(community) + 1
	return ledger.Tick{From: from, To: to, Begun: max(from, min(begun, to+1))}, true
}

// checkTick judges the tick of another validator's proposal (C3). It is one-sided: a tick
// that is accepted once is accepted ever after in the same state. So a proposer may say
// that less has begun than has, but never more: more would let it take an interval from
// those who ordered in time.
func checkTick(s *ledger.State, tx *ledger.Tx, now time.Time) error {
	t, ok := tx.Tick()
	if !ok {
		return badProposal(reasonMalformed, "not a tick")
	}
	from, to := t.From, t.To
	if from != s.Next() {
		return badProposal(reasonBadTick, "tick starts at %d, want the next interval %d", from, s.Next())
	}
	if to < from || to-from >= ledger.MaxTickSpan {
		return badProposal(reasonBadTick, "tick goes from %d to %d, want 1 to %d intervals", from, to, ledger.MaxTickSpan)
	}
	if gate := wallGate(s, to); gate.After(now.Add(Tolerance)) {
		return badProposal(reasonEarlyTick, "tick closes interval %d, whose gate closes in %v by our clock, want at most %v", to, gate.Sub(now), Tolerance)
	}
	if last := t.Begun - 1; last >= from {
		if start := s.Clock().Wall(s.Calendar().Start(last)); start.After(now.Add(Tolerance)) {
			return badProposal(reasonEarlyTick, "tick says interval %d has begun, which begins in %v by our clock, want at most %v", last, start.Sub(now), Tolerance)
		}
	}
	return nil
}
