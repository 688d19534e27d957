package modbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// silence is how long the line is listened to before a request.
const silence = time.Millisecond

// ready makes sure that the line is open, that nothing waits on it to be read, and that nothing can still come that
// belongs to an earlier request.
func (b *Bus) ready(ctx context.Context) error {
	if b.port != nil {
		gone, err := b.clear(ctx)
		if !gone {
			return err
		}
		b.drop()
	}
	if err := b.open(ctx); err != nil || !b.line.rtu() {
		return err
	}
	gone, err := b.clear(ctx)
	if gone {
		b.drop()
		return &lineError{fmt.Errorf("the line ended as soon as it was open: %w", err)}
	}
	return err
}

// clear makes an open line clear for a request. It reports whether the line has to be opened anew for it.
func (b *Bus) clear(ctx context.Context) (gone bool, err error) {
	if !b.line.rtu() {
		return !silent(b.port), nil
	}
	if err := pause(ctx, b.quiet); err != nil {
		return false, err
	}
	within, cancel := context.WithTimeout(ctx, b.options.Timeout)
	defer cancel()
	err = b.settle(within)
	if noisy := (*lineError)(nil); err == nil || errors.As(err, &noisy) {
		return false, err
	}
	return true, err
}

// open opens the line, not sooner after the last time than is good for it.
func (b *Bus) open(ctx context.Context) error {
	if !b.lastDial.IsZero() {
		if err := pause(ctx, b.lastDial.Add(b.options.DialEvery)); err != nil {
			return err
		}
	}
	within, cancel := context.WithTimeout(ctx, b.options.Timeout)
	defer cancel()
	b.lastDial = time.Now()
	p, err := b.line.open(within)
	if err != nil {
		return &lineError{err}
	}
	b.port = p
	if b.opened++; b.opened == 1 && b.line.rtu() {
		b.quiet = time.Now().Add(b.options.Slowest) // somebody may have asked just before us
	}
	b.echo, b.lastByte = echoUnknown, time.Time{}
	return nil
}

// pause waits until a time.
func pause(ctx context.Context, until time.Time) error {
	rest := time.Until(until)
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

// silent reports whether the other side neither sent something unasked nor closed.
func silent(p port) bool {
	if err := p.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return false
	}
	var one [1]byte
	n, err := p.Read(one[:])
	return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
}
