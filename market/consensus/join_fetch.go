package consensus

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

const (
	joinOrigin = "origin" // the ManifestAnswer that was verified
	joinState  = "state"  // chunks, each at its place

	// atOnce is how many providers give chunks at a time.
	atOnce = 4
	// maxAttempts is how often a provider may fail before the next is tried.
	maxAttempts   = 3
	maxOriginFile = store.MaxManifestBytes + 3*maxLightBlock + maxChangesBytes + 64
)

// keepOrigin begins a joinFolder for a snapshot.
func (r *joinRun) keepOrigin(raw []byte) error {
	dir := joinFolder(r.Home)
	err := os.RemoveAll(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err == nil {
		err = writeSynced(filepath.Join(dir, joinOrigin), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("joining: %w", err)
	}
	return r.fault("origin")
}

// resume goes on with what an earlier run began, if there is anything that is good.
func (r *joinRun) resume(ctx context.Context) (resumed bool, err error) {
	raw, err := readOrigin(filepath.Join(joinFolder(r.Home), joinOrigin))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	var o *origin
	if err == nil {
		a := new(ManifestAnswer)
		if err = decodeAnswer(raw, a); err == nil {
			o, err = r.anchor.verifyOrigin(a)
		}
	}
	if err != nil {
		r.Log.WarnContext(ctx, "what was begun cannot be used, joining begins anew", "err", err)
		return false, os.RemoveAll(joinFolder(r.Home))
	}
	r.Log.InfoContext(ctx, "going on to join by a snapshot", "height", o.manifest.Height)
	return r.fetch(ctx, o)
}

func readOrigin(path string) (raw []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // the node's own folder
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	raw, err = io.ReadAll(io.LimitReader(f, maxOriginFile+1))
	if err == nil && len(raw) > maxOriginFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxOriginFile)
	}
	return raw, err
}

// fetch gets all of a snapshot whose header is right, checks it and installs it. done is
// false if another snapshot has to be chosen.
func (r *joinRun) fetch(ctx context.Context, o *origin) (done bool, err error) {
	r.progress.Height, r.progress.Of = o.manifest.Height, o.manifest.Bytes
	j, err := r.openState(ctx, o)
	if errors.Is(err, store.ErrSnapshot) {
		// The chunks are the manifest's, and the manifest is not the header's: whoever
		// made it up is asked no more.
		for _, p := range r.Providers() {
			if id, err2 := r.manifestOf(ctx, p.ID, o.manifest.Height); err2 == nil && id == o.manifest.ID() {
				r.refuse(ctx, p.ID, err)
			}
		}
		return false, os.RemoveAll(joinFolder(r.Home))
	}
	if err != nil || j == nil {
		return false, err
	}
	if err := r.fetchHistory(ctx, j); err != nil {
		return false, errors.Join(err, j.Close())
	}
	r.step("checking")
	if _, err := j.Finish(); err != nil {
		if errors.Is(err, store.ErrCorrupt) {
			r.Log.WarnContext(ctx, "the joined ledger is damaged, joining begins anew", "err", err)
			r.trouble(err.Error())
			return false, os.RemoveAll(joinFolder(r.Home))
		}
		return false, err
	}
	if err := r.fault("finished"); err != nil {
		return false, err
	}
	return true, r.install(o)
}

func (r *joinRun) manifestOf(ctx context.Context, id string, height int64) ([32]byte, error) {
	a, err := Put[ManifestAnswer](ctx, r.Ask, id, AskManifest, ManifestQuestion{Height: height})
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(a.Manifest), nil
}

// install makes the engine's stores and gives everything its name.
func (r *joinRun) install(o *origin) error {
	dir := joinFolder(r.Home)
	if err := o.writeEngine(filepath.Join(dir, joinEngine), r.doc); err != nil {
		return err
	}
	if err := AdoptChanges(dir, r.Genesis, o.changes); err != nil {
		return err
	}
	if err := r.fault("engine"); err != nil {
		return err
	}
	err := errors.Join(syncFolder(filepath.Join(dir, joinEngine)), syncFolder(dir))
	if err == nil && r.replace != nil {
		err = r.replace()
	}
	if err == nil {
		err = os.Rename(dir, joinedFolder(r.Home))
	}
	if err == nil {
		err = syncFolder(r.Home)
	}
	if err != nil {
		return fmt.Errorf("installing the joined ledger: %w", err)
	}
	if err := r.fault("joined"); err != nil {
		return err
	}
	if err := installJoined(r.Home); err != nil {
		return err
	}
	r.Log.Info("joined by a snapshot", "height", o.manifest.Height, "bytes", r.progress.Bytes, "lines", r.progress.Lines)
	r.step("joined")
	return nil
}

func (r *joinRun) step(name string) {
	r.progress.Step = name
	r.report()
}

// openState returns the unfinished ledger with the proven state: the one that is there, or a
// new one of the chunks. Nil: another snapshot has to be chosen.
func (r *joinRun) openState(ctx context.Context, o *origin) (*store.Joining, error) {
	path := filepath.Join(joinFolder(r.Home), joinLedger)
	chain, g := r.anchor.chainID, r.anchor.genesis
	j, err := store.ResumeJoining(path, chain, g, o.manifest)
	switch {
	case err == nil:
		return j, nil
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, store.ErrSnapshot):
		// Also one that was finished when the machine stopped: the state is fetched again.
		r.Log.WarnContext(ctx, "the unfinished ledger cannot be gone on with, it is made anew", "err", err)
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	default:
		return nil, err
	}
	file, err := r.fetchState(ctx, o.manifest)
	if err != nil || file == "" {
		return nil, err
	}
	f, err := os.Open(file) //nolint:gosec // the node's own folder
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r.step("checking the state")
	gone := func(s *ledger.State) market.Month { return prunedAt(s, r.Now(), r.Retention) }
	j, err = store.BeginJoining(path, chain, g, o.manifest, [32]byte(o.next.AppHash), gone, f)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Remove(file), r.fault("state")); err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// fetchState gets the chunks that are missing, from several providers at once. It returns
// the file, or none if nobody has the snapshot any more.
func (r *joinRun) fetchState(ctx context.Context, m *store.Manifest) (string, error) {
	r.step("state")
	path := filepath.Join(joinFolder(r.Home), joinState)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the node's own folder
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // what matters is synced
	missing := []int{}
	for i := range m.Chunks {
		b := make([]byte, m.ChunkSize(i))
		if _, err := f.ReadAt(b, int64(i)*store.ChunkBytes); err != nil || sha256.Sum256(b) != m.Chunks[i] {
			missing = append(missing, i)
			continue
		}
		r.progress.Bytes += int64(len(b))
	}
	for len(missing) > 0 {
		var have []string
		for _, o := range r.offers(ctx) {
			if slices.Contains(o.answer.Snapshots, Offer{Height: m.Height, Manifest: m.ID()}) {
				have = append(have, o.id)
			}
			r.progress.Newest = max(r.progress.Newest, o.answer.Newest)
		}
		if len(have) == 0 && ctx.Err() == nil && r.superseded(ctx, m) {
			r.Log.WarnContext(ctx, "nobody has the snapshot any more, another is taken", "height", m.Height)
			return "", os.RemoveAll(joinFolder(r.Home))
		}
		c := &chunkFetch{r: r, m: m, f: f, missing: missing}
		if err := c.run(ctx, have[:min(len(have), atOnce)]); err != nil {
			return "", err
		}
		if missing = c.missing; len(missing) > 0 {
			if err := r.pause(ctx); err != nil {
				return "", err
			}
		}
	}
	return path, f.Sync()
}

// superseded says whether somebody has a newer snapshot.
func (r *joinRun) superseded(ctx context.Context, m *store.Manifest) bool {
	return slices.ContainsFunc(r.offers(ctx), func(o offered) bool {
		return len(o.answer.Snapshots) > 0 && o.answer.Snapshots[0].Height > m.Height
	})
}

// chunkFetch is one go at the missing chunks.
type chunkFetch struct {
	r *joinRun
	m *store.Manifest
	f *os.File

	mu      sync.Mutex
	missing []int
	failed  error // of the disk, or a test's
}

func (c *chunkFetch) run(ctx context.Context, providers []string) error {
	var wg sync.WaitGroup
	for _, id := range providers {
		wg.Go(func() { c.work(ctx, id) })
	}
	wg.Wait()
	slices.Sort(c.missing)
	return errors.Join(c.failed, ctx.Err())
}

// work takes chunks from one provider until none is missing or it has failed too often.
func (c *chunkFetch) work(ctx context.Context, id string) {
	for attempts := 0; attempts < maxAttempts && ctx.Err() == nil; {
		i, ok := c.take()
		if !ok {
			return
		}
		a, err := Put[ChunkAnswer](ctx, c.r.Ask, id, AskChunk, ChunkQuestion{Height: c.m.Height, Chunk: uint32(i)}) //nolint:gosec // bounded by the manifest
		if err == nil && sha256.Sum256(a.Bytes) != c.m.Chunks[i] {
			err = fmt.Errorf("%w: chunk %d of %d hashes to %x, want %x", store.ErrSnapshot, i, len(c.m.Chunks), sha256.Sum256(a.Bytes), c.m.Chunks[i])
		}
		if err == nil {
			err = c.keep(i, a.Bytes, id)
			if err == nil {
				attempts = 0
				continue
			}
			c.mu.Lock()
			c.failed = errors.Join(c.failed, err)
			c.mu.Unlock()
			c.giveBack(i, nil, id)
			return
		}
		c.giveBack(i, err, id)
		if attempts++; errors.Is(err, store.ErrSnapshot) || errors.Is(err, ErrAnswer) {
			return
		}
		if c.r.breathe(ctx, attempts) != nil {
			return
		}
	}
}

func (c *chunkFetch) take() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.missing) == 0 || c.failed != nil {
		return 0, false
	}
	i := c.missing[0]
	c.missing = c.missing[1:]
	return i, true
}

func (c *chunkFetch) giveBack(i int, why error, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.missing = append(c.missing, i)
	switch {
	case errors.Is(why, store.ErrSnapshot), errors.Is(why, ErrAnswer):
		c.r.refuse(context.Background(), id, why)
	case why != nil:
		c.r.lacks(context.Background(), id, why)
	}
}

func (c *chunkFetch) keep(i int, b []byte, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.f.WriteAt(b, int64(i)*store.ChunkBytes); err != nil {
		return fmt.Errorf("joining: %w", err)
	}
	p := &c.r.progress
	p.Bytes, p.Provider, p.Trouble = p.Bytes+int64(len(b)), id, ""
	c.r.report()
	return c.r.fault("chunk")
}
