// Package store keeps a ledger.State on disk, in one bbolt file.
//
// # Invariants
//
//	S1  A block is committed in one transaction: its records, its history, its
//	    height and its AppHash are there together or not at all.
//	S2  Every value carries a checksum over its bucket, key and bytes, because bbolt
//	    does not notice a flipped bit in a data page.
//	S3  What is opened is proven: the pages it relies on are one tree that the list
//	    of free pages does not claim, all checksums of the state match, and the
//	    AppHash derived again from the records is the one that was committed. The
//	    history is proven when it is read, and all of the file by Check.
//	S4  Commit returns only after the operating system has been told to make the
//	    block durable; NoSync is never set.
//	S5  After a Commit that failed the Store takes no other: what is on disk is for
//	    the next Open to say.
//	S6  A file that has its name is whole. A new one is made beside it.
//	S7  No damage makes Open, Check or a reading method panic, fault, or answer
//	    wrongly without a word.
//
//	S8  Prune removes lines of closed months, and nothing else: the months, the results
//	    of Intervals and the state stay, and Check and the reading methods know what
//	    has gone. A crash in its middle leaves lines that do not count.
//
//	S9  A file made from a snapshot is a ledger only when its records have been found to
//	    hash to an AppHash that the caller has from a verified header, its history to be what
//	    those records say, and Check had nothing to say. Before that Open refuses it.
//
// bbolt's transaction number is in the file (meta transaction), so a file that other
// tools have written to, if only to compact it, is refused.
//
// A torn meta page is not damage but a crash during the last Commit: Open then finds
// the block before, and consensus replays the last one. Check names it.
//
// A Store owns its file, under the operating system's lock, from Open to Close.
// Commit must not be called concurrently; the reading methods may be. No method
// leaves a goroutine behind.
//
// # Disk
//
// A block writes whole pages. History is keyed by Interval first, so that the lines
// of a block are side by side; the state's records are keyed by their kind and id.
//
// # Errors
//
// ErrCorrupt: the file is not what was written; the error names the record.
// ErrInUse: another process has the file. ErrForeign: another community's file, or
// this one's under other rules. ErrFormat: it was written by a program whose records are
// others. ErrFailed: an earlier Commit failed. ErrSnapshot: what came from another machine
// is not part of the snapshot. ErrPruned: it does not keep that.
package store
