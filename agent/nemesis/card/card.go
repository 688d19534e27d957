// Package card is a memory card whose power can be cut: an ext4 file system in a file,
// mounted through a loop device, for tests and for the rig.
//
// # Invariants
//
//	K1  After Cut nothing reaches the card any more, not even what the kernel still holds in
//	    memory: what was not synced before is lost, as if the plug had been pulled. The
//	    journal is not flushed. Only Mount brings the card back, by the journal.
//	K2  What Fill took, Free gives back; in between a write that needs a new block fails with
//	    ENOSPC. Nothing else on the card is touched.
//	K3  Remove leaves nothing: no mount, no loop device, no file. It may be called at any
//	    time, also twice.
//
// What a card cannot do: it keeps the order of the kernel's writes within a sync, so a
// drive that reorders or lies about what it has written is not shown by it.
//
// Sizes are bytes. A Card is used by one goroutine; who has files open on it is asked to
// close them before Unmount, which detaches the card all the same. It takes Linux, root, and
// the commands mkfs.ext4 (e2fsprogs), mount and umount (util-linux): what is missing is an
// error that says so. No method leaves a goroutine behind.
package card
