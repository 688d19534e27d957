package modbus

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
)

// A frame of RTU ("MODBUS over serial line specification and implementation
// guide" V1.02): unit, PDU, CRC with the low byte first; at most 256 bytes.
const (
	maxRTU   = 1 + maxPDU + crcBytes
	crcBytes = 2
	// gap is the silence after which what was received of a frame is forgotten. The
	// specification has 3.5 characters, which a reader on a busy machine cannot keep.
	gap = 250 * time.Millisecond
)

// crc16 is the CRC-16 of Modbus: polynomial 0x8005 reflected, beginning with
// 0xFFFF.
func crc16(data []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, b := range data {
		crc ^= uint16(b)
		for range 8 {
			odd := crc&1 == 1
			crc >>= 1
			if odd {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// appendRTU encodes a frame.
func appendRTU(b []byte, unit byte, pdu []byte) []byte {
	from := len(b)
	b = append(append(b, unit), pdu...)
	return binary.LittleEndian.AppendUint16(b, crc16(b[from:]))
}

// rtuReader finds requests in the bytes of a line.
type rtuReader struct {
	buffer [maxRTU]byte
	n      int
}

// deadliner is a connection or a terminal with a limit for reading.
type deadliner interface {
	io.Reader
	SetReadDeadline(t time.Time) error
}

// next returns the next request. Noise, and frames whose CRC is wrong, are passed
// over. The PDU is valid until the next call.
func (r *rtuReader) next(line deadliner, idle time.Duration) (unit byte, pdu []byte, err error) {
	for {
		for r.n > 0 {
			length, whole := requestLength(r.buffer[:r.n])
			if !whole {
				break
			}
			if length > 0 {
				frame := make([]byte, length)
				copy(frame, r.buffer[:length])
				r.drop(length)
				return frame[0], frame[1 : length-crcBytes], nil
			}
			r.drop(1) // no request begins here
		}
		wait := idle
		if r.n > 0 {
			wait = gap
		}
		var until time.Time
		if wait > 0 {
			until = time.Now().Add(wait)
		}
		if err := line.SetReadDeadline(until); err != nil {
			return 0, nil, err
		}
		if r.n == len(r.buffer) {
			r.n = 0
		}
		n, err := line.Read(r.buffer[r.n:])
		r.n += n
		switch {
		case n > 0:
		case errors.Is(err, os.ErrDeadlineExceeded) && r.n > 0:
			r.n = 0
		case err != nil:
			return 0, nil, err
		}
	}
}

func (r *rtuReader) drop(n int) {
	copy(r.buffer[:], r.buffer[n:r.n])
	r.n -= n
}

// requestLength says how long the request at the beginning of the bytes is: 0 if
// none begins here, and false if that cannot be said yet. A function whose
// requests have a length that we do not know is a request if the CRC fits to all
// that has come.
func requestLength(b []byte) (length int, known bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case byte(Holding), byte(Input), writeSingle:
		length = 8
	case writeMultiple:
		if len(b) < 7 {
			return 0, false
		}
		length = 9 + int(b[6])
	default:
		if len(b) >= 4 && fits(b) {
			return len(b), true
		}
		return 0, len(b) == maxRTU
	}
	if length > maxRTU {
		return 0, true
	}
	if len(b) < length {
		return 0, false
	}
	if !fits(b[:length]) {
		return 0, true
	}
	return length, true
}

// fits says whether a frame ends with its CRC.
func fits(frame []byte) bool {
	at := len(frame) - crcBytes
	return binary.LittleEndian.Uint16(frame[at:]) == crc16(frame[:at])
}
