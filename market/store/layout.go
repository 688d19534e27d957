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
	bucketMeta    = []byte("meta")    // format, chain, height, base
	bucketState   = []byte("state")   // the records of ledger.State
	bucketHistory = []byte("history") // Settlements: interval, household, version; and results: interval, zero household
	bucketMonths  = []byte("months")  // months that are closed: household, month
	bucketBlocks  = []byte("blocks")  // height -> AppHash
)

var allBuckets = [][]byte{bucketMeta, bucketState, bucketHistory, bucketMonths, bucketBlocks}

var (
	keyFormat = []byte("format")
	keyChain  = []byte("chain")
	keyHeight = []byte("height")
	// keyTransaction holds bbolt's number of the transaction that wrote the block. It
	// ties the tree to its meta page: had a disk kept the meta page and lost the rest,
	// the meta page would lead to an old tree that is right in itself.
	keyTransaction = []byte("transaction")
	// keyPruned holds the newest month whose Settlements have been removed, or are being
	// removed; 0 if none.
	keyPruned = []byte("pruned")
	// keyBase holds the height at which the file begins: 0, or that of the snapshot it was
	// made from. There is no AppHash of a block before it.
	keyBase = []byte("base")
)

// Format is the version of the file's layout, and of the records in it.
const Format = "commonwatt-ledger/6"

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

// fillToTheEnd makes bbolt fill the pages of a bucket that grows at its end.
func fillToTheEnd(tx *bolt.Tx) {
	for _, bucket := range [][]byte{bucketHistory, bucketBlocks} {
		tx.Bucket(bucket).FillPercent = 0.95
	}
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

func transactionID(tx *bolt.Tx) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(tx.ID())) //nolint:gosec // it only rises, from 0
}

func heightKey(h int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(h)) //nolint:gosec // heights are never negative
}

// historyKey puts the Interval first, so that a block's lines are written side by
// side: behind the households' ids each would go to a page of its own.
func historyKey(k market.Interval, h market.HouseholdID, version uint32) []byte {
	key := binary.BigEndian.AppendUint64(nil, uint64(k)) //nolint:gosec // never negative
	key = append(key, h[:]...)
	return binary.BigEndian.AppendUint32(key, version)
}

const historyKeyBytes = 28

// splitHistoryKey takes a key apart. Of a key of another length, which only damage can
// make, it gives what is not there as zero.
func splitHistoryKey(key []byte) (k market.Interval, h market.HouseholdID, version uint32) {
	var whole [historyKeyBytes]byte
	copy(whole[:], key)
	return market.Interval(binary.BigEndian.Uint64(whole[:])), market.HouseholdID(whole[8:24]), binary.BigEndian.Uint32(whole[24:]) //nolint:gosec // what was written is never negative
}

// EncodeEvent gives the bucket, the key and the bytes under which an event of the block
// at height is kept. A MarketResult has the zero household.
func EncodeEvent(e ledger.Event, height int64) (bucket string, key, value []byte) {
	value = binary.AppendUvarint(nil, uint64(height)) //nolint:gosec // heights are never negative
	switch {
	case e.Settlement != nil:
		key = historyKey(e.Settlement.Interval, e.Settlement.Household, e.Settlement.Version)
		return string(bucketHistory), key, append(value, e.Settlement.Encode()...)
	case e.Result != nil:
		return string(bucketHistory), historyKey(e.Result.Interval, market.HouseholdID{}, 0), append(value, e.Result.Encode()...)
	default:
		return string(bucketMonths), monthKey(e.Month.Household, e.Month.Month.Month), append(value, e.Month.Month.Encode()...)
	}
}

// splitHeight takes the height off a value that EncodeEvent gave.
func splitHeight(value []byte) (height int64, encoded []byte, err error) {
	h, n := binary.Uvarint(value)
	if n <= 0 || h > 1<<62 || len(binary.AppendUvarint(nil, h)) != n {
		return 0, nil, fmt.Errorf("does not begin with a height")
	}
	return int64(h), value[n:], nil
}

const monthKeyBytes = 20

func monthKey(h market.HouseholdID, m market.Month) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(nil), h[:]...), uint32(m)) //nolint:gosec // years from 1970 on
}

// splitMonthKey takes a key apart; what a key of another length lacks is zero.
func splitMonthKey(key []byte) (market.HouseholdID, market.Month) {
	var whole [monthKeyBytes]byte
	copy(whole[:], key)
	return market.HouseholdID(whole[:16]), market.Month(binary.BigEndian.Uint32(whole[16:])) //nolint:gosec // judged by whoever reads the month
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
		if len(key) == historyKeyBytes {
			k, h, version := splitHistoryKey(key)
			return fmt.Sprintf("history of %s, interval %d, version %d", ownerText(h), k, version)
		}
	case string(bucketMonths):
		if len(key) == monthKeyBytes {
			h, m := splitMonthKey(key)
			return fmt.Sprintf("month %s of %s", m, ownerText(h))
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
