// Package household runs one home: it reads the meters, closes intervals into
// reports, quotes orders, follows the ledger, and shows all of it to the api.
//
// # Goroutines
//
// Home.Run owns one goroutine for each meter (poll), one that brings reports,
// orders and the admission to the ledger (trade), and one that follows the ledger
// and rebuilds the picture (follow). They share state under Home.mu, which is never held
// while waiting for a device, the disk or the ledger. Run returns when all have
// ended.
//
// # Time
//
// Every label is community time; every wait is wall time. A reading that proves the
// boundary of an interval is the first good one at or after it, within the
// tolerance that the community's rules name.
//
// # What survives
//
// Before a boundary reading or a report leaves the house it is in home.db. A
// report stays there until the ledger holds its intervals, so a home without
// network, or a killed agent, loses nothing: the next proven boundary closes the
// gap. Unknown stays unknown; a gap is never filled with zero.
//
// # Errors
//
// ConfigError: the configuration cannot be right; it names file, line and key.
package household
