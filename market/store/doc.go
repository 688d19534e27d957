// Package store keeps a ledger.State on disk, in one bbolt file.
//
// # Invariants
//
//	S1  A block is committed in one transaction: its records, its history, its
//	    height and its AppHash are there together or not at all.
//	S2  Every value carries a checksum over its bucket, key and bytes, because bbolt
//	    does not notice a flipped bit in a data page.
//	S3  What is opened is proven: all checksums match and the AppHash derived
//	    again from the records is the one that was committed.
//	S4  Commit returns only after the operating system has been told to make the
//	    block durable; NoSync is never set.
//
// A Store owns its file, under the operating system's lock, from Open to Close.
// Commit must not be called concurrently; the reading methods may be.
//
// # Errors
//
// ErrCorrupt: the file is not what was written; the error names the record.
// ErrInUse: another process has the file. ErrForeign: another community's file.
package store
