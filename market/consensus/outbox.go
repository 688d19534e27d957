package consensus

import (
	"context"
	"time"
)

// gatherFor is how long own transactions are collected into one bundle.
const gatherFor = 20 * time.Millisecond

// publish is the goroutine that sends own transactions, in bundles, until a block has them.
func (n *Node) publish(ctx context.Context) error {
	if n.cfg.Publish == nil {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	gathering := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.outbox:
			if !gathering {
				gathering = true
				timer.Reset(gatherFor)
			}
			continue
		case <-timer.C:
		}
		gathering = false
		due, next := n.pool.toPublish(time.Now())
		n.send(ctx, due)
		if !next.IsZero() {
			timer.Reset(max(time.Until(next), gatherFor))
		}
	}
}

func (n *Node) send(ctx context.Context, txs [][]byte) {
	bundles, err := encodeBundles(txs)
	if err != nil {
		n.log.ErrorContext(ctx, "bundle not packed", "err", err) // cannot happen: the pool bounds sizes
		return
	}
	for _, b := range bundles {
		if err := n.cfg.Publish(ctx, b); err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "bundle not sent, will be repeated", "bytes", len(b), "err", err)
		}
	}
}

// poke wakes the goroutine that listens to c, a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is about to look
	}
}
