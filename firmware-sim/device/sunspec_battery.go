package device

import (
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// sunSpecBattery is an inverter with a battery as the SunSpec Alliance's models
// of 2012 to 2018 describe it: 1, 103, nameplate (120), settings (121), immediate
// controls (123), the direct-current side (160), basic storage control (124).
// Facts: https://github.com/sunspec/models, and for negative rates Fronius,
// "Fronius Datamanager Modbus TCP & RTU" 42,0410,2049, where a negative OutWRte
// makes the battery charge and a negative InWRte makes it discharge.
//
// Each of the three controls has a timer of its own, begun by any write to it:
// after its seconds the control goes back to what was delivered, and reads so.
// WinTms of 124 delays the change by a part of the window, and RmpTms leads there
// evenly. Windows and ramps of 123 are not implemented.
type sunSpecBattery struct {
	spec   Spec
	places map[int]sunSpecModel
	length int
	sheet  *sheet
	held   held
	// What bounded the battery when 124 was last written: where its ramp begins.
	lowFrom, highFrom home.MilliWatts
}

// The writable points, in the order of addresses.
const (
	sbWMax = iota
	sbConnRvrt
	sbConn
	sbLimPct
	sbLimRvrt
	sbLimEna
	sbWChaMax
	sbStorCtl
	sbMinRsv
	sbOutWRte
	sbInWRte
	sbWin
	sbRvrt
	sbRmp
	sbChaGri
)

// The timers.
const (
	timerConn = iota + 1
	timerLimit
	timerStorage
)

// hundredths of a percent: the scale of every percentage here.
const wholePercent = 100_00

func newSunSpecBattery(s Spec) Inverter {
	d := &sunSpecBattery{spec: s}
	d.places, d.length = sunSpecChain([][2]int{{103, 50}, {120, 26}, {121, 30}, {123, 24}, {160, 88}, {124, 24}})
	factor := d.factor()
	watts := func(p home.MilliWatts) int64 { return p.Watts() / pow10(factor) }
	at := func(model, offset int) uint16 { return uint16(sunSpecBase + d.places[model].at + offset) } //nolint:gosec // G115: far below 65536
	seconds := func(model, offset, timer int) field {
		return field{at: at(model, offset), words: 1, high: math.MaxUint16 - 1, timer: timer}
	}
	d.sheet = &sheet{fields: []field{
		sbWMax:     {at: at(121, 2), words: 1, low: 1, high: watts(s.Rating.Output), first: watts(s.Rating.Output)},
		sbConnRvrt: seconds(123, 3, timerConn),
		sbConn:     {at: at(123, 4), words: 1, high: 1, first: 1, timer: timerConn},
		sbLimPct:   {at: at(123, 5), words: 1, high: wholePercent, first: wholePercent, timer: timerLimit},
		sbLimRvrt:  seconds(123, 7, timerLimit),
		sbLimEna:   {at: at(123, 9), words: 1, high: 1, timer: timerLimit},
		sbWChaMax:  {at: at(124, 2), words: 1, low: 1, high: watts(s.Rating.Battery), first: watts(s.Rating.Battery)},
		sbStorCtl:  {at: at(124, 5), words: 1, high: 3, timer: timerStorage},
		sbMinRsv:   {at: at(124, 7), words: 1, high: wholePercent, first: int64(s.Rating.Floor) * wholePercent / int64(s.Rating.Capacity)},
		sbOutWRte:  {at: at(124, 12), words: 1, signed: true, low: -wholePercent, high: wholePercent, first: wholePercent, timer: timerStorage},
		sbInWRte:   {at: at(124, 13), words: 1, signed: true, low: -wholePercent, high: wholePercent, first: wholePercent, timer: timerStorage},
		sbWin:      seconds(124, 14, timerStorage),
		sbRvrt:     seconds(124, 15, timerStorage),
		sbRmp:      seconds(124, 16, timerStorage),
		sbChaGri:   {at: at(124, 17), words: 1, high: 1, first: 1},
	}}
	d.held = d.sheet.delivered()
	d.lowFrom, d.highFrom = -s.Rating.Battery, s.Rating.Battery
	return d
}

// factor is the scale factor of all powers.
func (d *sunSpecBattery) factor() int {
	return wattsFactor(d.spec.Rating.Output, d.spec.Rating.Battery, d.spec.Rating.Solar)
}

// Shown is a 32-bit accumulator.
func (*sunSpecBattery) Shown(wh uint64) uint64 { return wh & math.MaxUint32 }

// settled is what is held at an instant: what timers ran out on is as delivered.
func (d *sunSpecBattery) settled(at int64) held {
	h := d.held
	for _, t := range []struct {
		timer, seconds int
		back           map[int]int64
	}{
		{timerConn, sbConnRvrt, map[int]int64{sbConn: 1}},
		{timerLimit, sbLimRvrt, map[int]int64{sbLimEna: 0, sbLimPct: wholePercent}},
		{timerStorage, sbRvrt, map[int]int64{sbStorCtl: 0, sbOutWRte: wholePercent, sbInWRte: wholePercent}},
	} {
		if expiry(h.began[t.timer], h.values[t.seconds]) <= at {
			h = h.with(t.back)
			h.began[t.timer] = -1
		}
	}
	return h
}

func (d *sunSpecBattery) serial() uint32 { return d.spec.Serial }

// As is explained at Inverter.
func (d *sunSpecBattery) As(other Inverter) Inverter {
	next := *d
	next.spec.Serial = other.serial()
	return &next
}

// Write is explained at Inverter.
func (d *sunSpecBattery) Write(at int64, address uint16, words []uint16) (Inverter, error) {
	next := *d
	h := d.settled(at)
	var err error
	if next.held, err = d.sheet.write(h, at, address, words); err != nil {
		return d, err
	}
	if next.held.began[timerStorage] == at {
		low, high := d.storage(h)
		next.lowFrom, next.highFrom = low.At(at), high.At(at)
	}
	return &next, nil
}

// storage is the battery's bound as model 124 has it now and on its way there.
func (d *sunSpecBattery) storage(h held) (low, high home.Slope) {
	power := home.MilliWatts(h.values[sbWChaMax] * 1000 * pow10(d.factor()))
	part := func(rate int) home.MilliWatts { return power * home.MilliWatts(h.values[rate]) / wholePercent }
	low.To, high.To = -d.spec.Rating.Battery, min(d.spec.Rating.Battery, power)
	if h.values[sbStorCtl]&2 != 0 {
		low.To = -part(sbOutWRte)
	}
	if h.values[sbStorCtl]&1 != 0 {
		high.To = part(sbInWRte)
	}
	high.To = max(low.To, high.To) // where the two contradict each other, discharging decides
	low.From, high.From = d.lowFrom, d.highFrom
	if h.began[timerStorage] < 0 {
		return home.Level(low.To), home.Level(high.To)
	}
	low.Begin = h.began[timerStorage]
	if window := h.values[sbWin]; window > 0 {
		low.Begin += 1000 * int64(home.Seed(uint64(d.spec.Serial), "window")%uint64(window)) //nolint:gosec // G115: a positive 16-bit number
	}
	low.End = low.Begin + 1000*h.values[sbRmp]
	high.Begin, high.End = low.Begin, low.End
	return low, high
}

func (d *sunSpecBattery) Control(at int64) (home.Control, int64) {
	h := d.settled(at)
	until := never
	change := func(t int64) {
		if t > at {
			until = min(until, t)
		}
	}
	change(expiry(h.began[timerConn], h.values[sbConnRvrt]))
	change(expiry(h.began[timerLimit], h.values[sbLimRvrt]))
	change(expiry(h.began[timerStorage], h.values[sbRvrt]))

	c := home.Control{Off: h.values[sbConn] == 0, SolarOnly: h.values[sbChaGri] == 0}
	c.Reserve = h.values[sbMinRsv] * 100
	limit := home.MilliWatts(h.values[sbWMax] * 1000 * pow10(d.factor()))
	if h.values[sbLimEna] == 1 {
		limit = limit * home.MilliWatts(h.values[sbLimPct]) / wholePercent
	}
	if limit < d.spec.Rating.Output {
		c.Output = home.Between(-d.spec.Rating.Output, limit)
	}
	low, high := d.storage(h)
	change(low.Begin)
	change(low.End)
	low, high = bent(low, at), bent(high, at)
	if low != home.Level(-d.spec.Rating.Battery) || high != home.Level(d.spec.Rating.Battery) {
		c.Battery = home.Bound{On: true, Min: low, Max: high}
	}
	return c, until
}

// bent leaves away what a slope has behind it, so that equal controls compare
// as equal.
func bent(s home.Slope, at int64) home.Slope {
	if at >= s.End || s.From == s.To {
		return home.Level(s.To)
	}
	if at < s.Begin {
		return home.Level(s.From)
	}
	return s
}

func (d *sunSpecBattery) Registers(c Condition, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalDataAddress
	}
	r := d.spec.Rating
	m := newSunSpecImage(d.places, d.length, "firmware-sim battery", d.spec)
	m.model103(c, r, d.spec.Serial)
	m.model120(r)
	d.model121(m)
	none(m.model(123), 10, 15, 16, 17, 24, 25)
	m.model(123)[14], m.model(123)[22] = 0, 0 // fixed power factor and reactive power: off
	m.model(123)[23] = word(-2)
	m.model160(c, r)
	d.model124(m, c)
	d.sheet.fill(d.settled(c.Now), m.words, sunSpecBase)
	return window(m.words, sunSpecBase, address, count)
}

func (d *sunSpecBattery) model121(m sunSpecImage) {
	w := m.model(121)
	w[3], w[4] = 230, 0
	none(w, 8, 9, 10, 11, 13, 14, 15, 16, 25, 26, 27, 28, 29, 30, 31)
	w[22], w[23], w[24] = word(d.factor()), word(0), word(0)
}

func (d *sunSpecBattery) model124(m sunSpecImage, c Condition) {
	w, r := m.model(124), d.spec.Rating
	w[3], w[4] = 100, 100 // % of WChaMax in a second: at once
	w[8] = c.percent(r, 100)
	w[10] = 2080 // 208 V
	w[11] = c.chargeStatus(r)
	w[18], w[19] = word(d.factor()), word(0)
	w[21], w[22], w[24], w[25] = word(-2), word(-2), word(-1), word(-2)
	none(w, 20, 23)
	if c.NoPower {
		w[8], w[11] = noUint16, noUint16
	}
}
