package household

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"testing"
)

// device630 is an Eastron SDM630 of one's own on Modbus TCP, with several units.
type device630 struct {
	listener net.Listener
	done     sync.WaitGroup

	mu     sync.Mutex
	units  map[uint8]*unit630
	broken bool // it hangs up on everybody
	conns  map[net.Conn]bool
}

// unit630 is what a unit counts: exact to the Wh below 8388 kWh.
type unit630 struct {
	imported, exported uint32 // Wh
	power              float32
}

func newDevice630(t testing.TB) *device630 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &device630{listener: l, units: map[uint8]*unit630{}, conns: map[net.Conn]bool{}}
	d.done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			d.conns[conn] = true
			d.mu.Unlock()
			d.done.Go(func() { d.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		d.hangUp()
		d.done.Wait()
	})
	return d
}

func (d *device630) address() string { return "tcp://" + d.listener.Addr().String() }

func (d *device630) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.conns {
		_ = c.Close()
	}
}

// set changes what the device says; all of it at one moment.
func (d *device630) set(f func(units map[uint8]*unit630)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.units)
}

func (d *device630) breaks(b bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = b
}

func (d *device630) serve(conn net.Conn) {
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.conns, conn)
		_ = conn.Close()
	}()
	for {
		request := make([]byte, 12)
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		reply, err := d.answer(request)
		if err != nil {
			return
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

func (d *device630) answer(request []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken {
		return nil, errors.New("broken")
	}
	unit, function := request[6], request[7]
	at, count := binary.BigEndian.Uint16(request[8:]), binary.BigEndian.Uint16(request[10:])
	u := d.units[unit]
	body := []byte{unit, function | 0x80, 2} // illegal address
	registers := map[uint16]uint32{}
	if u != nil && function == 4 {
		registers[0x34] = math.Float32bits(u.power)
		registers[0x48] = math.Float32bits(float32(u.imported) / 1000)
		registers[0x4A] = math.Float32bits(float32(u.exported) / 1000)
	}
	if u != nil && function == 3 && at == 0xFC00 {
		registers[0xFC00] = 20_000_000 + uint32(unit)
	}
	if len(registers) > 0 {
		body = []byte{unit, function, byte(2 * count)}
		for r := at; r < at+count; r += 2 {
			body = binary.BigEndian.AppendUint32(body, registers[r])
		}
	}
	reply := append([]byte(nil), request[:4]...)
	reply = binary.BigEndian.AppendUint16(reply, uint16(len(body)))
	return append(reply, body...), nil
}
