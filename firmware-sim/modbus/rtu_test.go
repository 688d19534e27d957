package modbus

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// TestCRC has the example of the specification's serial guide: 02 07 gives 41 12.
func TestCRC(t *testing.T) {
	if got := appendRTU(nil, 0x02, []byte{0x07}); hex.EncodeToString(got) != "02074112" {
		t.Errorf("got %x", got)
	}
}

// pipe is a line whose other end the test has.
func startLine(t *testing.T) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	var wrote string
	server := New(map[byte]Unit{1: sink{last: &wrote}, 7: ramp{}}, Options{Transport: wire.RTU, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.ServeLine(ctx, theirs) }()
	t.Cleanup(func() {
		cancel()
		ours.Close()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	if err := ours.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return ours
}

// TestLine: several units, noise, pieces, a wrong CRC, a unit that is not there, a
// broadcast: whatever comes, the next good request gets its answer and no other.
func TestLine(t *testing.T) {
	good := appendRTU(nil, 7, unhex(t, "0300020001"))
	want := appendRTU(nil, 7, unhex(t, "0302"+"0014"))
	wrong := bytes.Clone(good)
	wrong[len(wrong)-1] ^= 0x40
	for name, before := range map[string][]byte{
		"nothing":        nil,
		"noise":          {0x00},
		"more noise":     {0xFF, 0xFF, 0x03, 0x10, 0x00},
		"wrong crc":      wrong,
		"another unit":   appendRTU(nil, 9, unhex(t, "0300020001")),
		"broadcast":      appendRTU(nil, 0, unhex(t, "06000200ff")),
		"half a request": good[:5],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := startLine(t)
			if len(before) > 0 {
				if _, err := line.Write(before); err != nil {
					t.Fatal(err)
				}
			}
			got := make([]byte, len(want))
			for { // a reader asks again when it got no answer: what was begun is forgotten in the silence
				if _, err := line.Write(good[:3]); err != nil {
					t.Fatal(err)
				}
				if _, err := line.Write(good[3:]); err != nil {
					t.Fatal(err)
				}
				if err := line.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
					t.Fatal(err)
				}
				_, err := io.ReadFull(line, got)
				if err == nil {
					break
				}
				if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() || t.Context().Err() != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got %x, want %x", got, want)
			}
		})
	}
}

// TestLineAnswers: writes and refusals too.
func TestLineAnswers(t *testing.T) {
	line := startLine(t)
	for _, c := range []struct{ request, answer string }{
		{"100003000204000100ff", "1000030002"},
		{"06000a0001", "8602"},
		{"2b0e0100", "ab01"},
		{"0300000001", "0302" + "0000"},
	} {
		if _, err := line.Write(appendRTU(nil, 1, unhex(t, c.request))); err != nil {
			t.Fatal(err)
		}
		expect(t, line, appendRTU(nil, 1, unhex(t, c.answer)))
	}
}

// FuzzRequestLength: what is taken as a request has the CRC that a request has.
func FuzzRequestLength(f *testing.F) {
	for _, seed := range []string{"0300020003", "06000000ff", "100003000204000100ff", "2b0e0100"} {
		b, _ := hex.DecodeString(seed)
		f.Add(appendRTU(nil, 1, b))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxRTU {
			data = data[:maxRTU]
		}
		length, known := requestLength(data)
		switch {
		case !known && len(data) == maxRTU:
			t.Fatalf("a full buffer that waits for more: %x", data)
		case length < 0 || length > len(data) || length > 0 && length < 4:
			t.Fatalf("%d of %d bytes", length, len(data))
		case length > 0 && !fits(data[:length]):
			t.Fatalf("a request without its CRC: %x", data[:length])
		}
	})
}
