// Package device holds the meters that firmware-sim pretends to be: what each
// kind answers to a Modbus request or publishes on MQTT, from a [Reading] of
// the physical world.
//
// # One place to extend
//
// A new kind of device is one file here with one type, and one row in the table
// of kinds.go. A device is a pure function from readings to registers or
// messages: it keeps no time, no connection and no state of its own, so that a
// restarted firmware-sim is the same device, and so that later faults can be
// wrapped around it.
//
// An [Inverter] does have a state: what was written into it. It is a value that
// does not change, a write makes another one, so that a journal of writes makes
// it anew.
//
// # Written twice on purpose
//
// The register maps and messages are written here by hand from the makers'
// documents (each file names them), not made from the definitions of room
// meter by which the agent reads. A wrong address or unit there is not hidden
// by the same mistake here. Tests bring the two together.
//
// # Units and signs
//
// A reading's counters are milliwatt-hours; a device counts whole Wh, and what
// it has not yet counted in full it does not show ([Reading.ImportWh]). Power is
// positive when the counted side imports. What a device can say may be less
// than it counts (a float32, a counter of 32 bits): [Device].Shown is the number
// that a perfect reader gets.
package device
