package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Joining is a ledger file that is being made from a snapshot. It is no ledger before
// Finish: it has no format, so that Open refuses it.
//
// The state comes first and whole; then the history in sections: the closed months, the
// results, and the settlements month by month. Each section is proven when its last page
// has come, by hash chains in the records, and thrown away if it is not what they say.
// Each page is on disk with the place where it ends, so that after a crash the next page
// is the one that is missing.
//
// A Joining owns its file. Its methods must not be called concurrently.
type Joining struct {
	path     string
	chainID  string
	genesis  ledger.Genesis
	manifest *Manifest
	db       *bolt.DB
	state    *ledger.State
	at       joiningPlace
	sections []section // known as far as months are
}

// keyJoining holds the joiningPlace while a file is being made.
var keyJoining = []byte("joining")

// joiningPlace is how far it is.
type joiningPlace struct {
	_        struct{} `cbor:",toarray"`
	Manifest [32]byte
	Section  uint32
	After    []byte
	Lines    uint64
	From     []string // who the section's pages are from
}

const maxSources = 64

// BeginJoining makes a new file at path with the state that r gives, in place of one that
// may be there. The records must be the manifest's and hash to appHash, which a verified
// header has; otherwise the error wraps ErrSnapshot and there is no file. Lines of months
// up to the one that pruned gives for the state are not wanted; nil: all are.
func BeginJoining(path, chainID string, g ledger.Genesis, m *Manifest, appHash [32]byte, pruned func(*ledger.State) market.Month, r io.Reader) (*Joining, error) {
	if m.AppHash != appHash {
		return nil, fmt.Errorf("%w: the manifest says AppHash %x, the header %x", ErrSnapshot, m.AppHash, appHash)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return nil, fmt.Errorf("beginning to join: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone already if it was renamed
	if err := tmp.Close(); err != nil {
		return nil, fmt.Errorf("beginning to join: %w", err)
	}
	j := &Joining{path: tmp.Name(), chainID: chainID, genesis: g, manifest: m}
	if err := j.begin(appHash, pruned, r); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return nil, fmt.Errorf("beginning to join: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("beginning to join: %w", err)
	}
	return ResumeJoining(path, chainID, g, m)
}

// begin fills the file with the state.
func (j *Joining) begin(appHash [32]byte, pruned func(*ledger.State) market.Month, r io.Reader) (err error) {
	db, err := bolt.Open(j.path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("beginning to join: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var failed error
	var records []ledger.Record
	state, err := ledger.LoadState(j.chainID, j.genesis, func(yield func(string, []byte) bool) {
		failed = readRecords(r, func(key string, value []byte) error {
			records = append(records, ledger.Record{Key: key, Value: value})
			if !yield(key, value) {
				return io.EOF // LoadState has its reason
			}
			return nil
		})
	})
	switch {
	case failed != nil && !errors.Is(failed, io.EOF):
		return failed
	case err != nil:
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	case state.AppHash() != appHash:
		return fmt.Errorf("%w: the records hash to %x, the header says %x", ErrSnapshot, state.AppHash(), appHash)
	}
	gone := market.Month(0)
	if pruned != nil {
		gone = max(min(pruned(state), state.OpenMonth()-1), 0)
	}
	if err := putRecords(db, records); err != nil {
		return fmt.Errorf("beginning to join: %w", err)
	}
	return db.Update(func(tx *bolt.Tx) error {
		height := heightKey(j.manifest.Height)
		place := joiningPlace{Manifest: j.manifest.ID()}
		for _, x := range []struct{ bucket, key, value []byte }{
			{bucketBlocks, height, appHash[:]},
			{bucketMeta, keyHeight, height},
			{bucketMeta, keyBase, height},
			{bucketMeta, keyChain, []byte(j.chainID)},
			{bucketMeta, keyPruned, binary.BigEndian.AppendUint32(nil, uint32(gone))}, //nolint:gosec // never negative
			{bucketMeta, keyJoining, encode(place)},
		} {
			if err := put(tx, x.bucket, x.key, x.value); err != nil {
				return err
			}
		}
		return put(tx, bucketMeta, keyTransaction, transactionID(tx))
	})
}

// recordBatch bounds the bytes of records that one transaction writes, and holds in memory.
const recordBatch = 4 << 20

// putRecords makes the buckets and writes the records.
func putRecords(db *bolt.DB, records []ledger.Record) error {
	err := db.Update(func(tx *bolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
	for len(records) > 0 && err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			for n := 0; len(records) > 0 && n < recordBatch; records = records[1:] {
				r := records[0]
				n += len(r.Key) + len(r.Value)
				if err := put(tx, bucketState, []byte(r.Key), r.Value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

// ResumeJoining opens what BeginJoining made. The error wraps fs.ErrNotExist if there is
// nothing, ErrSnapshot if it is of another snapshot, and ErrCorrupt if it is damaged.
func ResumeJoining(path, chainID string, g ledger.Genesis, m *Manifest) (*Joining, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("going on to join: %w", err)
	}
	if err := inspect(path); err != nil {
		return nil, err
	}
	db, err := openFile(path, false)
	if err != nil {
		return nil, err
	}
	j := &Joining{path: path, chainID: chainID, genesis: g, manifest: m, db: db}
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("going on to join: %w", err), db.Close())
	}
	return j, nil
}

func (j *Joining) load() error {
	var records []ledger.Record
	err := guard(func() error {
		return j.db.View(func(tx *bolt.Tx) error {
			raw, err := get(tx, bucketMeta, keyJoining)
			if err != nil {
				return err
			}
			if err := decode(raw, &j.at); err != nil {
				return damaged(bucketMeta, keyJoining, err.Error())
			}
			if j.at.Manifest != j.manifest.ID() {
				return fmt.Errorf("%w: the file is of another snapshot than that of block %d", ErrSnapshot, j.manifest.Height)
			}
			records, err = loadRecords(tx)
			return err
		})
	})
	if err != nil {
		return err
	}
	if j.state, err = buildState(j.chainID, j.genesis, records); err != nil {
		return err
	}
	if j.state.AppHash() != j.manifest.AppHash {
		return fmt.Errorf("%w: the records hash to %x, want %x", ErrCorrupt, j.state.AppHash(), j.manifest.AppHash)
	}
	return j.plan()
}

// Close gives the file back. It may be resumed.
func (j *Joining) Close() error {
	if j.db == nil {
		return nil
	}
	db := j.db
	j.db = nil
	return db.Close()
}

// State is that of the snapshot. It is proven.
func (j *Joining) State() *ledger.State { return j.state }

// Next returns the page that is wanted next; ok is false if none is missing.
func (j *Joining) Next() (w Want, ok bool) {
	if int(j.at.Section) >= len(j.sections) {
		return Want{}, false
	}
	s := j.sections[j.at.Section]
	return Want{Height: j.manifest.Height, Part: s.part, Month: s.month, After: j.at.After}, true
}

// Add takes the page that Next asked for. If the error wraps ErrSnapshot, the page or the
// section that it completes is not what the records say, and the section begins anew;
// suspects are those of whom its pages are.
func (j *Joining) Add(from string, p *Page) (suspects []string, err error) {
	if int(j.at.Section) >= len(j.sections) {
		return nil, fmt.Errorf("%w: a page that nobody asked for", ErrSnapshot)
	}
	s := j.sections[j.at.Section]
	if err := j.fits(s, p); err != nil {
		return []string{from}, err
	}
	next := j.at
	next.From = addSource(next.From, from)
	next.Lines += uint64(len(p.Lines))
	if p.More {
		next.After = p.Lines[len(p.Lines)-1].Key
		return nil, j.write(p, next, nil)
	}
	suspects = next.From
	next = joiningPlace{Manifest: next.Manifest, Section: next.Section + 1}
	err = j.write(p, next, func(tx *bolt.Tx) error { return j.prove(tx, s) })
	if errors.Is(err, ErrSnapshot) {
		return suspects, errors.Join(err, j.Discard())
	}
	if err == nil && s.part == PartMonths {
		err = j.plan()
	}
	return nil, err
}

func addSource(all []string, from string) []string {
	if slices.Contains(all, from) || len(all) == maxSources {
		return all
	}
	return append(append([]string(nil), all...), from)
}

// write puts a page and the new place on disk, unless check has an objection.
func (j *Joining) write(p *Page, next joiningPlace, check func(*bolt.Tx) error) error {
	bucket := j.sections[j.at.Section].bucket()
	err := guard(func() error {
		return j.db.Update(func(tx *bolt.Tx) error {
			for _, l := range p.Lines {
				// The height of the block is not known: 0.
				if err := put(tx, bucket, l.Key, append([]byte{0}, l.Value...)); err != nil {
					return err
				}
			}
			if check != nil {
				if err := check(tx); err != nil {
					return err
				}
			}
			return j.mark(tx, next)
		})
	})
	if err != nil {
		return fmt.Errorf("joining at block %d: %w", j.manifest.Height, err)
	}
	j.at = next
	return nil
}

func (j *Joining) mark(tx *bolt.Tx, at joiningPlace) error {
	if err := put(tx, bucketMeta, keyJoining, encode(at)); err != nil {
		return err
	}
	return put(tx, bucketMeta, keyTransaction, transactionID(tx))
}

// Discard removes what there is of the section, which then begins anew.
func (j *Joining) Discard() error {
	s := j.sections[j.at.Section]
	at := joiningPlace{Manifest: j.at.Manifest, Section: j.at.Section}
	for done := false; !done; {
		err := guard(func() error {
			return j.db.Update(func(tx *bolt.Tx) error {
				keys := j.keys(tx, s, pruneBatch)
				for _, k := range keys {
					if err := tx.Bucket(s.bucket()).Delete(k); err != nil {
						return err
					}
				}
				done = len(keys) < pruneBatch
				return j.mark(tx, at)
			})
		})
		if err != nil {
			return fmt.Errorf("discarding %s: %w", s, err)
		}
	}
	j.at = at
	return nil
}

// Forget gives up the lines of all months up to one, because nobody keeps them.
func (j *Joining) Forget(month market.Month) error {
	if month >= j.state.OpenMonth() {
		return fmt.Errorf("%w: nobody has the lines of %s, which is not closed", ErrSnapshot, month)
	}
	if err := j.Discard(); err != nil {
		return err
	}
	at := joiningPlace{Manifest: j.at.Manifest, Section: 2} // the first month that is left
	err := guard(func() error {
		return j.db.Update(func(tx *bolt.Tx) error {
			if err := put(tx, bucketMeta, keyPruned, binary.BigEndian.AppendUint32(nil, uint32(month))); err != nil { //nolint:gosec // never negative
				return err
			}
			return j.mark(tx, at)
		})
	})
	if err != nil {
		return fmt.Errorf("forgetting %s: %w", month, err)
	}
	j.at = at
	return j.plan()
}

// Finish makes the file a ledger, and checks all of it as Check does. If that finds
// anything the error wraps ErrCorrupt, and the file has to be made anew. The Joining is
// closed in any case.
func (j *Joining) Finish() (Report, error) {
	if w, ok := j.Next(); ok {
		return Report{}, fmt.Errorf("finishing: the %s are not there", w.Part)
	}
	err := guard(func() error {
		return j.db.Update(func(tx *bolt.Tx) error {
			if err := tx.Bucket(bucketMeta).Delete(keyJoining); err != nil {
				return err
			}
			if err := put(tx, bucketMeta, keyFormat, []byte(Format)); err != nil {
				return err
			}
			return put(tx, bucketMeta, keyTransaction, transactionID(tx))
		})
	})
	if err := errors.Join(err, j.Close()); err != nil {
		return Report{}, fmt.Errorf("finishing: %w", err)
	}
	report, err := Check(j.path, j.chainID, j.genesis, nil)
	if err == nil && !report.OK() {
		err = fmt.Errorf("%w: %s", ErrCorrupt, report.Differences[0])
	}
	if err != nil {
		return report, fmt.Errorf("checking the joined ledger: %w", err)
	}
	return report, nil
}

// Finished says whether the file at path is one that Finish has made a ledger.
func Finished(path, chainID string, g ledger.Genesis) bool {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return false
	}
	s, err := OpenReadOnly(path, chainID, g)
	if err != nil {
		return false
	}
	return s.Close() == nil
}
