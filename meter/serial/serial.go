// Package serial opens serial ports for meters: raw, exclusively, and so that a deadline or Close interrupts a read.
//
// A port is used by one owner. Linux only; elsewhere Open says so. No goroutine is started.
package serial

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

var (
	// ErrSettings says that a port cannot be set as was asked.
	ErrSettings = errors.New("impossible setting of a serial port")
	// ErrInUse says that another program, or another part of this one, has the port.
	ErrInUse = errors.New("serial port is in use")
	// ErrAbsent says that there is no such port, at least not now.
	ErrAbsent = errors.New("no such serial port")
	// ErrPermission says that the system does not let this user open the port.
	ErrPermission = errors.New("no permission for the serial port")
)

// Parity of a character.
type Parity byte

// The parities.
const (
	None Parity = 'N'
	Even Parity = 'E'
	Odd  Parity = 'O'
)

// Settings are of one port. What is zero is as in 9600 8N1.
type Settings struct {
	Device   string // /dev/ttyUSB0
	Baud     int    // bits per second, see Bauds
	DataBits int    // 7 or 8
	Parity   Parity
	StopBits int // 1 or 2
}

// WithDefaults fills in what is zero.
func (s Settings) WithDefaults() Settings {
	if s.Baud == 0 {
		s.Baud = 9600
	}
	if s.DataBits == 0 {
		s.DataBits = 8
	}
	if s.Parity == 0 {
		s.Parity = None
	}
	if s.StopBits == 0 {
		s.StopBits = 1
	}
	return s
}

// String is like "/dev/ttyUSB0 (9600 8N1)".
func (s Settings) String() string {
	s = s.WithDefaults()
	return fmt.Sprintf("%s (%d %d%c%d)", s.Device, s.Baud, s.DataBits, s.Parity, s.StopBits)
}

// Check names the setting that cannot be.
func (s Settings) Check() error {
	s = s.WithDefaults()
	switch {
	case s.Device == "":
		return fmt.Errorf("device: got none, expected a path such as /dev/ttyUSB0: %w", ErrSettings)
	case speeds[s.Baud] == 0:
		return fmt.Errorf("baud: got %d, expected one of %v: %w", s.Baud, Bauds(), ErrSettings)
	case s.DataBits != 7 && s.DataBits != 8:
		return fmt.Errorf("data bits: got %d, expected 7 or 8: %w", s.DataBits, ErrSettings)
	case s.Parity != None && s.Parity != Even && s.Parity != Odd:
		return fmt.Errorf("parity: got %q, expected N, E or O: %w", s.Parity, ErrSettings)
	case s.StopBits != 1 && s.StopBits != 2:
		return fmt.Errorf("stop bits: got %d, expected 1 or 2: %w", s.StopBits, ErrSettings)
	}
	return nil
}

// Bauds are the speeds that can be set, slowest first.
func Bauds() []int { return slices.Sorted(maps.Keys(speeds)) }

// Time is how long n characters take on the wire.
func (s Settings) Time(n int) time.Duration {
	s = s.WithDefaults()
	bits := 1 + s.DataBits + s.StopBits
	if s.Parity != None {
		bits++
	}
	return time.Duration(n*bits) * time.Second / time.Duration(s.Baud)
}
