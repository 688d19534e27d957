package device

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// Protocol is how a device is reached.
type Protocol string

// The protocols.
const (
	Modbus Protocol = "modbus"
	MQTT   Protocol = "mqtt"
)

// Reading is what a meter has counted at a refresh.
type Reading struct {
	Index          int64 // refreshes since 1970
	At             time.Time
	Import, Export home.MilliWattHours
	Power          home.MilliWatts // mean since the refresh before; import is positive
}

// ImportWh is the import counter, in the Wh that are full.
func (r Reading) ImportWh() uint64 { return uint64(r.Import / home.MilliWattHoursPerWattHour) } //nolint:gosec // G115: counters are ≥ 0

// ExportWh is the export counter, in the Wh that are full.
func (r Reading) ExportWh() uint64 { return uint64(r.Export / home.MilliWattHoursPerWattHour) } //nolint:gosec // G115: counters are ≥ 0

// Readings gives a meter's readings by refresh.
type Readings interface {
	// First is the refresh at which the meter's time begins.
	First() int64
	// Walk gives the readings at from..to in order, both included.
	Walk(ctx context.Context, from, to int64, each func(Reading)) error
}

// Message is what a device publishes.
type Message struct {
	Topic   string
	Payload []byte
	Retain  bool
	QoS     byte
}

// Spec is what tells one device of a kind from another.
type Spec struct {
	Serial   uint32
	Unit     byte               // Modbus
	Topic    string             // MQTT
	Key      ed25519.PrivateKey // of a kind that signs
	Readings Readings           // of this meter, for a kind that signs its whole history
	Rating   Rating             // of an inverter
}

// Device is a meter of any kind. Its methods may be called from many goroutines.
type Device interface {
	// Shown is what the device's own register says of a counter in Wh.
	Shown(wh uint64) uint64
}

// RegisterDevice is a meter on Modbus.
type RegisterDevice interface {
	Device
	// Registers returns count registers of a table, all made of one reading. Its
	// errors are modbus exceptions.
	Registers(r Reading, table modbus.Table, address, count uint16) ([]uint16, error)
}

// Publisher is a meter on MQTT.
type Publisher interface {
	Device
	// Birth is published when the connection is there, Will when the device goes;
	// the broker is told to publish Will too if it goes without a word.
	Birth() Message
	Will() Message
	// Messages are what the device publishes at a refresh.
	Messages(ctx context.Context, r Reading) ([]Message, error)
}

// Kind is one row of the table: a kind of device. Exactly one of its functions
// is set.
type Kind struct {
	Protocol Protocol
	// Signs: the device signs its readings and needs a key.
	Signs     bool
	registers func(Spec) RegisterDevice
	inverter  func(Spec) Inverter
	publisher func(Spec) (Publisher, error)
}

var kinds = map[string]Kind{
	"eastron-sdm630":     {Protocol: Modbus, registers: func(s Spec) RegisterDevice { return sdm630{s} }},
	"sunspec-meter":      {Protocol: Modbus, registers: func(s Spec) RegisterDevice { return sunSpecMeter{s} }},
	"sunspec-battery":    {Protocol: Modbus, inverter: newSunSpecBattery},
	"sunspec-der":        {Protocol: Modbus, inverter: newSunSpecDER},
	"huawei-luna2000":    {Protocol: Modbus, inverter: newHuaweiLuna},
	"solaredge-storedge": {Protocol: Modbus, inverter: newSolarEdge},
	"tasmota":            {Protocol: MQTT, publisher: func(s Spec) (Publisher, error) { return tasmota{s}, nil }},
	"commonwatt-signed":  {Protocol: MQTT, Signs: true, publisher: newSignedMeter},
	"shelly-gen2":        {Protocol: MQTT, publisher: func(s Spec) (Publisher, error) { return shelly{s}, nil }},
}

// Kinds are the names that Lookup knows, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// Lookup finds a kind by the id of its definition.
func Lookup(id string) (Kind, bool) {
	k, ok := kinds[id]
	return k, ok
}

// Obeys says that the device is a battery's inverter, an Inverter.
func (k Kind) Obeys() bool { return k.inverter != nil }

// New makes a device of this kind: an Inverter, a RegisterDevice or a Publisher.
func (k Kind) New(s Spec) (Device, error) {
	if k.Signs != (s.Key != nil) {
		return nil, fmt.Errorf("making a device: it signs: %t, it was given a key: %t", k.Signs, s.Key != nil)
	}
	if k.inverter != nil {
		if s.Rating.Battery <= 0 || s.Rating.Output <= 0 || s.Rating.Capacity <= 0 {
			return nil, fmt.Errorf("making an inverter: got rating %+v, want a battery with a power and a capacity", s.Rating)
		}
		return k.inverter(s), nil
	}
	if k.registers != nil {
		return k.registers(s), nil
	}
	return k.publisher(s)
}
