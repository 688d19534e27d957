// Package wire is the last step of every answer of firmware-sim: an [Answer] is
// what a device is about to say and how it is to leave, and package fault
// changes both on purpose. An Answer that nobody changed leaves at once, whole
// and once.
//
// Servers fill the Answer in, let its transport be spoilt, encode the body and
// call [Answer.Send]. Delays are of the wall clock, since they are measured
// against a reader's patience; everything else in firmware-sim counts in
// community time.
package wire

import (
	"context"
	"errors"
	"io"
	"time"
)

// Transport is a way by which a reader reaches a device.
type Transport string

// The transports.
const (
	TCP        Transport = "modbus-tcp"
	TLS        Transport = "modbus-tls"
	RTU        Transport = "modbus-rtu"
	RTUOverTCP Transport = "modbus-rtu-tcp"
	MQTT       Transport = "mqtt"
	P1TCP      Transport = "p1-tcp"
	P1Serial   Transport = "p1-serial"
	HTTP       Transport = "http"
)

// Row is a transport with its explanation.
type Row struct {
	Transport Transport
	Sentence  string
}

// Transports is the table of all.
func Transports() []Row {
	return []Row{
		{TCP, "Modbus TCP: all Modbus devices of the street behind one listener, by unit id."},
		{TLS, "Modbus TCP inside TLS, with a client certificate if one is asked for."},
		{RTU, "Modbus RTU on a pseudo-terminal, which a reader opens like a serial port; all units on one line."},
		{RTUOverTCP, "Modbus RTU frames in a TCP connection, as serial servers make them; all units on one line."},
		{MQTT, "MQTT 3.1.1: each device publishes at each refresh, to a broker of our own (also with TLS and password) or to one that runs."},
		{P1TCP, "P1 telegrams at each refresh to everybody connected to the meter's own listener."},
		{P1Serial, "P1 telegrams at each refresh on a pseudo-terminal of the meter's own."},
		{HTTP, "JSON pages of a device with a listener of its own."},
	}
}

// Answer is what a device is about to say.
type Answer struct {
	Transport Transport
	// Body is a Modbus PDU, a telegram, a page or a message, without what the
	// transport puts around it.
	Body []byte
	// Request is the Modbus PDU or the path that is answered.
	Request []byte
	// Status is that of an HTTP answer.
	Status int

	// Transaction is added to the transaction id (Modbus TCP and TLS).
	Transaction uint16
	// Flip flips a bit in the middle of the frame, after its checksum was made.
	Flip bool
	// Cut leaves so many bytes away from the frame's end.
	Cut int
	// Delay is how long the answer is held back.
	Delay time.Duration
	// Copies is how often it is sent once more.
	Copies int
	// Pieces into which it is split, with a Pause between them; 0 and 1 are one.
	Pieces int
	Pause  time.Duration
	// Silent: nothing is sent.
	Silent bool
	// Close: the connection is closed, after what is sent.
	Close bool
	// Later holds a message back until the next one: before it, or, Swapped, after it.
	Later, Swapped bool
}

// ErrClose is returned by Send for an answer after which the connection is to be
// closed.
var ErrClose = errors.New("the connection is to be closed")

// Send writes the frame that was made of the answer.
func (a *Answer) Send(ctx context.Context, w io.Writer, frame []byte) error {
	if err := Pause(ctx, a.Delay); err != nil {
		return err
	}
	if !a.Silent {
		frame = a.Spoil(frame)
		for range 1 + a.Copies {
			if err := a.write(ctx, w, frame); err != nil {
				return err
			}
		}
	}
	if a.Close {
		return ErrClose
	}
	return nil
}

// Spoil is the frame as it leaves: cut, or with a bit flipped.
func (a *Answer) Spoil(frame []byte) []byte {
	frame = frame[:max(0, len(frame)-max(0, a.Cut))]
	if a.Flip && len(frame) > 0 {
		frame = append([]byte(nil), frame...)
		frame[len(frame)/2] ^= 1
	}
	return frame
}

// write sends one frame in its pieces.
func (a *Answer) write(ctx context.Context, w io.Writer, frame []byte) error {
	for n := max(1, a.Pieces); n > 0; n-- {
		size := (len(frame) + n - 1) / n
		if _, err := w.Write(frame[:size]); err != nil {
			return err
		}
		frame = frame[size:]
		if n > 1 {
			if err := Pause(ctx, a.Pause); err != nil {
				return err
			}
		}
	}
	return nil
}

// Pause waits on the wall clock, or for the context's end.
func Pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
