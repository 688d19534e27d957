package household

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/meter"
)

// ReadHistory reads the readings of a home whose agent does not run. ErrInUse says that it
// does, fs.ErrNotExist that nothing was kept yet.
func ReadHistory(dir string, q api.ReadingsQuery) (rows []api.ReadingRow, err error) {
	path := filepath.Join(dir, HistoryFile)
	var db *bolt.DB
	err = guard(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: 200 * time.Millisecond})
		return err
	})
	var system *fs.PathError
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("reading %s: %w", path, ErrInUse)
	case errors.As(err, &system):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("reading %s: it is damaged; move it away to begin anew: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return readDisk(db, nil, q)
}

// Readings implements api.Readings.
func (h *Home) Readings(q api.ReadingsQuery) ([]api.ReadingRow, error) { return h.history.read(q) }

// read returns what is on disk and what is not yet.
func (h *history) read(q api.ReadingsQuery) ([]api.ReadingRow, error) {
	if q.Meter != "" && !slices.Contains(h.names, q.Meter) {
		return nil, &api.Refused{Code: "unknown-meter", Detail: fmt.Sprintf("meter: got %q, want one of %q", q.Meter, h.names)}
	}
	h.io.Lock()
	defer h.io.Unlock()
	batch := h.batch()
	if err := h.openDisk(); err != nil {
		return readDisk(nil, batch, q)
	}
	return readDisk(h.db, batch, q)
}

// readDisk reads a file, if there is one, and what is not in it yet.
func readDisk(db *bolt.DB, batch map[string]unsaved, q api.ReadingsQuery) (rows []api.ReadingRow, err error) {
	for name, u := range batch {
		if q.Meter == "" || q.Meter == name {
			r := &reader{q: q, name: name}
			for _, k := range u.readings.items {
				r.reading(k)
			}
			for i := range u.proofs.items {
				r.proof(&u.proofs.items[i])
			}
			for i := range u.asides.items {
				r.aside(&u.asides.items[i])
			}
			rows = append(rows, r.merge()...)
		}
	}
	if db == nil {
		return cut(rows, q), nil
	}
	err = guard(func() error {
		return db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func(name []byte, m *bolt.Bucket) error {
				if string(name) == string(bucketAbout) || q.Meter != "" && q.Meter != string(name) {
					return nil
				}
				r := &reader{q: q, name: string(name)}
				if err := r.meter(m); err != nil {
					return fmt.Errorf("readings of %s: %w", name, err)
				}
				rows = append(rows, r.merge()...)
				return nil
			})
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	return cut(rows, q), nil
}

// cut orders the rows of all meters by time and cuts what is asked for; never between two of
// one time, so that whoever asks for more begins after it.
func cut(rows []api.ReadingRow, q api.ReadingsQuery) []api.ReadingRow {
	sort.SliceStable(rows, func(i, j int) bool { return rows[i].At.Before(rows[j].At) })
	n := q.Limit
	switch {
	case len(rows) <= n:
	case q.Newest:
		rows = rows[len(rows)-n:]
	default:
		for n < len(rows) && rows[n].At.Equal(rows[n-1].At) {
			n++
		}
		rows = rows[:n]
	}
	return rows
}

// reader collects the rows of one meter.
type reader struct {
	q      api.ReadingsQuery
	name   string
	rows   []api.ReadingRow // that count
	proofs []*proven
	others []api.ReadingRow
}

func (r *reader) asked(atMs int64) bool {
	return (r.q.From.IsZero() || atMs >= r.q.From.UnixMilli()) && (r.q.To.IsZero() || atMs < r.q.To.UnixMilli())
}

func (r *reader) meter(m *bolt.Bucket) error {
	err := r.scan(m.Bucket(bucketBlocks), func(v []byte, _ func(any) error) (int, error) {
		list, err := decodeBlock(v)
		n := 0
		for _, k := range list {
			if r.asked(k.atMs) {
				n++
			}
			r.reading(k)
		}
		return n, err
	})
	return errors.Join(err,
		r.scan(m.Bucket(bucketProofs), func(_ []byte, open func(any) error) (int, error) {
			p := new(proven)
			err := open(p)
			if err == nil {
				r.proof(p)
			}
			return 1, err
		}),
		r.scan(m.Bucket(bucketAsides), func(_ []byte, open func(any) error) (int, error) {
			a := new(aside)
			err := open(a)
			if err == nil {
				r.aside(a)
			}
			return 1, err
		}))
}

// scan calls f for the records of the time that is asked for, in either direction, until
// they are as many as are wanted. One record before is taken as well: a block has the time of
// its first reading.
func (r *reader) scan(b *bolt.Bucket, f func(v []byte, open func(any) error) (int, error)) error {
	if b == nil {
		return nil
	}
	c := b.Cursor()
	k, v := c.First()
	next, end := c.Next, func(k []byte) bool { return !r.q.To.IsZero() && bytes.Compare(k, timeKey(r.q.To.UnixMilli())) >= 0 }
	switch {
	case r.q.Newest:
		if k, v = c.Last(); !r.q.To.IsZero() {
			if k, _ = c.Seek(timeKey(r.q.To.UnixMilli())); k == nil {
				k, v = c.Last()
			} else {
				k, v = c.Prev()
			}
		}
		next, end = c.Prev, func(k []byte) bool {
			return !r.q.From.IsZero() && bytes.Compare(k, timeKey(r.q.From.Add(-maxFlush*maxRate).UnixMilli())) < 0
		}
	case !r.q.From.IsZero():
		if k, _ = c.Seek(timeKey(r.q.From.UnixMilli())); k == nil {
			k, v = c.Last()
		} else if k, v = c.Prev(); k == nil {
			k, v = c.First()
		}
	}
	for found := 0; k != nil && !end(k) && found <= r.q.Limit; k, v = next() {
		n, err := f(v, func(into any) error { return getSealed(b, k, into) })
		switch {
		case errors.Is(err, errBlock), errors.Is(err, ErrDamaged):
			r.damaged(k) // the others are as good as ever
		case err != nil:
			return err
		}
		found += n
	}
	return nil
}

// damaged tells of a record that is not what was written.
func (r *reader) damaged(key []byte) {
	if len(key) < 8 {
		return
	}
	if at := int64(binary.BigEndian.Uint64(key) ^ 1<<63); r.asked(at) { //nolint:gosec // the inverse of timeKey
		r.others = append(r.others, api.ReadingRow{
			At: time.UnixMilli(at).UTC(), Meter: r.name, Verdict: "damaged", Reason: "what was kept from then on is damaged on the disk",
		})
	}
}

func (r *reader) reading(k kept) {
	if r.asked(k.atMs) {
		r.rows = append(r.rows, api.ReadingRow{
			At: time.UnixMilli(k.atMs).UTC(), Meter: r.name, Verdict: meter.Accepted.String(), ImportWh: k.importWh, ExportWh: k.exportWh, PowerW: k.powerW,
			Quality: k.quality.String(), Clock: k.trust.String(),
		})
	}
}

func (r *reader) proof(p *proven) {
	if r.asked(p.Reading.At.UnixMilli()) {
		r.proofs = append(r.proofs, p)
	}
}

func (r *reader) aside(a *aside) {
	if r.asked(a.At.UnixMilli()) {
		row := api.ReadingRow{
			At: a.At.UTC(), Meter: r.name, Verdict: a.Verdict, Reason: a.Reason, ImportWh: a.ImportWh, ExportWh: a.ExportWh, PowerW: a.PowerW,
			Quality: a.Quality.String(), Serial: a.Serial, More: a.More,
		}
		if r.q.Raw {
			row.Raw = a.Raw
		}
		r.others = append(r.others, row)
	}
}

// merge puts the proofs to the readings that they are.
func (r *reader) merge() []api.ReadingRow {
	at := map[int64]int{}
	for i := range r.rows {
		at[r.rows[i].At.UnixMilli()] = i
	}
	for _, p := range r.proofs {
		g := &p.Reading
		i, found := at[g.At.UnixMilli()]
		if !found {
			r.rows = append(r.rows, api.ReadingRow{
				At: g.At.UTC(), Meter: r.name, Verdict: meter.Accepted.String(), ImportWh: g.ImportWh, ExportWh: g.ExportWh, PowerW: g.PowerW,
				Quality: g.Quality.String(), Clock: g.Clock.Trust.String(),
			})
			i = len(r.rows) - 1
		}
		hash := g.Hash()
		r.rows[i].Proof = &api.ReadingProof{
			Meter: hex.EncodeToString(g.Meter[:]), Seq: g.Seq, Epoch: g.Epoch, Prev: hex.EncodeToString(g.Prev[:]), Hash: hex.EncodeToString(hash[:]),
			Signature: hex.EncodeToString(g.Signature), SignedBy: g.SignedBy, DeviceAt: g.DeviceAt, Source: g.Source,
		}
		if r.q.Raw {
			r.rows[i].Raw = p.Raw
		}
	}
	return append(r.rows, r.others...)
}
