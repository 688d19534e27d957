// Package household runs one home: it reads the meters, closes intervals into
// reports, quotes orders, follows the ledger, and shows all of it to the api, the
// community's network among it.
//
// # Invariants
//
// Tests quote these by number.
//
//	H1  A boundary reading, and the report that it closes, are in home.db in one
//	    transaction before anybody hears of them. A report stays there until the
//	    ledger holds what it says, so a home without network, or a killed agent,
//	    loses nothing: the next proven boundary closes the gap.
//	H2  The reports telescope: over any time in which all boundaries at its ends are
//	    proven they add up to what the counters went on, to the Wh.
//	H3  Only readings of the meter that the ledger knows as this home's count. One of
//	    another meter, a counter that fell, a device clock that is ahead: set aside,
//	    with a problem on the page.
//	H4  Unknown is nil. A gap is never filled with 0, and what does not fit together
//	    is not shown.
//	H5  For an interval one order is made; it is sent again until the ledger has it,
//	    and not made anew after a restart if the ledger has it.
//	H6  A picture's account is of one state of the ledger: balance = earned - spent.
//	H7  All that grows is bounded: pending reports by maxPending, what is remembered of
//	    metered energy by keptMetered, lines of the book by keptLines and the
//	    correction window, texts of devices by maxText; waiting letters by maxLetters; in history.db, what counts by
//	    the days that it is kept, what does not by maxAsides.
//	H8  No interval is closed while the gateway's clock is not known to be right, unless
//	    agent.yaml trusts it or the community's clock runs at a rate.
//	H9  Every sample is counted by what became of it, and kept in history.db: what counts
//	    whole, of the rest one a minute of a kind. A power cut costs the last minutes of
//	    that, and nothing that is settled on. A meter that is ill is a line of log a minute.
//	H10 That a meter is set aside survives a restart.
//	H11 A device that is led holds a lease (see meter.Actuator): if this home dies, or
//	    has no allocation, no ledger or no fresh reading to go by, the device is in
//	    its own mode when the lease is over. What the picture says of it was read
//	    back. Another device in its place is not written to, also after a restart.
//	H12 A transaction that Submit took is on disk before Submit returns, and is handed to
//	    the ledger until the ledger has it or will never take it, also after a restart. An
//	    order that no block ever had is a problem on the page.
//
// # Goroutines
//
// Home.Run owns one goroutine for each meter (poll), one that brings reports,
// orders and the admission to the ledger (trade), one for each device that is led
// (lead), one that follows the ledger and rebuilds the picture (follow), and one
// that writes the history. They share state
// under Home.mu, which is never held while waiting for a device, the disk or the
// ledger. Run returns when all have ended. A meter that speaks by itself is listened to from New on, until Run or
// Close ends.
//
// # Time, units and signs
//
// Every label is community time; every wait is wall time. A reading that proves the
// boundary of an interval is the first good one at or after it, within the
// tolerance that the community's rules name. Energy is Wh, power W, import
// positive; for the page's signs see package api.
//
// # Errors
//
// ConfigError: the configuration cannot be right; it names file, line and key.
// ErrInUse, ErrDamaged: about home.db. Run ends with the error of a disk or a ledger
// that cannot go on, never with that of a device.
package household
