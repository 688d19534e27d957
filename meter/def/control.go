package def

import "fmt"

// The modes that a controllable device may have. "own" is what it does when nobody leads it, mostly self-consumption.
const (
	ModeOwn        = "own"
	ModeHold       = "hold"        // no discharge; charging is its own affair
	ModeHoldCharge = "hold-charge" // no charge; discharging is its own affair
	ModeCharge     = "charge"      // just the power given, from wherever it comes
	ModeDischarge  = "discharge"   // just the power given, to wherever it goes
	ModeLimit      = "limit"       // production of at most the power given
)

// ModesInOrder is the order in which a device's registers are compared with what the modes would have written.
var ModesInOrder = []string{ModeCharge, ModeDischarge, ModeHold, ModeHoldCharge, ModeLimit}

// Control is the part of a definition for devices that obey: which registers lead them, and which tell what they do.
// Everything is data; there are no expressions.
type Control struct {
	// Points are the registers by names of the definition's own.
	Points map[string]ControlPoint `yaml:"points"`
	// Requires are settings that a person made on the device; without them nothing is written.
	Requires []Condition `yaml:"requires,omitempty"`
	// Lease is the device's revert timer: without a new write it goes back to its own mode. Nil: it has none, and stays
	// in the mode that it was left in.
	Lease *LeasePoint `yaml:"lease,omitempty"`
	// MaxCharge and MaxDischarge name points in W that bound set points; MaxProduction the one for the limit of
	// production. Empty: the device does not say.
	MaxCharge     string `yaml:"max_charge,omitempty"`
	MaxDischarge  string `yaml:"max_discharge,omitempty"`
	MaxProduction string `yaml:"max_production,omitempty"`
	// Heartbeat is a number that the device wants to see change, or else it is on its own; nil: it does not.
	Heartbeat *Heartbeat `yaml:"heartbeat,omitempty"`
	// Read says what tells the state.
	Read ControlRead `yaml:"read"`
	// Own is the device's own mode.
	Own OwnMode `yaml:"own"`
	// Modes are the writes of each mode that the device has, in their order.
	Modes map[string][]ControlWrite `yaml:"modes"`
	// Tests are registers with the state that they tell, and set points with the writes that they make.
	Tests []ControlVector `yaml:"tests"`
}

// ControlPoint is a register. Of SunSpec: Model and Point; the layout, the type and the scale factor are the model's.
// Of plain Modbus: Address and Type, and Function, Order, Exponent, Invalid as for the points of a meter.
type ControlPoint struct {
	Model uint16 `yaml:"model,omitempty"`
	Point string `yaml:"point,omitempty"`

	Function uint8    `yaml:"function,omitempty"` // 3, the default, or 4: then it is never written
	Address  uint16   `yaml:"address,omitempty"`
	Type     string   `yaml:"type,omitempty"`
	Order    string   `yaml:"order,omitempty"`
	Exponent int      `yaml:"exponent,omitempty"`
	Invalid  []uint64 `yaml:"invalid,omitempty"`

	// Unit is W, kW, Wh, kWh, s, min or "%"; empty for a plain number.
	Unit string `yaml:"unit,omitempty"`
	// Of names the point in W that a point in % is a part of.
	Of string `yaml:"of,omitempty"`
	// Positive says which direction is positive, for the power of a battery: charge (default) or discharge.
	Positive string `yaml:"positive,omitempty"`
	// Optional: a device of SunSpec that has no such model, or marks the point as not implemented, is right too.
	Optional bool `yaml:"optional,omitempty"`
}

// Condition is a register that holds a value.
type Condition struct {
	Point string `yaml:"point"`
	Is    int64  `yaml:"is"`
	// Hint says how a person makes it so.
	Hint string `yaml:"hint,omitempty"`
}

// LeasePoint is a revert timer.
type LeasePoint struct {
	Point string `yaml:"point"`
	MinS  int64  `yaml:"min_s"`
	MaxS  int64  `yaml:"max_s"`
	// Silent: when it has run out, the registers go on telling the mode that ended.
	Silent bool `yaml:"silent,omitempty"`
}

// Heartbeat is a point of 16 bits that is written with every set point, with a number that is another each time, at
// least every WithinS seconds.
type Heartbeat struct {
	Point   string `yaml:"point"`
	WithinS int64  `yaml:"within_s"`
}

// ControlRead names points that tell what the device does; each may be empty. Power is that which set points are about:
// of the battery, or of the inverter's terminals where the device's set points are of them. Charging and Discharging
// stand for it where each direction has a point of its own.
type ControlRead struct {
	Power       string `yaml:"power,omitempty"` // W
	Charging    string `yaml:"charging,omitempty"`
	Discharging string `yaml:"discharging,omitempty"`
	SoC         string `yaml:"soc,omitempty"`       // %
	Capacity    string `yaml:"capacity,omitempty"`  // usable, Wh
	Remaining   string `yaml:"remaining,omitempty"` // until the device reverts, s
}

// OwnMode is how the registers look in the device's own mode, and for a device without a timer what brings it there.
type OwnMode struct {
	When  []Condition    `yaml:"when"`
	Write []ControlWrite `yaml:"write,omitempty"`
}

// What a write takes its value from.
const (
	FromPower         = "power"       // of the set point, W
	FromNegativePower = "minus-power" // the same, the other way round
	FromLease         = "lease"       // the time until the device reverts
	FromMaxCharge     = "max-charge"
	FromMaxDischarge  = "max-discharge"
)

// ControlWrite is a value for a point: a number as the register holds it, or one that the set point gives.
type ControlWrite struct {
	Point string `yaml:"point"`
	Value *int64 `yaml:"value,omitempty"`
	From  string `yaml:"from,omitempty"`
}

// ControlVector is a captured or calculated state of a device.
type ControlVector struct {
	// Line is where it is in its file.
	Line      int         `yaml:"-"`
	Name      string      `yaml:"name"`
	Registers []Registers `yaml:"registers"`
	// State is what the registers tell.
	State ControlExpectation `yaml:"state"`
	// Sets are set points and what has to be written for them.
	Sets []ControlSet `yaml:"sets,omitempty"`
	// Error is part of the text of the error that is expected instead.
	Error string `yaml:"error,omitempty"`
}

// ControlExpectation is a state in a vector; null is unknown.
type ControlExpectation struct {
	Mode         string `yaml:"mode"`
	SetW         *int64 `yaml:"set_w,omitempty"`
	BatteryW     *int64 `yaml:"battery_w,omitempty"`
	SoCBp        *int64 `yaml:"soc_bp,omitempty"`
	CapacityWh   *int64 `yaml:"capacity_wh,omitempty"`
	LeftS        *int64 `yaml:"left_s,omitempty"`
	MaxChargeW   *int64 `yaml:"max_charge_w,omitempty"`
	MaxDischarge *int64 `yaml:"max_discharge_w,omitempty"`
	MaxProduceW  *int64 `yaml:"max_production_w,omitempty"`
}

// ControlSet is a set point in a vector.
type ControlSet struct {
	Mode   string        `yaml:"mode"`
	PowerW int64         `yaml:"power_w,omitempty"`
	LeaseS int64         `yaml:"lease_s,omitempty"`
	Writes []VectorWrite `yaml:"writes"`
}

// VectorWrite is one write request: words in hexadecimal.
type VectorWrite struct {
	Address uint16 `yaml:"address"`
	Words   string `yaml:"words"`
}

// CanLead reports whether the device has a mode.
func (d *Definition) CanLead(mode string) bool {
	if d.Control == nil {
		return false
	}
	_, ok := d.Control.Modes[mode]
	return ok
}

// SetPoint is what a device is asked for: magnitudes, whatever sign its registers give them.
type SetPoint struct {
	Mode string
	// PowerW of charge, discharge and limit; not negative.
	PowerW int64
	// LeaseS is after how many seconds the device is to be on its own again.
	LeaseS int64
	// Heartbeat is written where the device wants one.
	Heartbeat uint16
}

func (s SetPoint) String() string {
	if hasPower(s.Mode) {
		return fmt.Sprintf("%s %d W", s.Mode, s.PowerW)
	}
	return s.Mode
}

func hasPower(mode string) bool {
	return mode == ModeCharge || mode == ModeDischarge || mode == ModeLimit
}

// ControlState is what a device's registers tell. Nil is unknown; an empty mode is none that the definition knows.
type ControlState struct {
	Mode string
	// SetW is the power that goes with the mode, not negative.
	SetW *int64
	// BatteryW is positive when the battery charges.
	BatteryW *int64
	// SoCBp is the state of charge in hundredths of a per cent.
	SoCBp      *int64
	CapacityWh *int64
	// LeftS is the time until the device reverts, by its own timer.
	LeftS                                *int64
	MaxChargeW, MaxDischargeW, MaxLimitW *int64
}

// Write is one request: consecutive registers from an address on.
type Write struct {
	Address uint16
	Words   []uint16
}
