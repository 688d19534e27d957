package household

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// ErrInUse is returned when another agent has this home's folder.
var ErrInUse = errors.New("another agent runs in this folder")

// ErrDamaged is returned when home.db cannot be trusted. It is never mended by itself,
// because only a person can say what to do about readings that are lost.
var ErrDamaged = errors.New("home.db is damaged: move it away to begin anew; intervals that the ledger has no report of yet are then settled by a substitute")

// diskFormat is the version of home.db's layout.
const diskFormat = "commonwatt-home/1"

var (
	bucketMeter   = []byte("meter")   // "state" -> meterState
	bucketReports = []byte("reports") // first interval -> ledger.ReportMeter not yet on the ledger
	bucketOutbox  = []byte("outbox")  // hash -> letter: a transaction that was taken from somebody
	keyState      = []byte("state")
	keyFormat     = []byte("format")
)

// maxDropped is how many reports that the ledger holds wait on disk to be deleted.
const maxDropped = 8

// disk is home.db: what must survive between a reading and its settlement.
type disk struct {
	db *bolt.DB

	mu      sync.Mutex
	dropped []market.Interval // reports to be deleted; fewer than maxDropped
}

// meterState is where the connection meter's chain of boundary readings stands.
type meterState struct {
	Chain   meter.ChainState
	Last    *meter.Reading // proved the last boundary
	Tracker meter.TrackerState
}

// openDisk opens home.db or makes it. A new one has a meterState at once, so that a
// lost one can be told from none: beginning anew by mistake would use the numbers of
// readings twice.
func openDisk(path string) (*disk, error) {
	d := new(disk)
	err := guard(func() (err error) {
		d.db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
		return err
	})
	var system *fs.PathError
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("opening %s: %w", path, ErrInUse)
	case err != nil && !errors.As(err, &system) && !errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("opening %s: %w: %w", path, ErrDamaged, err)
	case err != nil:
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	if err := d.update(prepareDisk); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), d.close())
	}
	return d, nil
}

func prepareDisk(tx *bolt.Tx) error {
	m, err := tx.CreateBucketIfNotExists(bucketMeter)
	if err != nil {
		return err
	}
	switch f := m.Get(keyFormat); {
	case f == nil && m.Get(keyState) == nil:
		if err := errors.Join(m.Put(keyFormat, []byte(diskFormat)), putSealed(m, keyState, meterState{})); err != nil {
			return err
		}
	case string(f) != diskFormat:
		return fmt.Errorf("%w: format is %q, want %q", ErrDamaged, f, diskFormat)
	}
	if _, err = tx.CreateBucketIfNotExists(bucketReports); err != nil {
		return err
	}
	_, err = tx.CreateBucketIfNotExists(bucketOutbox)
	return err
}

func (d *disk) close() error { return d.db.Close() }

func (d *disk) update(f func(tx *bolt.Tx) error) error {
	return guard(func() error { return d.db.Update(f) })
}

func (d *disk) view(f func(tx *bolt.Tx) error) error {
	return guard(func() error { return d.db.View(f) })
}

// guard turns a panic of bbolt, which is how it meets some damaged pages, and the fault
// of reading beyond a file that was cut short, into ErrDamaged.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a page cannot be read: %v", ErrDamaged, r)
		}
	}()
	return f()
}

// saveBoundary makes a boundary reading, and the report it closes if there is one, durable
// together; the reports given up make room for it. What was dropped goes along.
func (d *disk) saveBoundary(s meterState, report *ledger.ReportMeter, givenUp ...market.Interval) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.update(func(tx *bolt.Tx) error {
		if err := putSealed(tx.Bucket(bucketMeter), keyState, s); err != nil {
			return err
		}
		if err := errors.Join(deleteReports(tx, givenUp), deleteReports(tx, d.dropped)); err != nil {
			return err
		}
		if report == nil {
			return nil
		}
		return putSealed(tx.Bucket(bucketReports), intervalKey(report.From), report)
	})
	if err != nil {
		return err
	}
	d.dropped = nil
	return nil
}

func (d *disk) loadMeter() (s meterState, err error) {
	err = d.view(func(tx *bolt.Tx) error { return getSealed(tx.Bucket(bucketMeter), keyState, &s) })
	if err != nil {
		return s, fmt.Errorf("reading home.db: %w", err)
	}
	return s, nil
}

// loadReports returns what the ledger does not hold yet, oldest first. Readings are
// rewritten by nobody, so a damaged one is an error, not a gap.
func (d *disk) loadReports() (reports []*ledger.ReportMeter, err error) {
	err = d.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketReports)
		return b.ForEach(func(k, _ []byte) error {
			r := new(ledger.ReportMeter)
			if err := getSealed(b, k, r); err != nil {
				return err
			}
			if !bytes.Equal(k, intervalKey(r.From)) || !complete(r) {
				return fmt.Errorf("%w: record %x is not the report it should be", ErrDamaged, k)
			}
			reports = append(reports, r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading home.db: %w", err)
	}
	return reports, nil
}

// complete says whether a report has all that remember relies on.
func complete(r *ledger.ReportMeter) bool {
	for _, pair := range [][2]*uint64{{r.Start.ImportWh, r.End.ImportWh}, {r.Start.ExportWh, r.End.ExportWh}} {
		if pair[0] == nil || pair[1] == nil || *pair[1] < *pair[0] {
			return false
		}
	}
	return r.Count >= 1 && r.Count <= maxReportSpan && r.From >= 0 && r.From <= market.MaxInterval
}

// dropReports has reports that the ledger holds deleted with the next boundary: a write of its
// own would cost as much as that. If the home is killed before, they are read once more, and
// the ledger is found to hold them.
// A home that comes back with many does not wait for the boundary.
func (d *disk) dropReports(from ...market.Interval) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropped = append(d.dropped, from...)
	if len(d.dropped) < maxDropped {
		return nil
	}
	if err := d.update(func(tx *bolt.Tx) error { return deleteReports(tx, d.dropped) }); err != nil {
		return err
	}
	d.dropped = nil
	return nil
}

func deleteReports(tx *bolt.Tx, from []market.Interval) error {
	for _, k := range from {
		if err := tx.Bucket(bucketReports).Delete(intervalKey(k)); err != nil {
			return err
		}
	}
	return nil
}

func intervalKey(k market.Interval) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(k)) //nolint:gosec // never negative
}

// diskEncoding keeps times to the nanosecond: a reading's hash depends on its
// milliseconds.
var diskEncoding = func() cbor.EncMode {
	mode, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		panic(err) // the options are constants of the library
	}
	return mode
}()

// putSealed writes CBOR behind its SHA-256, because bbolt does not notice a
// flipped bit.
func putSealed(b *bolt.Bucket, key []byte, v any) error {
	raw, err := diskEncoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", key, err)
	}
	sum := sha256.Sum256(raw)
	return b.Put(key, append(sum[:], raw...))
}

func getSealed(b *bolt.Bucket, key []byte, v any) error {
	sealed := b.Get(key)
	if len(sealed) < sha256.Size || sha256.Sum256(sealed[sha256.Size:]) != [32]byte(sealed[:sha256.Size]) {
		return fmt.Errorf("%w: the checksum of record %x does not match", ErrDamaged, key)
	}
	if err := cbor.Unmarshal(sealed[sha256.Size:], v); err != nil {
		return fmt.Errorf("%w: record %x: %w", ErrDamaged, key, err)
	}
	return nil
}
