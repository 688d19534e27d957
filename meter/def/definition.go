package def

import (
	"fmt"
	"time"
)

// Protocols of a definition.
const (
	ProtocolModbus  = "modbus"
	ProtocolSunSpec = "sunspec"
	ProtocolMQTT    = "mqtt"
	ProtocolHTTP    = "http"
	ProtocolP1      = "p1"
)

// Who signs.
const (
	SignedByAgent  = "agent"
	SignedByDevice = "device"
)

// FormatSigned is the message format of meters that sign in firmware; the other is plain JSON.
const FormatSigned = "signed-reading"

// Identity is what a device says of itself. An empty string is unknown.
type Identity struct {
	Maker    string `yaml:"maker,omitempty" json:"maker,omitempty"`
	Model    string `yaml:"model,omitempty" json:"model,omitempty"`
	Serial   string `yaml:"serial,omitempty" json:"serial,omitempty"`
	Firmware string `yaml:"firmware,omitempty" json:"firmware,omitempty"`
}

// Contradicts reports whether two identities cannot be of the same device. What one of them does not know says nothing,
// and a new firmware is not a new device.
func (i Identity) Contradicts(o Identity) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	return differ(i.Maker, o.Maker) || differ(i.Model, o.Model) || differ(i.Serial, o.Serial)
}

// Traits say how a counter counts.
type Traits struct {
	// ResolutionWh is the smallest step that can be told apart at the present value; at least 1.
	ResolutionWh uint64
	// WrapWh is the value at which the counter begins anew; 0 if it is not known to.
	WrapWh uint64
}

// Values is what one look at a device yields. Nil is unknown.
type Values struct {
	ImportWh, ExportWh         *uint64
	PowerW                     *int64
	ImportTraits, ExportTraits Traits
	// DeviceError: the device reports a fault, or sent something that is no number where one belongs.
	DeviceError bool
	// OutOfRange: a number that cannot be, such as a negative counter.
	OutOfRange bool
	// Retained: the counters come from a message that a broker had kept.
	Retained bool
	// DeviceAt is when the device says this was; nil is unknown.
	DeviceAt *time.Time
	// SoCBp is the state of charge of a battery in hundredths of a per cent; nil is unknown. It is for control and
	// display.
	SoCBp *int64
	// Origins say where each point is from and how the device wrote it.
	Origins []Origin
	// Since is when the oldest of the messages that make up the counters came; zero if they came in one.
	Since time.Time
}

// Definition describes one kind of meter.
type Definition struct {
	// Schema is the version of the form of the file: SchemaVersion.
	Schema int `yaml:"schema"`
	// ID is the name used in configurations, such as eastron-sdm630.
	ID string `yaml:"id"`
	// File is the name of the file as it was given, Line where the id is in it.
	File string `yaml:"-"`
	Line int    `yaml:"-"`
	// Version rises with every change that can change a number.
	Version int `yaml:"version"`
	// Name is for people.
	Name string `yaml:"name"`
	// Facts are the addresses of the documents that the numbers are from.
	Facts []string `yaml:"facts"`
	// Notes is what a person who installs this meter should know.
	Notes    string `yaml:"notes,omitempty"`
	Protocol string `yaml:"protocol"`
	// SignedBy is "agent" or "device".
	SignedBy string `yaml:"signed_by"`
	// MaxPowerW bounds what a counter can rise by.
	MaxPowerW int64            `yaml:"max_power_w"`
	Modbus    *Modbus          `yaml:"modbus,omitempty"`
	SunSpec   *SunSpec         `yaml:"sunspec,omitempty"`
	MQTT      *MQTT            `yaml:"mqtt,omitempty"`
	HTTP      *HTTP            `yaml:"http,omitempty"`
	P1        *P1              `yaml:"p1,omitempty"`
	Identify  IdentityPoints   `yaml:"identify,omitempty"`
	Points    map[string]Point `yaml:"points,omitempty"`
	// Time is where a message says when it was made; nil if it does not, or without its zone.
	Time  *TimePoint `yaml:"time,omitempty"`
	Tests []Vector   `yaml:"tests"`
	// Control is given for devices that can be led.
	Control *Control `yaml:"control,omitempty"`
}

// Source is the id and version, as readings name it: "eastron-sdm630@1".
func (d Definition) Source() string { return fmt.Sprintf("%s@%d", d.ID, d.Version) }

// Names of the points.
const (
	PointImport = "import"
	PointExport = "export"
	PointPower  = "power"
	// PointSoC is the state of charge of a battery.
	PointSoC = "soc"
)

// Modbus is the part of a definition for plain register maps.
type Modbus struct {
	// Unit is used where a configuration names none.
	Unit uint8 `yaml:"unit"`
	// Blocks are read with one request each; everything in a block is of one moment.
	Blocks []Block `yaml:"blocks"`
	// ZeroUnknown: the device says 0 for what it does not know, so two counters of 0 are unknown. One alone counts: a
	// home that never exported has it.
	ZeroUnknown bool `yaml:"zero_unknown,omitempty"`
	// Faults are registers by which a device says that its values are not to be believed.
	Faults []RegisterFault `yaml:"faults,omitempty"`
}

// RegisterFault is a register of a block; any of Values in it spoils the sample.
type RegisterFault struct {
	Block   string `yaml:"block"`
	Address uint16 `yaml:"address"`
	// Type is an unsigned integer; it is compared as it is, without exponent.
	Type   string   `yaml:"type"`
	Order  string   `yaml:"order,omitempty"`
	Values []uint64 `yaml:"values"`
}

// Block is a run of registers.
type Block struct {
	Name string `yaml:"name"`
	// Function is 3 (holding registers) or 4 (input registers).
	Function uint8 `yaml:"function"`
	// Address is the one on the wire, counted from 0.
	Address uint16 `yaml:"address"`
	Count   uint16 `yaml:"count"`
	// Optional: a device that answers with an exception is of a kind without these registers; its points are unknown.
	Optional bool `yaml:"optional,omitempty"`
}

// SunSpec is the part of a definition for devices that describe their own layout.
type SunSpec struct {
	Unit uint8 `yaml:"unit"`
	// Layouts say where the points are; for each point the first layout counts whose models the device has.
	Layouts []Layout `yaml:"layouts"`
}

// Layout is one way in which devices lay out points.
type Layout struct {
	// Models are equal in what Points needs; the first that the device has counts.
	Models []uint16 `yaml:"models,flow"`
	// Points are the names in the model, by those of the definition.
	Points map[string]string `yaml:"points"`
}

// MQTT is the part of a definition for devices that publish.
type MQTT struct {
	// Format is "json" or "signed-reading".
	Format   string    `yaml:"format"`
	Messages []Message `yaml:"messages"`
	// Faults name lists in which a device reports that it is ill.
	Faults []Fault `yaml:"faults,omitempty"`
	// TogetherS is the longest time, in seconds, between the messages that make one sample; 0 means 10.
	TogetherS int `yaml:"together_s,omitempty"`
}

// HTTP is the part of a definition for devices that are asked over HTTP and answer in JSON.
type HTTP struct {
	// Messages are asked for in this order, all of them for each sample. One is best: it is of one moment.
	Messages []Request `yaml:"messages"`
	Faults   []Fault   `yaml:"faults,omitempty"`
}

// Request is a message that is asked for. Path begins with / and may have a query.
type Request struct {
	Name string `yaml:"name"`
	Path string `yaml:"path"`
}

// P1 is the part of a definition for P1 ports: points name OBIS codes.
type P1 struct {
	// Path is where readers with a web server hand out the telegram as it came.
	Path string `yaml:"path,omitempty"`
	// WinterOffsetMin is how many minutes the meter's winter time is ahead of UTC; left out it is 60.
	WinterOffsetMin *int `yaml:"winter_offset_min,omitempty"`
}

// TimePoint is a time in a message. A time without a zone is none: nobody knows when that was.
type TimePoint struct {
	// Format is rfc3339 or unix (seconds).
	Format string  `yaml:"format"`
	From   []Place `yaml:"from"`
}

// Message is a kind of message. {device} in a topic stands for one or more levels.
type Message struct {
	Name string `yaml:"name"`
	// Topics: the first is subscribed to when an address names only the device; all are recognised in full.
	Topics []string `yaml:"topics"`
	// Scalar: the payload is one number as text, not JSON; the paths of its places are empty.
	Scalar bool `yaml:"scalar,omitempty"`
}

// Fault is a value in a message, or a list of them; any of Values in it spoils the sample. "*" in the path is any element
// of a list.
type Fault struct {
	Message string   `yaml:"message"`
	Path    []string `yaml:"path,omitempty"`
	Values  []string `yaml:"values"`
}

// Point says where a quantity is and how it is written. Which fields apply depends on the protocol.
type Point struct {
	// Unit is Wh or kWh for counters, W or kW for power. Messages may also count in Wmin, watt-minutes.
	Unit string `yaml:"unit,omitempty"`
	// Positive says which direction is positive, for power: import (default) or export.
	Positive string `yaml:"positive,omitempty"`
	// ResolutionWh is the step of the counter, default 1. A float32 that steps coarser at its value overrides it.
	ResolutionWh uint64 `yaml:"resolution_wh,omitempty"`

	// Modbus: Block and Address, Type, Order, Exponent (the value is raw × 10^Exponent), WrapBits, Invalid (raw values
	// that mean "not implemented").
	Block    string   `yaml:"block,omitempty"`
	Address  uint16   `yaml:"address,omitempty"`
	Type     string   `yaml:"type,omitempty"`
	Order    string   `yaml:"order,omitempty"`
	Exponent int      `yaml:"exponent,omitempty"`
	WrapBits int      `yaml:"wrap_bits,omitempty"`
	Invalid  []uint64 `yaml:"invalid,omitempty"`

	// Scale is a register in the same block that holds a further power of ten.
	Scale *Scale `yaml:"scale,omitempty"`
	// Add and Subtract are more registers of the same block, in the same unit and with the same scale: counters of
	// tariffs, power of phases. Subtract is for power only, of devices that write the two directions apart. If one of
	// all these is unknown, so is the point: there is no partial sum.
	Add      []Term `yaml:"add,omitempty"`
	Subtract []Term `yaml:"subtract,omitempty"`

	// SunSpec: Negative is for devices that write an accumulator as a negative number; its magnitude counts.
	Negative bool `yaml:"negative,omitempty"`

	// MQTT, HTTP and P1: From are the places to look, best first. The first that is found is kept from then on, so that two
	// counters are never mixed.
	From []Place `yaml:"from,omitempty"`
	// Sum allows an array of numbers, one per phase, and adds them up.
	Sum bool `yaml:"sum,omitempty"`
}

// Scale is a scale factor in a register.
type Scale struct {
	Address uint16 `yaml:"address"`
	Type    string `yaml:"type"`
}

// Term is a register that is added to the one of its point, or subtracted from it.
type Term struct {
	Address  uint16   `yaml:"address"`
	Type     string   `yaml:"type"`
	Order    string   `yaml:"order,omitempty"`
	Exponent int      `yaml:"exponent,omitempty"`
	Invalid  []uint64 `yaml:"invalid,omitempty"`
}

// Place is a value in a message: one path, or several to be added up. Of a place of several parts either all are known
// or none is: there is no partial sum.
type Place struct {
	Message string `yaml:"message,omitempty"`
	// Path are keys of objects, indices of lists from 0, or "*" for all Count elements of a list, which are added up.
	Path  []string `yaml:"path,omitempty"`
	Count int      `yaml:"count,omitempty"`
	// OBIS is a line of a P1 telegram, such as 1-0:1.8.1.
	OBIS string `yaml:"obis,omitempty"`
	// Add and Subtract are instead of these; Subtract is for power only.
	Add      []Place `yaml:"add,omitempty"`
	Subtract []Place `yaml:"subtract,omitempty"`
}

// IdentityPoints say how a device names itself.
type IdentityPoints struct {
	Maker    *IdentityPoint `yaml:"maker,omitempty"`
	Model    *IdentityPoint `yaml:"model,omitempty"`
	Serial   *IdentityPoint `yaml:"serial,omitempty"`
	Firmware *IdentityPoint `yaml:"firmware,omitempty"`
}

// IdentityPoint is one part of an identity: a fixed text, registers, or a place in a message.
type IdentityPoint struct {
	// Text beside registers is a name for people of what Expect proves.
	Text string `yaml:"text,omitempty"`
	// Block, instead of Function: the registers are in that block, and so are seen again with every value of it. An
	// answer that names another device than the survey did has no values.
	Block string `yaml:"block,omitempty"`
	// Function, Address and Type (uint16, uint32, uint64, string or bcd, decimal digits of four bits) for Modbus; Count
	// registers of a string or bcd.
	Function uint8  `yaml:"function,omitempty"`
	Address  uint16 `yaml:"address,omitempty"`
	Type     string `yaml:"type,omitempty"`
	Count    uint16 `yaml:"count,omitempty"`
	// Order is that of the words of a number, and that of the bytes in each word of a string or bcd: big (default) or
	// little.
	Order string `yaml:"order,omitempty"`
	// Expect are the values that prove that the device is of this kind; another one is an error. Those of SunSpec are
	// beginnings and do not mind case.
	Expect []string `yaml:"expect,omitempty"`
	// Optional: a device that answers with an exception is of an older kind and has no such register.
	Optional bool `yaml:"optional,omitempty"`
	// Device: the {device} part of the topic, which other transports, and so From, may stand beside.
	Device bool    `yaml:"device,omitempty"`
	From   []Place `yaml:"from,omitempty"`
}

// Vector is a captured or calculated answer of a device and what is to be made of it.
type Vector struct {
	// Line is where it is in its file.
	Line      int         `yaml:"-"`
	Name      string      `yaml:"name"`
	Registers []Registers `yaml:"registers,omitempty"`
	Device    string      `yaml:"device,omitempty"`
	Messages  []Published `yaml:"messages,omitempty"`
	// Telegram is what comes out of a P1 port; its lines end in CRLF there, and with what the file has here.
	Telegram string      `yaml:"telegram,omitempty"`
	Expect   Expectation `yaml:"expect"`
}

// Registers is what a device holds from an address on: words in hexadecimal, divided by blanks.
type Registers struct {
	Function uint8  `yaml:"function"`
	Address  uint16 `yaml:"address"`
	Words    string `yaml:"words"`
}

// Published is a message as a broker delivers it, or the answer to a request.
type Published struct {
	Topic string `yaml:"topic,omitempty"`
	// Path is that of the request, for HTTP.
	Path     string `yaml:"path,omitempty"`
	Retained bool   `yaml:"retained,omitempty"`
	Payload  string `yaml:"payload"`
}

// Expectation is the last sample that a vector yields; null is unknown.
type Expectation struct {
	ImportWh *uint64  `yaml:"import_wh"`
	ExportWh *uint64  `yaml:"export_wh"`
	PowerW   *int64   `yaml:"power_w"`
	Quality  string   `yaml:"quality"`
	Identity Identity `yaml:"identity,omitempty"`
	// DeviceAt is the device's own time, as 2026-01-02T15:04:05Z, or "unknown"; not compared if left out.
	DeviceAt string `yaml:"device_at,omitempty"`
	// Error is part of the text of the error that is expected instead of a sample.
	Error string `yaml:"error,omitempty"`
}
