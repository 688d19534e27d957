//go:build !linux

package listen

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// PTY is a pseudo-terminal; here there is none.
type PTY struct {
	Path string
	io.ReadWriter
}

// OpenPTY is for Linux.
func OpenPTY(key, _ string) (*PTY, error) {
	return nil, fmt.Errorf("%s: pseudo-terminals are made on Linux only", key)
}

// SetReadDeadline limits Read.
func (*PTY) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// SetWriteDeadline limits Write.
func (*PTY) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// Clear waits until everything that was written was read.
func (*PTY) Clear() error { return errors.ErrUnsupported }

// Close has nothing to close.
func (*PTY) Close() error { return nil }
