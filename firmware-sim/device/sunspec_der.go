package device

import (
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// sunSpecDER is an inverter with a battery as the SunSpec Alliance's models for
// IEEE 1547-2018 describe it: 1, measurements (701), capacity (702), controls
// (704), storage capacity (713), and the battery's own model (802). Facts:
// https://github.com/sunspec/models.
//
// WSet is the power at the inverter's terminals, positive when it gives: with
// panels behind it the battery does what the sun leaves. When a reversion timer
// of 704, begun by any write to its control, runs out, the reversion values take
// the place of the values. A controller that has once counted CtrlHb of 802 must
// go on counting: after heartbeatSeconds without a new number the inverter is
// its own master (LocRemCtl reads local) until the next one.
type sunSpecDER struct {
	spec   Spec
	places map[int]sunSpecModel
	length int
	sheet  *sheet
	held   held
}

// The writable points, in the order of addresses.
const (
	sdWMax = iota
	sdCharge
	sdDischarge
	sdLimEna
	sdLimPct
	sdLimPctRvrt
	sdLimEnaRvrt
	sdLimRvrt
	sdSetEna
	sdSetMod
	sdSet
	sdSetRvrt
	sdSetPct
	sdSetPctRvrt
	sdSetEnaRvrt
	sdSetRvrtTms
	sdRsvMax
	sdRsvMin
	sdHeartbeat
	sdAlarm
	sdSetOp
	sdSetInvState
)

// The timers; index 1 is the limit's.
const (
	timerMax = iota + 1
	timerSet
	timerHeartbeat
)

const (
	heartbeatSeconds = 60
	maxSeconds       = math.MaxInt32
)

func newSunSpecDER(s Spec) Inverter {
	d := &sunSpecDER{spec: s}
	d.places, d.length = sunSpecChain([][2]int{{701, 153}, {702, 50}, {704, 65}, {713, 7}, {802, 62}})
	watts := func(p home.MilliWatts) int64 { return p.Watts() / pow10(d.factor()) }
	output, battery := watts(s.Rating.Output), watts(s.Rating.Battery)
	at := func(model, offset int) uint16 { return uint16(sunSpecBase + d.places[model].at + offset) } //nolint:gosec // G115: far below 65536
	percent := func(offset, timer int, first int64) field {
		return field{at: at(704, offset), words: 1, high: wholePercent, first: first, timer: timer}
	}
	signed := func(offset, words, timer int, most int64) field {
		return field{at: at(704, offset), words: words, signed: true, low: -most, high: most, timer: timer}
	}
	enable := func(offset, timer int) field { return field{at: at(704, offset), words: 1, high: 1, timer: timer} }
	d.sheet = &sheet{fields: []field{
		sdWMax:        {at: at(702, 26), words: 1, low: 1, high: output, first: output},
		sdCharge:      {at: at(702, 34), words: 1, high: battery, first: battery},
		sdDischarge:   {at: at(702, 35), words: 1, high: battery, first: battery},
		sdLimEna:      enable(14, timerMax),
		sdLimPct:      percent(15, timerMax, wholePercent),
		sdLimPctRvrt:  percent(16, 0, wholePercent),
		sdLimEnaRvrt:  enable(17, 0),
		sdLimRvrt:     {at: at(704, 18), words: 2, high: maxSeconds, timer: timerMax},
		sdSetEna:      enable(22, timerSet),
		sdSetMod:      {at: at(704, 23), words: 1, high: 1, first: 1, timer: timerSet},
		sdSet:         signed(24, 2, timerSet, s.Rating.Output.Watts()),
		sdSetRvrt:     signed(26, 2, 0, s.Rating.Output.Watts()),
		sdSetPct:      signed(28, 1, timerSet, wholePercent),
		sdSetPctRvrt:  signed(29, 1, 0, wholePercent),
		sdSetEnaRvrt:  enable(30, 0),
		sdSetRvrtTms:  {at: at(704, 31), words: 2, high: maxSeconds, timer: timerSet},
		sdRsvMax:      {at: at(802, 9), words: 1, low: 1, high: wholePercent, first: wholePercent},
		sdRsvMin:      {at: at(802, 10), words: 1, high: wholePercent, first: int64(s.Rating.Floor) * wholePercent / int64(s.Rating.Capacity)},
		sdHeartbeat:   {at: at(802, 19), words: 1, high: math.MaxUint16 - 1, timer: timerHeartbeat},
		sdAlarm:       {at: at(802, 20), words: 1, high: 1},
		sdSetOp:       {at: at(802, 50), words: 1, low: 1, high: 2, first: 1},
		sdSetInvState: {at: at(802, 51), words: 1, low: 1, high: 3, first: 3},
	}}
	d.held = d.sheet.delivered()
	return d
}

// factor is the scale factor of powers in registers of 16 bits.
func (d *sunSpecDER) factor() int {
	return wattsFactor(d.spec.Rating.Output, d.spec.Rating.Battery)
}

// Shown is a counter of 64 bits.
func (*sunSpecDER) Shown(wh uint64) uint64 { return wh }

// settled is what is held at an instant, with what reverted.
func (d *sunSpecDER) settled(at int64) held {
	h := d.held
	if expiry(h.began[timerMax], h.values[sdLimRvrt]) <= at {
		h = h.with(map[int]int64{sdLimEna: h.values[sdLimEnaRvrt], sdLimPct: h.values[sdLimPctRvrt]})
		h.began[timerMax] = -1
	}
	if expiry(h.began[timerSet], h.values[sdSetRvrtTms]) <= at {
		h = h.with(map[int]int64{
			sdSetEna: h.values[sdSetEnaRvrt], sdSet: h.values[sdSetRvrt], sdSetPct: h.values[sdSetPctRvrt],
		})
		h.began[timerSet] = -1
	}
	return h
}

// alone says whether the controller's heartbeat has stopped, and when it will
// if it is not heard again.
func (h held) alone(at int64) (bool, int64) {
	end := expiry(h.began[timerHeartbeat], heartbeatSeconds)
	return end <= at, end
}

func (d *sunSpecDER) serial() uint32 { return d.spec.Serial }

// As is explained at Inverter.
func (d *sunSpecDER) As(other Inverter) Inverter {
	next := *d
	next.spec.Serial = other.serial()
	return &next
}

// Write is explained at Inverter.
func (d *sunSpecDER) Write(at int64, address uint16, words []uint16) (Inverter, error) {
	next, before := *d, d.settled(at)
	var err error
	if next.held, err = d.sheet.write(before, at, address, words); err != nil {
		return d, err
	}
	// The same number again is no heartbeat.
	if next.held.values[sdHeartbeat] == before.values[sdHeartbeat] {
		next.held.began[timerHeartbeat] = before.began[timerHeartbeat]
	}
	return &next, nil
}

func (d *sunSpecDER) Control(at int64) (home.Control, int64) {
	h, r := d.settled(at), d.spec.Rating
	unit := home.MilliWatts(1000 * pow10(d.factor()))
	c := home.Control{
		Reserve: h.values[sdRsvMin] * 100,
		Off:     h.values[sdSetInvState] != 3,
	}
	if h.values[sdRsvMax] < wholePercent {
		c.Ceiling = h.values[sdRsvMax] * 100
	}
	charge, discharge := home.MilliWatts(h.values[sdCharge])*unit, home.MilliWatts(h.values[sdDischarge])*unit
	if h.values[sdSetOp] == 2 {
		charge, discharge = 0, 0
	}
	if charge < r.Battery/unit*unit || discharge < r.Battery/unit*unit {
		c.Battery = home.Between(-discharge, charge)
	}
	until := never
	for _, end := range []int64{expiry(h.began[timerMax], h.values[sdLimRvrt]), expiry(h.began[timerSet], h.values[sdSetRvrtTms])} {
		until = min(until, end)
	}
	alone, end := h.alone(at)
	if alone {
		return c, until
	}
	c.Output = d.output(h, unit)
	return c, min(until, end)
}

// output is what 704 asks of the inverter's terminals.
func (d *sunSpecDER) output(h held, unit home.MilliWatts) home.Bound {
	most := home.MilliWatts(h.values[sdWMax]) * unit
	limit := most
	if h.values[sdLimEna] == 1 {
		limit = limit * home.MilliWatts(h.values[sdLimPct]) / wholePercent
	}
	switch {
	case h.values[sdSetEna] == 1:
		set := home.MilliWatts(h.values[sdSet] * 1000)
		if h.values[sdSetMod] == 0 {
			set = most * home.MilliWatts(h.values[sdSetPct]) / wholePercent
		}
		set = min(set, limit)
		return home.Between(set, set)
	case limit < d.spec.Rating.Output/unit*unit:
		return home.Between(-d.spec.Rating.Output, limit)
	}
	return home.Bound{}
}

func (d *sunSpecDER) Registers(c Condition, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalDataAddress
	}
	m := newSunSpecImage(d.places, d.length, "firmware-sim DER", d.spec)
	h := d.settled(c.Now)
	d.model701(m.model(701), c)
	d.model702(m.model(702))
	d.model704(m.model(704), c, h)
	r := d.spec.Rating
	w, hours := m.model(713), wattsFactor(home.MilliWatts(r.Capacity))
	w[2], w[3] = wattsWord(home.MilliWatts(r.Capacity), hours), wattsWord(home.MilliWatts(c.Moment.Stored), hours)
	w[4], w[5], w[6], w[7], w[8] = c.percent(r, 100), wholePercent, 0, word(hours), word(-2)
	if c.NoPower {
		w[3], w[4] = noUint16, noUint16
	}
	d.model802(m.model(802), c, h)
	d.sheet.fill(h, m.words, sunSpecBase)
	return window(m.words, sunSpecBase, address, count)
}

// putLongLong puts a number into four registers.
func putLongLong(w []uint16, v uint64) {
	putLong(w, v>>32)
	putLong(w[2:], v&math.MaxUint32)
}

func (d *sunSpecDER) model701(w []uint16, c Condition) {
	const threePhase, running, throttled = 2, 3, 4
	e, factor := c.outputElectrics(d.spec.Serial), d.factor()
	w[2], w[3], w[4], w[5] = threePhase, 1, running, 1
	if c.Moment.Control.Off {
		w[3], w[4], w[5] = 0, 0, 0
	} else if c.Moment.Curtailed > 0 {
		w[4] = throttled
	}
	zero(w, 6, 10)
	power := func(watts float64) uint16 { return wattsWord(home.MilliWatts(watts*1000), factor) }
	sign := math.Copysign(powerFactor*1000, e.totalW)
	w[10], w[11], w[12], w[13] = wattsWord(c.Moment.Output, factor), power(e.totalVA), power(e.totalVAr), word(int(sign))
	var amps, volts float64
	for p := range 3 {
		amps, volts = amps+e.amps[p], volts+e.volts[p]/3
		l := w[41+23*p : 64+23*p]
		l[0], l[1], l[2], l[3] = power(e.watts[p]), power(e.voltAmps[p]), power(e.vars[p]), word(int(sign))
		l[4], l[5], l[6] = word(int(math.Round(e.amps[p]*100))), uint16(math.Round(e.volts[p]*math.Sqrt(3)*10)), uint16(math.Round(e.volts[p]*10))
	}
	w[14], w[15], w[16] = word(int(math.Round(amps*100))), uint16(math.Round(volts*math.Sqrt(3)*10)), uint16(math.Round(volts*10))
	putLong(w[17:], uint64(math.Round(e.hertz*1000)))
	putLongLong(w[19:], c.ExportWh())
	putLongLong(w[23:], c.ImportWh())
	none(w, 35, 37, 38, 39, 40)
	w[36] = 31 // °C in the cabinet
	w[110] = 0
	if most := c.Moment.Solar + c.Moment.Curtailed; most > 0 {
		w[110] = uint16(int64(c.Moment.Curtailed) * 100 / int64(most)) //nolint:gosec // G115: at most 100
	}
	zero(w, 111, 113)
	if c.Moment.Curtailed > 0 {
		w[112] = 1 // by a limit of active power
	}
	w[113], w[114], w[115], w[116], w[117] = word(-2), word(-1), word(-3), word(factor), word(-3)
	if c.NoPower {
		none(w, 10, 11, 12, 13, 14, 41, 42, 43, 44, 45, 64, 65, 66, 67, 68, 87, 88, 89, 90, 91)
	}
	if c.NoCounters {
		for i := 19; i < 27; i++ {
			w[i] = noUint16
		}
	}
	w[118], w[119], w[120], w[121], w[122] = word(factor), word(factor), 0, 0, 0
	zero(w, 123, 155)
}

func (d *sunSpecDER) model702(w []uint16) {
	r, factor := d.spec.Rating, d.factor()
	output, battery := wattsWord(r.Output, factor), wattsWord(r.Battery, factor)
	w[2], w[7] = output, output
	w[10], w[11], w[12], w[13] = battery, battery, battery, battery
	w[14] = 2300
	const maxW, fixedW = 1 << 0, 1 << 1
	w[23], w[24] = 0, maxW|fixedW
	w[25], w[44] = 0, 0
	w[31] = output
	w[38] = 2300
	w[45], w[46], w[47], w[48], w[49], w[50] = word(factor), word(-3), word(factor), word(factor), word(-1), word(-1)
	none(w, 51)
}

func (d *sunSpecDER) model704(w []uint16, c Condition, h held) {
	w[2], w[8], w[35] = 0, 0, 0 // power factor and reactive power: off
	left := func(at int, timer, seconds int) {
		putLong(w[at:], uint64(remaining(expiry(h.began[timer], h.values[seconds]), c.Now))) //nolint:gosec // G115: not negative
	}
	left(20, timerMax, sdLimRvrt)
	left(33, timerSet, sdSetRvrtTms)
	none(w, 53, 57, 58)
	w[52] = 1
	w[54], w[55], w[56] = word(-2), 0, word(-2)
}

func (d *sunSpecDER) model802(w []uint16, c Condition, h held) {
	const lithium, connected, standby, volts = 4, 3, 4, 208
	r, factor := d.spec.Rating, d.factor()
	hours := wattsFactor(home.MilliWatts(r.Capacity))
	w[2] = wattsWord(home.MilliWatts(r.Capacity/volts), 0)
	w[3] = wattsWord(home.MilliWatts(r.Capacity), hours)
	w[4], w[5] = wattsWord(r.Battery, factor), wattsWord(r.Battery, factor)
	w[7], w[8], w[11] = wholePercent, uint16(int64(r.Floor)*wholePercent/int64(r.Capacity)), c.percent(r, 100) //nolint:gosec // G115: at most 10,000
	w[12], w[13] = wholePercent-w[11], wholePercent
	putLong(w[14:], uint64(c.Discharge/r.Capacity)) //nolint:gosec // G115: not negative
	w[16] = c.chargeStatus(r)
	if alone, _ := h.alone(c.Now); alone {
		w[17] = 1
	} else {
		w[17] = 0
	}
	w[18] = uint16(c.Now / 1000 % 0x10000) //nolint:gosec // G115: below 65536
	w[21], w[22] = lithium, connected
	if c.Moment.Battery == 0 {
		w[22] = standby
	}
	zero(w, 26, 34)
	w[34] = volts
	battery := -c.Moment.Battery // out of the battery is positive, as at the terminals
	w[44] = word(int(battery.Watts() * 10 / volts))
	w[47], w[48] = wattsWord(battery, factor), 0
	none(w, 49)
	w[52], w[53], w[54], w[56], w[57], w[58] = 0, word(hours), word(factor), word(-2), word(-2), word(-2)
	none(w, 55, 60, 62)
	w[59], w[61], w[63] = 0, word(-1), word(factor)
	if c.NoPower {
		w[11], w[12], w[16], w[22] = noUint16, noUint16, noUint16, noUint16
		none(w, 44, 47)
	}
}
