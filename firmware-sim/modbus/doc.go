// Package modbus is firmware-sim's own Modbus server: one listener or one serial
// line, any number of devices behind it by unit id, as a gateway or an RS-485 bus
// in a real house has. It speaks Modbus TCP (a TLS listener makes it Modbus TLS),
// RTU on a line, and RTU frames in a TCP connection.
//
// It is written here, and not taken from a library, because it has to misbehave
// on purpose at every layer (late, split, foreign and short answers: a unit that
// is a [Spoiler] does); its honest half is checked against mbpoll and
// goburrow/modbus.
//
// # What it answers
//
// Functions 3 (holding registers) and 4 (input registers), and of a unit that is
// a [Writer] also 6 and 16. Anything else is an
// exception as the specification has it ("MODBUS Application Protocol V1.1b3"):
// 1 for another function, 2 for an address that the device does not have, 3 for
// a malformed request or a count that the device does not read at once, 11 for
// a unit id behind which nobody is. A frame that is no Modbus at all (another
// protocol id, an impossible length) closes the connection: nothing after it
// can be trusted to begin where a frame begins. On an RTU line there is no gateway
// and no exception 11: nobody answers for a unit that is not there, to a broadcast
// or to a frame whose CRC is wrong.
//
// # Limits and ownership
//
// Frames may arrive in any pieces. A frame is at most 260 bytes and is read into
// a buffer of the connection; there are at most [Options.Connections]
// connections, a further one is closed at once; an idle one is closed after
// [Options.Idle]. [Server.Serve] starts one goroutine for each connection and
// returns when all of them have ended. Units are called from many goroutines.
package modbus
