// Package modbus reads and writes registers over Modbus TCP, with or without TLS, so that a late, foreign or mangled
// reply can never be taken for an answer.
//
// It keeps the client and packager of goburrow/modbus and replaces its transporter. The rules, each with a hostile
// server in the tests:
//
//	B1  One Bus per line; one request at a time on it, the units in turn. The unit is a parameter of the request and
//	    every request has a packager of its own.
//	B2  The deadline of a request is the earlier of the bus timeout and the context's; a cancelled context interrupts.
//	B3  Before a request the line must be silent: waiting bytes or an end of file mean a new connection.
//	B4  Transaction id, protocol id, unit, function, length and number of registers of a reply must be the request's.
//	B5  Every error closes the connection, save a proper exception. Nothing is retried inside, a write least of all:
//	    what became of it is ErrUncertain until somebody reads back.
//	B6  Transaction ids are random and never the last one.
//	B7  At most one dial a second to a device. A unit that fails is left alone for 2 s × failures, at most 5 min, so
//	    that it does not hold up the others on its bus. A line that cannot be opened is left alone likewise.
//
// A TCP gateway to a serial line can put a late serial reply under a fresh transaction id; no client can see that. So
// the timeout here must be longer than the gateway's own.
//
// No goroutine is started. Deadlines, dialling and back-off are in wall time.
package modbus
