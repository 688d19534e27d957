// Package meter turns devices into trustworthy readings.
//
// A device is described by a definition (package meter/def: one YAML file, no Go), reached by a transport (meter/modbus,
// meter/mqtt, meter/p1, meter/httpjson) and read through a [Source]. What comes out is a [Sample]; what a [Tracker] lets pass becomes a signed
// [Reading] in a [Chain]; and [Boundaries] picks from the readings the two that prove an interval.
//
// # Invariants
//
//	M1  Unknown is nil, never 0. No reading is made of an answer that was late, foreign, short, long or not a number.
//	M2  Energy comes from counters only, as integer Wh. Power is for control and display; import is positive.
//	M3  Within one epoch the accepted counters of a meter never fall. A counter that falls, or rises by more than
//	    can have flowed (max power × elapsed × 1.1, the resolution once, and what flowed by the device's own power
//	    while it stood still), yields no energy by itself: it returns, it is a declared wrap, or it waits for a new
//	    epoch that somebody approved. No span ever crosses an epoch. The rules are at [Tracker].
//	M4  The spans of a meter telescope: the end reading of one is the start reading of the next, so their sum is
//	    exactly the difference of the outer two counter values.
//	M5  A retained message is not a fresh reading.
//	M6  A signature is over a domain tag and canonical CBOR, never over JSON.
//	M7  A counter that stands still for a quarter of an hour while the device shows a power of more than 20 W and by
//	    that power 50 Wh and ten resolutions have flowed is frozen: its samples are stale until three agree that it
//	    moves.
//	M8  A reading proves a boundary only while the clock that stamps it is known to be within 5 s ([SystemClock]), and
//	    a device's own time that contradicts ours is flagged and never used ([DeviceClock]).
//
// What a device is to do goes the other way: a definition with a part control, an [Actuator], and set points that are
// leases. Its invariants, L1 to L5, are there.
//
// # Units and signs
//
// The power of a battery is positive when it charges, which is its import. Counters are Wh since the device was made (or since its epoch began), import and export apart, both ≥ 0. Power is W.
// Sample.At is the arrival of the last byte by the clock the caller gave (community time); everything else in the
// package that needs time takes it from there. Only the transports use wall time: for deadlines, dialling and back-off.
//
// # Goroutines
//
// Tracker, Chain and Boundaries are pure values for one goroutine. A Source may be used by one goroutine at a time;
// Close may be called by another and waits for the goroutines that the source started. Modbus, HTTP and file sources start none.
//
// # Errors
//
// A typo in a configuration is a *ConfigError that names the field and says what is allowed. A device that does not
// answer, or not properly, is an error from Read; the next Read tries anew. What a device says is hostile input:
// every size is bounded before anything is parsed.
package meter
