package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	goburrow "github.com/goburrow/modbus"
)

// call is one request as the caller puts it.
type call struct {
	unit, function uint8
	address, count uint16
	words          []uint16 // to be written
	only           uint64   // the generation that it is for; 0: any
}

// writes reports whether the call changes something in the device.
func (c call) writes() bool { return c.function == writeOne || c.function == writeMany }

// exchange is one request and its reply: goburrow's client and packager, and our transporter.
type exchange struct {
	goburrow.Packager
	call
	ctx  context.Context //nolint:containedctx // goburrow's Transporter has no parameter for it; lives for one call
	bus  *Bus
	sent bool // the device may have seen the request
}

// request makes one request on the line.
func (b *Bus) request(ctx context.Context, c call) ([]byte, error) {
	if b.line.rtu() && c.function == writeOne && b.echo == echoUnknown {
		if err := b.learnEcho(ctx, c); err != nil {
			return nil, err
		}
	}
	return b.attempt(ctx, c)
}

// attempt sends one request and waits for its reply. After an error that is no proper exception the line starts anew.
func (b *Bus) attempt(ctx context.Context, c call) ([]byte, error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	if now := b.opened + b.resyncs[c.unit]; c.only != 0 && c.only != now {
		return nil, fmt.Errorf("got connection %d, expected %d: %w", now, c.only, ErrReopened)
	}
	wire := b.line.wire(c.size())
	if left, ok := ctx.Deadline(); ok && b.line.rtu() && time.Until(left) < b.options.Timeout+wire {
		// A request that is given up costs everybody on the line the quiet after it.
		return nil, fmt.Errorf("%w: a request may take %v, but only %v are left: %w", errTooSoon, b.options.Timeout+wire, time.Until(left).Round(time.Millisecond), context.DeadlineExceeded)
	}
	within, cancel := context.WithTimeout(ctx, b.options.Timeout+wire)
	defer cancel()
	e := exchange{ctx: within, bus: b, call: c, Packager: b.line.packager(c.unit)}
	asked := time.Now()
	data, err := e.make(goburrow.NewClient2(&e, &e))
	b.lastByte = time.Now()
	if refused, ok := errors.AsType[*goburrow.ModbusError](err); ok {
		return nil, &Exception{Unit: c.unit, Function: c.function, Code: refused.ExceptionCode, text: refused.Error()}
	}
	if err == nil && !c.writes() && len(data) != 2*int(c.count) {
		err = fmt.Errorf("got %d bytes, expected %d: %w", len(data), 2*c.count, ErrBadReply)
	}
	if err == nil {
		return data, nil
	}
	if b.line.rtu() && e.sent {
		b.quiet = asked.Add(wire + b.options.Slowest)
	}
	if b.line.transport == overSerial && reusable(err) {
		b.resyncs[c.unit]++
	} else {
		b.drop()
	}
	if e.sent && c.writes() {
		return nil, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return nil, err
}

// reusable reports whether a serial port is still good after an error: it was not the port's.
func reusable(err error) bool {
	return errors.Is(err, ErrBadReply) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// packager makes frames and takes them apart. Of goburrow's handlers it is the only part that is used; they never open
// anything.
func (l Line) packager(unit uint8) goburrow.Packager {
	if l.rtu() {
		h := goburrow.NewRTUClientHandler("")
		h.SlaveId = unit
		return h
	}
	h := goburrow.NewTCPClientHandler("")
	h.SlaveId = unit
	return h
}

func (e *exchange) make(client goburrow.Client) ([]byte, error) {
	switch e.function {
	case ReadHolding:
		return client.ReadHoldingRegisters(e.address, e.count)
	case ReadInput:
		return client.ReadInputRegisters(e.address, e.count)
	case writeOne:
		return client.WriteSingleRegister(e.address, e.words[0])
	}
	var data []byte
	for _, w := range e.words {
		data = binary.BigEndian.AppendUint16(data, w)
	}
	return client.WriteMultipleRegisters(e.address, e.count, data)
}

// Send sends a request and returns the reply, which has been checked against it.
func (e *exchange) Send(request []byte) ([]byte, error) {
	p := e.bus.port
	deadline, _ := e.ctx.Deadline()
	if err := p.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("setting the deadline: %w", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(e.ctx, func() {
		defer close(interrupted)
		_ = p.SetDeadline(time.Unix(1, 0)) // a closed line needs no interrupting
	})
	defer func() {
		if !stop() {
			<-interrupted // else it could hit the next request
		}
	}()
	e.sent = true
	if _, err := p.Write(request); err != nil {
		return nil, e.failed("sending the request", err)
	}
	if e.bus.line.rtu() {
		return e.receiveRTU(p, request)
	}
	return e.receiveTCP(p, request)
}

// failed prefers the reason of the context to the deadline error that it caused.
func (e *exchange) failed(doing string, err error) error {
	if ctxErr := e.ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%s: %w", doing, ctxErr)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s: no answer in time: %w", doing, context.DeadlineExceeded)
	}
	return fmt.Errorf("%s: %w", doing, explainTLS(err))
}
