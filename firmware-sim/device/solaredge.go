package device

import (
	"math"
	"strconv"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// solarEdge is a SolarEdge StorEdge inverter with a battery. Facts from the
// maker's "SunSpec Logging in SolarEdge Inverters" and "Power Control Open
// Protocol for SolarEdge Inverters", as they are collected at
// https://github.com/binsentsu/home-assistant-solaredge-modbus and
// https://github.com/WillCodeForCats/solaredge-modbus-multi: a SunSpec chain of
// models 1 (65 long) and 103, limits at 0xE000, the storage block at 0xE004, the
// battery at 0xE100. There numbers of more than one register have the low word
// first.
//
// In remote control (4 in 0xE004) the mode of 0xE00D holds with the limits of
// 0xE00E and 0xE010 for the seconds of 0xE00B, begun anew by any write to these
// four; then the mode of 0xE00A takes over without limits, and they read so. It is delivered
// as an installer leaves it: in remote control, with self-consumption as the mode
// that takes over. Of the policies for charging from the
// grid only 0 (never) and 1 (always) are here, and of the control modes no time of
// use.
type solarEdge struct {
	spec  Spec
	sheet *sheet
	held  held
}

// The writable registers, in the order of addresses.
const (
	seExportMode = iota
	seExportScope
	seExportLimit
	seControl
	sePolicy
	seGridLimit
	seReserve
	seDefault
	seTimeout
	seCommand
	seCharge
	seDischarge
	seActiveLimit
	seCommit
	seAdvanced
)

// Values of 0xE004, and of 0xE00A and 0xE00D.
const (
	seDisabled, seMaximise, seBackup, seRemote                    = 0, 1, 3, 4
	seOff, seExcess, seSunFirst, seSunAndGrid, seExport, seMatch  = 0, 1, 2, 3, 4, 5
	seSelfConsumption                                             = 7
	seDirectExport, seIndirectExport, seProduction                = 1, 2, 4 // bits of 0xE000
	seBase, seBatteryBase, seSunSpecLength, seBlock, seBatteryEnd = 0xE000, 0xE100, 123, 18, 0x8A
)

func newSolarEdge(s Spec) Inverter {
	float := func(at uint16, most, first float32, timer int) field {
		return field{at: at, words: 2, first: int64(math.Float32bits(first)), timer: timer, check: func(raw int64) bool {
			v := rawFloat(raw)
			return v >= 0 && v <= most // no NaN either
		}}
	}
	battery, output := float32(s.Rating.Battery.Watts()), float32(s.Rating.Output.Watts())
	mode := func(v int64) bool { return v >= seOff && v <= seMatch || v == seSelfConsumption }
	floor := float32(int64(s.Rating.Floor) * 100 / int64(s.Rating.Capacity))
	d := &solarEdge{spec: s, sheet: &sheet{lowFirst: true, fields: []field{
		seExportMode:  {at: 0xE000, words: 1, check: func(v int64) bool { return v == 0 || v == seDirectExport || v == seIndirectExport || v == seProduction }},
		seExportScope: {at: 0xE001, words: 1, high: 1},
		seExportLimit: float(0xE002, math.MaxFloat32, output, 0),
		seControl:     {at: 0xE004, words: 1, first: seRemote, check: func(v int64) bool { return v == seDisabled || v == seMaximise || v == seBackup || v == seRemote }},
		sePolicy:      {at: 0xE005, words: 1, high: 1, first: 1},
		seGridLimit:   float(0xE006, math.MaxFloat32, 0, 0),
		seReserve:     float(0xE008, 100, floor, 0),
		seDefault:     {at: 0xE00A, words: 1, first: seSelfConsumption, check: mode},
		seTimeout:     {at: 0xE00B, words: 2, high: 86400, first: 3600, timer: timerOrder},
		seCommand:     {at: 0xE00D, words: 1, first: seSelfConsumption, check: mode, timer: timerOrder},
		seCharge:      float(0xE00E, battery, battery, timerOrder),
		seDischarge:   float(0xE010, battery, battery, timerOrder),
		seActiveLimit: {at: 0xF001, words: 1, high: 100, first: 100},
		seCommit:      {at: 0xF100, words: 1, high: 1},
		seAdvanced:    {at: 0xF142, words: 2, high: 1, first: 1},
	}}}
	d.held = d.sheet.delivered()
	return d
}

func rawFloat(raw int64) float32 { return math.Float32frombits(uint32(raw)) } //nolint:gosec // G115: the bits of two registers

// Shown is a 32-bit accumulator.
func (*solarEdge) Shown(wh uint64) uint64 { return wh & math.MaxUint32 }

func (d *solarEdge) serial() uint32 { return d.spec.Serial }

// As is explained at Inverter.
func (d *solarEdge) As(other Inverter) Inverter {
	next := *d
	next.spec.Serial = other.serial()
	return &next
}

// Write is explained at Inverter.
func (d *solarEdge) Write(at int64, address uint16, words []uint16) (Inverter, error) {
	next := *d
	var err error
	if next.held, err = d.sheet.write(d.settled(at), at, address, words); err != nil {
		return d, err
	}
	next.held.values[seCommit] = 0 // done at once
	return &next, nil
}

// end is when the command is over.
func (d *solarEdge) end() int64 {
	if h := d.held; h.began[timerOrder] >= 0 {
		return h.began[timerOrder] + 1000*h.values[seTimeout]
	}
	return never
}

func (d *solarEdge) settled(at int64) held {
	h := d.held
	if d.end() <= at {
		most := int64(math.Float32bits(float32(d.spec.Rating.Battery.Watts())))
		h = h.with(map[int]int64{seCommand: h.values[seDefault], seCharge: most, seDischarge: most})
		h.began[timerOrder] = -1
	}
	return h
}

// power is a held float of W, rounded once.
func (h held) power(i int, most home.MilliWatts) home.MilliWatts {
	return home.MilliWatts(math.Min(math.Round(float64(rawFloat(h.values[i]))*1000), float64(most)))
}

func (d *solarEdge) Control(at int64) (home.Control, int64) {
	h, r, until := d.settled(at), d.spec.Rating, never
	c := home.Control{
		SolarOnly: h.values[sePolicy] == 0,
		Reserve:   int64(math.Round(float64(rawFloat(h.values[seReserve])) * 10_000)),
	}
	if h.values[seActiveLimit] < 100 {
		c.Output = home.Between(-r.Output, r.Output*home.MilliWatts(h.values[seActiveLimit])/100)
	}
	limit := h.power(seExportLimit, r.Output+r.Battery)
	switch h.values[seExportMode] {
	case seDirectExport, seIndirectExport:
		c.Export = home.Between(0, limit)
	case seProduction:
		if !c.Output.On || limit < c.Output.Max.To {
			c.Output = home.Between(-r.Output, limit)
		}
	}
	switch h.values[seControl] {
	case seDisabled:
		d.mode(&c, seOff, 0, 0)
	case seBackup:
		d.mode(&c, seSunFirst, r.Battery, 0)
	case seRemote:
		if h.began[timerOrder] < 0 {
			d.mode(&c, h.values[seDefault], r.Battery, r.Battery)
			break
		}
		until = d.end()
		d.mode(&c, h.values[seCommand], h.power(seCharge, r.Battery), h.power(seDischarge, r.Battery))
	}
	return c, until
}

// mode is what one of the modes of 0xE00A and 0xE00D means for the battery.
func (d *solarEdge) mode(c *home.Control, mode int64, charge, discharge home.MilliWatts) {
	switch mode {
	case seOff:
		c.Battery = home.Between(0, 0)
	case seExcess:
		c.Aim, c.Battery, c.SolarOnly = home.Rest, home.Between(0, charge), true
	case seSunFirst:
		c.Aim, c.Battery, c.SolarOnly = home.Store, home.Between(0, charge), true
	case seSunAndGrid:
		c.Battery = home.Between(charge, charge)
	case seExport:
		c.Aim, c.Battery = home.Give, home.Between(-discharge, charge)
	case seMatch:
		c.Battery = home.Between(-discharge, 0)
	default: // self-consumption
		if charge < d.spec.Rating.Battery || discharge < d.spec.Rating.Battery {
			c.Battery = home.Between(-discharge, charge)
		}
	}
}

func (d *solarEdge) Registers(c Condition, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalFunction
	}
	for _, b := range []struct {
		base, words int
		fill        func(registerImage, Condition)
	}{
		{sunSpecBase, seSunSpecLength, d.sunSpec},
		{seBase, seBlock, nil},
		{seBatteryBase, seBatteryEnd, d.battery},
		{0xF000, 2, nil},
		{0xF100, 1, nil},
		{0xF142, 2, nil},
	} {
		if int(address) < b.base || int(address)+int(count) > b.base+b.words {
			continue
		}
		m := registerImage{make([]uint16, b.words), b.base}
		if b.fill != nil {
			b.fill(m, c)
		}
		d.sheet.fill(d.settled(c.Now), m.words, b.base)
		return window(m.words, uint16(b.base), address, count) //nolint:gosec // G115: an address
	}
	return nil, modbus.IllegalDataAddress
}

// sunSpec fills the chain: the common model without its pad, model 103, the end.
func (d *solarEdge) sunSpec(m registerImage, c Condition) {
	m.put(sunSpecBase, 0x5375, 0x6e53, 1, 65)
	m.text(40004, 16, "SolarEdge")
	m.text(40020, 16, "SE"+strconv.FormatInt(d.spec.Rating.Output.Watts(), 10)+"H")
	m.text(40044, 8, "0004.0018.0518")
	m.text(40052, 16, strconv.FormatUint(uint64(d.spec.Serial), 16))
	m.put(40068, uint16(d.spec.Unit))
	places := map[int]sunSpecModel{103: {id: 103, length: 50}}
	image := sunSpecImage{words: make([]uint16, 52), places: places}
	image.model103(c, d.spec.Rating, d.spec.Serial)
	image.words[0], image.words[1] = 103, 50
	m.put(40069, image.words...)
	m.put(40121, 0xFFFF, 0)
}

// battery fills the block of the first battery. Its power is positive when it
// charges.
func (d *solarEdge) battery(m registerImage, c Condition) {
	const charging, discharging, idle = 3, 4, 6
	r := d.spec.Rating
	float := func(at int, v float64) {
		bits := math.Float32bits(float32(v))
		m.put(at, uint16(bits), uint16(bits>>16)) //nolint:gosec // G115: the two halves
	}
	long := func(at int, v uint64) {
		for i := range 4 {
			m.put(at+i, uint16(v>>(16*i))) //nolint:gosec // G115: a quarter of it
		}
	}
	m.text(0xE100, 16, "Commonwatt")
	m.text(0xE110, 16, "firmware-sim battery")
	m.text(0xE120, 16, "1.0")
	m.text(0xE130, 16, "CWB"+strconv.FormatUint(uint64(d.spec.Serial), 10))
	m.put(0xE140, 112)
	capacity, power, volts := float64(r.Capacity)/1000, float64(r.Battery)/1000, 400.0
	float(0xE142, capacity)
	for at := 0xE144; at <= 0xE14A; at += 2 {
		float(at, power)
	}
	float(0xE16C, 25)
	float(0xE16E, 26)
	watts := float64(c.Moment.Battery) / 1000
	float(0xE170, volts)
	float(0xE172, watts/volts)
	float(0xE174, watts)
	long(0xE176, uint64(c.Discharge/home.MilliWattHoursPerWattHour)) //nolint:gosec // G115: not negative
	long(0xE17A, uint64(c.Charge/home.MilliWattHoursPerWattHour))    //nolint:gosec // G115: not negative
	float(0xE17E, capacity)
	float(0xE180, float64(c.Moment.Stored)/1000)
	float(0xE182, 100)
	float(0xE184, float64(c.Moment.Stored)*100/float64(r.Capacity))
	status := uint16(idle)
	if watts > 0 {
		status = charging
	} else if watts < 0 {
		status = discharging
	}
	m.put(0xE186, status, 0, status, 0)
	if c.NoPower {
		for _, at := range [...]int{0xE172, 0xE174, 0xE180, 0xE184} {
			m.put(at, 0xFFFF, 0xFF7F) // the lowest float, low word first
		}
	}
	if c.NoCounters {
		for at := 0xE176; at < 0xE17E; at++ {
			m.put(at, noUint16)
		}
	}
}
