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
	P1     Protocol = "p1"
	HTTP   Protocol = "http"
)

// Reading is what a meter has counted at a refresh.
type Reading struct {
	Index          int64 // refreshes since 1970
	At             time.Time
	Import, Export home.MilliWattHours
	Power          home.MilliWatts // mean since the refresh before; import is positive

	// OnePhase is what of the power is on the first phase alone; the rest is spread.
	OnePhase home.MilliWatts

	// What is wrong with it, as package fault has it; zero: nothing.
	NoCounters, NoPower bool  // the device says that it does not know them
	Exponent            int   // it gives energies in another power of ten
	Identity            int   // it is another device: the serial number differs
	Frozen              int64 // it shows what was at that refresh; 0: it does not
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
	Version  string             // of a kind that has versions; "" is the first of them
	Readings Readings           // of this meter, for a kind that signs its whole history
	Rating   Rating             // of an inverter
	Counted  Readings           // and what it counted, for one that divides that by tariff
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

// Telegrapher is a meter on P1.
type Telegrapher interface {
	Device
	// Telegram is what the device sends at a refresh.
	Telegram(ctx context.Context, r Reading) ([]byte, error)
}

// Pager is a meter on HTTP.
type Pager interface {
	Device
	// Page is the JSON that the device has at a path with a query; nil: it has none.
	Page(r Reading, path, query string) ([]byte, error)
}

// Kind is one row of the table: a kind of device. Exactly one of its functions
// is set.
type Kind struct {
	Protocol Protocol
	Sentence string
	// Signs: the device signs its readings and needs a key.
	Signs bool
	// Pages: the device is a Pager too, or one only if its protocol is HTTP.
	Pages bool
	// Unknowns: it has a way to say that it does not know. Scales: its scale factor is
	// a register. Clock: it says what time it is.
	Unknowns, Scales, Clock bool
	// Versions that it comes in; nil: one.
	Versions []string
	// WrapWh is where its counters begin anew; 0: after six digits of kWh.
	WrapWh uint64

	registers func(Spec) RegisterDevice
	inverter  func(Spec) Inverter
	publisher func(Spec) (Publisher, error)
	telegraph func(Spec) Telegrapher
	pager     func(Spec) Pager
}

var kinds = map[string]Kind{
	"eastron-sdm630": {
		Protocol: Modbus, Unknowns: true, registers: func(s Spec) RegisterDevice { return sdm630{s} },
		Sentence: "Eastron SDM630, three phases: float32 kWh in input registers.",
	},
	"sunspec-meter": {
		Protocol: Modbus, Unknowns: true, Scales: true, WrapWh: 1 << 32, registers: func(s Spec) RegisterDevice { return sunSpecMeter{s} },
		Sentence: "A SunSpec meter, model 203: 32-bit Wh with a scale factor in holding registers from 40000 on.",
	},
	"sunspec-battery": {
		Protocol: Modbus, Unknowns: true, inverter: newSunSpecBattery,
		Sentence: "A battery's inverter that obeys, by the SunSpec models for storage, 124 and its companions.",
	},
	"sunspec-der": {
		Protocol: Modbus, Unknowns: true, inverter: newSunSpecDER,
		Sentence: "A battery's inverter that obeys, by the newer SunSpec models, 704 and its companions.",
	},
	"huawei-luna2000": {
		Protocol: Modbus, Unknowns: true, inverter: newHuaweiLuna,
		Sentence: "A Huawei inverter with a LUNA2000 battery, by the maker's own registers.",
	},
	"solaredge-storedge": {
		Protocol: Modbus, Unknowns: true, inverter: newSolarEdge,
		Sentence: "A SolarEdge inverter with a battery, by the maker's own registers.",
	},
	"tasmota": {
		Protocol: MQTT, Pages: true, Unknowns: true, Clock: true, publisher: func(s Spec) (Publisher, error) { return tasmota{s}, nil },
		Sentence: "A reading head with the Tasmota firmware: kWh to four decimals on MQTT, and at /cm?cmnd=Status%208.",
	},
	"commonwatt-signed": {
		Protocol: MQTT, Signs: true, Unknowns: true, Clock: true, publisher: newSignedMeter,
		Sentence: "A meter that signs and chains its readings in its firmware.",
	},
	"dsmr-p1": {
		Protocol: P1, Unknowns: true, Clock: true, Versions: []string{dsmr5, dsmr4, dsmr2}, telegraph: newDSMR,
		Sentence: "A Dutch meter's P1 port, 5.0, 4.2 or 2.2: kWh to three decimals by two tariffs, with time stamp and CRC.",
	},
	"homewizard-p1": {
		Protocol: HTTP, Unknowns: true, pager: newHomeWizard,
		Sentence: "HomeWizard P1 meter: the telegram of a Dutch meter as JSON at /api/v1/data.",
	},
	"shelly-3em": {
		Protocol: HTTP, Unknowns: true, Clock: true, pager: func(s Spec) Pager { return shelly3EM{s} },
		Sentence: "Shelly 3EM, first generation: Wh of three phases at /status.",
	},
	"zigbee2mqtt": {
		Protocol: MQTT, Unknowns: true, publisher: func(s Spec) (Publisher, error) { return zigbee{s}, nil },
		Sentence: "A Zigbee meter behind Zigbee2MQTT: kWh to two decimals in flat JSON.",
	},
	"eastron-sdm120": {
		Protocol: Modbus, Unknowns: true, registers: func(s Spec) RegisterDevice { return sdm120{s} },
		Sentence: "Eastron SDM120, one phase: float32 kWh in input registers, fewer than its big sisters.",
	},
	"carlo-gavazzi-em24-e1": {
		Protocol: Modbus, Unknowns: true, registers: func(s Spec) RegisterDevice { return em24{s} },
		Sentence: "Carlo Gavazzi EM24: 32-bit integers, low word first, kWh to one decimal.",
	},
	"abb-b23": {
		Protocol: Modbus, Unknowns: true, registers: func(s Spec) RegisterDevice { return abb{s} },
		Sentence: "ABB B23: 64-bit integers of 0.01 kWh in holding registers.",
	},
	"schneider-iem3155": {
		Protocol: Modbus, Unknowns: true, registers: func(s Spec) RegisterDevice { return iem3155{s} },
		Sentence: "Schneider iEM3155: 64-bit integers of Wh in holding registers, powers as float32 of kW.",
	},
	"shelly-gen2": {
		Protocol: MQTT, Pages: true, Unknowns: true, publisher: func(s Spec) (Publisher, error) { return shelly{s}, nil },
		Sentence: "Shelly Pro 3EM: Wh to two decimals on MQTT, and at /rpc.",
	},
}

// Kinds are the names that Lookup knows, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// Lookup finds a kind by the id of its definition.
func Lookup(id string) (Kind, bool) {
	k, ok := kinds[id]
	return k, ok
}

// Wrap is where the counters of the kind begin anew.
func (k Kind) Wrap() uint64 {
	const sixDigits = 1_000_000_000
	if k.WrapWh == 0 {
		return sixDigits
	}
	return k.WrapWh
}

// Obeys says that the device is a battery's inverter, an Inverter.
func (k Kind) Obeys() bool { return k.inverter != nil }

// New makes a device of this kind: an Inverter, a RegisterDevice, a Publisher, a
// Telegrapher or a Pager, as its row says.
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
	if s.Version != "" && !slices.Contains(k.Versions, s.Version) {
		return nil, fmt.Errorf("making a device: got version %.20q, want one of %v", s.Version, k.Versions)
	}
	switch {
	case k.registers != nil:
		return k.registers(s), nil
	case k.telegraph != nil:
		return k.telegraph(s), nil
	case k.pager != nil:
		return k.pager(s), nil
	default:
		return k.publisher(s)
	}
}
