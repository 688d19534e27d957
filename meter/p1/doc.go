// Package p1 hears what a smart meter says at its consumer port: text telegrams from "/" to "!", as DSMR 2.2 to 5.0 have
// them, and its relatives in Belgium (e-MUCS), Luxembourg (Smarty, when it is not encrypted), Sweden and elsewhere.
//
//	T1  A telegram with a checksum counts only if the checksum is right: CRC-16/ARC over everything from "/" to "!"
//	    inclusive. In a file whose CRLF was turned into LF, the checksum is that of the text with CRLF restored.
//	T2  A telegram without one counts only if it is of a version that has none (2.2, 3.0), and then only if every line
//	    of it is well-formed and its counters have all their digits: a lost character is noticed.
//	T3  A telegram that began before we listened, or was cut by the next one, is no telegram. What lies between two is
//	    skipped.
//	T4  A telegram has at most 16 kB and 400 lines; the longest known has under 3 kB.
//	T5  A line that is there twice has no value.
//
// [Parse], [Framer] and [Last] are pure. [Open] starts one goroutine, which owns the port, dials at most once a second and
// puts each telegram into a bounded queue; when nobody takes them the oldest go. Close waits for it. A telegram is stamped
// with the arrival of its last byte.
package p1
