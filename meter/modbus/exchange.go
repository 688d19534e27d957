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

// request makes one request on the line. After an error that is no proper exception the line starts anew.
func (b *Bus) request(ctx context.Context, c call) ([]byte, error) {
	if err := b.wait(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.options.Timeout)
	defer cancel()
	handler := goburrow.NewTCPClientHandler(b.line.host) // used for its packager only; it never dials
	handler.SlaveId = c.unit
	e := exchange{ctx: ctx, bus: b, call: c, Packager: handler}
	data, err := e.make(goburrow.NewClient2(&e, &e))
	if refused, ok := errors.AsType[*goburrow.ModbusError](err); ok {
		return nil, &Exception{Unit: c.unit, Function: c.function, Code: refused.ExceptionCode, text: refused.Error()}
	}
	if err == nil && !c.writes() && len(data) != 2*int(c.count) {
		err = fmt.Errorf("got %d bytes, expected %d: %w", len(data), 2*c.count, ErrBadReply)
	}
	if err == nil {
		return data, nil
	}
	b.drop()
	if e.sent && c.writes() {
		return nil, fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return nil, err
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
	if err := e.bus.connect(e.ctx); err != nil {
		return nil, err
	}
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

// wait keeps to the shortest time between two dials.
func (b *Bus) wait(ctx context.Context) error {
	if b.port != nil || b.lastDial.IsZero() {
		return nil
	}
	rest := b.options.DialEvery - time.Since(b.lastDial)
	if rest <= 0 {
		return nil
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w for another %v: %w", errTooSoon, rest.Round(time.Millisecond), ctx.Err())
	}
}

// connect makes sure that the line is open and that nothing waits on it to be read.
func (b *Bus) connect(ctx context.Context) error {
	if b.port != nil && !silent(b.port) {
		b.drop()
		if err := b.wait(ctx); err != nil {
			return err
		}
	}
	if b.port != nil {
		return nil
	}
	b.lastDial = time.Now()
	p, err := b.line.open(ctx)
	if err != nil {
		return &lineError{err}
	}
	b.port = p
	b.opened++
	return nil
}

// silence is how long the line is listened to before a request.
const silence = time.Millisecond

// silent reports whether the other side neither sent something unasked nor closed.
func silent(p port) bool {
	if err := p.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return false
	}
	var one [1]byte
	n, err := p.Read(one[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}
