package modbus

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"
)

// lineConn is a line on which fixed bytes come in; the id of the request can be put into the reply.
type lineConn struct {
	net.Conn
	reply   []byte
	patchID bool
	read    *bytes.Reader
}

func (c *lineConn) Write(p []byte) (int, error) {
	if c.patchID && len(c.reply) >= 2 {
		copy(c.reply, p[:2])
	}
	c.read = bytes.NewReader(c.reply)
	return len(p), nil
}

func (c *lineConn) Read(p []byte) (int, error) {
	if c.read == nil || c.read.Len() == 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return c.read.Read(p)
}

func (c *lineConn) SetDeadline(time.Time) error     { return nil }
func (c *lineConn) SetReadDeadline(time.Time) error { return nil }
func (c *lineConn) Close() error                    { return nil }

// FuzzTCPFrame: whatever comes in is taken for an answer if and only if it begins with the one frame that can be it.
func FuzzTCPFrame(f *testing.F) {
	good := []byte{0, 0, 0, 0, 0, 7, 9, 3, 4, 1, 2, 3, 4}
	f.Add(good, true)
	f.Add(good, false)
	f.Add(append(bytes.Clone(good), good...), true)
	f.Add([]byte{0, 0, 0, 0, 0, 3, 9, 0x83, 2}, true)
	f.Add([]byte{0, 0, 0, 0, 0, 5, 9, 3, 2, 1, 2}, true)
	f.Add([]byte{0, 0, 0, 0, 255, 255, 9, 3}, true)
	f.Fuzz(func(t *testing.T, reply []byte, patchID bool) {
		const unit, address, count = 9, 40, 2
		b := NewBus(TCP("unused:1"), Options{})
		conn := &lineConn{reply: bytes.Clone(reply), patchID: patchID}
		b.port = conn
		words, _, err := b.Read(t.Context(), unit, ReadHolding, address, count)
		body := []byte{0, 0, 0, 7, unit, ReadHolding, 4}
		fits := len(conn.reply) >= 13 && bytes.Equal(conn.reply[2:9], body) && binary.BigEndian.Uint16(conn.reply) == b.lastID
		if fits != (err == nil) {
			t.Fatalf("reply % x, id %04x: got %v, %v", conn.reply, b.lastID, words, err)
		}
		if err == nil && (len(words) != count || words[0] != binary.BigEndian.Uint16(conn.reply[9:]) || words[1] != binary.BigEndian.Uint16(conn.reply[11:])) {
			t.Fatalf("reply % x: got %x", conn.reply, words)
		}
	})
}

// FuzzRTUFrame: the same on a line without transaction ids, where only what begins with the one frame of the right unit,
// function, length and checksum is taken, or that frame after an echo of the request.
func FuzzRTUFrame(f *testing.F) {
	good := addChecksum([]byte{9, 3, 4, 1, 2, 3, 4})
	echo := addChecksum([]byte{9, 3, 0, 40, 0, 2})
	f.Add(good)
	f.Add(append(bytes.Clone(good), good...))
	f.Add(append(bytes.Clone(echo), good...))
	f.Add(echo)
	f.Add(addChecksum([]byte{9, 0x83, 2}))
	f.Add(addChecksum([]byte{9, 3, 2, 1, 2}))
	f.Add(good[:5])
	f.Fuzz(func(t *testing.T, reply []byte) {
		const unit, address, count = 9, 40, 2
		b := NewBus(RTUOverTCP("unused:1"), Options{})
		b.port = &lineConn{reply: reply}
		words, _, err := b.Read(t.Context(), unit, ReadHolding, address, count)
		frame, echoed := bytes.CutPrefix(reply, echo)
		if !echoed {
			frame = reply
		}
		fits := len(frame) >= 9 && bytes.Equal(frame[:3], []byte{unit, ReadHolding, 4}) && bytes.Equal(frame[:9], addChecksum(bytes.Clone(frame[:7])))
		if fits != (err == nil) {
			t.Fatalf("reply % x: got %v, %v", reply, words, err)
		}
		if err == nil && (len(words) != count || words[0] != binary.BigEndian.Uint16(frame[3:]) || words[1] != binary.BigEndian.Uint16(frame[5:])) {
			t.Fatalf("reply % x: got %x", reply, words)
		}
	})
}

// FuzzWriteConfirmed: a write counts as done if and only if the confirmation of it comes, over RTU as over TCP.
func FuzzWriteConfirmed(f *testing.F) {
	body := []byte{16, 0, 40, 0, 2}
	f.Add(addChecksum(append([]byte{9}, body...)), true, false)
	f.Add(append([]byte{0, 0, 0, 0, 0, 6, 9}, body...), false, true)
	f.Add(addChecksum([]byte{9, 0x90, 2}), true, false)
	f.Add(addChecksum([]byte{9, 16, 0, 40, 0, 2, 4, 0, 1, 0, 2}), true, false)
	f.Fuzz(func(t *testing.T, reply []byte, rtu, patchID bool) {
		line := TCP("unused:1")
		if rtu {
			line = RTUOverTCP("unused:1")
		}
		b := NewBus(line, Options{})
		conn := &lineConn{reply: bytes.Clone(reply), patchID: patchID && !rtu}
		b.port = conn
		err := b.Write(t.Context(), 9, 40, []uint16{1, 2})
		var fits bool
		if rtu {
			frame, _ := bytes.CutPrefix(conn.reply, addChecksum([]byte{9, 16, 0, 40, 0, 2, 4, 0, 1, 0, 2}))
			fits = bytes.HasPrefix(frame, addChecksum(append([]byte{9}, body...)))
		} else {
			fits = len(conn.reply) >= 12 && bytes.Equal(conn.reply[2:12], append([]byte{0, 0, 0, 6, 9}, body...)) && binary.BigEndian.Uint16(conn.reply) == b.lastID
		}
		if fits != (err == nil) {
			t.Fatalf("reply % x: got %v", conn.reply, err)
		}
	})
}
