package mqtt

import (
	"fmt"
	"net"
)

// limited follows the packets that come in on a connection and swallows each PUBLISH above a size, so that nobody
// allocates memory for it. All our subscriptions are of quality 0, so no one waits for an acknowledgement of what was
// swallowed. Other packets above the limit break the protocol. Reads are by paho's one reading goroutine.
type limited struct {
	net.Conn
	limit   int
	dropped func(size int)

	header    []byte // of the packet that begins; delivered once it is complete
	pending   []byte // header bytes still to deliver
	remaining int    // body bytes still to come
	swallow   bool   // and not to deliver
}

const (
	packetPublish = 3
	maxHeader     = 5 // type and at most 4 bytes of length
)

func newLimited(conn net.Conn, limit int, dropped func(int)) *limited {
	return &limited{Conn: conn, limit: limit, dropped: dropped}
}

func (l *limited) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(l.pending) > 0 {
			n := copy(p, l.pending)
			l.pending = l.pending[n:]
			return n, nil
		}
		if l.remaining == 0 {
			if err := l.begin(); err != nil {
				return 0, err
			}
			continue
		}
		if !l.swallow {
			n, err := l.Conn.Read(p[:min(len(p), l.remaining)])
			l.remaining -= n
			return n, err
		}
		var waste [4096]byte
		n, err := l.Conn.Read(waste[:min(len(waste), l.remaining)])
		l.remaining -= n
		if err != nil {
			return 0, err
		}
	}
}

// begin reads the fixed header of the next packet, byte by byte: it is 2 to 5 bytes long.
func (l *limited) begin() error {
	l.header = l.header[:0]
	length := 0
	for {
		var one [1]byte
		n, err := l.Conn.Read(one[:])
		if err != nil {
			return err
		}
		if n == 0 {
			continue
		}
		l.header = append(l.header, one[0])
		if len(l.header) == 1 {
			continue
		}
		length |= int(one[0]&0x7f) << (7 * (len(l.header) - 2))
		if one[0]&0x80 == 0 {
			break
		}
		if len(l.header) == maxHeader {
			return fmt.Errorf("mqtt packet: length of more than 4 bytes")
		}
	}
	l.remaining, l.swallow = length, false
	if length <= l.limit {
		l.pending = l.header
		return nil
	}
	if l.header[0]>>4 != packetPublish {
		return fmt.Errorf("mqtt packet of type %d: got %d bytes, expected at most %d", l.header[0]>>4, length, l.limit)
	}
	l.swallow = true
	l.dropped(length)
	return nil
}
