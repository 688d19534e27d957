package modbus

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"time"
)

// transport is how a line carries frames.
type transport uint8

const (
	overTCP transport = iota + 1
	overTLS
)

// Line says how a bus is reached. Make one with TCP or TLS.
type Line struct {
	transport transport
	host      string // host:port
	tls       *tls.Config
	trust     string // what tls is called, so that two users of one host can be compared
}

// TCP is Modbus TCP to a device or gateway at host:port.
func TCP(host string) Line { return Line{transport: overTCP, host: host} }

// TLS is Modbus TCP inside TLS (Modbus/TCP Security). The name stands for the configuration: two users of one host must
// give the same. A nil configuration trusts what the system trusts.
func TLS(host string, c *tls.Config, name string) Line {
	return Line{transport: overTLS, host: host, tls: c, trust: name}
}

// String is the address of the line as it is written in a configuration.
func (l Line) String() string {
	switch l.transport {
	case overTCP:
		return "tcp://" + l.host
	case overTLS:
		return "tcp+tls://" + l.host
	}
	return "no line"
}

// describe is String and what else distinguishes one use of a line from another.
func (l Line) describe() string {
	if l.trust != "" {
		return l.String() + " (" + l.trust + ")"
	}
	return l.String()
}

// check names what is wrong with a line.
func (l Line) check() error {
	if l.transport == 0 {
		return fmt.Errorf("line: got the zero value, expected one made by TCP or TLS: %w", ErrLine)
	}
	host, port, err := net.SplitHostPort(l.host)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("host: got %q, expected HOST:PORT: %w", l.host, ErrLine)
	}
	return nil
}

// key is the same for two lines that are the same wire.
func (l Line) key() string { return l.host }

// same reports whether two lines with one key are also used in one way.
func (l Line) same(o Line) bool { return l.transport == o.transport && l.trust == o.trust }

// port is an open line: a connection.
type port interface {
	io.ReadWriteCloser
	SetDeadline(t time.Time) error
	SetReadDeadline(t time.Time) error
}

// open dials.
func (l Line) open(ctx context.Context) (port, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	if l.transport == overTLS {
		return openTLS(ctx, l)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.host)
	if err != nil {
		return nil, fmt.Errorf("dialling: %w", err)
	}
	return conn, nil
}
