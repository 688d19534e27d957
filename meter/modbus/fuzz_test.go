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

// FuzzModbusReply: whatever comes in is taken for an answer if and only if it begins with the one frame that can be it.
func FuzzModbusReply(f *testing.F) {
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
