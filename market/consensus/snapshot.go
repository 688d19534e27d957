package consensus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/commonwatt/commonwatt/market/store"
)

// DefaultSnapshotEvery is how many blocks lie between two snapshots. All members of a
// community make theirs at the same heights, and so of the same bytes: whoever joins can
// take chunks from several. Made when somebody asks, each would be of another block.
const DefaultSnapshotEvery = 256

// keptSnapshots is how many a node keeps: whoever began with one when the next was made
// has the time until the one after to end.
const keptSnapshots = 2

func snapshotFolder(home string) string { return filepath.Join(home, "snapshots") }

// snapshots makes a node's snapshots and knows those that there are. The copy is begun
// while the block is committed, which costs nothing, and written by the goroutine of run.
type snapshots struct {
	dir     string
	chainID string
	every   int64
	begun   chan *store.SnapshotCopy // capacity 1

	mu   sync.Mutex
	kept []*store.Snapshot // newest first
}

func (s *snapshots) open() (err error) {
	s.kept, err = store.Snapshots(s.dir, s.chainID)
	return err
}

// list returns the snapshots, the newest first.
func (s *snapshots) list() []*store.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*store.Snapshot(nil), s.kept...)
}

// at returns that of a height.
func (s *snapshots) at(height int64) (*store.Snapshot, error) {
	for _, k := range s.list() {
		if k.Manifest.Height == height {
			return k, nil
		}
	}
	return nil, fmt.Errorf("%w: of block %d", store.ErrNoSnapshot, height)
}

// oldest is the lowest height that is kept, 0 if there is none.
func (s *snapshots) oldest() int64 {
	all := s.list()
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Manifest.Height
}

// snapshotDue begins a snapshot if the block that was committed is one of those. A copy that
// is still being written has its place taken: this one is left out then.
func (n *Node) snapshotDue(height int64) error {
	s := n.snapshots
	if s.every <= 0 || height%s.every != 0 || len(s.begun) > 0 {
		return nil
	}
	c, err := n.book.store.BeginSnapshot()
	if err != nil {
		return err
	}
	select {
	case s.begun <- c:
		return nil
	default:
		return c.Cancel()
	}
}

// keepSnapshots writes what was begun, until ctx ends. A snapshot that cannot be written is
// a nuisance to others and no reason to end.
func (n *Node) keepSnapshots(ctx context.Context) error {
	s := n.snapshots
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-s.begun:
			if err := s.write(c); err != nil {
				n.log.WarnContext(ctx, "snapshot not made", "err", err)
				continue
			}
			m := s.list()[0].Manifest
			n.log.InfoContext(ctx, "snapshot made", "height", m.Height, "bytes", m.Bytes, "chunks", len(m.Chunks))
		}
	}
}

func (s *snapshots) write(c *store.SnapshotCopy) error {
	made, err := c.Write(s.dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.kept = append([]*store.Snapshot{made}, s.kept...)
	var old []*store.Snapshot
	if len(s.kept) > keptSnapshots {
		old, s.kept = s.kept[keptSnapshots:], s.kept[:keptSnapshots:keptSnapshots]
	}
	s.mu.Unlock()
	for _, o := range old {
		err = errors.Join(err, o.Remove())
	}
	return err
}

// close gives up a copy that nobody will write, so that the ledger file can be closed.
func (s *snapshots) close() error {
	select {
	case c := <-s.begun:
		return c.Cancel()
	default:
		return nil
	}
}
