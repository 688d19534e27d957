package p2p

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestReadFrame(t *testing.T) {
	frame := func(n uint32, body string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), body...)
	}
	for _, tc := range []struct {
		name string
		in   []byte
		want string
		err  error
	}{
		{"empty body", frame(0, ""), "", nil},
		{"body at the limit", frame(8, "12345678"), "12345678", nil},
		{"above the limit", frame(9, "123456789"), "", ErrTooLarge},
		{"announces 4 GiB", frame(1<<32-1, "x"), "", ErrTooLarge},
		{"nothing", nil, "", ErrFrame},
		{"half a length", []byte{0, 0}, "", ErrFrame},
		{"body cut", frame(5, "1234"), "", ErrFrame},
		{"body missing", frame(5, ""), "", ErrFrame},
		{"bytes left over", frame(2, "123"), "", ErrFrame},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readFrame(iotest.OneByteReader(bytes.NewReader(tc.in)), 8)
			if !errors.Is(err, tc.err) || (tc.err == nil && err != nil) {
				t.Fatalf("got error %v, want %v", err, tc.err)
			}
			if string(got) != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestReadReply(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   []byte
		want string
		err  error
	}{
		{"ok", []byte{0, 0, 0, 0, 1, 'x'}, "x", nil},
		{"ok, above the limit", []byte{0, 0, 0, 0, 9}, "", ErrTooLarge},
		{"failed", []byte{1, 0, 0, 0, 1, 'x'}, "", ErrRemote},
		{"failed, text too long", []byte{1, 0, 0, 2, 0}, "", ErrTooLarge},
		{"too large", []byte{2, 0, 0, 0, 0}, "", ErrTooLarge},
		{"busy", []byte{3, 0, 0, 0, 0}, "", ErrBusy},
		{"unknown status", []byte{4, 0, 0, 0, 0}, "", ErrFrame},
		{"status that is never sent", []byte{0xff, 0, 0, 0, 0}, "", ErrFrame},
		{"nothing", nil, "", ErrFrame},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readReply(bytes.NewReader(tc.in), 8)
			if !errors.Is(err, tc.err) || (tc.err == nil && err != nil) {
				t.Fatalf("got error %v, want %v", err, tc.err)
			}
			if string(got) != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestErrorText(t *testing.T) {
	for _, in := range []string{"", "short", strings.Repeat("é", 200), "bad \xff byte", strings.Repeat("\xff", 300)} {
		got := errorText(in)
		if len(got) > maxErrorText || !utf8.ValidString(got) {
			t.Errorf("errorText(%q) = %q: %d bytes, valid %t", in, got, len(got), utf8.ValidString(got))
		}
	}
}

// FuzzReadFrame: no input panics, none yields more than the limit, and what is read is
// exactly what would be written.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 3, 'a', 'b', 'c'})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0})
	f.Add([]byte{1, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 64
		body, err := readFrame(bytes.NewReader(in), limit)
		if err == nil {
			var out bytes.Buffer
			if err := writeFrame(&out, nil, body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(in, out.Bytes()); diff != "" {
				t.Errorf("read and written again (-in +out):\n%s", diff)
			}
		} else if !errors.Is(err, ErrFrame) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("error %v is none of ours", err)
		}
		if len(body) > limit {
			t.Errorf("body has %d bytes, limit %d", len(body), limit)
		}
		if body, err := readReply(bytes.NewReader(in), limit); err == nil && len(body) > limit {
			t.Errorf("reply has %d bytes, limit %d", len(body), limit)
		}
	})
}

// FuzzFrameMeter: where the stream is cut does not matter, and well-formed frames are
// found with their sizes.
func FuzzFrameMeter(f *testing.F) {
	f.Add([]byte{1, 'x', 2, 'y', 'z', 0, 0x80, 1}, uint8(3), uint16(300))
	f.Add(bytes.Repeat([]byte{0xff}, 20), uint8(1), uint16(0))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8, size uint16) {
		var whole, cutUp frameMeter
		want := whole.feed(in)
		var got []uint64
		for chunk := range slices.Chunk(in, int(cut)+1) {
			got = append(got, cutUp.feed(chunk)...)
			if len(got) > 0 && got[len(got)-1] == insane {
				break // the stream is reset here
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("cut every %d bytes (-whole +cut):\n%s", int(cut)+1, diff)
		}
		var m frameMeter
		frame := append(binary.AppendUvarint(nil, uint64(size)), make([]byte, size)...)
		if diff := cmp.Diff([]uint64{uint64(size), uint64(size)}, m.feed(append(frame, frame...))); diff != "" {
			t.Errorf("two frames of %d bytes (-want +got):\n%s", size, diff)
		}
	})
}
