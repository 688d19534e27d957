package modbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/commonwatt/commonwatt/meter/serial"
)

const (
	// maxFrame bounds an RTU frame.
	maxFrame = 256
	// crcSize follows every frame.
	crcSize = 2
	// shortest is the length of the shortest reply, an exception: unit, function, code, checksum.
	shortest = 5
	// readRequest is the length of a request to read, and confirmation that of the reply to a write.
	readRequest, confirmation = 8, 8
)

// Frames are 3.5 characters apart; above 19200 baud a fixed 1.75 ms is recommended (Modbus over Serial Line V1.02,
// 2.5.1.1, https://modbus.org/docs/Modbus_over_serial_line_V1_02.pdf).
const fastGap = 1750 * time.Microsecond

// settled is how long a line on which something came unasked must be silent before it is believed to be. Adapters and
// serial servers hold bytes back for up to 16 ms, so that much in the middle of a frame is no silence.
const settled = 20 * time.Millisecond

// gap is the silence between frames.
func (l Line) gap() time.Duration {
	if l.transport == overSocket {
		return serial.Settings{}.Time(7) / 2 // the serial server keeps its own; this is that of a usual speed
	}
	if l.serial.Baud > 19200 {
		return fastGap
	}
	return l.serial.Time(7) / 2
}

// echo says whether the adapter of a line lets us hear ourselves, as some two-wire adapters do.
type echo uint8

const (
	echoUnknown echo = iota
	echoAbsent
	echoPresent
)

// settle listens until the line has been silent for as long as frames are apart, and throws away what comes meanwhile:
// noise, and replies that nobody waits for any more. It returns io.EOF or another error of the port if the line is gone.
func (b *Bus) settle(ctx context.Context) error {
	listen := max(silence, time.Until(b.lastByte.Add(b.line.gap())))
	thrown := 0
	for {
		if err := b.port.SetReadDeadline(time.Now().Add(listen)); err != nil {
			return err
		}
		var in [maxFrame]byte
		n, err := b.port.Read(in[:])
		thrown += n
		switch {
		case n > 0:
			listen = max(settled, b.line.gap())
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		if ctx.Err() != nil {
			return &lineError{fmt.Errorf("the line is never silent, %d bytes came unasked: %w", thrown, ErrBadReply)}
		}
	}
}

// receiveRTU reads the reply to a request, after the echo if there is one.
func (e *exchange) receiveRTU(r io.Reader, request []byte) ([]byte, error) {
	in := frame{from: r}
	if e.bus.echo == echoPresent {
		if err := in.upTo(len(request)); err != nil {
			return nil, e.failed("waiting for the echo", err)
		}
		if !bytes.Equal(in.bytes, request) {
			e.bus.echo = echoUnknown
			return nil, fmt.Errorf("echo: got % x, expected the request % x, which this adapter echoed before: %w", in.bytes, request, ErrBadReply)
		}
		in.bytes = nil
	}
	if err := in.upTo(shortest); err != nil {
		return nil, e.failed("waiting for the reply", err)
	}
	echoed := false
	if e.bus.echo == echoUnknown && bytes.Equal(in.bytes, request[:shortest]) {
		var err error
		if echoed, err = e.skipEcho(&in, request); err != nil {
			return nil, err
		}
	}
	if err := e.finish(&in, request); err != nil {
		return nil, err
	}
	switch {
	case echoed:
		e.bus.echo = echoPresent
	case e.bus.echo == echoUnknown:
		e.bus.echo = echoAbsent
	}
	return in.bytes, nil
}

// skipEcho tells a reply that begins like the request from an echo of it, and reads the echo away. What could be either
// is refused.
func (e *exchange) skipEcho(in *frame, request []byte) (echoed bool, err error) {
	common := min(e.replySize(), len(request))
	if err := in.upTo(common); err != nil {
		return false, e.failed("waiting for the rest of the reply", err)
	}
	if !bytes.Equal(in.bytes, request[:common]) {
		return false, nil
	}
	if common == e.replySize() && e.intact(in.bytes) {
		return false, fmt.Errorf("got % x, which can be an echo of the request or a reply to it; read something else first: %w", in.bytes, ErrBadReply)
	}
	if err := in.upTo(len(request)); err != nil {
		return false, e.failed("waiting for the rest of the echo", err)
	}
	if !bytes.Equal(in.bytes, request) {
		return false, fmt.Errorf("echo: got % x, expected the request % x: %w", in.bytes, request, ErrBadReply)
	}
	in.bytes = nil
	if err := in.upTo(shortest); err != nil {
		return true, e.failed("waiting for the reply after the echo", err)
	}
	return true, nil
}

// finish reads the rest of a frame of which the first bytes are there, and checks all of it. The length follows from the
// request alone, never from what came.
func (e *exchange) finish(in *frame, request []byte) error {
	got, want := in.bytes, request
	switch {
	case got[0] != want[0]:
		return fmt.Errorf("unit: got %d, expected %d: %w", got[0], want[0], ErrBadReply)
	case got[1] == want[1]|exceptionBit:
	case got[1] != want[1]:
		return fmt.Errorf("function: got %d, expected %d: %w", got[1], want[1], ErrBadReply)
	case !e.writes() && int(got[2]) != 2*int(e.count):
		return fmt.Errorf("registers: got %d bytes, expected %d: %w", got[2], 2*e.count, ErrBadReply)
	default:
		if err := in.upTo(e.replySize()); err != nil {
			return e.failed("waiting for the rest of the reply", err)
		}
	}
	if !e.intact(in.bytes) {
		return fmt.Errorf("checksum of % x: %w", in.bytes, ErrBadReply)
	}
	return checkBody(request[1:len(request)-crcSize], in.bytes[1:len(in.bytes)-crcSize])
}

// replySize is the length of the reply if it is no exception.
func (e *exchange) replySize() int {
	if e.writes() {
		return confirmation
	}
	return 3 + 2*int(e.count) + crcSize
}

// intact checks the checksum of a frame.
func (e *exchange) intact(adu []byte) bool {
	_, err := e.Decode(adu)
	return err == nil
}

// frame is one that comes in, piece by piece.
type frame struct {
	from  io.Reader
	bytes []byte
}

// upTo reads until there are n bytes.
func (f *frame) upTo(n int) error {
	have := len(f.bytes)
	if have >= n {
		return nil
	}
	f.bytes = append(f.bytes, make([]byte, n-have)...)
	got, err := io.ReadFull(f.from, f.bytes[have:])
	f.bytes = f.bytes[:have+got]
	return err
}

// size is how many characters a request and its reply have.
func (c call) size() int {
	request, reply := readRequest, 3+2*int(c.count)+crcSize
	if c.writes() {
		request, reply = 7+2*len(c.words)+crcSize, confirmation
	}
	return request + reply
}

// learnEcho reads a register to hear whether the adapter echoes: the reply to function 6 is the request once more, so
// that an echo would pass for it.
func (b *Bus) learnEcho(ctx context.Context, c call) error {
	_, err := b.attempt(ctx, call{unit: c.unit, function: ReadHolding, address: c.address, count: 1})
	if _, refused := errors.AsType[*Exception](err); refused {
		return nil
	}
	return err
}
