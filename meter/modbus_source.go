package meter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
	"github.com/commonwatt/commonwatt/meter/serial"
)

// modbusSource reads one unit on a bus. The device is surveyed at the start and after each new connection, for another
// one may have been put in its place.
type modbusSource struct {
	def     Definition
	bus     *modbus.Bus
	release func() error
	unit    uint8
	now     func() time.Time

	survey     def.Survey
	surveyed   bool
	generation uint64 // of the connection that the survey is from
	seen       uint64 // of the last answer
	arrived    time.Time
	raw        []byte // the registers of this look
}

// The Modbus units that a device on a line may have, and the one that stands for the TCP device itself.
const (
	maxUnit     = 247
	wholeDevice = 255
)

func openModbus(c Config, d Definition, a address) (Source, error) {
	line, err := modbusLine(c, a)
	if err != nil {
		return nil, err
	}
	onSerial := a.scheme == "rtu" || a.scheme == "rtu+tcp"
	switch {
	case onSerial && c.Unit > maxUnit:
		return nil, &ConfigError{Field: "unit", Got: strconv.Itoa(int(c.Unit)), Want: "1 to 247 on a serial line"}
	case c.Unit > maxUnit && c.Unit != wholeDevice:
		return nil, &ConfigError{Field: "unit", Got: strconv.Itoa(int(c.Unit)), Want: "1 to 247, or 255 for a device of its own"}
	}
	unit := c.Unit
	if unit == 0 {
		unit = 1
		if d.Modbus != nil && d.Modbus.Unit != 0 {
			unit = d.Modbus.Unit
		}
		if d.SunSpec != nil && d.SunSpec.Unit != 0 {
			unit = d.SunSpec.Unit
		}
	}
	pool := c.Pool
	if pool == nil {
		pool = modbus.NewPool(modbus.Options{Timeout: c.Timeout, Log: c.Log})
	}
	bus, release, err := pool.Get(line)
	if err != nil {
		return nil, &ConfigError{Field: "address", Got: withoutUser(c.Address), Want: err.Error()}
	}
	return &modbusSource{def: d, bus: bus, release: release, unit: unit, now: c.Now}, nil
}

// modbusLine is the line that an address means.
func modbusLine(c Config, a address) (modbus.Line, error) {
	switch a.scheme {
	case "tcp+tls":
		config, err := c.TLS.clientConfig()
		if err != nil {
			return modbus.Line{}, err
		}
		return modbus.TLS(a.host, config, fmt.Sprintf("%+v", c.TLS)), nil
	case "rtu":
		return modbus.RTU(serial.Settings{
			Device: a.line.device, Baud: a.line.baud, DataBits: a.line.dataBits,
			Parity: serial.Parity(a.line.parity[0]), StopBits: a.line.stopBits,
		}), nil
	case "rtu+tcp":
		return modbus.RTUOverTCP(a.host), nil
	}
	return modbus.TCP(a.host), nil
}

func (s *modbusSource) Push() bool             { return false }
func (s *modbusSource) Definition() Definition { return s.def }
func (s *modbusSource) Close() error           { return s.release() }

func (s *modbusSource) Identity(ctx context.Context) (Identity, error) {
	survey, err := s.def.Survey(ctx, s.read)
	if err != nil {
		return Identity{}, err
	}
	return survey.Identity, nil
}

// maxSurveys bounds how often a device is surveyed within one Read: once at the start or after a new connection, and
// once more to see that nothing changed while it was.
const maxSurveys = 3

// Read reads the values between two looks at one and the same device, so that no value is put down to another one.
func (s *modbusSource) Read(ctx context.Context) (Sample, error) {
	changed := false
	for range maxSurveys {
		if !s.surveyed {
			survey, err := s.def.Survey(ctx, s.read)
			if err != nil {
				return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
			}
			s.survey, s.generation, s.surveyed = survey, s.seen, true
		}
		asked := s.now()
		s.raw = nil
		values, err := s.def.ReadValues(ctx, s.read, s.survey)
		if err != nil {
			s.surveyed = s.surveyed && errors.Is(err, modbus.ErrBackoff)
			return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
		}
		at, raw := s.arrived, s.raw
		if s.seen != s.generation {
			// The connection is another one than that of the survey: look again who is there.
			again, err := s.def.Survey(ctx, s.read)
			if err != nil {
				s.surveyed = false
				return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
			}
			same := again.Equal(s.survey)
			changed = changed || again.Identity.Contradicts(s.survey.Identity)
			s.survey, s.generation = again, s.seen
			if !same {
				continue // the values may have been of either
			}
		}
		sample := s.sample(values, asked, at, changed)
		sample.Raw = raw
		return sample, nil
	}
	return Sample{}, fmt.Errorf("meter %s: device changes while it is read: %w", s.def.ID, def.ErrWrongDevice)
}

func (s *modbusSource) sample(v def.Values, asked, at time.Time, changed bool) Sample {
	sample := sampleOf(v, at, s.def)
	sample.AskedAt = asked
	sample.Identity = s.survey.Identity
	if changed {
		sample.Quality |= IdentityChanged
	}
	return sample
}

// sampleOf gives values their time and quality.
func sampleOf(v def.Values, at time.Time, d Definition) Sample {
	sample := Sample{
		At: at, ImportWh: v.ImportWh, ExportWh: v.ExportWh, PowerW: v.PowerW,
		ImportTraits: v.ImportTraits, ExportTraits: v.ExportTraits, DeviceAt: v.DeviceAt, AskedAt: v.Since, Source: d.Source(), Origins: v.Origins,
	}
	for _, f := range []struct {
		is  bool
		bit Quality
	}{{v.DeviceError, DeviceError}, {v.OutOfRange, OutOfRange}, {v.Retained, Retained}} {
		if f.is {
			sample.Quality |= f.bit
		}
	}
	return sample
}

func (s *modbusSource) read(ctx context.Context, function uint8, address, count uint16) ([]uint16, error) {
	words, generation, err := s.bus.Read(ctx, s.unit, function, address, count)
	s.arrived = s.now()
	if err != nil {
		var refused *modbus.Exception
		if errors.As(err, &refused) && refused.HasNone() {
			return nil, fmt.Errorf("%w: %w", def.ErrRefused, err)
		}
		return nil, err
	}
	s.seen = generation
	if s.raw = fmt.Appendf(s.raw, "%d %d:", function, address); len(s.raw)+5*len(words) < MaxRaw {
		for _, w := range words {
			s.raw = fmt.Appendf(s.raw, " %04x", w)
		}
	}
	s.raw = bounded(append(s.raw, '\n'))
	return words, nil
}
