package mqtt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"pgregory.net/rapid"
)

// piecewise is a connection on which bytes come in pieces of given sizes.
type piecewise struct {
	net.Conn
	data   []byte
	pieces []int
	next   int
}

func (c *piecewise) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := min(len(p), len(c.data), c.pieces[c.next%len(c.pieces)])
	c.next++
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

func packet(first byte, body []byte) []byte {
	b := []byte{first}
	for n := len(body); ; {
		digit := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b = append(b, digit|0x80)
			continue
		}
		return append(append(b, digit), body...)
	}
}

// TestLimitedStream: of any stream of packets, cut up in any way, exactly the large PUBLISH packets are missing.
func TestLimitedStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 300
		var stream, want []byte
		var large int
		for range rapid.IntRange(0, 20).Draw(t, "packets") {
			size := rapid.SampledFrom([]int{0, 1, 2, 127, 128, limit, limit + 1, 5000, 20000}).Draw(t, "size")
			kind := byte(packetPublish << 4)
			if size <= limit {
				kind = rapid.SampledFrom([]byte{0x20, 0x30, 0x31, 0x90, 0xd0}).Draw(t, "kind")
			}
			p := packet(kind, bytes.Repeat([]byte{kind ^ byte(size)}, size))
			stream = append(stream, p...)
			if size <= limit {
				want = append(want, p...)
			} else {
				large++
			}
		}
		pieces := rapid.SliceOfN(rapid.IntRange(1, 700), 1, 8).Draw(t, "pieces")
		dropped := 0
		l := newLimited(&piecewise{data: stream, pieces: pieces}, limit, func(int) { dropped++ })
		var got []byte
		buffer := make([]byte, rapid.IntRange(1, 600).Draw(t, "buffer"))
		for {
			n, err := l.Read(buffer)
			got = append(got, buffer[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) || dropped != large {
			t.Fatalf("got %d bytes and dropped %d, expected %d and %d", len(got), dropped, len(want), large)
		}
	})
}

func TestLimitedRefuses(t *testing.T) {
	for name, stream := range map[string][]byte{
		"a length without end":        {0x30, 0x80, 0x80, 0x80, 0x80, 0x01},
		"a SUBACK that is too large":  packet(0x90, make([]byte, 400)),
		"a CONNACK that is too large": packet(0x20, make([]byte, 400)),
	} {
		l := newLimited(&piecewise{data: stream, pieces: []int{1000}}, 300, func(int) {})
		if n, err := l.Read(make([]byte, 10)); n != 0 || err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: got %d bytes, %v", name, n, err)
		}
	}
}

// FuzzLimited: of any bytes of a broker, cut up in any way, no packet above the limit is delivered, nothing is delivered
// that did not come, and where it is cut does not matter.
func FuzzLimited(f *testing.F) {
	f.Add(append(packet(0x30, bytes.Repeat([]byte{1}, 400)), packet(0x30, []byte("ab"))...), uint8(3))
	f.Add([]byte{0x20, 0xff, 0xff, 0xff, 0xff, 0x7f}, uint8(1))
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3}, uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		const limit = 300
		through := func(piece int) []byte {
			out, _ := io.ReadAll(newLimited(&piecewise{data: bytes.Clone(in), pieces: []int{piece}}, limit, func(size int) {
				if size <= limit {
					t.Errorf("a packet of %d bytes was swallowed", size)
				}
			}))
			return out
		}
		got := through(int(cut) + 1)
		if whole := through(1 << 20); !bytes.Equal(got, whole) {
			t.Errorf("in pieces of %d: % x, at once: % x", int(cut)+1, got, whole)
		}
		for rest := got; len(rest) > 1; {
			size, n := binary.Uvarint(rest[1:])
			if n <= 0 || size > limit {
				t.Fatalf("delivered a packet of %d bytes: % x", size, rest)
			}
			rest = rest[min(len(rest), 1+n+int(size)):]
		}
	})
}
