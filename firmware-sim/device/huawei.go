package device

import (
	"math"
	"slices"
	"strconv"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// huaweiLuna is a Huawei SUN2000 inverter with a LUNA2000 battery. Facts from the
// maker's "Solar Inverter Modbus Interface Definitions" as they are collected at
// https://github.com/wlcrs/huawei-solar-lib: one table of registers, 32-bit
// numbers with the high word first, energies in hundredths of a kWh, percentages
// in tenths.
//
// Forced charging or discharging begins with a 1 or 2 in 47100 and ends after the
// minutes of 47083 (mode 0 of 47246), when 47100 reads 0 again; or it goes on to
// the content of 47101 and holds there (mode 1). An order of 0 minutes is
// refused. Charging takes from the grid only if 47087 allows it. The maximum feed
// of 47415 to 47418 is one of the house: the battery takes what it can, then the
// panels are curtailed.
type huaweiLuna struct {
	spec  Spec
	sheet *sheet
	held  held
}

// The writable registers, in the order of addresses.
const (
	hlCharge = iota
	hlDischarge
	hlChargeEnd
	hlDischargeEnd
	hlMinutes
	hlMode
	hlFromGrid
	hlOrder
	hlTarget
	hlByContent
	hlChargeBy
	hlDischargeBy
	hlFeedMode
	hlFeedWatts
	hlFeedPercent
)

// Values of 47086, 47100 and 47415.
const (
	hlSelfConsumption, hlFullyFed          = 2, 4
	hlStop, hlForceCharge, hlForceDisch    = 0, 1, 2
	hlUnlimited, hlZero, hlByW, hlByTenths = 0, 5, 6, 7
)

const timerOrder = 1

func newHuaweiLuna(s Spec) Inverter {
	battery, output := s.Rating.Battery.Watts(), s.Rating.Output.Watts()
	oneOf := func(values ...int64) func(int64) bool {
		return func(v int64) bool { return slices.Contains(values, v) }
	}
	floor := int64(s.Rating.Floor) * 1000 / int64(s.Rating.Capacity)
	d := &huaweiLuna{spec: s, sheet: &sheet{fields: []field{
		hlCharge:       {at: 47075, words: 2, high: battery, first: battery},
		hlDischarge:    {at: 47077, words: 2, high: battery, first: battery},
		hlChargeEnd:    {at: 47081, words: 1, low: 900, high: 1000, first: 1000},
		hlDischargeEnd: {at: 47082, words: 1, high: 200, first: min(200, floor)},
		hlMinutes:      {at: 47083, words: 1, high: 1440},
		hlMode:         {at: 47086, words: 1, first: hlSelfConsumption, check: oneOf(hlSelfConsumption, hlFullyFed)},
		hlFromGrid:     {at: 47087, words: 1, high: 1, first: 1},
		hlOrder:        {at: 47100, words: 1, high: hlForceDisch, timer: timerOrder},
		hlTarget:       {at: 47101, words: 1, high: 1000},
		hlByContent:    {at: 47246, words: 1, high: 1},
		hlChargeBy:     {at: 47247, words: 2, high: battery},
		hlDischargeBy:  {at: 47249, words: 2, high: battery},
		hlFeedMode:     {at: 47415, words: 1, check: oneOf(hlUnlimited, hlZero, hlByW, hlByTenths)},
		hlFeedWatts:    {at: 47416, words: 2, signed: true, low: -1000, high: output},
		hlFeedPercent:  {at: 47418, words: 1, signed: true, low: -1000, high: 1000},
	}}}
	d.held = d.sheet.delivered()
	return d
}

// Shown is a counter of whole hundredths of a kWh in 32 bits.
func (*huaweiLuna) Shown(wh uint64) uint64 { return wh / 10 & math.MaxUint32 * 10 }

// end is when the order is over; never for one that has no time.
func (d *huaweiLuna) end() int64 {
	h := d.held
	if h.values[hlOrder] == hlStop || h.values[hlByContent] == 1 {
		return never
	}
	return expiry(h.began[timerOrder], 60*h.values[hlMinutes])
}

func (d *huaweiLuna) settled(at int64) held {
	if d.end() <= at {
		return d.held.with(map[int]int64{hlOrder: hlStop})
	}
	return d.held
}

func (d *huaweiLuna) serial() uint32 { return d.spec.Serial }

// As is explained at Inverter.
func (d *huaweiLuna) As(other Inverter) Inverter {
	next := *d
	next.spec.Serial = other.serial()
	return &next
}

// Write is explained at Inverter.
func (d *huaweiLuna) Write(at int64, address uint16, words []uint16) (Inverter, error) {
	next := *d
	var err error
	if next.held, err = d.sheet.write(d.settled(at), at, address, words); err != nil {
		return d, err
	}
	h := next.held
	if h.values[hlOrder] != hlStop && h.values[hlByContent] == 0 && h.values[hlMinutes] == 0 {
		return d, modbus.IllegalDataValue
	}
	return &next, nil
}

func (d *huaweiLuna) Control(at int64) (home.Control, int64) {
	h, until := d.settled(at), never
	if h.values[hlOrder] != hlStop {
		until = d.end()
	}
	watts := func(i int) home.MilliWatts { return home.MilliWatts(h.values[i] * 1000) }
	c := home.Control{
		SolarOnly: h.values[hlFromGrid] == 0,
		Reserve:   h.values[hlDischargeEnd] * 1000,
	}
	if h.values[hlChargeEnd] < 1000 {
		c.Ceiling = h.values[hlChargeEnd] * 1000
	}
	low, high := -watts(hlDischarge), watts(hlCharge)
	if h.values[hlMode] == hlFullyFed {
		c.Aim = home.Rest
	}
	switch h.values[hlOrder] {
	case hlForceCharge:
		low, high = min(high, watts(hlChargeBy)), min(high, watts(hlChargeBy))
		if h.values[hlByContent] == 1 && h.values[hlTarget] < 1000 {
			c.Ceiling = max(1, h.values[hlTarget]*1000)
		}
	case hlForceDisch:
		low, high = max(low, -watts(hlDischargeBy)), max(low, -watts(hlDischargeBy))
		if h.values[hlByContent] == 1 {
			c.Reserve = max(c.Reserve, h.values[hlTarget]*1000)
		}
	}
	if low > -d.spec.Rating.Battery/1000*1000 || high < d.spec.Rating.Battery/1000*1000 {
		c.Battery = home.Between(low, high)
	}
	switch h.values[hlFeedMode] {
	case hlZero:
		c.Export = home.Between(0, 0)
	case hlByW:
		c.Export = home.Between(0, max(0, watts(hlFeedWatts)))
	case hlByTenths:
		c.Export = home.Between(0, max(0, d.spec.Rating.Output*home.MilliWatts(h.values[hlFeedPercent])/1000))
	}
	return c, until
}

// hundredths are a counter's hundredths of a kWh.
func hundredths(e home.MilliWattHours) uint64 {
	return uint64(e/10_000) & math.MaxUint32 //nolint:gosec // G115: counters are not negative
}

// huaweiBlocks are the ranges of registers that the device has; a request must
// lie within one of them.
var huaweiBlocks = [...][2]uint16{{30000, 35}, {30070, 15}, {32000, 120}, {37000, 125}, {37758, 30}, {47000, 110}, {47246, 5}, {47415, 4}}

func (d *huaweiLuna) Registers(c Condition, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalFunction
	}
	for _, b := range huaweiBlocks {
		if address < b[0] || int(address)+int(count) > int(b[0])+int(b[1]) {
			continue
		}
		image := make([]uint16, b[1])
		d.fill(registerImage{image, int(b[0])}, c)
		d.sheet.fill(d.settled(c.Now), image, int(b[0]))
		return window(image, b[0], address, count)
	}
	return nil, modbus.IllegalDataAddress
}

// registerImage is a part of a map; what is put outside of it is left out.
type registerImage struct {
	words []uint16
	base  int
}

func (m registerImage) put(at int, words ...uint16) {
	for i, w := range words {
		if k := at + i - m.base; k >= 0 && k < len(m.words) {
			m.words[k] = w
		}
	}
}

// long puts a number of 32 bits with the high word first, in two's complement.
func (m registerImage) long(at int, v int64) {
	m.put(at, uint16(v>>16&0xFFFF), uint16(v&0xFFFF))
}

func (m registerImage) text(at, words int, text string) {
	packed := make([]uint16, words)
	putText(packed, text)
	m.put(at, packed...)
}

func (d *huaweiLuna) fill(m registerImage, c Condition) {
	const onGrid, running, luna = 0x0200, 2, 2
	r, e := d.spec.Rating, c.outputElectrics(d.spec.Serial)
	m.text(30000, 15, "SUN2000-"+strconv.FormatInt(r.Output.Watts()/1000, 10)+"KTL-M1")
	m.text(30015, 10, "CW"+strconv.FormatUint(uint64(d.spec.Serial), 10))
	m.text(30025, 10, "firmware-sim")
	m.put(30070, 424, 2, 2)
	m.long(30073, r.Output.Watts())
	m.long(30075, r.Output.Watts())

	m.put(32000, 0x0006) // on the grid, normally
	m.long(32064, c.Moment.Solar.Watts())
	for p := range 3 {
		m.put(32066+p, uint16(math.Round(e.volts[p]*math.Sqrt(3)*10)))
		m.put(32069+p, uint16(math.Round(e.volts[p]*10)))
		m.long(32072+2*p, int64(math.Round(e.amps[p]*1000)))
	}
	m.long(32080, c.Moment.Output.Watts())
	m.long(32082, int64(math.Round(e.totalVAr)))
	m.put(32084, word(int(math.Copysign(powerFactor*1000, e.totalW))), uint16(math.Round(e.hertz*100)), 9850, 310)
	m.put(32089, onGrid)
	m.long(32106, int64(hundredths(c.Export)))                                         //nolint:gosec // G115: 32 bits
	m.long(32108, int64(hundredths(c.Solar)))                                          //nolint:gosec // G115: 32 bits
	content, battery := c.percent(r, 10), c.Moment.Battery.Watts()                     // tenths
	charged, discharged := int64(hundredths(c.Charge)), int64(hundredths(c.Discharge)) //nolint:gosec // G115: 32 bits

	m.put(37000, running)
	m.long(37001, battery)
	m.put(37003, 4000, content)
	m.long(37007, r.Battery.Watts())
	m.long(37009, r.Battery.Watts())
	m.put(37022, 250) // 25 °C
	m.put(37025, d.minutesLeft(c.Now))
	m.long(37046, r.Battery.Watts())
	m.long(37048, r.Battery.Watts())
	m.text(37052, 10, "CWB"+strconv.FormatUint(uint64(d.spec.Serial), 10))
	m.long(37066, charged)
	m.long(37068, discharged)
	m.put(37100, 1)                       // the meter at the door is there
	m.long(37113, -c.Moment.Grid.Watts()) // positive when the house exports

	m.long(37758, int64(r.Capacity/home.MilliWattHoursPerWattHour))
	m.put(37760, content)
	m.put(37762, running)
	m.put(37763, 4000)
	m.long(37765, battery)
	m.long(37780, charged)
	m.long(37782, discharged)
	m.put(47000, luna)
	if c.NoPower {
		for _, at := range [...]int{32064, 32080, 32082, 37001, 37113, 37765} {
			m.put(at, 0x7FFF, 0xFFFF)
		}
		m.put(37004, noUint16)
		m.put(37760, noUint16)
	}
	if c.NoCounters {
		for _, at := range [...]int{32106, 32108, 37066, 37068, 37780, 37782} {
			m.put(at, noUint16, noUint16)
		}
	}
}

// minutesLeft is what is left of an order, in minutes that have begun.
func (d *huaweiLuna) minutesLeft(now int64) uint16 {
	return uint16((remaining(d.end(), now) + 59) / 60) //nolint:gosec // G115: at most 1440
}
