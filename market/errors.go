package market

import (
	"errors"
	"fmt"
)

// Errors of arithmetic.
var (
	// ErrOverflow is returned when a result does not fit its 64 bits.
	ErrOverflow = errors.New("overflow of 64 bits")
)

// Errors in an order. Each has a stable refusal code on the ledger.
var (
	// ErrBadSide: the side is neither bid nor offer.
	ErrBadSide = errors.New("bad side")
	// ErrBadQuantity: a quantity that is not positive, or above what is allowed.
	ErrBadQuantity = errors.New("bad quantity")
	// ErrPriceOutOfBounds: a price beyond what the community, or the arithmetic, allows.
	ErrPriceOutOfBounds = errors.New("price out of bounds")
	// ErrTooManySteps: more than MaxSteps steps, or none.
	ErrTooManySteps = errors.New("too many steps")
	// ErrStepsUnordered: bid prices that do not fall, or offer prices that do not rise.
	ErrStepsUnordered = errors.New("steps out of order")
	// ErrUnknownNode: an order, or a node's parent, at a node that the network does not have.
	ErrUnknownNode = errors.New("unknown node")
	// ErrDuplicateID: two orders, or two nodes, of the same name.
	ErrDuplicateID = errors.New("duplicate id")
)

// Errors in the frame of a market.
var (
	// ErrBadNetwork: the nodes are not one tree as R1 wants it.
	ErrBadNetwork = errors.New("bad network")
	// ErrBadTariff: a tariff or settlement terms that contradict themselves.
	ErrBadTariff = errors.New("bad tariff")
	// ErrBadSeed: a seed longer than MaxSeedBytes.
	ErrBadSeed = errors.New("bad seed")
	// ErrUnknownRule: a clearing rule that this version does not have.
	ErrUnknownRule = errors.New("unknown rule")
	// ErrBadCalendar: an interval length or lead that is not allowed.
	ErrBadCalendar = errors.New("bad calendar")
	// ErrBadClock: a community clock that is not allowed.
	ErrBadClock = errors.New("bad clock")
	// ErrBadZone: text that is not a POSIX time zone rule.
	ErrBadZone = errors.New("bad time zone")
	// ErrBadMonth: text that is not a month, or a month that has no text.
	ErrBadMonth = errors.New("bad month")
	// ErrBadID: text that is not a household id.
	ErrBadID = errors.New("bad household id")
)

// Errors of settlement.
var (
	// ErrUnbalanced: positions and grid flows that cannot come from one clearing.
	ErrUnbalanced = errors.New("unbalanced settlement")
	// ErrBadTransferKind: a kind of transfer, or a name of one, that there is not.
	ErrBadTransferKind = errors.New("bad transfer kind")
)

// A FieldError says which field of which order or node is wrong. Err wraps one
// of the sentinels and says what was found and what would be right.
type FieldError struct {
	Of    string // "order" or "node"
	ID    string // its id; of a ledger's order, household and side
	Field string // as spelled in a market file, such as "steps[2].price"
	Err   error
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s %q: %s: %v", e.Of, e.ID, e.Field, e.Err)
}

// Unwrap returns the cause, for errors.Is.
func (e *FieldError) Unwrap() error { return e.Err }
