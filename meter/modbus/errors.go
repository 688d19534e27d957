package modbus

import (
	"errors"
	"fmt"

	goburrow "github.com/goburrow/modbus"
)

var (
	// ErrBadReply says that something came back that is not the answer to the request.
	ErrBadReply = errors.New("not the answer to the request")
	// ErrBackoff says that the unit, or the whole line, failed lately and is left alone for a while.
	ErrBackoff = errors.New("left alone after failures")
	// ErrClosed says that the bus was closed.
	ErrClosed = errors.New("bus is closed")
	// ErrRequest says that the request itself is not possible. Nothing was sent.
	ErrRequest = errors.New("impossible request")
	// ErrUncertain says that a write was sent but not confirmed: the device may have taken it or not. Only reading back
	// tells.
	ErrUncertain = errors.New("unknown whether the device took it")
	// ErrReopened says that a write was meant for a connection that is no more. Nothing was sent.
	ErrReopened = errors.New("the line was opened anew")
	// ErrLine says that a line is described in a way that cannot be, or that contradicts its other users.
	ErrLine = errors.New("impossible line")
)

// errTooSoon says that a request ran out of time before it was its turn to use the line; the unit is not to blame.
var errTooSoon = errors.New("not using the line")

// Exception is a proper refusal by a device. A write that is answered by one was not done.
type Exception struct {
	Unit, Function, Code uint8
	text                 string
}

func (e *Exception) Error() string { return fmt.Sprintf("unit %d: %s", e.Unit, e.text) }

// HasNone reports whether the device says that it has no such function, registers or number of them. Every other
// exception is about this moment: it is busy, or something in it failed.
func (e *Exception) HasNone() bool {
	return e.Code == goburrow.ExceptionCodeIllegalFunction || e.Code == goburrow.ExceptionCodeIllegalDataAddress || e.Code == goburrow.ExceptionCodeIllegalDataValue
}

// FromGateway reports whether it is not the device that refuses but the gateway before it, which cannot reach it.
func (e *Exception) FromGateway() bool {
	return e.Code == goburrow.ExceptionCodeGatewayPathUnavailable || e.Code == goburrow.ExceptionCodeGatewayTargetDeviceFailedToRespond
}

// lineError is a failure of the line, for which no unit is to blame.
type lineError struct{ err error }

func (e *lineError) Error() string { return e.err.Error() }
func (e *lineError) Unwrap() error { return e.err }
