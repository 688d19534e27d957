package modbus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Table is one of the two tables of 16-bit registers that a device has.
type Table byte

// The tables, by the function that reads them.
const (
	Holding Table = 3
	Input   Table = 4
)

// Exception is a refusal that the protocol knows. It is an error, so that a
// unit returns it as such.
type Exception byte

// The exceptions that this server uses.
const (
	IllegalFunction     Exception = 0x01
	IllegalDataAddress  Exception = 0x02
	IllegalDataValue    Exception = 0x03
	ServerDeviceFailure Exception = 0x04
	// ServerDeviceBusy says that the device has something longer to do.
	ServerDeviceBusy Exception = 0x06
	// GatewayTarget says that the device behind a gateway did not respond.
	GatewayTarget Exception = 0x0B
)

// Error names the exception.
func (e Exception) Error() string {
	switch e {
	case IllegalFunction:
		return "modbus exception 1, illegal function"
	case IllegalDataAddress:
		return "modbus exception 2, illegal data address"
	case IllegalDataValue:
		return "modbus exception 3, illegal data value"
	case ServerDeviceFailure:
		return "modbus exception 4, server device failure"
	case ServerDeviceBusy:
		return "modbus exception 6, server device busy"
	case GatewayTarget:
		return "modbus exception 11, gateway target device failed to respond"
	default:
		return fmt.Sprintf("modbus exception %d", byte(e))
	}
}

const (
	headerLength = 7   // transaction, protocol, length, unit
	maxPDU       = 253 // function and data
	// MaxCount is how many registers fit into one answer.
	MaxCount = 125
)

// ErrFrame is returned for bytes that are no Modbus TCP frame.
var ErrFrame = errors.New("not a modbus frame")

// frame is one request or answer. The PDU begins with the function code.
type frame struct {
	transaction uint16
	unit        byte
	pdu         []byte
}

// readFrame reads one frame into buffer, however the bytes were split. At a
// clean end between two frames it returns io.EOF.
func readFrame(r io.Reader, buffer *[headerLength + maxPDU]byte) (frame, error) {
	if _, err := io.ReadFull(r, buffer[:headerLength]); err != nil {
		return frame{}, err
	}
	if protocol := binary.BigEndian.Uint16(buffer[2:]); protocol != 0 {
		return frame{}, fmt.Errorf("%w: got protocol id %d, want 0", ErrFrame, protocol)
	}
	length := int(binary.BigEndian.Uint16(buffer[4:]))
	if length < 2 || length > 1+maxPDU {
		return frame{}, fmt.Errorf("%w: got length %d, want 2 to %d", ErrFrame, length, 1+maxPDU)
	}
	pdu := buffer[headerLength : headerLength+length-1]
	if _, err := io.ReadFull(r, pdu); err != nil {
		return frame{}, fmt.Errorf("reading %d bytes of a frame: %w", len(pdu), err)
	}
	return frame{transaction: binary.BigEndian.Uint16(buffer[0:]), unit: buffer[6], pdu: pdu}, nil
}

// append encodes the frame.
func (f frame) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, f.transaction)
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.pdu)+1)) //nolint:gosec // G115: at most 254
	b = append(b, f.unit)
	return append(b, f.pdu...)
}

// The functions that write, both to the holding registers.
const (
	writeSingle   = 0x06
	writeMultiple = 0x10
	// MaxWrite is how many registers fit into one request.
	MaxWrite = 123
)

// request is a decoded request: for count registers, or to write words.
type request struct {
	function       byte
	address, count uint16
	words          []uint16 // of a write
}

// decodeRequest decodes a PDU, or says with which exception to refuse it.
func decodeRequest(pdu []byte) (request, error) {
	if len(pdu) == 0 {
		return request{}, IllegalFunction
	}
	var want int
	switch pdu[0] {
	case byte(Holding), byte(Input), writeSingle:
		want = 5
	case writeMultiple:
		if len(pdu) < 6 || pdu[5] == 0 || pdu[5]%2 != 0 {
			return request{}, IllegalDataValue
		}
		want = 6 + int(pdu[5])
	default:
		return request{}, IllegalFunction
	}
	if len(pdu) != want {
		return request{}, IllegalDataValue
	}
	r := request{function: pdu[0], address: binary.BigEndian.Uint16(pdu[1:]), count: binary.BigEndian.Uint16(pdu[3:])}
	most := uint16(MaxCount)
	switch pdu[0] {
	case writeSingle:
		r.count, r.words = 1, []uint16{r.count}
	case writeMultiple:
		most = MaxWrite
		for at := 6; at < len(pdu); at += 2 {
			r.words = append(r.words, binary.BigEndian.Uint16(pdu[at:]))
		}
		if len(r.words) != int(r.count) {
			return request{}, IllegalDataValue
		}
	}
	if r.count < 1 || r.count > most {
		return request{}, IllegalDataValue
	}
	if int(r.address)+int(r.count) > 1<<16 {
		return request{}, IllegalDataAddress
	}
	return r, nil
}
