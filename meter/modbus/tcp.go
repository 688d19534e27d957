package modbus

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"

	goburrow "github.com/goburrow/modbus"
)

const (
	headerSize = 7
	// minLength and maxLength bound the length field: unit, function and 1 to 252 more bytes.
	minLength, maxLength = 3, 254
	// exceptionBit is set in the function of a reply that refuses.
	exceptionBit = 0x80
)

// Encode gives a request over TCP a transaction id that nobody can guess and that is not the last one's: a reply that was
// late or sent ahead cannot fit.
func (e *exchange) Encode(pdu *goburrow.ProtocolDataUnit) ([]byte, error) {
	adu, err := e.Packager.Encode(pdu)
	if err != nil || e.bus.line.rtu() {
		return adu, err
	}
	id := uint16(rand.Uint32()) //nolint:gosec // against accidents, not against an enemy on the line
	if id == e.bus.lastID {
		id++
	}
	e.bus.lastID = id
	binary.BigEndian.PutUint16(adu, id)
	return adu, nil
}

func (e *exchange) receiveTCP(r io.Reader, request []byte) ([]byte, error) {
	var reply [headerSize - 1 + maxLength]byte
	if _, err := io.ReadFull(r, reply[:headerSize]); err != nil {
		return nil, e.failed("waiting for the reply", err)
	}
	length, err := checkHeader(request, reply[:headerSize])
	if err != nil {
		return nil, err
	}
	end := headerSize - 1 + length
	if _, err := io.ReadFull(r, reply[headerSize:end]); err != nil {
		return nil, e.failed("waiting for the rest of the reply", err)
	}
	if err := checkBody(request[headerSize:], reply[headerSize:end]); err != nil {
		return nil, err
	}
	return reply[:end], nil
}

// checkHeader returns the length field of a reply that belongs to the request.
func checkHeader(request, header []byte) (int, error) {
	be := binary.BigEndian
	if got, want := be.Uint16(header), be.Uint16(request); got != want {
		return 0, fmt.Errorf("transaction id: got %d, expected %d: %w", got, want, ErrBadReply)
	}
	if got := be.Uint16(header[2:]); got != 0 {
		return 0, fmt.Errorf("protocol id: got %d, expected 0: %w", got, ErrBadReply)
	}
	length := int(be.Uint16(header[4:]))
	if length < minLength || length > maxLength {
		return 0, fmt.Errorf("length: got %d, expected %d to %d: %w", length, minLength, maxLength, ErrBadReply)
	}
	if got, want := header[6], request[6]; got != want {
		return 0, fmt.Errorf("unit: got %d, expected %d: %w", got, want, ErrBadReply)
	}
	return length, nil
}

// checkBody checks what follows the unit in a reply against what follows it in the request.
func checkBody(request, body []byte) error {
	function := request[0]
	switch {
	case len(body) < 2:
		return fmt.Errorf("reply: got %d bytes, expected 2 at least: %w", len(body), ErrBadReply)
	case body[0] == function|exceptionBit:
		if len(body) != 2 || body[1] == 0 {
			return fmt.Errorf("exception: got %d bytes and code %d, expected 2 bytes and a code above 0: %w", len(body), body[1], ErrBadReply)
		}
		return nil
	case body[0] != function:
		return fmt.Errorf("function: got %d, expected %d: %w", body[0], function, ErrBadReply)
	}
	if function == writeOne || function == writeMany {
		// A write is confirmed with its address and what was written: the word, or how many there were.
		if len(body) != 5 || [4]byte(body[1:]) != [4]byte(request[1:]) {
			return fmt.Errorf("confirmation: got % x, expected % x: %w", body, request[:5], ErrBadReply)
		}
		return nil
	}
	count := int(binary.BigEndian.Uint16(request[3:]))
	if int(body[1]) != 2*count || len(body) != 2+2*count {
		return fmt.Errorf("registers: got %d bytes in a reply of %d, expected %d registers in %d: %w", body[1], len(body), count, 2+2*count, ErrBadReply)
	}
	return nil
}
