package consensus

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

const (
	// walEvery is how often what the engine's write-ahead log has put aside is looked for. It
	// puts 10 MB aside at a time, which is days of blocks.
	walEvery = time.Hour
	// walBlocks is how many blocks must have been committed after a part was put aside. The
	// engine replays from the end of the last block, whose mark is in no such part then: the
	// first of the two may have been on its way when the parts were listed.
	walBlocks = 2
)

// walParts are the parts of the engine's write-ahead log that are not written to any more.
func walParts(home string) ([]string, error) {
	return filepath.Glob(filepath.Join(home, "data", "cs.wal", "wal.[0-9]*"))
}

// trimWAL removes them. The engine itself would keep a gigabyte, most of a home's disk, though
// it never reads before the last block.
func (n *Node) trimWAL(ctx context.Context) error {
	events, cancel := n.Subscribe()
	defer cancel()
	look := time.NewTicker(walEvery)
	defer look.Stop()
	aside, err := walParts(n.cfg.Home)
	for blocks := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if len(aside) == 0 {
				aside, err = walParts(n.cfg.Home)
				blocks = 0
			}
		case _, open := <-events:
			if !open {
				return nil
			}
			blocks++
		}
		for ; err == nil && len(aside) > 0 && blocks >= walBlocks; aside = aside[1:] {
			err = os.Remove(aside[0])
		}
		if err != nil {
			n.log.WarnContext(ctx, "old parts of the write-ahead log are not removed", "err", err)
			aside, err = nil, nil
		}
	}
}
