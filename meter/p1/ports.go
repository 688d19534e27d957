package p1

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/commonwatt/commonwatt/meter/serial"
)

// dialTimeout bounds how long a connection may take.
const dialTimeout = 5 * time.Second

// Port is where telegrams come from. A deadline and Close interrupt Read.
type Port interface {
	io.ReadCloser
	SetReadDeadline(time.Time) error
}

// TCP dials host:port, where something like ser2net hands on what a serial port says.
func TCP(address string) func(context.Context) (Port, error) {
	return func(ctx context.Context) (Port, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
}

// Serial opens a serial port.
func Serial(s serial.Settings) func(context.Context) (Port, error) {
	return func(context.Context) (Port, error) {
		p, err := serial.Open(s)
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}
