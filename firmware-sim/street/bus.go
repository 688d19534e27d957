package street

import (
	"context"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Faults stand between what a meter has counted and what it shows; *fault.Book is
// the one there is.
type Faults interface {
	Show(ctx context.Context, key fault.Key, honest device.Readings, at time.Time, index int64) (device.Reading, error)
	Counted(ctx context.Context, key fault.Key, honest device.Readings, at time.Time, index int64) (device.Reading, error)
	Spoil(key fault.Key, at time.Time, a *wire.Answer)
	Dead(key fault.Key, at time.Time) bool
	BrokerDown(at time.Time) bool
}

// transports are the ways by which a device is reached.
func transports(cfg *config.Config, kind device.Kind, c config.Device) (list []wire.Transport) {
	for _, t := range []struct {
		transport wire.Transport
		there     bool
	}{
		{wire.TCP, kind.Protocol == device.Modbus && cfg.Modbus != nil},
		{wire.TLS, kind.Protocol == device.Modbus && cfg.ModbusTLS != nil},
		{wire.RTU, kind.Protocol == device.Modbus && cfg.RTU != nil},
		{wire.RTUOverTCP, kind.Protocol == device.Modbus && cfg.RTUOverTCP != nil},
		{wire.MQTT, c.Topic != ""},
		{wire.P1TCP, kind.Protocol == device.P1 && c.Listen != ""},
		{wire.P1Serial, kind.Protocol == device.P1 && c.Link != ""},
		{wire.HTTP, kind.Protocol != device.P1 && c.Listen != ""},
	} {
		if t.there {
			list = append(list, t.transport)
		}
	}
	return list
}

// Struck lists the devices of the street for package fault.
func (s *Street) Struck() (list []fault.Device) {
	for _, h := range s.houses {
		for _, m := range h.Meters {
			list = append(list, fault.Device{
				Home: h.ID, Role: m.Role, Definition: m.Definition, Transports: slices.Clone(m.Transports),
				Unknowns: m.Kind.Unknowns, Scales: m.Kind.Scales, Clock: m.Kind.Clock, Obeys: m.Kind.Obeys(),
				WrapWh: m.Kind.Wrap(),
			})
		}
	}
	return list
}

// Spoil changes an answer of the meter as the faults have it.
func (m *Meter) Spoil(a *wire.Answer) {
	if m.street.Faults != nil {
		m.street.Faults.Spoil(m.Key(), m.street.Now(), a)
	}
}

// Dead says whether the meter cannot publish now: it is without power, or the
// broker is away.
func (m *Meter) Dead() bool {
	now := m.street.Now()
	return m.street.Faults != nil && (m.street.Faults.Dead(m.Key(), now) || m.street.Faults.BrokerDown(now))
}

// Bus gives the street's Modbus devices by unit id.
func (s *Street) Bus() map[byte]modbus.Unit {
	units := map[byte]modbus.Unit{}
	for _, h := range s.houses {
		for _, m := range h.Meters {
			if _, ok := m.Device.(device.Inverter); ok {
				units[m.Config.Unit] = obedient{street: s, inverter: h.inverter}
			}
			if _, ok := m.Device.(device.RegisterDevice); ok {
				units[m.Config.Unit] = unit{meter: m}
			}
		}
	}
	return units
}

// unit answers with what its meter shows at the newest refresh.
type unit struct{ meter *Meter }

func (u unit) Registers(ctx context.Context, table modbus.Table, address, count uint16) ([]uint16, error) {
	reading, err := u.meter.Now(ctx)
	if err != nil {
		return nil, err
	}
	registers, ok := u.meter.device(reading).(device.RegisterDevice)
	if !ok {
		return nil, modbus.ServerDeviceFailure
	}
	return registers.Registers(reading, table, address, count)
}

// Spoil is that of the meter.
func (u unit) Spoil(a *wire.Answer) { u.meter.Spoil(a) }
