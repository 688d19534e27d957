package meter_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// replay is a test vector of a definition as a unit of a server.
type replay struct {
	definition string
	unit       uint8
	vector     def.Vector
}

// maxReplays is the highest unit: a server has one for each vector.
const maxReplays = 247

// replays are the register vectors of all built-in definitions, as many as fit one server each.
func replays(t *testing.T) (servers [][]replay) {
	t.Helper()
	all, err := meter.Definitions("")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		for _, v := range d.Tests {
			if d.Protocol != def.ProtocolModbus && d.Protocol != def.ProtocolSunSpec {
				continue
			}
			if last := len(servers) - 1; last < 0 || len(servers[last]) == maxReplays {
				servers = append(servers, nil)
			}
			last := len(servers) - 1
			servers[last] = append(servers[last], replay{d.ID, uint8(len(servers[last]) + 1), v})
		}
	}
	return servers
}

func lines(server []replay) string {
	var b strings.Builder
	for _, r := range server {
		b.WriteString(registerLines(int(r.unit), r.vector))
	}
	return b.String()
}

// readReplays reads each vector from its unit, all over one line, and compares with what the vector expects.
func readReplays(t *testing.T, server []replay, address string) {
	t.Helper()
	// The machine may be busy. Nobody has asked on these lines before, so no late reply is to be waited for.
	pool := modbus.NewPool(modbus.Options{Timeout: 30 * time.Second, Slowest: 100 * time.Millisecond})
	var open []meter.Source
	defer func() {
		for _, s := range open {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	for _, r := range server {
		source, err := meter.Open(t.Context(), meter.Config{
			Definition: r.definition, Address: address, Unit: r.unit, Pool: pool, Now: func() time.Time { return noon },
		})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, source) // stays open, so that all share the connection
		s, err := source.Read(t.Context())
		if problem := mismatch(s, err, r.vector.Expect); problem != nil {
			t.Errorf("%s %q over %s: %v", r.definition, r.vector.Name, address, problem)
		}
	}
}

// mismatch is written anew for this test, so that it does not share a mistake with the check of definitions.
func mismatch(s meter.Sample, err error, want def.Expectation) error {
	switch {
	case want.Error != "" && err == nil:
		return fmt.Errorf("got %v, expected the error %q", s.Quality, want.Error)
	case want.Error != "" && !strings.Contains(err.Error(), want.Error):
		return fmt.Errorf("got %w, expected the error %q", err, want.Error)
	case want.Error != "":
		return nil
	case err != nil:
		return err
	}
	text := func(known bool, value any) string {
		if !known {
			return "unknown"
		}
		return fmt.Sprint(value)
	}
	number := func(n *uint64) string {
		if n == nil {
			return text(false, 0)
		}
		return text(true, *n)
	}
	watts := func(n *int64) string {
		if n == nil {
			return text(false, 0)
		}
		return text(true, *n)
	}
	got := fmt.Sprint(number(s.ImportWh), " ", number(s.ExportWh), " ", watts(s.PowerW), " ", s.Quality, " ", s.Identity)
	expected := fmt.Sprint(number(want.ImportWh), " ", number(want.ExportWh), " ", watts(want.PowerW), " ", want.Quality, " ", want.Identity)
	if got != expected {
		return fmt.Errorf("got %s, expected %s", got, expected)
	}
	return nil
}

// TestReplayLibmodbus reads all register vectors from libmodbus over TCP.
func TestReplayLibmodbus(t *testing.T) {
	t.Parallel()
	program := libmodbusProgram(t)
	for _, server := range replays(t) {
		readReplays(t, server, "tcp://"+registerServer(t, program, lines(server)))
	}
}

// TestReplayPymodbus reads all register vectors from pymodbus, over TCP, over a serial line, and over TCP with the frames
// of a serial line, as serial servers send them.
func TestReplayPymodbus(t *testing.T) {
	t.Parallel()
	python := "/usr/bin/python3" // the system's: it has Debian's packages
	run(t, need(t, python, "python3"), "-c", "import pymodbus, serial, serial_asyncio")
	for _, server := range replays(t) {
		theirs, ours := serialCable(t)
		tcp, framed, _ := strings.Cut(registerServer(t, python, lines(server), "testdata/pymodbus_server.py", theirs), " ")
		for _, address := range []string{"tcp://" + tcp, "rtu+tcp://127.0.0.1:" + framed, "rtu://" + ours + "?baud=115200"} {
			t.Run(address[:strings.Index(address, ":")], func(t *testing.T) {
				t.Parallel()
				readReplays(t, server, address)
			})
		}
	}
}

// serialCable connects two serial ports and returns their names. Both stay until the end of the test.
func serialCable(t *testing.T) (string, string) {
	t.Helper()
	var ends, ports [2]*os.File
	for i := range ends {
		end, port, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		ends[i], ports[i] = end, port // the port is held open too, so that the line does not hang up
	}
	var wires sync.WaitGroup
	for i := range ends {
		wires.Go(func() {
			_, err := io.Copy(ends[i], ends[1-i])
			// At the end of the test both sides are closed, and whichever is first the other one hears of.
			if err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.EIO) {
				t.Errorf("serial cable: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		for i := range ends {
			_ = ends[i].Close()
			_ = ports[i].Close()
		}
		wires.Wait()
	})
	return ports[0].Name(), ports[1].Name()
}
