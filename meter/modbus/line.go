package modbus

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/meter/serial"
)

// transport is how a line carries frames.
type transport uint8

const (
	overTCP transport = iota + 1
	overTLS
	overSerial
	overSocket
)

// Line says how a bus is reached. Make one with TCP, TLS, RTU or RTUOverTCP.
type Line struct {
	transport transport
	host      string // host:port
	tls       *tls.Config
	trust     string // what tls is called, so that two users of one host can be compared
	serial    serial.Settings
	dial      func(ctx context.Context) (port, error) // nil: the real one; tests have lines in virtual time
}

// TCP is Modbus TCP to a device or gateway at host:port.
func TCP(host string) Line { return Line{transport: overTCP, host: host} }

// TLS is Modbus TCP inside TLS (Modbus/TCP Security). The name stands for the configuration: two users of one host must
// give the same. A nil configuration trusts what the system trusts.
func TLS(host string, c *tls.Config, name string) Line {
	return Line{transport: overTLS, host: host, tls: c, trust: name}
}

// RTU is Modbus RTU on a serial port.
func RTU(s serial.Settings) Line {
	return Line{transport: overSerial, serial: s.WithDefaults()}
}

// RTUOverTCP is Modbus RTU through a serial server at host:port, which passes bytes on and knows nothing of Modbus.
func RTUOverTCP(host string) Line { return Line{transport: overSocket, host: host} }

// String is the address of the line as it is written in a configuration, without settings.
func (l Line) String() string {
	switch l.transport {
	case overTCP:
		return "tcp://" + l.host
	case overTLS:
		return "tcp+tls://" + l.host
	case overSerial:
		return "rtu://" + l.serial.Device
	case overSocket:
		return "rtu+tcp://" + l.host
	}
	return "no line"
}

// describe is String and what else distinguishes one use of a line from another.
func (l Line) describe() string {
	switch {
	case l.transport == overSerial:
		return "rtu://" + l.serial.String()
	case l.trust != "":
		return l.String() + " (" + l.trust + ")"
	}
	return l.String()
}

// check names what is wrong with a line.
func (l Line) check() error {
	switch l.transport {
	case overTCP, overTLS, overSocket:
		if host, port, err := net.SplitHostPort(l.host); err != nil || host == "" || port == "" {
			return fmt.Errorf("host: got %q, expected HOST:PORT: %w", l.host, ErrLine)
		}
		return nil
	case overSerial:
		if err := l.serial.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrLine, err)
		}
		return nil
	}
	return fmt.Errorf("line: got the zero value, expected one made by TCP, TLS, RTU or RTUOverTCP: %w", ErrLine)
}

// key is the same for two lines that are the same wire.
func (l Line) key() string {
	if l.transport != overSerial {
		return l.host
	}
	if real, err := filepath.EvalSymlinks(l.serial.Device); err == nil {
		return real // /dev/serial/by-id/… is a link
	}
	return filepath.Clean(l.serial.Device) // it is absent, and may come
}

// same reports whether two lines with one key are also used in one way.
func (l Line) same(o Line) bool {
	l.serial.Device, o.serial.Device = "", ""
	return l.transport == o.transport && l.trust == o.trust && l.serial == o.serial
}

// rtu reports whether frames have a checksum and no transaction id.
func (l Line) rtu() bool { return l.transport == overSerial || l.transport == overSocket }

// wire is how long so many characters take on the wire, as far as that is known.
func (l Line) wire(characters int) time.Duration {
	if l.transport != overSerial {
		return 0
	}
	return l.serial.Time(characters)
}

// port is an open line: a connection or a serial port.
type port interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
}

// open dials, or opens the serial port.
func (l Line) open(ctx context.Context) (port, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	switch {
	case l.dial != nil:
		return l.dial(ctx)
	case l.transport == overTLS:
		return openTLS(ctx, l)
	case l.transport == overSerial:
		p, err := serial.Open(l.serial)
		if err != nil {
			return nil, err // not a nil *Port in an interface
		}
		return p, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.host)
	if err != nil {
		return nil, fmt.Errorf("dialling: %w", err)
	}
	return conn, nil
}
