package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
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

// unseal checks a value and copies it out of bbolt's pages. It says what is wrong,
// or nothing.
func unseal(bucket, key, sealed []byte) (value []byte, wrong string) {
	if len(sealed) < 4 {
		return nil, "has no checksum"
	}
	value = append([]byte(nil), sealed[4:]...)
	if got, want := checksum(bucket, key, value), binary.BigEndian.Uint32(sealed); got != want {
		return nil, fmt.Sprintf("its checksum is %08x, want %08x", got, want)
	}
	return value, ""
}

func put(tx *bolt.Tx, bucket, key, value []byte) error {
	return tx.Bucket(bucket).Put(key, seal(bucket, key, value))
}

// lookup reads one value. It says what is wrong, or nothing.
func lookup(tx *bolt.Tx, bucket, key []byte) (value []byte, wrong string) {
	b := tx.Bucket(bucket)
	if b == nil {
		return nil, fmt.Sprintf("bucket %s is missing", bucket)
	}
	v := b.Get(key)
	if v == nil {
		return nil, "is missing"
	}
	return unseal(bucket, key, v)
}

func get(tx *bolt.Tx, bucket, key []byte) ([]byte, error) {
	v, wrong := lookup(tx, bucket, key)
	if wrong != "" {
		return nil, damaged(bucket, key, wrong)
	}
	return v, nil
}

// damaged is ErrCorrupt that names the record.
func damaged(bucket, key []byte, wrong string) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, keyText(bucket, key), wrong)
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
		if len(key) == 16 {
			return "history of " + ownerText(market.HouseholdID(key))
		}
		if len(key) == 28 {
			return fmt.Sprintf("history of %s, interval %d, version %d", ownerText(market.HouseholdID(key[:16])),
				binary.BigEndian.Uint64(key[16:24]), binary.BigEndian.Uint32(key[24:28]))
		}
	case string(bucketMeta):
		return "meta " + string(key)
	}
	return fmt.Sprintf("%s record %x", bucket, key)
}

// ownerText names whose history it is.
func ownerText(h market.HouseholdID) string {
	if h == (market.HouseholdID{}) {
		return "market"
	}
	return "household " + h.String()
}
