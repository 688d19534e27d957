package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	goburrow "github.com/goburrow/modbus"
)

// Functions that Read accepts.
const (
	ReadHolding uint8 = 3
	ReadInput   uint8 = 4
)

// MaxRegisters is the most that one request can ask for.
const MaxRegisters = 125

var (
	// ErrBadReply says that something came back that is not the answer to the request.
	ErrBadReply = errors.New("not the answer to the request")
	// ErrBackoff says that the unit failed lately and is left alone for a while.
	ErrBackoff = errors.New("unit is left alone after failures")
	// ErrClosed says that the bus was closed.
	ErrClosed = errors.New("bus is closed")
	// ErrRequest says that the request itself is not possible.
	ErrRequest = errors.New("impossible request")
)

// Exception is a proper refusal by a device.
type Exception struct {
	Unit, Function, Code uint8
	text                 string
}

func (e *Exception) Error() string { return fmt.Sprintf("unit %d: %s", e.Unit, e.text) }

// Options of a Bus. The zero value is right for devices in the field; tests shorten the times.
type Options struct {
	// Timeout of one request, connection included; default 3 s.
	Timeout time.Duration
	// DialEvery is the shortest time between two dials; default 1 s.
	DialEvery time.Duration
	// BackoffStep is how long a unit is left alone per failure in a row, BackoffMax the longest; default 2 s and 5 min.
	BackoffStep, BackoffMax time.Duration
	Log                     *slog.Logger
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Timeout, 3 * time.Second}, {&o.DialEvery, time.Second}, {&o.BackoffStep, 2 * time.Second}, {&o.BackoffMax, 5 * time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Bus is one connection to one host:port, shared by all units behind it. It is safe for concurrent use; requests take
// turns.
type Bus struct {
	address string
	options Options
	turn    chan struct{}   // holds one token: who has it owns everything below
	life    context.Context // ends with Close and interrupts what is under way
	end     context.CancelFunc

	conn       net.Conn
	generation uint64 // rises with every connection
	lastDial   time.Time
	lastID     uint16
	units      map[uint8]*unit
}

type unit struct {
	failures int
	until    time.Time
}

// NewBus makes a bus. It dials with the first request.
func NewBus(address string, o Options) *Bus {
	b := &Bus{address: address, options: o.withDefaults(), turn: make(chan struct{}, 1), units: map[uint8]*unit{}}
	b.life, b.end = context.WithCancel(context.Background())
	b.turn <- struct{}{}
	return b
}

// Close interrupts the request that is under way and closes the connection.
func (b *Bus) Close() error {
	b.end()
	<-b.turn
	defer func() { b.turn <- struct{}{} }()
	b.drop()
	return nil
}

// Read reads count registers of a unit with function 3 or 4. It returns exactly count registers or an error, and the
// generation of the connection that they came by: a higher one than before means that the device may have changed.
func (b *Bus) Read(ctx context.Context, unitID, function uint8, address, count uint16) ([]uint16, uint64, error) {
	if function != ReadHolding && function != ReadInput {
		return nil, 0, fmt.Errorf("function: got %d, expected 3 or 4: %w", function, ErrRequest)
	}
	if count < 1 || count > MaxRegisters || int(address)+int(count) > 1<<16 {
		return nil, 0, fmt.Errorf("registers: got %d from %d, expected 1 to %d within 65536: %w", count, address, MaxRegisters, ErrRequest)
	}
	select {
	case <-b.turn:
		defer func() { b.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, 0, fmt.Errorf("waiting for the bus %s: %w", b.address, ctx.Err())
	}
	if b.life.Err() != nil {
		return nil, 0, ErrClosed
	}
	u := b.units[unitID]
	if u == nil {
		u = &unit{}
		b.units[unitID] = u
	}
	if wait := time.Until(u.until); wait > 0 {
		return nil, 0, fmt.Errorf("%s unit %d, failed %d times, for another %v: %w", b.address, unitID, u.failures, wait.Round(time.Millisecond), ErrBackoff)
	}
	words, err := b.request(ctx, unitID, function, address, count)
	b.judge(ctx, u, unitID, err)
	if err != nil {
		return nil, 0, fmt.Errorf("reading %d registers from %d of %s unit %d: %w", count, address, b.address, unitID, err)
	}
	return words, b.generation, nil
}

// judge keeps the back-off of a unit. A caller that went away says nothing about the unit.
func (b *Bus) judge(ctx context.Context, u *unit, unitID uint8, err error) {
	var refused *Exception
	switch {
	case err == nil, errors.As(err, &refused) && !gatewayFailed(refused.Code):
		u.failures, u.until = 0, time.Time{}
	case errors.Is(ctx.Err(), context.Canceled), b.life.Err() != nil, errors.Is(err, errTooSoon):
	default:
		u.failures++
		wait := min(b.options.BackoffStep*time.Duration(u.failures), b.options.BackoffMax)
		u.until = time.Now().Add(wait)
		b.options.Log.DebugContext(ctx, "modbus unit left alone", "address", b.address, "unit", unitID, "failures", u.failures, "wait", wait, "err", err)
	}
}

// gatewayFailed tells the exceptions by which a gateway says that the unit behind it does not answer.
func gatewayFailed(code uint8) bool {
	return code == goburrow.ExceptionCodeGatewayPathUnavailable || code == goburrow.ExceptionCodeGatewayTargetDeviceFailedToRespond
}

func (b *Bus) request(ctx context.Context, unitID, function uint8, address, count uint16) ([]uint16, error) {
	ctx, cancel := context.WithTimeout(ctx, b.options.Timeout)
	defer cancel()
	stop := context.AfterFunc(b.life, cancel) //nolint:contextcheck // Close interrupts, whoever asked
	defer stop()
	handler := goburrow.NewTCPClientHandler(b.address) // used for its packager only; it never dials
	handler.SlaveId = unitID
	e := exchange{ctx: ctx, bus: b, Packager: handler, count: count}
	client := goburrow.NewClient2(&e, &e)
	read := client.ReadHoldingRegisters
	if function == ReadInput {
		read = client.ReadInputRegisters
	}
	data, err := read(address, count)
	if refused, ok := errors.AsType[*goburrow.ModbusError](err); ok {
		return nil, &Exception{Unit: unitID, Function: function, Code: refused.ExceptionCode, text: refused.Error()}
	}
	if err == nil && len(data) != 2*int(count) {
		err = fmt.Errorf("got %d bytes, expected %d: %w", len(data), 2*count, ErrBadReply)
	}
	if err != nil {
		b.drop()
		return nil, err
	}
	words := make([]uint16, count)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return words, nil
}

// drop closes the connection; the next request dials.
func (b *Bus) drop() {
	if b.conn != nil {
		_ = b.conn.Close() // it is being given up
		b.conn = nil
	}
}

// FromGateway reports whether it is not the device that refuses but the gateway before it, which cannot reach it.
func (e *Exception) FromGateway() bool { return gatewayFailed(e.Code) }
