//go:build !linux

package serial

import (
	"errors"
	"fmt"
	"os"
)

var speeds = map[int]uint32{1200: 1200, 2400: 2400, 4800: 4800, 9600: 9600, 19200: 19200, 38400: 38400, 57600: 57600, 115200: 115200}

// Port is an open serial port.
type Port struct{ *os.File }

// Open fails: serial ports are opened on Linux only.
func Open(s Settings) (*Port, error) {
	return nil, fmt.Errorf("%s: serial ports are opened on Linux only: %w", s.Device, errors.ErrUnsupported)
}
