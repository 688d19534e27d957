// Package sim is a whole community in one goroutine: homes with meters, validators with a
// ledger each, a network between them and all that goes wrong, in virtual time and from one
// seed. It is the test bed of the ledger and of the rules, and answers what a street comes to.
//
// # What is real, what is not
//
// The ledger, the market, the trader, every signature and every byte of a transaction are the
// real ones. Sockets, disks and the consensus engine are not: a disk is a map that a crash
// leaves alone, and the engine is a proposer in turn, the judgement of every validator by the
// rules of its proposals, and votes of more than two thirds. The engine's own guarantee, that
// no two blocks of a height are decided, is taken for granted; all else may fail.
//
// # Invariants
//
//	S1  The same Options give the same run, to the byte. Nothing reads a clock, nothing
//	    iterates a map where the order could reach the outcome.
//	S2  After every block all replicas have one AppHash, also those that crashed, loaded what
//	    their disks had and went on; and replaying the chain from the genesis gives the same.
//	S3  The balances of a state add up to zero, and the market's own is zero.
//	S4  A household's Interval is settled once per version, on orders that its home has made
//	    and on energy that its meter has counted; price, quantity and money are what a second,
//	    simple reckoning of the published rules gives.
//	S5  What a home was told is kept is not lost: every report is settled in the end, and
//	    every order that was made in quiet times counts at the gate.
//	S6  No gate closes before its time.
//
// A run ends with an error that names what was broken, and its seed.
//
// # Units
//
// Time is milliseconds of community time since the Unix epoch; wall time is the same (rate 1).
// Energy is Wh, prices micro-units per kWh, money micro-units.
//
// # Goroutines
//
// One per Run, the caller's. Keys are shared between runs; that is safe.
package sim
