package modbus

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	goburrow "github.com/goburrow/modbus"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ramp has registers 0 to 199 in both tables: address×10, and one more among
// the input registers.
type ramp struct{}

func (ramp) Registers(_ context.Context, table Table, address, count uint16) ([]uint16, error) {
	if address+count > 200 {
		return nil, IllegalDataAddress
	}
	if address == 66 {
		return nil, errors.New("out of order")
	}
	var registers []uint16
	for i := range count {
		registers = append(registers, (address+i)*10+uint16(table-Holding))
	}
	return registers, nil
}

// sink is a ramp that takes writes to its first ten registers, and remembers
// the last.
type sink struct {
	ramp
	last *string
}

func (s sink) Write(_ context.Context, address uint16, words []uint16) error {
	if int(address)+len(words) > 10 {
		return IllegalDataAddress
	}
	*s.last = fmt.Sprint(address, words)
	return nil
}

func TestWrites(t *testing.T) {
	for name, c := range map[string]struct{ pdu, want, wrote string }{
		"single":         {"06000200ff", "06000200ff", "2 [255]"},
		"multiple":       {"100003000204000100ff", "1000030002", "3 [1 255]"},
		"address":        {"06000a0001", "8602", ""},
		"past the table": {"10ffff000204000100ff", "9002", ""},
		"count":          {"100003000304000100ff", "9003", ""},
		"odd":            {"1000030002030001ff", "9003", ""},
		"none":           {"100003000000", "9003", ""},
		"cut":            {"1000030002040001", "9003", ""},
		"too many":       {"100000007c" + "f8" + strings.Repeat("0000", 124), "9003", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var wrote string
			server := New(map[byte]Unit{1: sink{last: &wrote}}, Options{Log: slog.New(slog.DiscardHandler)})
			got := server.answer(t.Context(), 1, unhex(t, c.pdu))
			if hex.EncodeToString(got) != c.want || wrote != c.wrote {
				t.Errorf("got %x and %q written, want %s and %q", got, wrote, c.want, c.wrote)
			}
		})
	}
}

// start serves on a free port until the test ends.
func start(t *testing.T, opts Options) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := New(map[byte]Unit{1: ramp{}, 7: ramp{}}, opts)
	go func() { done <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	return listener.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct{ unit, pdu, want string }{
		"holding":           {"01", "0300020003", "0306" + "0014001e0028"},
		"input":             {"01", "0400020001", "0402" + "0015"},
		"another unit":      {"07", "0300000001", "0302" + "0000"},
		"unknown unit":      {"02", "0300000001", "830b"},
		"write":             {"01", "06000000ff", "8601"},
		"no such function":  {"01", "55", "d501"},
		"short":             {"01", "03000000", "8303"},
		"long":              {"01", "030000000100", "8303"},
		"count 0":           {"01", "0300000000", "8303"},
		"count 126":         {"01", "030000007e", "8303"},
		"address":           {"01", "0300c80001", "8302"},
		"past the end":      {"01", "03ffff0002", "8302"},
		"device is ill":     {"01", "0300420001", "8304"},
		"exception as code": {"01", "8300000001", "8301"},
	} {
		t.Run(name, func(t *testing.T) {
			server := New(map[byte]Unit{1: ramp{}, 7: ramp{}}, Options{Log: slog.New(slog.DiscardHandler)})
			got := server.answer(t.Context(), unhex(t, c.unit)[0], unhex(t, c.pdu))
			if hex.EncodeToString(got) != c.want {
				t.Errorf("got %x, want %s", got, c.want)
			}
		})
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSplitAndJoinedFrames: two requests in one segment, then one byte by byte.
func TestSplitAndJoinedFrames(t *testing.T) {
	conn := dial(t, start(t, Options{}))
	request := unhex(t, "123400000006010300010001")
	want := unhex(t, "1234000000050103"+"02000a")
	if _, err := conn.Write(append(bytes.Clone(request), request...)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		expect(t, conn, want)
	}
	for _, b := range request {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, conn, want)
}

func expect(t *testing.T, conn net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %x, %v, want %x", got, err, want)
	}
}

func TestClosesWhatIsNoModbus(t *testing.T) {
	address := start(t, Options{})
	for name, bytes := range map[string]string{
		"protocol id": "123400010006010300010001",
		"length 1":    "12340000000101",
		"length 255":  "1234000000ff01",
		"http":        hex.EncodeToString([]byte("GET / HTTP/1.1\r\n\r\n")),
	} {
		conn := dial(t, address)
		if _, err := conn.Write(unhex(t, bytes)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: got %d bytes, want the connection closed", name, n)
		}
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	conn := dial(t, start(t, Options{Idle: 50 * time.Millisecond}))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	address := start(t, Options{Connections: 2})
	request, want := unhex(t, "123400000006010300010001"), unhex(t, "1234000000050103"+"02000a")
	first, second := dial(t, address), dial(t, address)
	for _, conn := range []net.Conn{first, second} { // answered: the server has taken them in
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		expect(t, conn, want)
	}
	third := dial(t, address)
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a third connection was served")
	}
	first.Close()
	for { // the place becomes free as soon as the server has seen the end
		conn := dial(t, address)
		if _, err := conn.Write(request); err == nil {
			if _, err := io.ReadFull(conn, make([]byte, len(want))); err == nil {
				return
			}
		}
		if t.Context().Err() != nil {
			t.Fatal("the place was never free again")
		}
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	err = New(nil, Options{Log: slog.New(slog.DiscardHandler)}).Serve(t.Context(), listener)
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

// TestGoburrow and TestMbpoll are the outsiders.
func TestGoburrow(t *testing.T) {
	handler := goburrow.NewTCPClientHandler(start(t, Options{}))
	handler.SlaveId = 7
	defer handler.Close()
	client := goburrow.NewClient(handler)
	got, err := client.ReadInputRegisters(100, 2)
	if err != nil || !bytes.Equal(got, []byte{0x03, 0xe9, 0x03, 0xf3}) {
		t.Errorf("got %x, %v", got, err)
	}
	if got, err = client.ReadHoldingRegisters(0, 125); err != nil || len(got) != 250 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	var refusal *goburrow.ModbusError
	if _, err = client.ReadHoldingRegisters(500, 1); !errors.As(err, &refusal) || refusal.ExceptionCode != 2 {
		t.Errorf("got %v, want exception 2", err)
	}
	if _, err = client.WriteSingleRegister(1, 1); !errors.As(err, &refusal) || refusal.ExceptionCode != 1 {
		t.Errorf("got %v, want exception 1", err)
	}
	handler.SlaveId = 9
	if _, err = client.ReadHoldingRegisters(0, 1); !errors.As(err, &refusal) || refusal.ExceptionCode != 11 {
		t.Errorf("got %v, want exception 11", err)
	}
}

func TestMbpoll(t *testing.T) {
	path, err := exec.LookPath("mbpoll")
	if err != nil {
		t.Fatal("mbpoll is missing: install the Debian package mbpoll")
	}
	host, port, err := net.SplitHostPort(start(t, Options{}))
	if err != nil {
		t.Fatal(err)
	}
	poll := func(args ...string) (string, error) {
		args = append([]string{"-m", "tcp", "-p", port, "-1", "-o", "5"}, append(args, host)...)
		out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
		return string(out), err
	}
	out, err := poll("-a", "7", "-t", "4", "-r", "11", "-c", "2") // counts from 1
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var values []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "[") {
			values = append(values, strings.Join(strings.Fields(line), " "))
		}
	}
	if diff := cmp.Diff([]string{"[11]: 100", "[12]: 110"}, values); diff != "" {
		t.Error(diff)
	}
	if out, err := poll("-a", "9", "-t", "4", "-r", "1"); err == nil || !strings.Contains(out, "Target device failed to respond") {
		t.Errorf("an unknown unit: %v: %s", err, out)
	}
}

func FuzzReadFrame(f *testing.F) {
	for _, seed := range []string{"123400000006010300010001", "123400010006010300010001", "0000000000020104", "00000000ffff01"} {
		b, _ := hex.DecodeString(seed)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var whole, dripped [headerLength + maxPDU]byte
		a, errA := readFrame(bytes.NewReader(data), &whole)
		b, errB := readFrame(iotest.OneByteReader(bytes.NewReader(data)), &dripped)
		if fmt.Sprint(errA) != fmt.Sprint(errB) || !bytes.Equal(a.pdu, b.pdu) {
			t.Fatalf("whole: %v, %v; in pieces: %v, %v", a, errA, b, errB)
		}
		if errA == nil && !bytes.HasPrefix(data, a.append(nil)) {
			t.Fatalf("decoded %x as %+v", data, a)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{"0300020003", "0400020001", "06000000ff", "55", "030000007e", "03ffff0002", "100003000204000100ff"} {
		b, _ := hex.DecodeString(seed)
		f.Add(byte(1), b)
		f.Add(byte(2), b)
	}
	server := New(map[byte]Unit{1: ramp{}}, Options{Log: slog.New(slog.DiscardHandler)})
	server.units[2] = sink{last: new(string)}
	f.Fuzz(func(t *testing.T, unit byte, pdu []byte) {
		if len(pdu) == 0 || len(pdu) > maxPDU {
			return // readFrame lets none of these pass
		}
		got := server.answer(context.Background(), unit, pdu)
		switch {
		case got[0] == writeSingle, got[0] == writeMultiple:
			if unit != 2 || !bytes.Equal(got, pdu[:5]) {
				t.Fatalf("%x: answer %x", pdu, got)
			}
		case got[0]&0x80 == 0:
			if got[0] != pdu[0] || len(got) < 4 || len(got) > maxPDU || len(got) != 2+int(got[1]) {
				t.Fatalf("%x: answer %x", pdu, got)
			}
		case len(got) != 2 || got[0] != pdu[0]|0x80:
			t.Fatalf("%x: exception %x", pdu, got)
		}
	})
}
