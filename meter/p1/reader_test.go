package p1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/commonwatt/commonwatt/meter/serial"
)

// listen is the other end of p1+tcp: it hands each connection to the test.
func listen(t *testing.T) (address string, accept func() net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), func() net.Conn {
		t.Helper()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
}

func next(t *testing.T, r *Reader) Message {
	t.Helper()
	select {
	case m := <-r.Messages():
		return m
	case <-time.After(30 * time.Second):
		t.Fatalf("no telegram: %s", r.State())
		return Message{}
	}
}

func write(t *testing.T, w interface{ Write([]byte) (int, error) }, data []byte) {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}

// TestTCP: the rest of a telegram that had begun is skipped, a wrong checksum is an error, and when the other end goes
// away it is dialled again, not sooner than after a second.
func TestTCP(t *testing.T) {
	address, accept := listen(t)
	stamp := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	var dials atomic.Int64
	dial := TCP(address)
	var dialled []time.Time
	r := Open(Config{Name: address, Now: func() time.Time { return stamp }, Dial: func(ctx context.Context) (Port, error) {
		dials.Add(1)
		dialled = append(dialled, time.Now()) // by the reader's goroutine; read below after Close
		return dial(ctx)
	}})
	defer r.Close()
	conn := accept()
	write(t, conn, good[60:])
	write(t, conn, good)
	if m := next(t, r); m.Err != nil || m.Telegram.Ident != `ISk5\2MT382-1000` || !m.At.Equal(stamp) || !bytes.Equal(m.Raw, good) {
		t.Errorf("got %+v", m)
	}
	write(t, conn, bytes.Replace(good, []byte("244"), []byte("344"), 1))
	if m := next(t, r); !errors.Is(m.Err, ErrTelegram) || !strings.Contains(m.Err.Error(), "checksum: got ") {
		t.Errorf("a wrong checksum: got %v", m.Err)
	}
	write(t, conn, good[:100]) // and then it is gone
	_ = conn.Close()
	conn = accept()
	write(t, conn, good)
	if m := next(t, r); m.Err != nil {
		t.Errorf("after the connection was lost: %v", m.Err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if dials.Load() != 2 || dialled[1].Sub(dialled[0]) < time.Second {
		t.Errorf("dialled %d times, at %v", dials.Load(), dialled)
	}
}

// TestOverflow: when nobody takes the telegrams, the oldest go.
func TestOverflow(t *testing.T) {
	address, accept := listen(t)
	r := Open(Config{Name: address, Now: time.Now, Dial: TCP(address)})
	defer r.Close()
	conn := accept()
	const n = 3 * queueLength
	for i := range n {
		write(t, conn, sealed(`/ISk5\x`+string(rune('a'+i)), "", "1-0:1.8.1(000004.426*kWh)"))
	}
	eventually(t, func() bool { return r.Dropped() == n-queueLength }, func() string { return fmt.Sprintf("dropped %d", r.Dropped()) })
	for i := n - queueLength; i < n; i++ {
		if m := next(t, r); m.Err != nil || m.Telegram.Ident != `ISk5\x`+string(rune('a'+i)) {
			t.Fatalf("got %+v, expected number %d", m, i)
		}
	}
}

// TestSilence: a port that says nothing is opened anew, for a connection may be dead without anybody having said so.
func TestSilence(t *testing.T) {
	address, accept := listen(t)
	r := Open(Config{Name: address, Now: time.Now, Dial: TCP(address), Silence: 10 * time.Millisecond})
	defer r.Close()
	accept()
	conn := accept()
	write(t, conn, good)
	if m := next(t, r); m.Err != nil {
		t.Error(m.Err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestState says why nothing comes.
func TestState(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	r := Open(Config{Name: "the meter", Now: time.Now, Dial: TCP(address)})
	defer r.Close()
	until(t, r, "connection refused")
	address, accept := listen(t)
	r2 := Open(Config{Name: "the meter", Now: time.Now, Dial: TCP(address)})
	defer r2.Close()
	conn := accept()
	until(t, r2, "is open, but nothing comes")
	write(t, conn, []byte{0xdb, 8, 'S', 'A', 'G', 0xff})
	until(t, r2, "6 bytes came; if that never becomes a telegram, the speed or the parity is wrong, or it is encrypted")
}

func until(t *testing.T, r *Reader, want string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(r.State(), want) }, r.State)
}

func eventually(t *testing.T, holds func() bool, state func() string) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(state())
		}
	}
}

// TestSerial: a meter at the other end of a line, pulled out and put in again under the same name.
func TestSerial(t *testing.T) {
	meter, ours, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = meter.Close(), ours.Close() }()
	r := Open(Config{Name: ours.Name(), Now: time.Now, Dial: Serial(serial.Settings{Device: ours.Name(), Baud: 9600, DataBits: 7, Parity: serial.Even})})
	defer r.Close()
	until(t, r, "is open, but nothing comes")
	write(t, meter, append([]byte("half a telegram(1)\r\n!\r\n"), good...))
	if m := next(t, r); m.Err != nil || !bytes.Equal(m.Raw, good) {
		t.Errorf("got %q, %v", m.Raw, m.Err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	gone := Open(Config{Name: "gone", Now: time.Now, Dial: Serial(serial.Settings{Device: "/dev/there-is-no-such-line"})})
	defer gone.Close()
	until(t, gone, "is the adapter plugged in?")
}
