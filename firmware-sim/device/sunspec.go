package device

import (
	"math"
	"strconv"

	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// sunSpecMeter is a three-phase (wye) meter as the SunSpec Alliance describes
// it: holding registers from 40000 on, "SunS", the common model 1, the meter
// model 203 (integers with scale factors), the end model. Facts from the
// alliance's "SunSpec Information Model Specification" and its model files 1
// and 203.
type sunSpecMeter struct{ spec Spec }

const (
	sunSpecBase   = 40000
	commonLength  = 66
	meterLength   = 105
	meterAt       = 2 + 2 + commonLength // offset of model 203 from the base
	sunSpecLength = meterAt + 2 + meterLength + 2
	// Values that mean "not implemented".
	noInt16, noUint16, noScale = 0x8000, 0xFFFF, 0x8000
)

// Shown is a 32-bit accumulator: it begins anew after 2^32 Wh.
func (sunSpecMeter) Shown(wh uint64) uint64 { return wh & math.MaxUint32 }

func (d sunSpecMeter) Registers(r Reading, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalDataAddress
	}
	image := make([]uint16, sunSpecLength)
	image[0], image[1] = 0x5375, 0x6e53 // "SunS"
	d.common(image[2:meterAt])
	d.meter(r, image[meterAt:sunSpecLength-2])
	image[sunSpecLength-2] = 0xFFFF // the end model, of length 0
	return window(image, sunSpecBase, address, count)
}

func (d sunSpecMeter) common(m []uint16) {
	m[0], m[1] = 1, commonLength
	putText(m[2:18], "Commonwatt")
	putText(m[18:34], "firmware-sim meter")
	putText(m[42:50], "1.0")
	putText(m[50:66], strconv.FormatUint(uint64(d.spec.Serial), 10))
	m[66] = uint16(d.spec.Unit)
	m[67] = noInt16 // pad
}

// meter fills model 203. Counters of single phases and of apparent and reactive
// energy are not implemented: an accumulator says so with 0.
func (d sunSpecMeter) meter(r Reading, m []uint16) {
	m[0], m[1] = 203, meterLength
	e := newElectrics(r, d.spec.Serial)
	scaled := func(value float64, factor int) uint16 {
		return uint16(int16(math.Round(value * math.Pow10(-factor)))) //nolint:gosec // G115: two's complement is the format
	}
	var sumAmps, sumVolts float64
	for p := range 3 {
		m[3+p] = scaled(e.amps[p], -2)
		m[8+p] = scaled(e.volts[p], -1)
		m[12+p] = scaled(e.volts[p]*math.Sqrt(3), -1)
		sumAmps += e.amps[p]
		sumVolts += e.volts[p]
	}
	m[2], m[6] = scaled(sumAmps, -2), word(-2)
	m[7], m[11], m[15] = scaled(sumVolts/3, -1), scaled(sumVolts/math.Sqrt(3), -1), word(-1)
	m[16], m[17] = scaled(e.hertz, -2), word(-2)

	factor := 0 // of all powers: as fine as the largest allows
	for math.Abs(e.totalW)/math.Pow10(factor) > math.MaxInt16 {
		factor++
	}
	m[18], m[22] = scaled(float64(r.Power.Watts()), factor), word(factor)
	m[23], m[27] = scaled(e.totalVA, factor), word(factor)
	m[28], m[32] = scaled(e.totalVAr, factor), word(factor)
	m[33], m[37] = scaled(math.Copysign(powerFactor, e.totalW), -2), word(-2)
	for p := range 3 {
		m[19+p] = scaled(e.watts[p], factor)
		m[24+p] = scaled(e.voltAmps[p], factor)
		m[29+p] = scaled(e.vars[p], factor)
		m[34+p] = scaled(math.Copysign(powerFactor, e.watts[p]), -2)
	}
	if !r.NoCounters { // an accumulator of 0 is one that is not there
		ten := uint64(math.Pow10(r.Exponent))
		putLong(m[38:], d.Shown(r.ExportWh())/ten)
		putLong(m[46:], d.Shown(r.ImportWh())/ten)
	}
	m[54] = word(r.Exponent)
	if r.NoPower {
		m[18], m[19], m[20], m[21] = noInt16, noInt16, noInt16, noInt16
	}
	m[71], m[104] = noScale, noScale
}

// word is a signed number in a register.
func word(v int) uint16 { return uint16(int16(v)) } //nolint:gosec // G115: two's complement is the format

func putLong(m []uint16, v uint64) {
	m[0], m[1] = uint16(v>>16), uint16(v) //nolint:gosec // G115: the two halves of a 32-bit number
}

// putText packs a string, two characters a register, filled with zeros.
func putText(m []uint16, text string) {
	for i := range min(len(text), 2*len(m)) {
		m[i/2] |= uint16(text[i]) << (8 * (1 - i%2))
	}
}
