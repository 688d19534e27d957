package fault

import (
	"context"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Kind is one row of the table. Exactly one of its functions is set; a fault of
// the servers (power, broker) has none and is asked for by name.
type Kind struct {
	Name     string
	Sentence string
	// Transports that it can strike; nil: all, since it is in the device.
	Transports []wire.Transport
	// Only says what a device must be able to; nil: nothing.
	Only func(Device) bool
	// OnlySentence explains it.
	OnlySentence string
	// Lasting: the counters are other ones for good, so it cannot come and go with
	// Every, and what it did remains when it is ended.
	Lasting    bool
	Parameters []Parameter

	value func(values) valueFault
	wire  func(values) wireFault
}

// valueFault changes what a meter shows.
type valueFault interface {
	show(ctx context.Context, v *view) error
}

// wireFault changes how an answer leaves.
type wireFault interface {
	spoil(a *wire.Answer)
}

var (
	onModbus = []wire.Transport{wire.TCP, wire.TLS, wire.RTU, wire.RTUOverTCP}
	withIDs  = []wire.Transport{wire.TCP, wire.TLS}
	checked  = []wire.Transport{wire.RTU, wire.RTUOverTCP, wire.P1TCP, wire.P1Serial}
	pulled   = slices.Concat(onModbus, []wire.Transport{wire.HTTP})
	all      = slices.Concat(pulled, []wire.Transport{wire.P1TCP, wire.P1Serial, wire.MQTT})
	streams  = slices.Concat(pulled, []wire.Transport{wire.P1TCP, wire.P1Serial})
	hangsUp  = []wire.Transport{wire.TCP, wire.TLS, wire.RTUOverTCP, wire.HTTP, wire.P1TCP, wire.MQTT}
	messages = []wire.Transport{wire.MQTT}
)

// table is every fault, in the order in which those of values are laid over one
// another: first what the device counts, then what it shows, then what it says of
// itself.
var table = []Kind{
	// What the counters hold.
	{
		Name: "tamper", Sentence: "The meter counts less than flows: it under-reports by a share, and looks healthy.", Lasting: true,
		Parameters: []Parameter{whichCounter, decimal("percent", "10", 0.1, 100, "share that is not counted")},
		value:      func(v values) valueFault { return tamper{v.counter(), v.micro("percent")} },
	},
	{
		Name: "reset", Sentence: "The counter begins anew at a number, as after a replacement or a factory reset, and counts on from there.", Lasting: true,
		Parameters: []Parameter{whichCounter, integer("to_wh", "0", 0, maxWh, "number that it begins with")},
		value:      func(v values) valueFault { return reset{v.counter(), v.milli("to_wh")} },
	},
	{
		Name: "wrap", Sentence: "The counter stands a little below the end of its digits when the fault begins, passes it, and goes on at 0.", Lasting: true,
		Parameters: []Parameter{
			whichCounter,
			integer("modulus_wh", "0", 0, maxWh, "number at which it begins anew; 0: the device's own"),
			integer("margin_wh", "1000", 0, maxWh, "how far below it stands"),
		},
		value: func(v values) valueFault { return wrap{v.counter(), v.milli("modulus_wh"), v.milli("margin_wh")} },
	},
	// What the registers show.
	{
		Name: "jump", Sentence: "The counter shows more (or less) than it has counted while the fault lasts.",
		Parameters: []Parameter{whichCounter, integer("by_wh", "1000000", -maxWh, maxWh, "by how much")},
		value:      func(v values) valueFault { return jump{v.counter(), v.milli("by_wh")} },
	},
	{
		Name: "frozen", Sentence: "The device goes on answering with the values of the moment at which the fault began.",
		value: func(values) valueFault { return frozen{} },
	},
	{
		Name: "zero-bounce", Sentence: "The counter shows 0 while the fault lasts, and then again what it has counted.",
		Parameters: []Parameter{whichCounter},
		value:      func(v values) valueFault { return zeroBounce{v.counter()} },
	},
	{
		Name: "nan", Sentence: "The device says that it does not know: a NaN, a reserved number, null or nothing, as its kind has it.",
		Parameters: []Parameter{choice("of", "counters", "what it does not know", "counters", "power", "all")},
		value:      func(v values) valueFault { return unknown{v["of"]} },
		Only:       func(d Device) bool { return d.Unknowns }, OnlySentence: "devices that have a way to say unknown",
	},
	{
		Name: "scale-change", Sentence: "The energies come in another power of ten, with the scale factor that goes with it.",
		Parameters: []Parameter{integer("exponent", "1", 1, 3, "new scale factor")},
		value:      func(v values) valueFault { return scaleChange{v.int("exponent")} },
		Only:       func(d Device) bool { return d.Scales }, OnlySentence: "devices whose scale factor is a register",
	},
	{
		Name: "swapped-identity", Sentence: "Another device of the same kind answers: another serial number (or key), the same counters.",
		Parameters: []Parameter{integer("serial", "1", 1, 3, "which of the other devices")},
		value:      func(v values) valueFault { return swapped{v.int("serial")} },
		Only:       func(d Device) bool { return !d.Obeys }, OnlySentence: "devices that are no inverter",
	},
	{
		Name: "clock-skew", Sentence: "The device's own clock is wrong by a time.",
		Parameters: []Parameter{duration("by", "1h", "-876000h", "876000h", "by how much it is fast")},
		value:      func(v values) valueFault { return clockSkew{v.duration("by")} },
		Only:       func(d Device) bool { return d.Clock }, OnlySentence: "devices that say what time it is",
	},
	{
		Name: "dst-jump", Sentence: "The device's own clock changes to or from daylight-saving time on the wrong day: it is an hour off.",
		Parameters: []Parameter{choice("hours", "1", "an hour fast, or slow", "1", "-1")},
		value:      func(v values) valueFault { return dstJump{v.int("hours")} },
		Only:       func(d Device) bool { return d.Clock }, OnlySentence: "devices that say what time it is",
	},
	// How it leaves.
	{
		Name: "exception", Sentence: "The device refuses: a Modbus exception, or the HTTP status 500.", Transports: pulled,
		Parameters: []Parameter{integer("code", "4", 1, 11, "Modbus exception code")},
		wire:       func(v values) wireFault { return exception{v.int("code")} },
	},
	{
		Name: "busy", Sentence: "The device has no time: Modbus exception 6, or the HTTP status 503.", Transports: pulled,
		wire: func(values) wireFault { return busy{} },
	},
	{
		Name: "short", Sentence: "The answer has less than was asked for: fewer registers in a well-formed frame, or an end that is missing.", Transports: all,
		Parameters: []Parameter{integer("by", "1", 1, 1000, "registers, or bytes")},
		wire:       func(v values) wireFault { return short{v.int("by")} },
	},
	{
		Name: "long", Sentence: "The answer has more than was asked for: more registers in a well-formed frame, or bytes after the end.", Transports: all,
		Parameters: []Parameter{integer("by", "1", 1, 60, "registers, or bytes")},
		wire:       func(v values) wireFault { return long{v.int("by")} },
	},
	{
		Name: "wrong-id", Sentence: "The answer carries a transaction id that was not asked with.", Transports: withIDs,
		Parameters: []Parameter{integer("by", "1", 1, 65535, "what is added to the right one")},
		wire:       func(v values) wireFault { return wrongID{v.int("by")} },
	},
	{
		Name: "corrupt", Sentence: "A bit flips on the way, after the checksum was made.", Transports: checked,
		wire: func(values) wireFault { return corrupt{} },
	},
	{
		Name: "late", Sentence: "The answer is held back on the wall clock; an MQTT message until the next one is due, and leaves before it.", Transports: all,
		Parameters: []Parameter{duration("by", "1500ms", "1ms", "10m", "for how long")},
		wire:       func(v values) wireFault { return late{v.duration("by")} },
	},
	{
		Name: "duplicate", Sentence: "The answer is sent more than once.", Transports: all,
		Parameters: []Parameter{integer("copies", "1", 1, 10, "how often once more")},
		wire:       func(v values) wireFault { return duplicate{v.int("copies")} },
	},
	{
		Name: "reorder", Sentence: "A message is held back and delivered after the next one.", Transports: messages,
		wire: func(values) wireFault { return reorder{} },
	},
	{
		Name: "split", Sentence: "The answer comes in pieces with pauses between them.", Transports: streams,
		Parameters: []Parameter{integer("pieces", "3", 2, 64, "into how many"), duration("pause", "20ms", "1ms", "10s", "between two of them, on the wall clock")},
		wire:       func(v values) wireFault { return split{v.int("pieces"), v.duration("pause")} },
	},
	{
		Name: "drop", Sentence: "The answer never leaves.", Transports: all,
		wire: func(values) wireFault { return drop{} },
	},
	{
		Name: "close", Sentence: "The connection is closed instead of an answer.", Transports: hangsUp,
		wire: func(values) wireFault { return hangUp{} },
	},
	// What happens to servers and houses.
	{Name: powerCut, Sentence: "The device is without power for its electronics: it is silent and its connections break, while the house goes on and its counter with it."},
	{
		Name: brokerRestart, Sentence: "The broker of our own is away, and comes back having forgotten sessions and retained messages.", Transports: messages,
	},
	{
		Name: retainedStale, Sentence: "The broker keeps an old reading and gives it, marked as retained, to everybody who subscribes.", Transports: messages,
		Parameters: []Parameter{duration("age", "1h", "1s", "8760h", "of the reading when the fault begins")},
	},
}

// Names of the faults that servers ask for.
const (
	powerCut      = "power-cut"
	brokerRestart = "broker-restart"
	retainedStale = "retained-stale"
)

// Kinds is the table.
func Kinds() []Kind { return slices.Clone(table) }

// lookup finds a row and its place in the table.
func lookup(name string) (Kind, int, bool) {
	i := slices.IndexFunc(table, func(k Kind) bool { return k.Name == name })
	if i < 0 {
		return Kind{}, 0, false
	}
	return table[i], i, true
}

func names() string {
	var list []string
	for _, k := range table {
		list = append(list, k.Name)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// pushedOnly faults change things at refreshes only.
func (k Kind) pushedOnly() bool {
	return k.value == nil && k.wire == nil
}
