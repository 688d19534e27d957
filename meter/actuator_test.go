package meter_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// fakeBattery is a device with the registers of a definition's first control vector, on loopback. A timer of its own ends
// what was written, by a clock that the test moves.
type fakeBattery struct {
	listener net.Listener
	done     sync.WaitGroup

	mu      sync.Mutex
	now     time.Time
	words   map[uint16]uint16
	own     map[uint16]uint16 // what the registers go back to
	timer   uint16            // register of the revert timer; 0: none
	begins  uint16            // writing this register begins it anew
	ends    time.Time
	conns   map[net.Conn]bool
	writes  []uint16 // addresses
	refuse  int      // so many writes are refused as busy
	deaf    int      // so many writes are confirmed and not done
	swallow int      // so many writes are done and never answered
	swap    uint16   // with the next connection another device answers: its serial's register
}

func newFakeBattery(t *testing.T, d meter.Definition) *fakeBattery {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBattery{listener: listener, conns: map[net.Conn]bool{}, words: map[uint16]uint16{}, now: time.Date(2026, 6, 21, 12, 0, 0, 0, time.UTC)}
	for _, r := range d.Control.Tests[0].Registers {
		for i, text := range strings.Fields(r.Words) {
			var w uint16
			if _, err := fmt.Sscanf(text, "%x", &w); err != nil {
				t.Fatal(err)
			}
			b.words[r.Address+uint16(i)] = w
		}
	}
	b.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.conns[conn] = true
			if b.swap != 0 {
				b.words[b.swap]++
				b.swap = 0
			}
			b.mu.Unlock()
			b.done.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		b.hangUp()
		b.done.Wait()
	})
	return b
}

func (b *fakeBattery) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		_ = c.Close()
	}
}

func (b *fakeBattery) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var head [8]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		body := make([]byte, int(binary.BigEndian.Uint16(head[4:]))-2)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		reply := b.answer(head[7], body)
		if reply == nil {
			continue
		}
		frame := append(slices.Clone(head[:4]), 0, byte(len(reply)+1), head[6])
		if _, err := conn.Write(append(frame, reply...)); err != nil {
			return
		}
	}
}

func (b *fakeBattery) answer(function uint8, body []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.revert()
	be := binary.BigEndian
	address, count := be.Uint16(body), be.Uint16(body[2:])
	if function == 3 {
		reply := []byte{3, byte(2 * count)}
		for i := range count {
			w, ok := b.words[address+i]
			if !ok {
				return []byte{0x83, 2}
			}
			reply = be.AppendUint16(reply, w)
		}
		return reply
	}
	b.writes = append(b.writes, address)
	if b.refuse > 0 {
		b.refuse--
		return []byte{function | 0x80, 6}
	}
	if b.deaf > 0 {
		b.deaf--
		return append([]byte{function}, body[:4]...)
	}
	for i := range count {
		b.words[address+i] = be.Uint16(body[5+2*i:])
		if b.begins == address+i {
			b.ends = b.now.Add(time.Duration(b.words[b.timer]) * time.Second)
		}
	}
	if b.swallow > 0 {
		b.swallow--
		return nil
	}
	return append([]byte{function}, body[:4]...)
}

// revert ends what was written when the timer has run out. The caller holds mu.
func (b *fakeBattery) revert() {
	if !b.ends.IsZero() && !b.now.Before(b.ends) {
		maps.Copy(b.words, b.own)
		b.ends = time.Time{}
	}
}

func (b *fakeBattery) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *fakeBattery) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *fakeBattery) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// taken are the writes since it was last asked.
func (b *fakeBattery) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.writes)
	b.writes = nil
	return n
}

// At which addresses the vector of sunspec-battery has model 124.
const model124 = 40000 + 2 + 68 + 52 + 90

func newLed(t *testing.T) (*fakeBattery, *meter.Actuator) {
	t.Helper()
	d, err := meter.FindDefinition("", "sunspec-battery")
	if err != nil {
		t.Fatal(err)
	}
	b := newFakeBattery(t, d)
	b.timer, b.begins = model124+15, model124+5
	b.own = map[uint16]uint16{model124 + 5: 0, model124 + 12: 10000, model124 + 13: 10000}
	return b, openLed(t, b, meter.Config{Definition: "sunspec-battery"})
}

func openLed(t *testing.T, b *fakeBattery, c meter.Config) *meter.Actuator {
	t.Helper()
	c.Address, c.Now, c.Timeout = "tcp://"+b.listener.Addr().String(), b.clock, time.Second
	c.Pool = modbus.NewPool(modbus.Options{Timeout: c.Timeout, DialEvery: time.Nanosecond, BackoffStep: time.Nanosecond, BackoffMax: time.Nanosecond})
	a, err := meter.OpenActuator(t.Context(), c, meter.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func charge(w int64) meter.SetPoint {
	return meter.SetPoint{Mode: def.ModeCharge, PowerW: w, Lease: 5 * time.Minute}
}

func says(t *testing.T, s meter.ControlState, err error, mode string, w int64, led bool) {
	t.Helper()
	got := int64(0)
	if s.SetW != nil {
		got = *s.SetW
	}
	if s.Mode != mode || got != w || s.Led != led {
		t.Fatalf("got %q %d W, led: %t, %v; expected %q %d W, led: %t", s.Mode, got, s.Led, err, mode, w, led)
	}
}

// A lease is written, not written again before half of it is over, renewed then, and lapses by the device's own timer when
// nobody renews it; after Release nothing is written.
func TestLease(t *testing.T) {
	b, a := newLed(t)
	s, err := a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	first := b.taken()
	if first == 0 || s.Left == nil || *s.Left != 5*time.Minute {
		t.Fatalf("got %d writes and %v left", first, s.Left)
	}
	b.advance(2 * time.Minute)
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	if n := b.taken(); n != 0 || *s.Left != 3*time.Minute {
		t.Fatalf("before half the lease: got %d writes, %v left", n, *s.Left)
	}
	b.advance(30 * time.Second)
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	if n := b.taken(); n != first || *s.Left != 5*time.Minute {
		t.Fatalf("at half the lease: got %d writes, %v left", n, *s.Left)
	}
	s, err = a.Release(t.Context())
	says(t, s, err, def.ModeCharge, 2000, false)
	if n := b.taken(); n != 0 || s.Left == nil || *s.Left != 5*time.Minute {
		t.Fatalf("after release: got %d writes, %v left", n, s.Left)
	}
	b.advance(5 * time.Minute)
	s, err = a.Read(t.Context())
	says(t, s, err, def.ModeOwn, 0, false)
	if s.Left != nil || err != nil {
		t.Fatalf("on its own: got %v left, %v", *s.Left, err)
	}
}

// What is more than the device can is cut down, and what it cannot do at all is refused before anything is written.
func TestSetPointsAreBounded(t *testing.T) {
	b, a := newLed(t)
	s, err := a.Apply(t.Context(), charge(100_000))
	says(t, s, err, def.ModeCharge, 4000, true)
	b.taken()
	if _, err = a.Apply(t.Context(), meter.SetPoint{Mode: def.ModeLimit, PowerW: 1, Lease: time.Minute}); !errors.Is(err, def.ErrInvalid) || b.taken() != 0 {
		t.Fatalf("got %v, expected a refusal and no write", err)
	}
}

// The state is what is read back, under every fault of a write; nothing is written twice without a look in between.
func TestFaultsOfWrites(t *testing.T) {
	b, a := newLed(t)
	b.set(func() { b.refuse = 1 })
	s, err := a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeOwn, 0, false)
	var refused *modbus.Exception
	if !errors.As(err, &refused) || !errors.Is(err, meter.ErrNotObeyed) || b.taken() != 1 {
		t.Fatalf("busy: got %v, expected an exception after one write", err)
	}
	b.set(func() { b.deaf = 10 })
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeOwn, 0, false)
	if !errors.Is(err, meter.ErrNotObeyed) {
		t.Fatalf("deaf: got %v, expected %v", err, meter.ErrNotObeyed)
	}
	b.set(func() { b.deaf, b.swallow = 0, 1 })
	s, err = a.Apply(t.Context(), charge(2000))
	if !errors.Is(err, modbus.ErrUncertain) {
		t.Fatalf("unanswered: got %v, expected %v", err, modbus.ErrUncertain)
	}
	if s.Led {
		t.Fatal("a write without an answer is taken for a lease")
	}
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	// Somebody else takes the device over: it is seen, and taken back.
	b.set(func() { b.words[model124+13], b.words[model124+12] = 2500, 0xffff-2500+1 })
	s, err = a.Read(t.Context())
	says(t, s, err, def.ModeCharge, 1000, false)
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
}

// Another device in the place of the one that is led: nothing is written to it until a person approves.
func TestOtherDeviceIsNotLed(t *testing.T) {
	b, a := newLed(t)
	s, err := a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	const serial = 40000 + 2 + 50
	b.set(func() { b.swap = serial })
	b.hangUp()
	b.taken()
	b.advance(4 * time.Minute)
	for range 3 {
		if _, err = a.Apply(t.Context(), charge(2000)); errors.Is(err, meter.ErrOtherDevice) {
			break
		}
	}
	if !errors.Is(err, meter.ErrOtherDevice) || a.Other() == nil || b.taken() != 0 {
		t.Fatalf("got %v, expected %v and no write", err, meter.ErrOtherDevice)
	}
	if _, err = a.Release(t.Context()); !errors.Is(err, meter.ErrOtherDevice) || b.taken() != 0 {
		t.Fatalf("release: got %v, expected no write", err)
	}
	a.Approve()
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	if a.Other() != nil || a.Known() != s.Identity {
		t.Fatalf("got %+v, expected the approved device", a.Known())
	}
}

// A device without a timer of its own is written back to its own mode, and one whose registers go on telling a mode that
// has lapsed is not believed.
func TestDevicesWithoutTimerOrMemory(t *testing.T) {
	raw, err := os.ReadFile("def/data/sunspec-battery.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(id, text string) {
		t.Helper()
		text = strings.Replace(text, "id: sunspec-battery\n", "id: "+id+"\n", 1)
		if err := os.WriteFile(filepath.Join(dir, id+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	timeless := strings.ReplaceAll(string(raw), "      - {point: revert, from: lease}\n", "")
	timeless = strings.Replace(timeless, "  lease: {point: revert, min_s: 10, max_s: 65534}\n", "", 1)
	timeless = strings.Replace(timeless, "    when: [{point: led, is: 0}]\n", "    when: [{point: led, is: 0}]\n    write: [{point: led, value: 0}]\n", 1)
	write("timeless", timeless)
	write("silent", strings.Replace(string(raw), "max_s: 65534}", "max_s: 65534, silent: true}", 1))

	b, _ := newLed(t)
	b.timer, b.begins = 0, 0
	a := openLed(t, b, meter.Config{Definition: "timeless", DefinitionsDir: dir})
	s, err := a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	if a.Reverts() || s.Left != nil {
		t.Fatal("a device without a timer seems to revert")
	}
	s, err = a.Release(t.Context())
	says(t, s, err, def.ModeOwn, 0, false)
	b.taken()
	if _, err = a.Release(t.Context()); err != nil || b.taken() != 0 {
		t.Fatalf("a second release: %v, expected no write", err)
	}

	a = openLed(t, b, meter.Config{Definition: "silent", DefinitionsDir: dir})
	s, err = a.Apply(t.Context(), charge(2000))
	says(t, s, err, def.ModeCharge, 2000, true)
	b.advance(5 * time.Minute)
	s, err = a.Read(t.Context())
	says(t, s, err, "", 0, false)
}

func TestOpenActuatorRefuses(t *testing.T) {
	var mistake *meter.ConfigError
	_, err := meter.OpenActuator(t.Context(), meter.Config{Definition: "eastron-sdm630", Address: "tcp://h:502"}, meter.Identity{})
	if !errors.As(err, &mistake) || mistake.Field != "definition" {
		t.Fatalf("got %v, expected a mistake in the definition", err)
	}
}
