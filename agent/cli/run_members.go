package cli

import (
	"context"
	"slices"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// expel has the network look at its connections again after each block that may have ended
// a membership, so that a stolen gateway is out with the block that says so, and not only
// when the network next looks by itself.
func (g *gateway) expel(ctx context.Context) error {
	blocks, cancel := g.node.Subscribe()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-blocks:
			if !open {
				return nil // the ledger has ended, which run notices
			}
			if endsMembership(e) {
				g.host.Recheck()
			}
		}
	}
}

// endsMembership: a gateway is replaced or revoked; or it is the tick after the one that
// closed the last month of somebody who has left.
func endsMembership(e consensus.Event) bool {
	return e.Missed > 0 || slices.ContainsFunc(e.Receipts, func(r ledger.Receipt) bool {
		return r.Refusal == nil && (r.Kind == ledger.KindDevice || r.Kind == ledger.KindTick)
	})
}
