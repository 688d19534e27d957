package device

import (
	"math"
	"strconv"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// sunSpecModel is a model and its place: the offset of its id from the base.
type sunSpecModel struct{ id, length, at int }

// sunSpecChain lays models one after the other behind the common model, and
// gives their places and the number of registers of the whole, with the end
// model. Facts: SunSpec Alliance, "SunSpec Device Information Model
// Specification" and the model files, https://github.com/sunspec/models.
func sunSpecChain(models [][2]int) (map[int]sunSpecModel, int) {
	places, at := map[int]sunSpecModel{}, meterAt
	for _, m := range models {
		places[m[0]] = sunSpecModel{id: m[0], length: m[1], at: at}
		at += 2 + m[1]
	}
	return places, at + 2
}

// sunSpecImage is an image of a chain, with the ids and lengths in it and every
// point of its models not implemented.
type sunSpecImage struct {
	words  []uint16
	places map[int]sunSpecModel
}

func newSunSpecImage(places map[int]sunSpecModel, length int, model string, spec Spec) sunSpecImage {
	m := sunSpecImage{words: make([]uint16, length), places: places}
	m.words[0], m.words[1] = 0x5375, 0x6e53 // "SunS"
	common := m.words[2:meterAt]
	common[0], common[1] = 1, commonLength
	putText(common[2:18], "Commonwatt")
	putText(common[18:34], model)
	putText(common[42:50], "1.0")
	putText(common[50:66], strconv.FormatUint(uint64(spec.Serial), 10))
	common[66], common[67] = uint16(spec.Unit), noInt16
	for _, p := range places {
		m.words[p.at], m.words[p.at+1] = uint16(p.id), uint16(p.length) //nolint:gosec // G115: small
		for i := range p.length {
			m.words[p.at+2+i] = noUint16
		}
	}
	m.words[length-2], m.words[length-1] = 0xFFFF, 0
	return m
}

// model is the registers of a model from its id on, as the model files count.
func (m sunSpecImage) model(id int) []uint16 {
	p := m.places[id]
	return m.words[p.at : p.at+2+p.length]
}

// none marks points as not implemented that are signed or scale factors.
func none(m []uint16, offsets ...int) {
	for _, o := range offsets {
		m[o] = noInt16
	}
}

// zero clears points whose nothing is a 0: accumulators and bit fields.
func zero(m []uint16, from, to int) { clear(m[from:to]) }

// Operating states of models 103 and 160.
const (
	stateSleeping, stateMPPT, stateThrottled, stateStandby = 2, 4, 5, 8
)

func (c Condition) inverterState() uint16 {
	switch {
	case c.Moment.Control.Off:
		return stateStandby
	case c.Moment.Curtailed > 0:
		return stateThrottled
	case c.Moment.Solar == 0 && c.Moment.Battery == 0:
		return stateSleeping
	default:
		return stateMPPT
	}
}

// outputElectrics are made of what the inverter gives, so their power is
// positive when it does.
func (c Condition) outputElectrics(serial uint32) electrics {
	return newElectrics(Reading{Index: c.Index, Power: c.Moment.Output}, serial)
}

// model103 fills the three-phase inverter model: what it measures at its
// terminals, and the energy it gave there.
func (m sunSpecImage) model103(c Condition, r Rating, serial uint32) {
	w := m.model(103)
	e := c.outputElectrics(serial)
	var amps float64
	for p := range 3 {
		w[3+p] = uint16(math.Round(e.amps[p] * 100))
		w[7+p] = uint16(math.Round(e.volts[p] * math.Sqrt(3) * 10))
		w[10+p] = uint16(math.Round(e.volts[p] * 10))
		amps += e.amps[p]
	}
	w[2], w[6], w[13] = uint16(math.Round(amps*100)), word(-2), word(-1)
	factor := wattsFactor(r.Output, r.Battery, r.Solar)
	w[14], w[15] = wattsWord(c.Moment.Output, factor), word(factor)
	w[16], w[17] = uint16(math.Round(e.hertz*100)), word(-2)
	w[18], w[19] = wattsWord(home.MilliWatts(e.totalVA*1000), factor), word(factor)
	w[20], w[21] = wattsWord(home.MilliWatts(e.totalVAr*1000), factor), word(factor)
	w[22], w[23] = word(int(math.Copysign(powerFactor*1000, e.totalW))), word(-1)
	putLong(w[24:], c.ExportWh()&math.MaxUint32)
	w[26] = 0
	none(w, 28, 30, 34, 35, 36)
	w[31], w[32] = wattsWord(c.Moment.Output, factor), word(factor)
	w[33], w[37] = 31, 0 // °C in the cabinet
	w[38] = c.inverterState()
	zero(w, 40, 52)
	if c.NoPower {
		none(w, 14, 18, 20, 22, 31)
	}
	if c.NoCounters {
		zero(w, 24, 26) // an accumulator of 0 is one that is not there
	}
}

// model120 fills the nameplate.
func (m sunSpecImage) model120(r Rating) {
	const panelsAndStorage = 82
	w := m.model(120)
	w[2] = panelsAndStorage
	factor := wattsFactor(r.Output, r.Battery)
	watts := wattsWord(r.Output, factor)
	w[3], w[4], w[5], w[6] = watts, word(factor), watts, word(factor)
	none(w, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 22)
	w[12], w[13] = uint16(clampInt(r.Output.Watts()*10/690, 0, math.MaxUint16-1)), word(-1) //nolint:gosec // G115: clamped
	hours := wattsFactor(home.MilliWatts(r.Capacity))
	w[19], w[20] = wattsWord(home.MilliWatts(r.Capacity), hours), word(hours)
	w[23], w[24] = wattsWord(r.Battery, factor), word(factor)
	w[25], w[26] = wattsWord(r.Battery, factor), word(factor)
	w[27] = noInt16
}

// model160 fills the direct-current side as hybrid inverters with a battery have
// it: two trackers of panels, then what goes into the battery and what comes out.
func (m sunSpecImage) model160(c Condition, r Rating) {
	w := m.model(160)
	factor := wattsFactor(r.Solar, r.Battery)
	none(w, 2, 3)
	w[4], w[5] = word(factor), word(0)
	zero(w, 6, 8)
	w[8] = 4
	for i, part := range []struct {
		name  string
		power home.MilliWatts
		total home.MilliWattHours
	}{
		{"MPPT 1", c.Moment.Solar, c.Solar},
		{"MPPT 2", 0, 0},
		{"StCha 3", max(0, c.Moment.Battery), c.Charge},
		{"StDisCha 4", max(0, -c.Moment.Battery), c.Discharge},
	} {
		module := w[10+20*i : 30+20*i]
		module[0] = uint16(i + 1)
		zero(module, 1, 9)
		putText(module[1:9], part.name)
		module[11] = wattsWord(part.power, factor)
		putLong(module[12:], uint64(part.total/home.MilliWattHoursPerWattHour)&math.MaxUint32) //nolint:gosec // G115: counters are ≥ 0
		if c.NoPower {
			module[11] = noUint16
		}
		if c.NoCounters {
			zero(module, 12, 14)
		}
		none(module, 16)
		module[17] = c.inverterState()
		zero(module, 18, 20)
	}
}
