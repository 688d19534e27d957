package consensus

import (
	"context"
	"flag"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// replicaIntervals is how long the chain is that replicas join; `make replica` takes 1000.
var replicaIntervals = flag.Uint64("replica.intervals", 12, "settled intervals of the chain that replicas join")

// Two replicas join a chain while it goes on, one by a snapshot and one from its first block;
// both end with the AppHash of the others. What each of them took is printed.
func TestReplicas(t *testing.T) {
	t.Parallel()
	every, rate := int64(DefaultSnapshotEvery), int64(1800)
	if *replicaIntervals < 200 {
		every, rate = 16, 600 // slow enough for a busy machine to catch up with
	}
	s := newStreet(t, streetOptions{
		validators: 1, replicas: 3, homes: 6, interval: 15 * time.Minute, rate: rate, next: 3 * time.Second,
		rules: func(r *ledger.Rules) { r.ReportDeadlineS, r.CorrectionWindowS = 1800, 2*24*3600 },
		tweak: func(_ int, c *Config) { c.SnapshotEvery = every },
	})
	running := s.nodes[:2]
	s.start(running...)
	s.awaitUp(running...)
	s.admit(running[0], running, s.homes...)
	began := time.Now()
	await(t, time.Hour, "intervals settled", func() bool {
		var n uint64
		running[0].Read(func(st *ledger.State) { n, _ = st.Settled() })
		return n >= *replicaIntervals
	})
	s.awaitSnapshot(every, running...)
	height := running[0].Status().Height
	sn := running[0].snapshots.list()[0]
	t.Logf("chain: %d intervals, %d blocks, made in %v; folder %d kB; snapshot of block %d: state %d kB in %d chunks",
		*replicaIntervals, height, time.Since(began).Round(time.Second), size(t, running[0].cfg.Home)>>10,
		sn.Manifest.Height, sn.Manifest.Bytes>>10, len(sn.Manifest.Chunks))
	copying := time.Now()
	c, err := running[0].book.store.BeginSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	made, err := c.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("making a snapshot: %v for %d kB", time.Since(copying).Round(time.Millisecond), made.Manifest.Bytes>>10)
	for i, mode := range []string{JoinSnapshot, JoinGenesis} {
		m := s.nodes[2+i]
		at := time.Now()
		var got JoinProgress
		j, end := m.join(t)
		j.Mode, j.Progress = mode, func(p JoinProgress) { got = p }
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		if err := j.Run(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		end()
		joined := time.Since(at)
		m.start()
		await(t, time.Hour, "caught up", func() bool {
			st := m.Status()
			return !st.CatchingUp && st.Height >= height
		})
		t.Logf("%s: ledger after %v, at the newest block after %v; fetched %d kB and %d lines before blocks, which begin at %d; folder %d kB",
			mode, joined.Round(time.Millisecond), time.Since(at).Round(time.Millisecond), got.Bytes>>10, got.Lines,
			m.engine.Load().node.BlockStore().Base(), size(t, m.cfg.Home)>>10)
	}
	top := running[0].Status().Height
	await(t, time.Minute, "all at one block", func() bool {
		for _, m := range s.nodes {
			if m.Status().Height < top {
				return false
			}
		}
		return true
	})
	s.sameFrom(top, s.nodes...)
	hash, _ := running[0].AppHashAt(top)
	t.Logf("all four have AppHash %x at block %d", hash, top)
}

// size is how many bytes the files of a folder have.
func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file that the engine has just removed
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}
