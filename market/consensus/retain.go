package consensus

import (
	"sort"
	"time"

	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// MinRetention is the least that blocks and lines are kept, in community time: as long as a
// Settlement can be corrected, twice over, so that a correction's proof can still be made; as
// long as the engine takes evidence against a validator; and as long as a light home may be
// away before it has to trust anew.
func MinRetention(g ledger.Genesis) time.Duration {
	wall := max(types.DefaultConsensusParams().Evidence.MaxAgeDuration, trustingPeriod)
	return max(2*time.Duration(g.Rules.CorrectionWindowS)*time.Second, time.Duration(g.Rate)*wall)
}

// retainHeight is the lowest block that has to be kept, for the engine to remove those
// before it; 0: all of them. It changes rarely, because the engine reads every header that
// it removes.
func (n *Node) retainHeight(height int64) int64 {
	e := n.engine.Load()
	every := int64(pruneEvery)
	if n.cfg.SnapshotEvery > 0 {
		every = min(every, n.cfg.SnapshotEvery)
	}
	if n.cfg.Retention <= 0 || height%every != 0 || e == nil {
		return 0
	}
	blocks := e.node.BlockStore()
	base := blocks.Base()
	var kept time.Time
	n.book.read(func(s *ledger.State) {
		kept = n.cfg.Now().Add(-s.Clock().WallDuration(n.cfg.Retention))
	})
	if base == 0 {
		return 0
	}
	// Times of headers rise.
	low := base + int64(sort.Search(int(height-base), func(i int) bool {
		meta := blocks.LoadBlockMeta(base + int64(i))
		return meta == nil || !meta.Header.Time.Before(kept)
	}))
	if first := n.snapshots.oldest(); first > 0 {
		low = min(low, first) // whoever joins with it fetches the blocks from there on
	} else if n.cfg.SnapshotEvery > 0 {
		return 0 // nobody could join any more
	}
	if first, pending := n.changes.pendingFrom(); pending {
		low = min(low, first) // the header of a change, until it is kept apart
	}
	if low <= base {
		return 0
	}
	return min(low, base+pruneBlocks)
}

const (
	// pruneEvery is after how many blocks old ones are looked for.
	pruneEvery = 64
	// pruneBlocks bounds how many are removed at a time: the chain waits for it.
	pruneBlocks = 1000
)
