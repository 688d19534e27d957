package modbus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// answer is the whole protocol above the frame.
func (s *Server) answer(ctx context.Context, unit byte, pdu []byte) []byte {
	answer, err := s.execute(ctx, unit, pdu)
	if err == nil {
		return answer
	}
	var exception Exception
	if !errors.As(err, &exception) {
		if ctx.Err() == nil {
			s.opts.Log.ErrorContext(ctx, "modbus unit failed", "unit", unit, "err", err)
		}
		exception = ServerDeviceFailure
	}
	s.opts.Log.DebugContext(ctx, "modbus request refused", "unit", unit, "exception", byte(exception))
	return []byte{pdu[0] | 0x80, byte(exception)}
}

func (s *Server) execute(ctx context.Context, unit byte, pdu []byte) ([]byte, error) {
	device, ok := s.units[unit]
	if !ok {
		return nil, GatewayTarget
	}
	r, err := decodeRequest(pdu)
	if err != nil {
		return nil, err
	}
	if r.words != nil {
		writer, ok := device.(Writer)
		if !ok {
			return nil, IllegalFunction
		}
		if err := writer.Write(ctx, r.address, r.words); err != nil {
			return nil, err
		}
		return append([]byte(nil), pdu[:5]...), nil // both functions echo function, address and value or count
	}
	registers, err := device.Registers(ctx, Table(r.function), r.address, r.count)
	if err != nil {
		return nil, err
	}
	if len(registers) != int(r.count) {
		return nil, fmt.Errorf("unit %d gave %d registers, want %d", unit, len(registers), r.count)
	}
	answer := make([]byte, 0, 2+2*len(registers))
	answer = append(answer, r.function, byte(2*r.count)) //nolint:gosec // G115: at most 250
	for _, register := range registers {
		answer = binary.BigEndian.AppendUint16(answer, register)
	}
	return answer, nil
}
