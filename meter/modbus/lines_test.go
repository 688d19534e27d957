package modbus_test

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/serial"
)

// checksum of an RTU frame, bit by bit.
func checksum(frame []byte) uint16 {
	crc := uint16(0xffff)
	for _, b := range frame {
		crc ^= uint16(b)
		for range 8 {
			odd := crc&1 != 0
			crc >>= 1
			if odd {
				crc ^= 0xa001
			}
		}
	}
	return crc
}

// rtuFrame is a frame with the given body after the unit.
func rtuFrame(unit uint8, body ...byte) []byte {
	f := append([]byte{unit}, body...)
	return binary.LittleEndian.AppendUint16(f, checksum(f))
}

// rtuAnswer is the proper answer to a request.
func rtuAnswer(r request) []byte {
	if r.function == 6 || r.function == 16 {
		return rtuFrame(r.unit, confirmed(r)...)
	}
	return rtuFrame(r.unit, registers(r, r.count)...)
}

// readRTU reads one request off a line and also returns its bytes.
func readRTU(line io.Reader) (request, []byte, error) {
	b := make([]byte, 8, 300)
	if _, err := io.ReadFull(line, b); err != nil {
		return request{}, nil, err
	}
	be := binary.BigEndian
	r := request{unit: b[0], function: b[1], address: be.Uint16(b[2:]), count: be.Uint16(b[4:])}
	if r.function == 16 {
		b = b[:9+int(b[6])]
		if _, err := io.ReadFull(line, b[8:]); err != nil {
			return request{}, nil, err
		}
		r.words = b[7 : len(b)-2]
	}
	if len(b) > 2 && binary.LittleEndian.Uint16(b[len(b)-2:]) != checksum(b[:len(b)-2]) {
		return request{}, nil, io.ErrUnexpectedEOF
	}
	return r, b, nil
}

// honestRTU answers properly until the line ends.
func honestRTU(line io.ReadWriter, _ int) {
	for {
		r, _, err := readRTU(line)
		if err != nil {
			return
		}
		if _, err := line.Write(rtuAnswer(r)); err != nil {
			return
		}
	}
}

// adapter is a pseudo-terminal in the place of a serial adapter with devices on it.
type adapter struct {
	t      *testing.T
	device string // what the bus opens
	mu     sync.Mutex
	ends   []*os.File
	done   sync.WaitGroup
}

// newAdapter plugs in an adapter. serve is its devices; n counts how often it was plugged in, from 0.
func newAdapter(t *testing.T, serve func(line io.ReadWriter, n int)) *adapter {
	t.Helper()
	a := &adapter{t: t, device: t.TempDir() + "/ttyUSB0"}
	a.plug(serve, 0)
	t.Cleanup(a.unplug)
	return a
}

func (a *adapter) plug(serve func(line io.ReadWriter, n int), n int) {
	a.t.Helper()
	devices, port, err := pty.Open()
	if err != nil {
		a.t.Fatal(err)
	}
	devices = interruptible(a.t, devices)
	if err := os.Symlink(port.Name(), a.device); err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	a.ends = []*os.File{devices, port} // ours of port, so that the line stays while the bus has it closed
	a.mu.Unlock()
	a.done.Go(func() { serve(devices, n) })
}

// interruptible makes a file of which Close ends a read.
func interruptible(t *testing.T, f *os.File) *os.File {
	t.Helper()
	fd, err := unix.Dup(int(f.Fd()))
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	name := f.Name()
	_ = f.Close()
	return os.NewFile(uintptr(fd), name)
}

// unplug takes the adapter away: the port hangs up, and its device is gone.
func (a *adapter) unplug() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.ends {
		_ = f.Close()
	}
	a.ends = nil
	_ = os.Remove(a.device)
	a.done.Wait() // the port hangs up when the last read of it is over
}

func (a *adapter) line() modbus.Line {
	return modbus.RTU(serial.Settings{Device: a.device, Baud: 115200})
}

// onRTU runs a test on each kind of line that has no transaction ids: a serial port, and a socket to a serial server.
func onRTU(t *testing.T, serve func(line io.ReadWriter, n int), test func(t *testing.T, l modbus.Line)) {
	t.Run("rtu", func(t *testing.T) {
		t.Parallel()
		test(t, newAdapter(t, serve).line())
	})
	t.Run("rtu+tcp", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, func(conn net.Conn, n int) { serve(conn, n) })
		test(t, modbus.RTUOverTCP(s.address()))
	})
}
