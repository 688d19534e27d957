package street

import (
	"context"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// Bus gives the street's Modbus devices by unit id.
func (s *Street) Bus() map[byte]modbus.Unit {
	units := map[byte]modbus.Unit{}
	for _, h := range s.houses {
		for _, m := range h.Meters {
			if _, ok := m.Device.(device.Inverter); ok {
				units[m.Unit] = obedient{street: s, inverter: h.inverter}
			}
			if registers, ok := m.Device.(device.RegisterDevice); ok {
				units[m.Unit] = unit{street: s, meter: m, registers: registers}
			}
		}
	}
	return units
}

// unit answers with what its meter shows at the newest refresh.
type unit struct {
	street    *Street
	meter     *Meter
	registers device.RegisterDevice
}

func (u unit) Registers(ctx context.Context, table modbus.Table, address, count uint16) ([]uint16, error) {
	reading, err := u.meter.Reading(ctx, u.street.Latest())
	if err != nil {
		return nil, err
	}
	return u.registers.Registers(reading, table, address, count)
}
