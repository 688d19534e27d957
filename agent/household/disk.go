package household

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
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

// diskFormat is the version of home.db's layout.
const diskFormat = "commonwatt-home/1"

var (
	bucketMeter   = []byte("meter")   // "state" -> meterState
	bucketReports = []byte("reports") // first interval -> ledger.ReportMeter not yet on the ledger
	keyState      = []byte("state")
	keyFormat     = []byte("format")
)

// disk is home.db: what must survive between a reading and its settlement.
type disk struct {
	db *bolt.DB
}

// meterState is where the connection meter's chain of boundary readings stands.
type meterState struct {
	Chain   meter.ChainState
	Last    *meter.Reading // proved the last boundary
	Tracker meter.TrackerState
}

func openDisk(path string) (*disk, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("opening %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		m, err := tx.CreateBucketIfNotExists(bucketMeter)
		if err != nil {
			return err
		}
		if f := m.Get(keyFormat); f != nil && string(f) != diskFormat {
			return fmt.Errorf("format %q, want %q", f, diskFormat)
		}
		if err := m.Put(keyFormat, []byte(diskFormat)); err != nil {
			return err
		}
		_, err = tx.CreateBucketIfNotExists(bucketReports)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), db.Close())
	}
	return &disk{db: db}, nil
}

func (d *disk) close() error { return d.db.Close() }

// saveBoundary makes a boundary reading, and the report it closes if there is
// one, durable together.
func (d *disk) saveBoundary(s meterState, report *ledger.ReportMeter) error {
	return d.db.Update(func(tx *bolt.Tx) error {
		if err := putSealed(tx.Bucket(bucketMeter), keyState, s); err != nil {
			return err
		}
		if report == nil {
			return nil
		}
		return putSealed(tx.Bucket(bucketReports), intervalKey(report.From), report)
	})
}

func (d *disk) loadMeter() (s meterState, err error) {
	err = d.db.View(func(tx *bolt.Tx) error {
		_, err := getSealed(tx.Bucket(bucketMeter), keyState, &s)
		return err
	})
	return s, err
}

// loadReports returns what the ledger does not hold yet, oldest first. Readings are
// rewritten by nobody, so a damaged one is an error, not a gap.
func (d *disk) loadReports() (reports []*ledger.ReportMeter, err error) {
	err = d.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketReports)
		return b.ForEach(func(k, _ []byte) error {
			r := new(ledger.ReportMeter)
			if _, err := getSealed(b, k, r); err != nil {
				return err
			}
			reports = append(reports, r)
			return nil
		})
	})
	return reports, err
}

func (d *disk) dropReport(from market.Interval) error {
	return d.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketReports).Delete(intervalKey(from))
	})
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

func getSealed(b *bolt.Bucket, key []byte, v any) (found bool, err error) {
	sealed := b.Get(key)
	if sealed == nil {
		return false, nil
	}
	if len(sealed) < sha256.Size || sha256.Sum256(sealed[sha256.Size:]) != [32]byte(sealed[:sha256.Size]) {
		return false, fmt.Errorf("record %x in home.db is damaged: its checksum does not match", key)
	}
	if err := cbor.Unmarshal(sealed[sha256.Size:], v); err != nil {
		return false, fmt.Errorf("record %x in home.db: %w", key, err)
	}
	return true, nil
}
