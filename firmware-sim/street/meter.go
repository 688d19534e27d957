package street

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// ErrKey is returned for a file that holds no signing key. Its content is never
// part of an error.
var ErrKey = errors.New("not a key file")

// Meter is one device of a house: the counters of its role, and the device that
// shows them. It implements device.Readings.
type Meter struct {
	Role       string
	Definition string
	Protocol   device.Protocol
	Unit       byte
	Topic      string
	Device     device.Device

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
		Role: c.Role, Definition: c.Definition, Protocol: kind.Protocol, Unit: c.Unit, Topic: c.Topic,
		street: s, house: h,
		importStart: home.CounterStart(homeSeed, c.Role+" import", lowestStart, highestStart),
		exportStart: home.CounterStart(homeSeed, c.Role+" export", lowestStart, highestStart),
	}
	spec := device.Spec{
		Serial: uint32(home.Seed(homeSeed, c.Role)%90_000_000) + 10_000_000, // eight digits
		Unit:   c.Unit, Topic: c.Topic, Readings: m, Rating: h.rating(),
	}
	var err error
	if c.Key != "" {
		if spec.Key, err = readKey(c.Key); err != nil {
			return nil, err
		}
	}
	m.Device, err = kind.New(spec)
	return m, err
}

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

// Reading is what the meter has counted at a refresh.
func (m *Meter) Reading(ctx context.Context, index int64) (device.Reading, error) {
	var reading device.Reading
	err := m.Walk(ctx, index, index, func(r device.Reading) { reading = r })
	return reading, err
}

// Walk gives the readings at from..to in order, both included.
func (m *Meter) Walk(ctx context.Context, from, to int64, each func(device.Reading)) error {
	var before device.Reading
	return m.house.history.Walk(ctx, from-1, to, func(index int64, s home.State) {
		r := m.reading(index, s)
		if index >= from {
			r.Power = home.MeanPower(r.Import-before.Import-r.Export+before.Export, m.house.refresh)
			each(r)
		}
		before = r
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
