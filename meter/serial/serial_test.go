package serial_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/creack/pty"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/commonwatt/commonwatt/meter/serial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is a pseudo-terminal: what the meter side holds, and the path of ours. Our side is open, so that the line is
// there while nobody else has it.
func line(t *testing.T) (meter *os.File, ours *os.File) {
	t.Helper()
	meter, ours, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = meter.Close(), ours.Close() })
	return meter, ours
}

// TestRaw: every byte value goes through unchanged in both directions.
func TestRaw(t *testing.T) {
	meter, ours := line(t)
	p, err := serial.Open(serial.Settings{Device: ours.Name(), Baud: 115200, Parity: serial.Even, StopBits: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, way := range []struct {
		from, to interface {
			Read([]byte) (int, error)
			Write([]byte) (int, error)
		}
	}{{meter, p}, {p, meter}} {
		if _, err := way.from.Write(all); err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(all); {
			var in [256]byte
			n, err := way.to.Read(in[:])
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range in[:n] {
				if b != all[i] {
					t.Fatalf("byte %d: got %d", i, b)
				}
				i++
			}
		}
	}
}

// TestInterrupted: a read ends with its deadline, and with Close.
func TestInterrupted(t *testing.T) {
	_, ours := line(t)
	p, err := serial.Open(serial.Settings{Device: ours.Name()})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if _, err := p.Read(one[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, expected %v", err, os.ErrDeadlineExceeded)
	}
	if err := p.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		_, err := p.Read(one[:])
		failed <- err
	}()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("got %v, expected %v", err, fs.ErrClosed)
	}
}

// TestOneOwner: a port has one owner, whether the other one asks for a lock or for the exclusive mode; and it is free
// again afterwards.
func TestOneOwner(t *testing.T) {
	_, ours := line(t)
	s := serial.Settings{Device: ours.Name()}
	for range 2 {
		p, err := serial.Open(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := serial.Open(s); !errors.Is(err, serial.ErrInUse) {
			t.Errorf("second owner: got %v, expected %v", err, serial.ErrInUse)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := unix.IoctlSetInt(int(ours.Fd()), unix.TIOCEXCL, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := serial.Open(s); !errors.Is(err, serial.ErrInUse) {
		t.Errorf("exclusive mode of another program: got %v, expected %v", err, serial.ErrInUse)
	}
}

// TestRefused: each reason for which a port cannot be had is one error.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		s    serial.Settings
		want error
	}{
		{serial.Settings{}, serial.ErrSettings},
		{serial.Settings{Device: filepath.Join(dir, "ttyUSB0")}, serial.ErrAbsent},
		{serial.Settings{Device: file}, serial.ErrSettings},
		{serial.Settings{Device: dir}, serial.ErrSettings},
		{serial.Settings{Device: file, Baud: 9601}, serial.ErrSettings},
		{serial.Settings{Device: file, DataBits: 9}, serial.ErrSettings},
		{serial.Settings{Device: file, Parity: 'M'}, serial.ErrSettings},
		{serial.Settings{Device: file, StopBits: 3}, serial.ErrSettings},
	} {
		if _, err := serial.Open(c.s); !errors.Is(err, c.want) {
			t.Errorf("%+v: got %v, expected %v", c.s, err, c.want)
		}
	}
}

// TestPermission: a port of somebody else's is refused with a hint. The thread that asks gives up being root for it, and
// ends with its goroutine.
func TestPermission(t *testing.T) {
	const nobody = 65534
	_, ours := line(t)
	if err := os.Chmod(ours.Name(), 0); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setfsuid(nobody)
		if err == nil || os.Geteuid() != 0 {
			_, err = serial.Open(serial.Settings{Device: ours.Name()})
		}
		failed <- err
	}()
	if err := <-failed; !errors.Is(err, serial.ErrPermission) {
		t.Errorf("got %v, expected %v", err, serial.ErrPermission)
	}
}

func TestTime(t *testing.T) {
	for _, c := range []struct {
		s    serial.Settings
		want time.Duration
	}{
		{serial.Settings{}, 10 * time.Second / 96},
		{serial.Settings{Baud: 1200, Parity: serial.Even}, 11 * time.Second / 12},
		{serial.Settings{Baud: 115200, DataBits: 7, Parity: serial.Even, StopBits: 2}, 11 * time.Second / 1152},
	} {
		if got := c.s.Time(100); got != c.want {
			t.Errorf("%v: got %v, expected %v", c.s, got, c.want)
		}
	}
}
