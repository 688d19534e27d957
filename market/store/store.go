package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// The errors that a caller can act on.
var (
	ErrCorrupt = errors.New("the ledger file is damaged")
	ErrInUse   = errors.New("the ledger file is in use by another process")
	ErrForeign = errors.New("the ledger file belongs to another community")
)

// Buckets. The layout of keys is part of the file format.
var (
	bucketMeta    = []byte("meta")    // format, chain, height
	bucketState   = []byte("state")   // the records of ledger.State
	bucketHistory = []byte("history") // Settlements: household, interval, version; and results: zero household, interval
	bucketBlocks  = []byte("blocks")  // height -> AppHash
)

var allBuckets = [][]byte{bucketMeta, bucketState, bucketHistory, bucketBlocks}

var (
	keyFormat = []byte("format")
	keyChain  = []byte("chain")
	keyHeight = []byte("height")
)

// format is the version of the file's layout.
const format = "commonwatt-ledger/1"

const lockTimeout = time.Second

// Store is an open ledger file.
type Store struct {
	db      *bolt.DB
	state   *ledger.State
	height  int64
	appHash [32]byte
}

// Open opens the file or makes it with the state before the first block. The error
// wraps ErrCorrupt, ErrInUse or ErrForeign where one of them is the reason.
func Open(path, chainID string, g ledger.Genesis) (*Store, error) {
	db, err := openFile(path, false)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db}
	if err := guard(func() error { return s.load(chainID, g) }); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), db.Close())
	}
	return s, nil
}

func openFile(path string, readOnly bool) (db *bolt.DB, err error) {
	if readOnly {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("opening ledger: %w", err)
		}
	}
	err = guard(func() error {
		var err error
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout: lockTimeout, ReadOnly: readOnly, FreelistType: bolt.FreelistMapType,
		})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("opening %s: %w: stop it first", path, ErrInUse)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("opening %s: %w: %w", path, ErrCorrupt, err)
	case err != nil:
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return db, nil
}

// guard turns a panic of bbolt, which is how it meets some damaged pages, into
// ErrCorrupt.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: a page cannot be read: %v", ErrCorrupt, r)
		}
	}()
	return f()
}

func (s *Store) load(chainID string, g ledger.Genesis) error {
	fresh := false
	err := s.db.View(func(tx *bolt.Tx) error {
		fresh = tx.Bucket(bucketMeta) == nil
		return nil
	})
	if err != nil {
		return err
	}
	if fresh {
		return s.create(chainID, g)
	}
	return s.db.View(func(tx *bolt.Tx) error {
		if err := checkMeta(tx, chainID); err != nil {
			return err
		}
		var err error
		if s.height, err = loadHeight(tx); err != nil {
			return err
		}
		if s.state, err = loadState(tx, chainID, g); err != nil {
			return err
		}
		s.appHash = s.state.AppHash()
		return checkHash(tx, s.height, s.appHash)
	})
}

func (s *Store) create(chainID string, g ledger.Genesis) error {
	state, first, err := ledger.Found(chainID, g)
	if err != nil {
		return err
	}
	s.state, s.appHash = state, state.AppHash()
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, name := range allBuckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		if err := put(tx, bucketMeta, keyFormat, []byte(format)); err != nil {
			return err
		}
		if err := put(tx, bucketMeta, keyChain, []byte(chainID)); err != nil {
			return err
		}
		return write(tx, 0, first)
	})
}

// State is the ledger after the last committed block, as Open found it. It belongs
// to the caller, who absorbs each delta after its Commit.
func (s *Store) State() *ledger.State { return s.state }

// Height is that of the last committed block, 0 before the first.
func (s *Store) Height() int64 { return s.height }

// AppHash is that of the last committed block.
func (s *Store) AppHash() []byte { return s.appHash[:] }

// Commit makes a block durable (S1, S4). Heights must rise by one.
func (s *Store) Commit(height int64, d *ledger.Delta) error {
	if height != s.height+1 {
		return fmt.Errorf("committing block %d: want %d", height, s.height+1)
	}
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error { return write(tx, height, d) })
	})
	if err != nil {
		return fmt.Errorf("committing block %d: %w", height, err)
	}
	s.height, s.appHash = height, d.AppHash()
	return nil
}

func write(tx *bolt.Tx, height int64, d *ledger.Delta) error {
	for _, r := range d.Records {
		if r.Value == nil {
			if err := tx.Bucket(bucketState).Delete([]byte(r.Key)); err != nil {
				return err
			}
			continue
		}
		if err := put(tx, bucketState, []byte(r.Key), r.Value); err != nil {
			return err
		}
	}
	for _, e := range d.History {
		key, value := EncodeEvent(e)
		if err := put(tx, bucketHistory, key, value); err != nil {
			return err
		}
	}
	hash := d.AppHash()
	if err := put(tx, bucketBlocks, heightKey(height), hash[:]); err != nil {
		return err
	}
	return put(tx, bucketMeta, keyHeight, heightKey(height))
}

// AppHashAt returns the AppHash after a committed block.
func (s *Store) AppHashAt(height int64) (hash []byte, ok bool) {
	err := guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			v, err := get(tx, bucketBlocks, heightKey(height))
			hash = v
			return err
		})
	})
	return hash, err == nil && hash != nil
}

// Settlements yields a household's settlements, oldest Interval first, until f
// returns false. It reads a snapshot; f must not call Commit.
func (s *Store) Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error {
	return guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			c := tx.Bucket(bucketHistory).Cursor()
			start := historyKey(h, from, 0)
			for k, v := c.Seek(start); k != nil && len(k) > len(h) && market.HouseholdID(k[:len(h)]) == h; k, v = c.Next() {
				raw, err := unseal(bucketHistory, k, v)
				if err != nil {
					return err
				}
				e, err := ledger.DecodeSettlement(raw)
				if err != nil {
					return fmt.Errorf("%w: %s: %w", ErrCorrupt, keyText(bucketHistory, k), err)
				}
				if !f(e) {
					return nil
				}
			}
			return nil
		})
	})
}

// Close gives the file back.
func (s *Store) Close() error { return s.db.Close() }

func checkMeta(tx *bolt.Tx, chainID string) error {
	for _, name := range allBuckets {
		if tx.Bucket(name) == nil {
			return fmt.Errorf("%w: bucket %s is missing", ErrCorrupt, name)
		}
	}
	v, err := get(tx, bucketMeta, keyFormat)
	if err != nil {
		return err
	}
	if string(v) != format {
		return fmt.Errorf("%w: format %q, want %q", ErrCorrupt, v, format)
	}
	if v, err = get(tx, bucketMeta, keyChain); err != nil {
		return err
	}
	if string(v) != chainID {
		return fmt.Errorf("%w: it is of %q, want %q", ErrForeign, v, chainID)
	}
	return nil
}

func loadHeight(tx *bolt.Tx) (int64, error) {
	v, err := get(tx, bucketMeta, keyHeight)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: meta height has %d bytes, want 8", ErrCorrupt, len(v))
	}
	return int64(binary.BigEndian.Uint64(v)), nil
}

func loadState(tx *bolt.Tx, chainID string, g ledger.Genesis) (*ledger.State, error) {
	var bad error
	state, err := ledger.LoadState(chainID, g, func(yield func(string, []byte) bool) {
		bad = tx.Bucket(bucketState).ForEach(func(k, v []byte) error {
			raw, err := unseal(bucketState, k, v)
			if err != nil {
				return err
			}
			if !yield(string(k), raw) {
				return errStop
			}
			return nil
		})
	})
	switch {
	case errors.Is(err, ledger.ErrOtherGenesis):
		return nil, fmt.Errorf("%w: %w", ErrForeign, err)
	case bad != nil && !errors.Is(bad, errStop):
		return nil, bad // before err, which then only says what is missing
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	case bad != nil:
		return nil, bad
	}
	return state, nil
}

var errStop = errors.New("stop")

func checkHash(tx *bolt.Tx, height int64, derived [32]byte) error {
	v, err := get(tx, bucketBlocks, heightKey(height))
	if err != nil {
		return err
	}
	if string(v) != string(derived[:]) {
		return fmt.Errorf("%w: the records hash to %x, block %d committed %x", ErrCorrupt, derived, height, v)
	}
	return nil
}

// seal puts the checksum (S2) in front of a value.
func seal(bucket, key, value []byte) []byte {
	out := make([]byte, 4, 4+len(value))
	binary.BigEndian.PutUint32(out, checksum(bucket, key, value))
	return append(out, value...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(bucket, key, value []byte) uint32 {
	sum := crc32.Update(0, castagnoli, bucket)
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, value)
}

// unseal checks a value and copies it out of bbolt's pages.
func unseal(bucket, key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("%w: %s has no checksum", ErrCorrupt, keyText(bucket, key))
	}
	value := append([]byte(nil), sealed[4:]...)
	if got, want := checksum(bucket, key, value), binary.BigEndian.Uint32(sealed); got != want {
		return nil, fmt.Errorf("%w: %s: checksum %08x, want %08x", ErrCorrupt, keyText(bucket, key), got, want)
	}
	return value, nil
}

func put(tx *bolt.Tx, bucket, key, value []byte) error {
	return tx.Bucket(bucket).Put(key, seal(bucket, key, value))
}

func get(tx *bolt.Tx, bucket, key []byte) ([]byte, error) {
	v := tx.Bucket(bucket).Get(key)
	if v == nil {
		return nil, fmt.Errorf("%w: %s is missing", ErrCorrupt, keyText(bucket, key))
	}
	return unseal(bucket, key, v)
}

func heightKey(h int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(h)) //nolint:gosec // heights are never negative
}

func historyKey(h market.HouseholdID, k market.Interval, version uint32) []byte {
	key := append([]byte(nil), h[:]...)
	key = binary.BigEndian.AppendUint64(key, uint64(k)) //nolint:gosec // never negative
	return binary.BigEndian.AppendUint32(key, version)
}

// EncodeEvent gives the key and the bytes under which history keeps an event. A
// MarketResult has the zero household.
func EncodeEvent(e ledger.Event) (key, value []byte) {
	if e.Settlement != nil {
		return historyKey(e.Settlement.Household, e.Settlement.Interval, e.Settlement.Version), e.Settlement.Encode()
	}
	return historyKey(market.HouseholdID{}, e.Result.Interval, 0), e.Result.Encode()
}

// keyText names a record for people.
func keyText(bucket, key []byte) string {
	switch string(bucket) {
	case string(bucketState):
		return ledger.KeyText(string(key))
	case string(bucketBlocks):
		if len(key) == 8 {
			return fmt.Sprintf("block %d", binary.BigEndian.Uint64(key))
		}
	case string(bucketHistory):
		if len(key) == 28 {
			who := "market"
			if h := market.HouseholdID(key[:16]); h != (market.HouseholdID{}) {
				who = "household " + h.String()
			}
			return fmt.Sprintf("history of %s, interval %d, version %d", who,
				binary.BigEndian.Uint64(key[16:24]), binary.BigEndian.Uint32(key[24:28]))
		}
	case string(bucketMeta):
		return "meta " + string(key)
	}
	return fmt.Sprintf("%s record %x", bucket, key)
}
