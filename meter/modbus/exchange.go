package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	goburrow "github.com/goburrow/modbus"
)

const (
	headerSize = 7
	// minLength and maxLength bound the length field: unit, function and 1 to 252 more bytes.
	minLength, maxLength = 3, 254
	// silence is how long the line is listened to before a request.
	silence = time.Millisecond
)

// errTooSoon says that a request ran out of time while waiting for its turn to dial; the unit is not to blame.
var errTooSoon = errors.New("not dialling again")

// exchange is one request and its reply: goburrow's packager with ids of our own, and our transporter.
type exchange struct {
	goburrow.Packager
	ctx   context.Context //nolint:containedctx // goburrow's Transporter has no parameter for it; lives for one call
	bus   *Bus
	count uint16
}

// Encode gives the request a transaction id that nobody can guess and that is not the last one's: a reply that was
// late or sent ahead cannot fit.
func (e *exchange) Encode(pdu *goburrow.ProtocolDataUnit) ([]byte, error) {
	adu, err := e.Packager.Encode(pdu)
	if err != nil {
		return nil, err
	}
	id := uint16(rand.Uint32()) //nolint:gosec // against accidents, not against an enemy on the line
	if id == e.bus.lastID {
		id++
	}
	e.bus.lastID = id
	binary.BigEndian.PutUint16(adu, id)
	return adu, nil
}

// Send sends a request and returns the reply, which has been checked against it.
func (e *exchange) Send(request []byte) ([]byte, error) {
	if err := e.bus.connect(e.ctx); err != nil {
		return nil, err
	}
	conn := e.bus.conn
	deadline, _ := e.ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("setting the deadline: %w", err)
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(e.ctx, func() {
		defer close(interrupted)
		_ = conn.SetDeadline(time.Unix(1, 0)) // a closed connection needs no interrupting
	})
	defer func() {
		if !stop() {
			<-interrupted // else it could hit the next request
		}
	}()
	if _, err := conn.Write(request); err != nil {
		return nil, e.failed("sending the request", err)
	}
	var reply [headerSize - 1 + maxLength]byte
	if _, err := io.ReadFull(conn, reply[:headerSize]); err != nil {
		return nil, e.failed("waiting for the reply", err)
	}
	length, err := checkHeader(request, reply[:headerSize])
	if err != nil {
		return nil, err
	}
	end := headerSize - 1 + length
	if _, err := io.ReadFull(conn, reply[headerSize:end]); err != nil {
		return nil, e.failed("waiting for the rest of the reply", err)
	}
	if err := checkBody(request, reply[headerSize:end], e.count); err != nil {
		return nil, err
	}
	return reply[:end], nil
}

// failed prefers the reason of the context to the deadline error that it caused.
func (e *exchange) failed(doing string, err error) error {
	if ctxErr := e.ctx.Err(); ctxErr != nil {
		return fmt.Errorf("%s: %w", doing, ctxErr)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%s: no answer in time: %w", doing, context.DeadlineExceeded)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// checkHeader returns the length field of a reply that belongs to the request.
func checkHeader(request, header []byte) (int, error) {
	be := binary.BigEndian
	if got, want := be.Uint16(header), be.Uint16(request); got != want {
		return 0, fmt.Errorf("transaction id: got %d, expected %d: %w", got, want, ErrBadReply)
	}
	if got := be.Uint16(header[2:]); got != 0 {
		return 0, fmt.Errorf("protocol id: got %d, expected 0: %w", got, ErrBadReply)
	}
	length := int(be.Uint16(header[4:]))
	if length < minLength || length > maxLength {
		return 0, fmt.Errorf("length: got %d, expected %d to %d: %w", length, minLength, maxLength, ErrBadReply)
	}
	if got, want := header[6], request[6]; got != want {
		return 0, fmt.Errorf("unit: got %d, expected %d: %w", got, want, ErrBadReply)
	}
	return length, nil
}

// checkBody checks function, sizes and number of registers; body begins with the function.
func checkBody(request, body []byte, count uint16) error {
	const exception = 0x80
	function := request[headerSize]
	switch {
	case len(body) < 2:
		return fmt.Errorf("reply: got %d bytes, expected 2 at least: %w", len(body), ErrBadReply)
	case body[0] == function|exception:
		if len(body) != 2 || body[1] == 0 {
			return fmt.Errorf("exception: got %d bytes and code %d, expected 2 bytes and a code above 0: %w", len(body), body[1], ErrBadReply)
		}
	case body[0] != function:
		return fmt.Errorf("function: got %d, expected %d: %w", body[0], function, ErrBadReply)
	case int(body[1]) != 2*int(count) || len(body) != 2+2*int(count):
		return fmt.Errorf("registers: got %d bytes in a reply of %d, expected %d registers in %d: %w", body[1], len(body), count, 2+2*int(count), ErrBadReply)
	}
	return nil
}

// connect makes sure that there is a connection on which nothing waits to be read.
func (b *Bus) connect(ctx context.Context) error {
	if b.conn != nil && !silent(b.conn) {
		b.drop()
	}
	if b.conn != nil {
		return nil
	}
	if wait := b.options.DialEvery - time.Since(b.lastDial); wait > 0 && !b.lastDial.IsZero() {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("%w for another %v: %w", errTooSoon, wait.Round(time.Millisecond), ctx.Err())
		}
	}
	b.lastDial = time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.address)
	if err != nil {
		return fmt.Errorf("dialling: %w", err)
	}
	b.conn = conn
	b.generation++
	return nil
}

// silent reports whether the other side neither sent something unasked nor closed.
func silent(conn net.Conn) bool {
	if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return false
	}
	var one [1]byte
	n, err := conn.Read(one[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}
