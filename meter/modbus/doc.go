// Package modbus reads and writes registers over Modbus TCP, with or without TLS, and Modbus RTU, on a serial port or
// through a serial server, so that a late, foreign or mangled reply can never be taken for an answer.
//
// It keeps the client and packagers of goburrow/modbus and replaces its transporters. The rules, each with hostile
// servers in the tests:
//
//	1  One Bus per line; one request at a time on it, the units in turn. The unit is a parameter of the request and
//	   every request has a packager of its own.
//	2  The deadline of a request is the earlier of the bus timeout and the context's; a cancelled context interrupts.
//	3  Before a request the line must be silent. Over TCP, waiting bytes or an end of file mean a new connection.
//	4  Transaction id, protocol id, unit, function, length and number of registers of a reply must be the request's.
//	5  Every error closes the connection, save a proper exception. Nothing is retried inside, a write least of all:
//	   what became of it is ErrUncertain until somebody reads back.
//	6  Transaction ids are random and never the last one.
//	7  At most one dial a second to a device. A unit that fails is left alone for 2 s × failures, at most 5 min, so
//	   that it does not hold up the others on its bus. A line that cannot be opened is left alone likewise.
//	8  RTU has no transaction ids. After a failure the line is left in peace until the slowest reply must have come,
//	   and then read empty. A reply has exactly the length that follows from the request, and its checksum. Noise is
//	   thrown away before a request; so is the echo of an adapter that lets us hear ourselves. A serial port that was
//	   lost is opened again.
//	9  A gateway from TCP to a serial line can put a late serial reply under a fresh transaction id; no client can see
//	   that. So the timeout must be longer than the gateway's own, and who reads several blocks should know again who
//	   answers: Read tells by its generation when that may have changed.
//
// A unit waits for at most one request of each other unit on its line. So a poll is late by at most the time of one
// request of each of them, which for a dead one is Timeout, on RTU Slowest.
//
// No goroutine is started. Deadlines, dialling and back-off are in wall time.
package modbus
