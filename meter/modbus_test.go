package meter_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// fakeMeter is an SDM630 on loopback whose values a test sets. It may close after each answer, as some gateways do.
type fakeMeter struct {
	listener net.Listener
	done     sync.WaitGroup

	mu         sync.Mutex
	conns      map[net.Conn]bool
	serial     uint32
	kWh        [2]float32 // import, export
	watts      float32
	closesEach bool
	refuses    bool              // answers each request with "illegal data address"
	chain      map[uint16]uint16 // registers of a SunSpec device, instead of all these
	next       map[uint16]uint16 // those of the one that takes over with the next connection
	swapSerial uint32            // the serial number of the meter that takes over with the next connection, if not 0
}

func newFakeMeter(t *testing.T) *fakeMeter {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeMeter{listener: listener, conns: map[net.Conn]bool{}, serial: 20000001, kWh: [2]float32{100, 50}, watts: 230}
	m.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns[conn] = true
			if m.next != nil {
				m.chain, m.next = m.next, nil
			}
			if m.swapSerial != 0 {
				m.serial, m.swapSerial = m.swapSerial, 0
			}
			m.mu.Unlock()
			m.done.Go(func() { m.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		m.hangUp()
		m.done.Wait()
	})
	return m
}

func (m *fakeMeter) hangUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		_ = c.Close()
	}
}

func (m *fakeMeter) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var q [12]byte
		if _, err := io.ReadFull(conn, q[:]); err != nil {
			return
		}
		be := binary.BigEndian
		address, count := be.Uint16(q[8:]), be.Uint16(q[10:])
		m.mu.Lock()
		words := map[uint16]uint16{0xfc00: uint16(m.serial >> 16), 0xfc01: uint16(m.serial)}
		for i, v := range map[uint16]float32{0x34: m.watts, 0x48: m.kWh[0], 0x4a: m.kWh[1]} {
			bits := math.Float32bits(v)
			words[i], words[i+1] = uint16(bits>>16), uint16(bits)
		}
		if m.chain != nil {
			words = m.chain
		}
		body := []byte{q[7], byte(2 * count)}
		for i := range count {
			body = be.AppendUint16(body, words[address+i])
		}
		if m.refuses {
			body = []byte{q[7] | 0x80, 2}
		}
		closes := m.closesEach
		m.mu.Unlock()
		reply := be.AppendUint16(append([]byte{}, q[:4]...), uint16(len(body)+1))
		if _, err := conn.Write(append(append(reply, q[6]), body...)); err != nil || closes {
			return
		}
	}
}

func openFake(t *testing.T, m *fakeMeter) meter.Source {
	t.Helper()
	return openFakeBy(t, m, "eastron-sdm630")
}

func openFakeBy(t *testing.T, m *fakeMeter, definition string) meter.Source {
	t.Helper()
	pool := modbus.NewPool(modbus.Options{Timeout: 2 * time.Second, DialEvery: time.Nanosecond, BackoffStep: time.Nanosecond, BackoffMax: time.Nanosecond})
	source, err := meter.Open(t.Context(), meter.Config{
		Definition: definition, Address: "tcp://" + m.listener.Addr().String(), Pool: pool, Now: func() time.Time { return noon },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source
}

// readSoon reads until a line that was cut is noticed and replaced: the first attempt may still find the old one.
func readSoon(t *testing.T, source meter.Source) meter.Sample {
	t.Helper()
	var err error
	for range 20 {
		var s meter.Sample
		if s, err = source.Read(t.Context()); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return meter.Sample{}
}

// TestSwappedMeter: another meter that answers at the same place after a reconnect is noticed in the first sample that
// could be its own, and nothing is booked across the change.
func TestSwappedMeter(t *testing.T) {
	m := newFakeMeter(t)
	source := openFake(t, m)
	tracker, err := meter.NewTracker(69000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	if d := tracker.Offer(readSoon(t, source)); d.Verdict != meter.Accepted {
		t.Fatalf("first meter: %v, %s", d.Verdict, d.Reason)
	}
	m.hangUp()
	if s := readSoon(t, source); s.Quality != meter.Good || s.Identity.Serial != "20000001" {
		t.Errorf("the same meter after a reconnect: got %s", sampleText(t, s))
	}
	m.mu.Lock()
	m.swapSerial, m.kWh = 20000002, [2]float32{100.001, 50.001}
	m.mu.Unlock()
	m.hangUp()
	s := readSoon(t, source)
	if s.Identity.Serial != "20000002" {
		t.Fatalf("swapped meter: got %s", sampleText(t, s))
	}
	if d := tracker.Offer(s); d.Verdict != meter.Replaced || d.Sample.Quality&meter.IdentityChanged == 0 {
		t.Errorf("swapped meter: got %v of quality %v", d.Verdict, d.Sample.Quality)
	}
}

// TestClosesAfterEachAnswer: a device that cannot keep a connection is read all the same.
func TestClosesAfterEachAnswer(t *testing.T) {
	m := newFakeMeter(t)
	m.closesEach = true
	source := openFake(t, m)
	for range 3 {
		if s := readSoon(t, source); s.Quality != meter.Good || *s.ImportWh != 100000 || *s.ExportWh != 50000 || *s.PowerW != 230 || !s.At.Equal(noon) {
			t.Errorf("got %s", sampleText(t, s))
		}
	}
}

// TestNotANumber: a meter that answers NaN gives a sample without the number, and no reading.
func TestNotANumber(t *testing.T) {
	m := newFakeMeter(t)
	m.kWh[0] = float32(math.NaN())
	s := readSoon(t, openFake(t, m))
	if s.ImportWh != nil || s.Quality != meter.DeviceError {
		t.Errorf("got %s", sampleText(t, s))
	}
	tracker, err := meter.NewTracker(69000, meter.TrackerState{})
	if err != nil {
		t.Fatal(err)
	}
	if d := tracker.Offer(s); d.Verdict != meter.Refused {
		t.Errorf("got %v", d.Verdict)
	}
}

// TestNobodyThere: a meter that is not there is an error that says where was asked.
func TestNobodyThere(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	source, err := meter.Open(t.Context(), meter.Config{Definition: "sunspec-meter", Address: "tcp://" + address, Unit: 3, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if _, err := source.Read(t.Context()); err == nil || !strings.Contains(err.Error(), address+" unit 3") {
		t.Errorf("got %v", err)
	}
	if _, err := source.Read(t.Context()); !errors.Is(err, modbus.ErrBackoff) {
		t.Errorf("at once again: got %v, expected %v", err, modbus.ErrBackoff)
	}
}
