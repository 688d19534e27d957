package meter_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	goburrow "github.com/goburrow/modbus"
	"golang.org/x/sys/unix"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/serial"
)

// What BenchmarkPoll polls, and how: as an agent does whose intervals have 15 minutes.
const (
	benchUnits   = 64  // on one serial line
	benchDevices = 200 // over TCP
	benchBaud    = 19200
	benchThinks  = 5 * time.Millisecond // a unit, before it answers
	benchPeriod  = 10 * time.Second
	benchWindow  = 35 * time.Second // three polls of each and more
	benchVector  = "a home that exports 1831.5 W"
	benchWh      = 12302420
)

// serveVariable makes TestPolledDevices the devices of BenchmarkPoll.
const serveVariable = "COMMONWATT_TEST_SERVE_POLLED"

// TestPolledDevices is a process of its own for the devices, so that what the polling costs can be told from what they
// cost. Otherwise it only looks at what they would answer.
func TestPolledDevices(t *testing.T) {
	d, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		t.Fatal(err)
	}
	answers := registersOf(t, d)
	if os.Getenv(serveVariable) == "" {
		if body := answers([]byte{4, 0, 0x34, 0, 24}); len(body) != 2+48 {
			t.Errorf("got % x", body)
		}
		if body := answers([]byte{4, 0, 0, 0, 1}); len(body) != 2 || body[0] != 0x84 {
			t.Errorf("got % x, expected an exception", body)
		}
		return
	}
	devices, port, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	go serveUnits(devices, answers)
	fmt.Println("serving", port.Name())
	for range benchDevices {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go serveDevice(l, answers)
		fmt.Println("serving", l.Addr())
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark is over
	os.Exit(0)
}

// registersOf answers requests to read, from function to count, with a vector of a definition.
func registersOf(tb testing.TB, d meter.Definition) func(pdu []byte) []byte {
	held := map[uint8]map[uint16]uint16{3: {}, 4: {}}
	for _, v := range d.Tests {
		if v.Name != benchVector {
			continue
		}
		for _, r := range v.Registers {
			for i, w := range strings.Fields(r.Words) {
				n, err := strconv.ParseUint(w, 16, 16)
				if err != nil {
					tb.Fatal(err)
				}
				held[r.Function][r.Address+uint16(i)] = uint16(n)
			}
		}
	}
	return func(pdu []byte) []byte {
		address, count := binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])
		body := []byte{pdu[0], byte(2 * count)}
		for i := range count {
			w, ok := held[pdu[0]][address+i]
			if !ok {
				return []byte{pdu[0] | 0x80, 2}
			}
			body = binary.BigEndian.AppendUint16(body, w)
		}
		return body
	}
}

// serveUnits is every unit of a serial line, at the pace of its speed.
func serveUnits(line io.ReadWriter, answers func([]byte) []byte) {
	pace := serial.Settings{Baud: benchBaud}
	timer := time.NewTimer(0)
	<-timer.C
	for {
		var in [8]byte
		if _, err := io.ReadFull(line, in[:]); err != nil {
			return
		}
		body := answers(in[1:6])
		h := goburrow.NewRTUClientHandler("")
		h.SlaveId = in[0]
		out, err := h.Encode(&goburrow.ProtocolDataUnit{FunctionCode: body[0], Data: body[1:]})
		if err != nil {
			return
		}
		timer.Reset(pace.Time(len(in)+len(out)) + benchThinks)
		<-timer.C
		if _, err := line.Write(out); err != nil {
			return
		}
	}
}

// serveDevice is a device of one connection after the other.
func serveDevice(l net.Listener, answers func([]byte) []byte) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		for {
			var in [12]byte
			if _, err := io.ReadFull(conn, in[:]); err != nil {
				break
			}
			body := answers(in[7:])
			out := append(in[:4:4], 0, byte(1+len(body)), in[6])
			if _, err := conn.Write(append(out, body...)); err != nil {
				break
			}
		}
		_ = conn.Close()
	}
}

// polledDevices starts the devices and returns where they are, the serial line first.
func polledDevices(b *testing.B) []string {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), self, "-test.run=^TestPolledDevices$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), serveVariable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	var at []string
	lines := bufio.NewScanner(stdout)
	for len(at) < 1+benchDevices && lines.Scan() {
		if where, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			at = append(at, where)
		}
	}
	if len(at) < 1+benchDevices {
		b.Fatalf("got %d devices", len(at))
	}
	return at
}

// lateness is by how much polls ended after they were due.
type lateness struct {
	mu           sync.Mutex
	polls        int
	first, later time.Duration // the worst
	failed       error
}

func (l *lateness) add(first bool, late time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.polls++
	if err != nil && l.failed == nil {
		l.failed = err
	}
	if first {
		l.first = max(l.first, late)
	} else {
		l.later = max(l.later, late)
	}
}

// poll reads a source as the agent does, until the context ends.
func (l *lateness) poll(ctx context.Context, source meter.Source) {
	due := time.Now()
	for first := true; ; first = false {
		sample, err := source.Read(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && (sample.ImportWh == nil || *sample.ImportWh != benchWh) {
			err = fmt.Errorf("got %+v, expected %d Wh", sample, benchWh)
		}
		l.add(first, time.Since(due), err)
		wait := meter.Wait(benchPeriod)
		due = time.Now().Add(wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// BenchmarkPoll polls 64 units on one serial line and 200 devices over TCP, all due at once at first, and says what that
// costs (cpu-%: of one core) and how late a poll was at worst: the first ones, which also open lines and ask who is there,
// and the later ones.
func BenchmarkPoll(b *testing.B) {
	at := polledDevices(b)
	for b.Loop() {
		pool := modbus.NewPool(modbus.Options{})
		var sources []meter.Source
		open := func(address string, unit uint8) {
			s, err := meter.Open(b.Context(), meter.Config{Definition: "eastron-sdm630", Address: address, Unit: unit, Pool: pool})
			if err != nil {
				b.Fatal(err)
			}
			sources = append(sources, s)
		}
		for unit := range uint8(benchUnits) {
			open(fmt.Sprintf("rtu://%s?baud=%d", at[0], benchBaud), unit+1)
		}
		for _, host := range at[1:] {
			open("tcp://"+host, 1)
		}
		var l lateness
		before := cpuTime(b)
		ctx, cancel := context.WithCancel(b.Context())
		time.AfterFunc(benchWindow, cancel) // with a deadline, polls that cannot end in time would fail
		var all sync.WaitGroup
		for _, s := range sources {
			all.Go(func() { l.poll(ctx, s) })
		}
		all.Wait()
		used := cpuTime(b) - before
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		for _, s := range sources {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		}
		if l.failed != nil {
			b.Fatal(l.failed)
		}
		report(b, &l, used, m.HeapInuse+m.StackInuse)
	}
}

func report(b *testing.B, l *lateness, used time.Duration, memory uint64) {
	b.Helper()
	b.ReportMetric(float64(l.polls)/benchWindow.Seconds(), "polls/s")
	b.ReportMetric(100*used.Seconds()/benchWindow.Seconds(), "cpu-%")
	b.ReportMetric(float64(memory)/1e6, "memory-MB")
	b.ReportMetric(float64(l.first.Milliseconds()), "worst-first-ms")
	b.ReportMetric(float64(l.later.Milliseconds()), "worst-later-ms")
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
