package street

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// inverter is a house's device that obeys, as it is after the last write. Writes
// are serialised by the lock of the house's history.
type inverter struct {
	house *House
	meter *Meter
	now   atomic.Pointer[device.Inverter]
}

func newInverter(h *House, m *Meter, d device.Inverter) *inverter {
	i := &inverter{house: h, meter: m}
	i.now.Store(&d)
	return i
}

// rating is what the house's inverter and battery are built for; zero without.
func (h *House) rating() device.Rating {
	b := h.home.Battery
	if b == nil {
		return device.Rating{}
	}
	r := device.Rating{Output: b.Power, Battery: b.Power, Capacity: b.Capacity, Floor: b.Floor}
	if h.home.Hybrid {
		r.Output, r.Solar = h.home.Rated, h.home.Rated
	}
	return r
}

// maxPieces bounds what follows from one write: each timer runs out once, and a
// ramp has two bends.
const maxPieces = 16

// write makes a command of a write at a community time or later. keep is called
// with the command's own time before anything changes; with its error, or if the
// device refuses the write, nothing does.
func (i *inverter) write(at int64, address uint16, words []uint16, keep func(at int64) error) error {
	return i.house.history.Command(at, func(at int64) ([]home.Piece, error) {
		next, err := (*i.now.Load()).Write(at, address, words)
		if err != nil {
			return nil, err
		}
		pieces, err := follow(next, at)
		if err != nil {
			return nil, err
		}
		if err := keep(at); err != nil {
			return nil, err
		}
		i.now.Store(&next)
		return pieces, nil
	})
}

// follow is what an inverter holds to from an instant on if nobody writes again.
func follow(d device.Inverter, at int64) ([]home.Piece, error) {
	var pieces []home.Piece
	for range maxPieces {
		control, until := d.Control(at)
		pieces = append(pieces, home.Piece{At: at, Control: control})
		if until == math.MaxInt64 {
			return pieces, nil
		}
		if until <= at {
			return nil, fmt.Errorf("control at %d ends at %d", at, until)
		}
		at = until
	}
	return nil, fmt.Errorf("more than %d changes follow from one write", maxPieces)
}

// condition is what the inverter measures at a community time of which index is
// the newest refresh, with a reading of that; one that is frozen shows what was.
func (i *inverter) condition(ctx context.Context, reading device.Reading, index, at int64) (device.Condition, error) {
	of := at
	if reading.Frozen != 0 {
		index, of = reading.Frozen, reading.Frozen*i.house.refresh
	}
	state, _, err := i.house.history.At(ctx, index)
	if err != nil {
		return device.Condition{}, err
	}
	moment, err := i.house.history.Moment(ctx, of)
	if err != nil {
		return device.Condition{}, err
	}
	m := i.meter
	c := device.Condition{
		Reading: reading, Now: at, Moment: moment,
		Charge: m.importStart + state.Charge, Discharge: m.exportStart + state.Discharge, Solar: m.exportStart + state.Solar,
	}
	if m.Role == config.RoleBattery { // its counters are the reading's, with all that is wrong with them
		c.Charge, c.Discharge = reading.Import, reading.Export
	}
	return c, nil
}

// obedient is the inverter on the bus.
type obedient struct {
	street   *Street
	inverter *inverter
}

func (o obedient) Registers(ctx context.Context, table modbus.Table, address, count uint16) ([]uint16, error) {
	index := o.street.Latest()
	at := max(o.street.Now().UnixMilli(), index*o.street.refresh) // a wall clock may be set back
	reading, err := o.inverter.meter.ShownAt(ctx, time.UnixMilli(at), index)
	if err != nil {
		return nil, err
	}
	condition, err := o.inverter.condition(ctx, reading, index, at)
	if err != nil {
		return nil, err
	}
	inverter := *o.inverter.now.Load()
	if other, ok := o.inverter.meter.device(condition.Reading).(device.Inverter); ok && condition.Identity > 0 {
		inverter = inverter.As(other)
	}
	return inverter.Registers(condition, table, address, count)
}

// Spoil is that of the inverter's meter.
func (o obedient) Spoil(a *wire.Answer) { o.inverter.meter.Spoil(a) }

// Write is a command at the community time at which it came.
func (o obedient) Write(_ context.Context, address uint16, words []uint16) error {
	at := max(o.street.Now().UnixMilli(), o.street.Latest()*o.street.refresh)
	return o.inverter.write(at, address, words, func(at int64) error {
		if o.street.journal == nil {
			return nil
		}
		return o.street.journal.append(record{
			At: at, Home: o.inverter.house.ID, Role: o.inverter.meter.Role, Address: address, Words: words,
		})
	})
}

// Orders are what a house's inverter holds to at an instant.
type Orders struct {
	Role, Definition string
	home.Moment
	Rating device.Rating
	Now    int64 // of the moment, milliseconds
	Until  int64 // when that changes if nobody writes again; math.MaxInt64: never
}

// Orders are those of the house's inverter at a community time; nil if it has
// none.
func (s *Street) Orders(ctx context.Context, h *House) (*Orders, error) {
	if h.inverter == nil {
		return nil, nil
	}
	index := s.Latest()
	reading, err := h.inverter.meter.Honest(ctx, index)
	if err != nil {
		return nil, err
	}
	c, err := h.inverter.condition(ctx, reading, index, max(s.Now().UnixMilli(), index*s.refresh))
	if err != nil {
		return nil, err
	}
	_, until := (*h.inverter.now.Load()).Control(c.Now)
	return &Orders{
		Role: h.inverter.meter.Role, Definition: h.inverter.meter.Definition,
		Moment: c.Moment, Rating: h.rating(), Now: c.Now, Until: until,
	}, nil
}
