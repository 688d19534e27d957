package street

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// ErrKey is returned for a file that holds no signing key. Its content is never
// part of an error.
var ErrKey = errors.New("not a key file")

// Meter is one device of a house: the counters of its role, and the device that
// shows them. As a device.Readings it gives what is shown, faults included.
type Meter struct {
	Role       string
	Definition string
	Kind       device.Kind
	Config     config.Device
	Transports []wire.Transport // by which it is reached
	Device     device.Device

	others []device.Device // of the same kind with other serial numbers
	street *Street
	house  *House
	// What the counters showed when time began: these meters have been in use.
	importStart, exportStart home.MilliWattHours
}

// The range of counters at the beginning of time. It leaves a meter that speaks
// in float32 kWh many years below the point from which it cannot say every Wh.
const (
	lowestStart  = 100 * 1_000_000 // mWh
	highestStart = 1900 * 1_000_000
)

func newMeter(s *Street, h *House, c config.Device, homeSeed uint64) (*Meter, error) {
	kind, ok := device.Lookup(c.Definition)
	if !ok {
		return nil, fmt.Errorf("there is no device %q", c.Definition)
	}
	m := &Meter{
		Role: c.Role, Definition: c.Definition, Kind: kind, Config: c,
		street: s, house: h,
		importStart: home.CounterStart(homeSeed, c.Role+" import", lowestStart, highestStart),
		exportStart: home.CounterStart(homeSeed, c.Role+" export", lowestStart, highestStart),
	}
	var key ed25519.PrivateKey
	var err error
	if c.Key != "" {
		if key, err = readKey(c.Key); err != nil {
			return nil, err
		}
	}
	for other := range 1 + identities {
		spec := device.Spec{
			Serial: uint32((home.Seed(homeSeed, c.Role)+uint64(other)*7_654_321)%90_000_000) + 10_000_000, // eight digits
			Unit:   c.Unit, Topic: c.Topic, Version: c.Version, Key: key, Readings: m, Counted: counted{m}, Rating: h.rating(),
		}
		if key != nil && other > 0 {
			sum := sha256.Sum256(append(key.Seed(), byte(other)))
			spec.Key = ed25519.NewKeyFromSeed(sum[:])
		}
		d, err := kind.New(spec)
		if err != nil {
			return nil, err
		}
		if other == 0 {
			m.Device = d
		} else {
			m.others = append(m.others, d)
		}
	}
	return m, nil
}

// identities is how many other devices of its kind a meter can be swapped for.
const identities = 3

// readKey reads an Ed25519 seed as 64 hexadecimal digits.
func readKey(file string) (ed25519.PrivateKey, error) {
	f, err := os.Open(file) //nolint:gosec // G304: the configuration named the file
	if err != nil {
		return nil, fmt.Errorf("opening a key: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	text, err := io.ReadAll(io.LimitReader(f, 4*ed25519.SeedSize))
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	seed := make([]byte, ed25519.SeedSize)
	text = bytes.TrimSpace(text)
	if n, err := hex.Decode(seed, text[:min(len(text), 2*len(seed)+1)]); err != nil || n != len(seed) {
		return nil, fmt.Errorf("reading %s: %w: want %d hexadecimal digits of an Ed25519 seed", file, ErrKey, 2*len(seed))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// Latest is the newest refresh that has come.
func (m *Meter) Latest() int64 { return m.street.Latest() }

// First is the refresh at which the meter's time begins.
func (m *Meter) First() int64 { return m.house.history.First() }

// Key names the meter for package fault.
func (m *Meter) Key() fault.Key { return fault.Key{Home: m.house.ID, Role: m.Role} }

// Reading is what the meter showed at a refresh, at the moment of that.
func (m *Meter) Reading(ctx context.Context, index int64) (device.Reading, error) {
	return m.shown(ctx, timeOf(index, m.house.refresh), index)
}

// Now is what the meter shows now.
func (m *Meter) Now(ctx context.Context) (device.Reading, error) {
	index := m.street.Latest()
	return m.shown(ctx, m.street.Now(), index)
}

// ShownAt is what the meter showed at an instant, Counted what it itself had
// counted by then, and Honest what had really flowed. Index is the newest refresh
// at that instant.
func (m *Meter) ShownAt(ctx context.Context, at time.Time, index int64) (device.Reading, error) {
	return m.shown(ctx, at, index)
}

// Counted is explained at ShownAt.
func (m *Meter) Counted(ctx context.Context, at time.Time, index int64) (device.Reading, error) {
	if m.street.Faults == nil {
		return m.Honest(ctx, index)
	}
	return m.street.Faults.Counted(ctx, m.Key(), honest{m}, at, index)
}

// Honest is explained at ShownAt.
func (m *Meter) Honest(ctx context.Context, index int64) (reading device.Reading, err error) {
	err = honest{m}.Walk(ctx, index, index, func(r device.Reading) { reading = r })
	return reading, err
}

func (m *Meter) shown(ctx context.Context, at time.Time, index int64) (device.Reading, error) {
	if m.street.Faults == nil {
		return m.Honest(ctx, index)
	}
	return m.street.Faults.Show(ctx, m.Key(), honest{m}, at, index)
}

// device is the one that shows a reading.
func (m *Meter) device(r device.Reading) device.Device {
	if r.Identity > 0 && r.Identity <= len(m.others) {
		return m.others[r.Identity-1]
	}
	return m.Device
}

// Messages are what the meter publishes at a refresh.
func (m *Meter) Messages(ctx context.Context, index int64) ([]device.Message, error) {
	r, err := m.Reading(ctx, index)
	if err != nil {
		return nil, err
	}
	publisher, ok := m.device(r).(device.Publisher)
	if !ok {
		return nil, fmt.Errorf("%s publishes nothing", m.Definition)
	}
	return publisher.Messages(ctx, r)
}

// Telegram is what the meter sends at a refresh.
func (m *Meter) Telegram(ctx context.Context, index int64) ([]byte, error) {
	r, err := m.Reading(ctx, index)
	if err != nil {
		return nil, err
	}
	telegrapher, ok := m.device(r).(device.Telegrapher)
	if !ok {
		return nil, fmt.Errorf("%s sends no telegrams", m.Definition)
	}
	return telegrapher.Telegram(ctx, r)
}

// Page is what the meter has at a path now; nil: nothing.
func (m *Meter) Page(ctx context.Context, path, query string) ([]byte, error) {
	r, err := m.Now(ctx)
	if err != nil {
		return nil, err
	}
	pager, ok := m.device(r).(device.Pager)
	if !ok {
		return nil, fmt.Errorf("%s has no pages", m.Definition)
	}
	return pager.Page(r, path, query)
}

// Walk gives what was shown at from..to in order, both included.
func (m *Meter) Walk(ctx context.Context, from, to int64, each func(device.Reading)) error {
	if m.street.Faults == nil {
		return honest{m}.Walk(ctx, from, to, each)
	}
	for index := from; index <= to; index++ {
		r, err := m.Reading(ctx, index)
		if err != nil {
			return err
		}
		each(r)
	}
	return nil
}

// counted gives what the meter itself has counted.
type counted struct{ *Meter }

func (m counted) Walk(ctx context.Context, from, to int64, each func(device.Reading)) error {
	if m.street.Faults == nil {
		return honest(m).Walk(ctx, from, to, each)
	}
	for index := from; index <= to; index++ {
		r, err := m.Counted(ctx, timeOf(index, m.house.refresh), index)
		if err != nil {
			return err
		}
		each(r)
	}
	return nil
}

// honest gives what has really flowed.
type honest struct{ *Meter }

func (m honest) Walk(ctx context.Context, from, to int64, each func(device.Reading)) error {
	var before device.Reading
	var single home.MilliWattHours
	return m.house.history.Walk(ctx, from-1, to, func(index int64, s home.State) {
		r := m.reading(index, s)
		if index >= from {
			r.Power = home.MeanPower(r.Import-before.Import-r.Export+before.Export, m.house.refresh)
			if m.Role == config.RoleGrid {
				r.OnePhase = home.MeanPower(s.Single-single, m.house.refresh)
			}
			each(r)
		}
		before, single = r, s.Single
	})
}

// reading gives the counters of the meter's role, without the power.
func (m *Meter) reading(index int64, s home.State) device.Reading {
	r := device.Reading{Index: index, At: timeOf(index, m.house.refresh), Import: m.importStart, Export: m.exportStart}
	switch m.Role {
	case config.RoleGrid:
		r.Import += s.Import
		r.Export += s.Export
	case config.RoleSolar:
		r.Export += s.Solar
	case config.RoleBattery:
		r.Import += s.Charge
		r.Export += s.Discharge
	case config.RoleInverter:
		r.Import += s.Taken
		r.Export += s.Given
	}
	return r
}
