package household

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/meter"
)

// HistoryFile keeps the readings of a home's meters. It proves nothing that home.db and the
// ledger do not prove: it may be moved away, and only the past is lost to the eye.
const HistoryFile = "history.db"

const (
	historyFormat = "commonwatt-history/1"
	// What is kept in memory between two writes, each of a meter.
	maxPendingProofs, maxPendingAsides = 64, 64
	// maxAsides is how many samples that do not count are kept of a meter.
	maxAsides = 1000
	// asideGap is the shortest time, of the wall clock, between two of a kind.
	asideGap = time.Minute
	// maxPruned is how many blocks of a meter one write forgets; it adds fewer.
	maxPruned = 32
)

var (
	bucketBlocks = []byte("blocks") // time, number -> block
	bucketProofs = []byte("proofs") // time, number -> sealed proven
	bucketAsides = []byte("asides") // time, number -> sealed aside
	bucketAbout  = []byte("about")
)

// history keeps all readings of all meters for a number of days, and what was set aside.
// Its disk is written in one transaction after each proven boundary, and a while after the
// last one if none comes: a power cut costs what came since, and an SD card lives. Adding never
// waits for the disk. If there is no disk, the home goes on, and the newest are kept in
// memory until there is.
type history struct {
	path  string
	names []string // of the meters; nothing else is kept
	days  int
	log   *slog.Logger
	now   func() time.Time // the wall clock
	kick  chan struct{}

	io sync.Mutex // held while the disk is read or written; taken before mu
	db *bolt.DB   // under io; nil: there is none yet

	mu      sync.Mutex // guards what follows
	pending map[string]*unsaved
	trouble string // why there is no disk; empty: there is
}

// unsaved is what one meter told since the last write.
type unsaved struct {
	readings queue[kept]
	proofs   queue[proven]
	asides   queue[aside]
	latest   map[string]*kind
}

// queue is a list that forgets its oldest when it is full.
type queue[T any] struct {
	items []T
	total int // that were ever pushed
}

func (q *queue[T]) push(v T, most int) {
	q.items = append(q.items, v)
	q.items = q.items[max(0, len(q.items)-most):]
	q.total++
}

func (q *queue[T]) copy() queue[T] { return queue[T]{items: slices.Clone(q.items), total: q.total} }

// drop forgets all that had been pushed when there were so many.
func (q *queue[T]) drop(total int) {
	left := min(q.total-total, len(q.items))
	q.items = append([]T(nil), q.items[len(q.items)-left:]...)
}

// kind is one way of being set aside.
type kind struct {
	at   time.Time // wall clock, when one was kept
	more int64
}

func newHistory(path string, names []string, days int, now func() time.Time, log *slog.Logger) *history {
	h := &history{path: path, names: names, days: days, now: now, log: log, kick: make(chan struct{}, 1), pending: map[string]*unsaved{}}
	for _, n := range names {
		h.pending[n] = &unsaved{latest: map[string]*kind{}}
	}
	return h
}

// accept keeps a sample that counts.
func (h *history) accept(name string, s meter.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending[name].readings.push(kept{
		atMs: s.At.UnixMilli(), importWh: s.ImportWh, exportWh: s.ExportWh, powerW: s.PowerW, quality: s.Quality, trust: s.Clock.Trust,
	}, maxBlock)
}

// prove keeps a reading that proved a boundary, soon.
func (h *history) prove(name string, r meter.Reading, raw []byte) {
	h.mu.Lock()
	h.pending[name].proofs.push(proven{Reading: r, Raw: raw}, maxPendingProofs)
	h.mu.Unlock()
	select {
	case h.kick <- struct{}{}:
	default:
	}
}

// setAside keeps a sample that does not count as evidence, unless one of its kind was kept
// just before.
func (h *history) setAside(name string, d meter.Decision, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p, key := h.pending[name], d.Verdict.String()+"/"+reason
	k := p.latest[key]
	if k == nil {
		k = new(kind)
		p.latest[key] = k // as many as reasonOf has words
	}
	now := h.now()
	if gone := now.Sub(k.at); !k.at.IsZero() && gone >= 0 && gone < asideGap {
		k.more++
		return
	}
	s := d.Sample
	p.asides.push(aside{
		At: s.At, Verdict: d.Verdict.String(), Reason: clip(d.Reason), ImportWh: s.ImportWh, ExportWh: s.ExportWh, PowerW: s.PowerW,
		Quality: s.Quality, Serial: clip(s.Identity.Serial), Raw: s.Raw, More: k.more,
	}, maxPendingAsides)
	k.at, k.more = now, 0
}

// run writes until ctx ends, and once more then.
func (h *history) run(ctx context.Context, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	h.flush() // so that whoever looks for readings sees who has the file
	for {
		select {
		case <-ctx.Done():
			h.flush()
			return nil
		case <-tick.C:
		case <-h.kick:
			tick.Reset(every)
		}
		h.flush()
	}
}

// flush writes what is pending. An error is shown, and tried again.
func (h *history) flush() {
	h.io.Lock()
	defer h.io.Unlock()
	batch := h.batch()
	err := h.openDisk()
	if err == nil {
		err = guard(func() error { return h.db.Update(func(tx *bolt.Tx) error { return h.write(tx, batch) }) })
	}
	why := ""
	if err != nil {
		why = clip(err.Error())
	}
	h.mu.Lock()
	again := h.trouble == why
	h.trouble = why
	if err == nil {
		for n, b := range batch {
			p := h.pending[n]
			p.readings.drop(b.readings.total)
			p.proofs.drop(b.proofs.total)
			p.asides.drop(b.asides.total)
		}
	}
	h.mu.Unlock()
	switch {
	case err != nil && !again:
		h.log.Warn("readings cannot be kept", "file", h.path, "err", err)
	case err == nil && !again:
		h.log.Info("readings are kept", "file", h.path)
	}
}

// batch is a copy of what is pending.
func (h *history) batch() map[string]unsaved {
	h.mu.Lock()
	defer h.mu.Unlock()
	batch := map[string]unsaved{}
	for n, p := range h.pending {
		batch[n] = unsaved{readings: p.readings.copy(), proofs: p.proofs.copy(), asides: p.asides.copy()}
	}
	return batch
}

// openDisk opens the file if it is not open. The caller holds io.
func (h *history) openDisk() error {
	if h.db != nil {
		return nil
	}
	var db *bolt.DB
	err := guard(func() (err error) {
		db, err = bolt.Open(h.path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
		if err != nil {
			return err
		}
		return db.Update(prepareHistory)
	})
	if err != nil {
		if db != nil {
			err = errors.Join(err, db.Close())
		}
		return fmt.Errorf("opening %s: %w", filepath.Base(h.path), err)
	}
	h.db = db
	return nil
}

func prepareHistory(tx *bolt.Tx) error {
	b, err := tx.CreateBucketIfNotExists(bucketAbout)
	if err != nil {
		return err
	}
	switch f := b.Get(keyFormat); {
	case f == nil:
		return b.Put(keyFormat, []byte(historyFormat))
	case string(f) != historyFormat:
		return fmt.Errorf("its format is %q, want %q", f, historyFormat)
	}
	return nil
}

func (h *history) close() error {
	h.io.Lock()
	defer h.io.Unlock()
	if h.db == nil {
		return nil
	}
	err := h.db.Close()
	h.db = nil
	return err
}

// failing says why readings are not kept; empty if they are.
func (h *history) failing() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trouble
}

func (h *history) write(tx *bolt.Tx, batch map[string]unsaved) error {
	for _, name := range h.names {
		u := batch[name]
		m, err := tx.CreateBucketIfNotExists([]byte(name))
		if err != nil {
			return err
		}
		if err := h.writeMeter(m, u); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) writeMeter(m *bolt.Bucket, u unsaved) error {
	var buckets [3]*bolt.Bucket
	for i, name := range [][]byte{bucketBlocks, bucketProofs, bucketAsides} {
		var err error
		if buckets[i], err = m.CreateBucketIfNotExists(name); err != nil {
			return err
		}
		buckets[i].FillPercent = 0.95 // what is appended splits no page again
	}
	blocks, proofs, asides := buckets[0], buckets[1], buckets[2]
	if list := u.readings.items; len(list) > 0 {
		if err := add(blocks, list[0].atMs, func(key []byte) error { return blocks.Put(key, encodeBlock(list)) }); err != nil {
			return err
		}
		if err := h.prune(list, buckets[:]); err != nil {
			return err
		}
	}
	for i := range u.proofs.items {
		p := &u.proofs.items[i]
		if err := add(proofs, p.Reading.At.UnixMilli(), func(key []byte) error { return putSealed(proofs, key, p) }); err != nil {
			return err
		}
	}
	for i := range u.asides.items {
		a := &u.asides.items[i]
		if err := add(asides, a.At.UnixMilli(), func(key []byte) error { return putSealed(asides, key, a) }); err != nil {
			return err
		}
	}
	if len(u.asides.items) == 0 {
		return nil
	}
	return bound(asides, maxAsides)
}

// prune forgets some of what is older than the days that readings are kept, as seen from
// the newest whose time can be relied on: a clock that is not set yet forgets nothing.
func (h *history) prune(list []kept, buckets []*bolt.Bucket) error {
	for _, r := range slices.Backward(list) {
		if r.quality&meter.ClockUnsure != 0 {
			continue
		}
		until := r.atMs - int64(h.days)*24*time.Hour.Milliseconds()
		for _, b := range buckets {
			if err := forget(b, until); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// timeKey sorts by time.
func timeKey(atMs int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(atMs)^1<<63) } //nolint:gosec // as unsigned, in the same order

// add makes a key of its own.
func add(b *bolt.Bucket, atMs int64, put func(key []byte) error) error {
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	return put(binary.BigEndian.AppendUint64(timeKey(atMs), n))
}

// forget drops some of what is older.
func forget(b *bolt.Bucket, untilMs int64) error {
	until, c := string(timeKey(untilMs)), b.Cursor()
	for range maxPruned {
		k, _ := c.First()
		if k == nil || string(k[:min(8, len(k))]) >= until {
			return nil
		}
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}

// bound drops the oldest of more than most.
func bound(b *bolt.Bucket, most int) error {
	n, c := 0, b.Cursor()
	for k, _ := c.Last(); k != nil; k, _ = c.Prev() {
		if n++; n <= most {
			continue
		}
		if err := c.Delete(); err != nil {
			return err
		}
	}
	return nil
}
