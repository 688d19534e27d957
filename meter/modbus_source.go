package meter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/modbus"
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
		values, err := s.def.ReadValues(ctx, s.read, s.survey)
		if err != nil {
			s.surveyed = s.surveyed && errors.Is(err, modbus.ErrBackoff)
			return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
		}
		at := s.arrived
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
		return s.sample(values, asked, at, changed), nil
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
		ImportTraits: v.ImportTraits, ExportTraits: v.ExportTraits, DeviceAt: v.DeviceAt, Source: d.Source(),
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
		if errors.As(err, &refused) && !refused.FromGateway() {
			return nil, fmt.Errorf("%w: %w", def.ErrRefused, err)
		}
		return nil, err
	}
	s.seen = generation
	return words, nil
}
