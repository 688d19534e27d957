// Package market is the vocabulary and the rules of a community that shares
// its energy: orders, the clearing of an interval, and its settlement.
//
// It is pure. Nothing here reads a clock, a file or a random source, logs, or
// uses floating point: what a function returns follows from its arguments, so
// every home computes the same result and anyone can check it. Package ledger
// keeps the state that these rules act on.
//
// # Where to begin
//
// [Clear] answers a [Market] (a network, a tariff, a book of orders) with a
// [Clearing]; [Clearer] does the same again and again without allocating.
// An interval that is cleared after its delivery has its orders from the meters,
// by [Metered.Orders]. [SettleHousehold] turns what a clearing allocated to one
// household and what its meter counted into [Transfer] values; [SettleMarket] does
// so for the grid, the fees and what is left. As no household's depend on
// another's, a corrected report concerns nobody else, and [Correct] books the
// difference. [Calendar] and [Clock] say which [Interval] an instant is in, and
// [Month] and [ParseZone] which month of the community's own time.
//
// # Units and signs
//
// Energy is a [WattHours], a tariff or a limit price a [Price] in micro-units
// of the currency per kWh, and a sum of money a [Money] in micro-units; all are
// whole numbers. Energy is never negative where a side says what it means (an
// order, an allocation, a meter's import or export counter); a [Flow] is
// positive when energy leaves a node towards its parent. Prices may be
// negative. A transfer's amount is always positive: its debit account pays, its
// credit account receives.
//
// # Invariants
//
// The tests quote these by number; R-numbers are those of the market rules. M5 to
// M7 are of RuleUniform. The other rules of R4 have an invariant each at the top of
// their file, and all others of this list.
//
//	M1  Every result is exact. Where a division cannot be, RoundHalfEven decides,
//	    once, at the end; it is the only rounding of money and prices.
//	M2  Arithmetic never wraps: what does not fit is ErrOverflow.
//	M3  Allocated bids + exports = allocated offers + imports, in the whole and
//	    at each node, no flow is beyond its edge's limit, and the grid never
//	    imports and exports in one interval.
//	M4  No order gets more than it asked for.
//	M5  No other allocation has more welfare, and none of equal welfare moves
//	    more bid and offer Wh.
//	M6  The prices support the allocation (nothing strictly in the money is left,
//	    nothing strictly out of the money is taken, no edge with room would gain
//	    by carrying more, none carries at a loss) and each is the midpoint, half
//	    to even, of all that do, given its parent's.
//	M7  At the marginal price shares are pro rata at each node in turn; what
//	    rounding down leaves goes one Wh each by largest remainder, then by hash.
//	M8  The order of orders and nodes in a market changes nothing but the order
//	    of the answer.
//	M9  The sum over all accounts is zero after every transfer list; the market's
//	    own account is zero after every interval, on networks with fees and rent
//	    too; rounding gets or gives at most one micro-unit a buy or sell line, and
//	    two for the market's own.
//	M10 Energy: Σ (metered import − metered export) = what the supplier is paid
//	    for − what it pays for.
//	M11 Settling with new readings and booking the difference by Correct leaves
//	    every account where settling with them at first would have.
//	M12 With the no-regret preference at its node, fees included, no household
//	    pays more than Alone, but for one micro-unit of rounding a line, its own
//	    imbalance and the community fee; forward and metered, within limits or not.
//
// # Errors
//
// Bad input is an error, never a panic. Sentinels are in errors.go; an error
// about an order or a node is a [*FieldError] that names both and wraps a
// sentinel.
//
// # Concurrency
//
// All values but a [Clearer] are plain data, and all functions may be called
// from any goroutine. A Clearer belongs to one goroutine at a time.
package market
