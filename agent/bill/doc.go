// Package bill makes a household's month into a Statement that anybody can check: the
// totals first, then days, then every interval with what was bought, sold, metered and
// paid; as a table, JSON, CSV, or a journal for hledger or beancount; and a proof file
// with which `commonwatt verify` finds out, without network and without trusting who
// wrote it, that the validators of the community signed exactly this.
//
// # Invariants
//
// Tests quote these by number.
//
//	B1  A Statement is made of Settlements of the ledger alone. Its totals are sums over
//	    its lines, and are those of the ledger's record of the month, or there is none.
//	B2  What is written as money has six decimals, all of them exact. No float takes part.
//	B3  Every interval of the month is on the day on which it begins in the community's
//	    time zone: 96 quarter hours, 92 or 100 on the days that the clocks change.
//	B4  A correction is a line of its own with the difference as its amounts; a line is
//	    never edited.
//	B5  A journal balances and ends with the balance that the ledger has. In the export of
//	    a whole ledger all accounts add up to zero.
//	B6  Every character of a proof file counts, but white space between tokens: a file
//	    that differs from what Verify would write of what it has read is refused, and
//	    everything read is checked against a hash, a signature, or the rules.
//	B7  A proof is verified before it is handed out.
//	B8  A hostile file costs bounded memory and time, and never panics.
//
// # Units and signs
//
// Energy is Wh (kWh in tables), money micro-units of the currency, prices micro-units per
// kWh. Money is seen from the household: positive is received. Alone and Actual are costs:
// positive is paid.
//
// # Errors
//
// ErrNotProof: the file cannot be read as a proof. A *Mismatch is a proof that does not
// hold, and names the place. The other sentinels are about what was asked for. Everything
// is read only; nothing starts a goroutine.
package bill

import "errors"

// Currency is what a micro-unit is a millionth of. The rules of a community name none.
const Currency = "EUR"

// The errors that a caller can act on.
var (
	// ErrUnknown: no such household in this ledger.
	ErrUnknown = errors.New("not a member of this community")
	// ErrNothing: the household has no settlement in that month.
	ErrNothing = errors.New("nothing has been settled")
	// ErrLedger: what the ledger keeps does not fit together.
	ErrLedger = errors.New("the ledger's history does not fit its record")
	// ErrInput: a household or a month is written as none can be.
	ErrInput = errors.New("cannot be understood")
	// ErrNotYet: the newest state has no signed header yet, so nothing proves it.
	ErrNotYet = errors.New("no signed header proves the newest state yet")
	// ErrNotProof: these bytes are no proof file.
	ErrNotProof = errors.New("not a proof file")
)
