package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Functions that Read accepts.
const (
	ReadHolding uint8 = 3
	ReadInput   uint8 = 4
)

// Functions by which registers are written.
const (
	writeOne  uint8 = 6
	writeMany uint8 = 16
)

// MaxRegisters is the most that one request can ask for, MaxWritten the most that one can write.
const (
	MaxRegisters = 125
	MaxWritten   = 123
)

// Options of a Bus. The zero value is right for devices in the field; tests shorten the times.
type Options struct {
	// Timeout bounds the wait for one reply, and the opening of the line; default 3 s, on a serial line 1 s and the time
	// that the bytes take, through a serial server 2 s.
	Timeout time.Duration
	// Slowest is the latest, counted from the request, that a reply can still come on a line without transaction ids.
	// After a failure nothing is asked there until then. Default twice the Timeout.
	Slowest time.Duration
	// DialEvery is the shortest time between two dials; default 1 s.
	DialEvery time.Duration
	// BackoffStep is how long a unit is left alone per failure in a row, BackoffMax the longest; default 2 s and 5 min.
	// A line that cannot be opened is left alone likewise, but for 30 s at most.
	BackoffStep, BackoffMax time.Duration
	Log                     *slog.Logger
}

func (o Options) withDefaults(l Line) Options {
	usual := map[transport]time.Duration{overSerial: time.Second, overSocket: 2 * time.Second}[l.transport]
	if usual == 0 {
		usual = 3 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = usual
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Slowest, 2 * o.Timeout}, {&o.DialEvery, time.Second}, {&o.BackoffStep, 2 * time.Second}, {&o.BackoffMax, 5 * time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Bus is one line, shared by all units on it. It is safe for concurrent use; requests take turns, see turns.
type Bus struct {
	line    Line
	options Options
	turns   turns
	life    context.Context // ends with Close and interrupts what is under way
	end     context.CancelFunc
	health  health

	// Who has the turn owns the rest.
	port     port
	opened   uint64 // how often the line was
	lastDial time.Time
	lastID   uint16           // of a transaction
	resyncs  map[uint8]uint64 // failed requests per unit: who answers next may be another
	quiet    time.Time        // until then something late can come
	lastByte time.Time
	echo     echo
}

// NewBus makes a bus. It opens the line with the first request.
func NewBus(l Line, o Options) *Bus {
	b := &Bus{line: l, options: o.withDefaults(l), resyncs: map[uint8]uint64{}}
	b.health = health{step: b.options.BackoffStep, most: b.options.BackoffMax, units: map[uint8]*failures{}}
	b.life, b.end = context.WithCancel(context.Background())
	return b
}

// Close interrupts the request that is under way and closes the line. Requests that wait fail with ErrClosed.
func (b *Bus) Close() error {
	b.end()
	if err := b.turns.take(context.Background(), closing); err != nil {
		return err
	}
	defer b.turns.give()
	b.drop()
	return nil
}

// Read reads count registers of a unit with function 3 or 4. It returns exactly count registers or an error, and the
// generation of what they came by: a higher one than before means that the device may be another one.
func (b *Bus) Read(ctx context.Context, unit, function uint8, address, count uint16) ([]uint16, uint64, error) {
	if function != ReadHolding && function != ReadInput {
		return nil, 0, fmt.Errorf("function: got %d, expected 3 or 4: %w", function, ErrRequest)
	}
	if count < 1 || count > MaxRegisters || int(address)+int(count) > 1<<16 {
		return nil, 0, fmt.Errorf("registers: got %d from %d, expected 1 to %d within 65536: %w", count, address, MaxRegisters, ErrRequest)
	}
	data, generation, err := b.do(ctx, call{unit: unit, function: function, address: address, count: count})
	if err != nil {
		return nil, 0, fmt.Errorf("reading %d registers from %d of %s unit %d: %w", count, address, b.line, unit, err)
	}
	words := make([]uint16, count)
	for i := range words {
		words[i] = binary.BigEndian.Uint16(data[2*i:])
	}
	return words, generation, nil
}

// Write writes holding registers of a unit with function 16. It is sent at most once: after ErrUncertain the device may
// have taken it, after any other error it did not. That it was confirmed does not say that the device holds on to it;
// read back what matters.
func (b *Bus) Write(ctx context.Context, unit uint8, address uint16, words []uint16) error {
	return b.WriteOn(ctx, 0, unit, address, words)
}

// WriteOn is Write to the device that answered in the connection of that generation: if the line was opened anew since, or
// has to be, nothing is sent and the error is ErrReopened. Another device may answer there now. Generation 0 is any.
func (b *Bus) WriteOn(ctx context.Context, generation uint64, unit uint8, address uint16, words []uint16) error {
	if len(words) < 1 || len(words) > MaxWritten || int(address)+len(words) > 1<<16 {
		return fmt.Errorf("registers: got %d to write from %d, expected 1 to %d within 65536: %w", len(words), address, MaxWritten, ErrRequest)
	}
	return b.write(ctx, call{unit: unit, function: writeMany, address: address, count: uint16(len(words)), words: words, only: generation}) //nolint:gosec // at most 123
}

// WriteSingle writes one holding register with function 6, for devices that know no other. The rest is as with Write.
func (b *Bus) WriteSingle(ctx context.Context, unit uint8, address, word uint16) error {
	return b.write(ctx, call{unit: unit, function: writeOne, address: address, count: 1, words: []uint16{word}})
}

func (b *Bus) write(ctx context.Context, c call) error {
	if _, _, err := b.do(ctx, c); err != nil {
		return fmt.Errorf("writing %d registers from %d of %s unit %d: %w", c.count, c.address, b.line, c.unit, err)
	}
	return nil
}

// broadcast is the unit that stands for all of a serial line, so that nobody answers.
const broadcast = 0

// do waits for the unit's turn and makes one request.
func (b *Bus) do(ctx context.Context, c call) ([]byte, uint64, error) {
	if c.unit == broadcast && b.line.rtu() {
		return nil, 0, fmt.Errorf("unit: got 0, to which nobody on a serial line answers, expected 1 to 247: %w", ErrRequest)
	}
	if err := b.health.refuses(c.unit); err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(b.life, cancel) //nolint:contextcheck // Close interrupts, whoever asked
	defer stop()
	if err := b.turns.take(ctx, int(c.unit)); err != nil {
		if b.life.Err() != nil {
			return nil, 0, ErrClosed
		}
		return nil, 0, fmt.Errorf("waiting for the line: %w", err)
	}
	defer b.turns.give()
	if b.life.Err() != nil {
		return nil, 0, ErrClosed
	}
	if err := b.health.refuses(c.unit); err != nil {
		return nil, 0, err // it failed while this request waited
	}
	begin := time.Now()
	data, err := b.request(ctx, c)
	b.judge(ctx, c.unit, err, time.Since(begin))
	return data, b.generation(c.unit), err
}

// generation rises with every opening of the line, and where it stays open after a failure with every failure of the
// unit: whoever answers after it may be another.
func (b *Bus) generation(unit uint8) uint64 { return b.opened + b.resyncs[unit] }

// judge keeps the back-off. A caller that went away, or had no time left, says nothing about the unit.
func (b *Bus) judge(ctx context.Context, unit uint8, err error, took time.Duration) {
	switch gone := ctx.Err(); {
	case err == nil:
	case errors.Is(err, errTooSoon), errors.Is(err, ErrReopened), errors.Is(gone, context.Canceled), gone != nil && took < b.options.Timeout/2:
		return
	}
	if wait := b.health.note(unit, err); wait > 0 {
		b.options.Log.DebugContext(ctx, "modbus unit left alone", "line", b.line.String(), "unit", unit, "wait", wait, "err", err)
	}
}

// drop closes the line; the next request opens it.
func (b *Bus) drop() {
	if b.port != nil {
		_ = b.port.Close() // it is being given up
		b.port = nil
	}
}

// health is what is known of the units of a line and of the line itself. It is safe for concurrent use.
type health struct {
	step, most time.Duration
	mu         sync.Mutex
	line       failures
	units      map[uint8]*failures
}

// failures are those in a row.
type failures struct {
	count int
	until time.Time
	last  error
}

// lineMost is the longest that a line is left alone: it must come back soon after somebody plugged it in again.
const lineMost = 30 * time.Second

// refuses says why a unit is not to be asked now.
func (h *health) refuses(unit uint8) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range []*failures{&h.line, h.units[unit]} {
		if f == nil {
			continue
		}
		if wait := time.Until(f.until); wait > 0 {
			// %v: what this wraps is the back-off, not its cause.
			return fmt.Errorf("%w, %d in a row, for another %v; last: %v", ErrBackoff, f.count, wait.Round(time.Millisecond), f.last) //nolint:errorlint // see above
		}
	}
	return nil
}

// note takes the outcome of a request and returns for how long the unit or the line is left alone.
func (h *health) note(unit uint8, err error) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := errors.AsType[*lineError](err); ok {
		return h.line.add(err, h.step, min(h.most, lineMost))
	}
	h.line = failures{}
	if refused, ok := errors.AsType[*Exception](err); err == nil || ok && !refused.FromGateway() {
		delete(h.units, unit)
		return 0
	}
	f := h.units[unit]
	if f == nil {
		f = &failures{}
		h.units[unit] = f
	}
	return f.add(err, h.step, h.most)
}

func (f *failures) add(err error, step, most time.Duration) time.Duration {
	f.count++
	f.last = err
	wait := min(step*time.Duration(f.count), most)
	f.until = time.Now().Add(wait)
	return wait
}
