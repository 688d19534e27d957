package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

// WrittenBytes is how many bytes of pages all commits so far have written.
func (s *Store) WrittenBytes() int64 {
	stats := s.db.Stats()
	return stats.TxStats.GetPageAlloc()
}

// LiveBytes is the size of the file's used pages.
func (s *Store) LiveBytes() int64 {
	var end int64
	_ = s.db.View(func(tx *bolt.Tx) error { end = tx.Size(); return nil })
	stats := s.db.Stats()
	return end - int64(stats.FreePageN+stats.PendingPageN)*int64(s.db.Info().PageSize)
}

// Tamper writes a value with a right checksum, or with nil deletes it: damage that no
// checksum finds.
func Tamper(path, bucket string, key, value []byte) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if value == nil {
			return tx.Bucket([]byte(bucket)).Delete(key)
		}
		return put(tx, []byte(bucket), key, value)
	})
	if err == nil && (bucket != "meta" || string(key) != "transaction") {
		err = Retie(db)
	}
	return errors.Join(err, db.Close())
}

// Entry is one stored value, and how Check calls it.
type Entry struct {
	Bucket, Record string
	Key, Value     []byte
	Stored         []byte // key, checksum and value, side by side as they are in the file
}

// Entries lists all values of a closed file.
func Entries(path string) ([]Entry, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Entry
	var wrong error
	w := walker{file: bytes.NewReader(raw), pageSize: os.Getpagesize(), bad: func(record, format string, args ...any) {
		wrong = errors.Join(wrong, fmt.Errorf(record+": "+format, args...))
	}}
	w.item = func(bucket, key, sealed []byte) {
		all = append(all, Entry{
			Bucket: string(bucket), Record: keyText(bucket, key), Key: bytes.Clone(key), Value: bytes.Clone(sealed[4:]),
			Stored: append(bytes.Clone(key), sealed...),
		})
	}
	w.walk()
	return all, wrong
}

// Retie writes a database's next transaction number into it.
func Retie(db *bolt.DB) error {
	return db.Update(func(tx *bolt.Tx) error { return put(tx, bucketMeta, keyTransaction, transactionID(tx)) })
}

// NoSync makes Commit answer before the block is durable, for the test that proves that
// cutting the power shows that.
func (s *Store) NoSync() { s.db.NoSync = true }
