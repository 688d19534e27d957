package modbus_test

import (
	"errors"
	"net"
	"testing"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

// TestWriteOn: what is meant for the device behind one connection is never sent over the next.
func TestWriteOn(t *testing.T) {
	writes := make(chan uint16, 10)
	first := make(chan net.Conn, 1)
	s := newServer(t, func(conn net.Conn, n int) {
		if n == 0 {
			first <- conn
		}
		for {
			r, err := readRequest(conn)
			if err != nil {
				return
			}
			if r.function == 3 {
				_, _ = conn.Write(frame(r.id, r.unit, 3, 2, 0, byte(n)))
				continue
			}
			writes <- r.address
			_, _ = conn.Write(frame(r.id, r.unit, confirmed(r)...))
		}
	})
	bus := modbus.NewBus(modbus.TCP(s.address()), quick())
	defer bus.Close()
	read := func() uint64 {
		t.Helper()
		_, generation, err := bus.Read(t.Context(), 1, 3, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		return generation
	}
	old := read()
	if err := bus.WriteOn(t.Context(), old, 1, 7, []uint16{1}); err != nil {
		t.Fatal(err)
	}
	_ = (<-first).Close()
	for range 2 { // the first finds the line closed, the second finds another one open
		if err := bus.WriteOn(t.Context(), old, 1, 8, []uint16{1}); !errors.Is(err, modbus.ErrReopened) {
			t.Fatalf("got %v, expected %v", err, modbus.ErrReopened)
		}
	}
	if now := read(); now == old {
		t.Fatalf("got generation %d again", now)
	} else if err := bus.WriteOn(t.Context(), now, 1, 9, []uint16{1}); err != nil {
		t.Fatal(err)
	}
	if a, b := <-writes, <-writes; a != 7 || b != 9 || len(writes) != 0 {
		t.Fatalf("got writes at %d and %d, and %d more, expected 7 and 9", a, b, len(writes))
	}
}
