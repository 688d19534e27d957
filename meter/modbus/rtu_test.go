package modbus_test

import (
	"errors"
	"io"
	"testing"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

func TestHonestRTU(t *testing.T) {
	onRTU(t, honestRTU, func(t *testing.T, l modbus.Line) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		for i := range uint16(20) {
			got, generation, err := bus.Read(t.Context(), 7, modbus.ReadHolding, i, 1+i)
			if err != nil || generation != 1 {
				t.Fatalf("got generation %d, %v", generation, err)
			}
			for j, w := range got {
				if w != held(7, i+uint16(j)) {
					t.Fatalf("register %d: got %d", i+uint16(j), w)
				}
			}
			if err := bus.Write(t.Context(), 7, i, make([]uint16, 1+i)); err != nil {
				t.Fatal(err)
			}
			if err := bus.WriteSingle(t.Context(), 7, i, 0xffff); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := bus.Read(t.Context(), 0, modbus.ReadHolding, 0, 1); !errors.Is(err, modbus.ErrRequest) {
			t.Errorf("unit 0: got %v, expected %v", err, modbus.ErrRequest)
		}
	})
}

// TestEcho: an adapter that lets us hear ourselves is found out, and an echo never passes for a reply.
func TestEcho(t *testing.T) {
	echoing := func(answers bool) func(io.ReadWriter, int) {
		return func(line io.ReadWriter, _ int) {
			for {
				r, raw, err := readRTU(line)
				if err != nil {
					return
				}
				if answers {
					raw = append(raw, rtuAnswer(r)...)
				}
				if _, err := line.Write(raw); err != nil {
					return
				}
			}
		}
	}
	onRTU(t, echoing(true), func(t *testing.T, l modbus.Line) {
		bus := modbus.NewBus(l, quick())
		defer bus.Close()
		if err := bus.WriteSingle(t.Context(), 7, 3, 4); err != nil {
			t.Fatal(err)
		}
		if err := bus.Write(t.Context(), 7, 3, []uint16{4, 5}); err != nil {
			t.Fatal(err)
		}
		for i := range uint16(20) {
			if got, _, err := bus.Read(t.Context(), 7, modbus.ReadHolding, 0x200, 1+i); err != nil || got[i] != held(7, 0x200+i) {
				t.Fatalf("got %v, %v", got, err)
			}
		}
	})
	onRTU(t, echoing(false), func(t *testing.T, l modbus.Line) {
		for _, ask := range []func(bus *modbus.Bus) error{
			func(bus *modbus.Bus) error { return bus.WriteSingle(t.Context(), 7, 3, 4) },
			func(bus *modbus.Bus) error { return bus.Write(t.Context(), 7, 3, []uint16{4}) },
			func(bus *modbus.Bus) error {
				_, _, err := bus.Read(t.Context(), 7, modbus.ReadHolding, 0x200, 1)
				return err
			},
		} {
			o := slow()
			o.Slowest = 1
			bus := modbus.NewBus(l, o)
			if err := ask(bus); err == nil {
				t.Error("an echo passed for a reply")
			}
			bus.Close()
		}
	})
}
