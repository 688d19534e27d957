package device

import (
	"fmt"
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// em24 is the Carlo Gavazzi EM24 with Ethernet, EM24DINAV23XE1. Facts from the
// maker's "EM24 Ethernet communication protocol": the same registers by functions
// 3 and 4; 32-bit integers have their low word first; V and W in tenths, A in
// thousandths, kWh in tenths; 7FFFFFFF is a value that is not there; at most 11
// registers in one request of the old models, 50 of these.
type em24 struct{ spec Spec }

const (
	em24Inputs = 0x0060
	em24Max    = 50
	em24Code   = 1648 // at 000Bh: EM24DINAV23XE1X
	em24Serial = 0x5000
	em24None   = 0x7FFFFFFF
)

// Shown: a tenth of a kWh is the least that it tells.
func (em24) Shown(wh uint64) uint64 { return wh / 100 * 100 }

func (d em24) Registers(r Reading, _ modbus.Table, address, count uint16) ([]uint16, error) {
	if count > em24Max {
		return nil, modbus.IllegalDataValue
	}
	if address >= em24Serial {
		serial := make([]uint16, 7)
		putText(serial, fmt.Sprintf("BP%08d00X", d.spec.Serial%100_000_000))
		return window(serial, em24Serial, address, count)
	}
	image := make([]uint16, em24Inputs)
	put := func(at int, v int64) { image[at], image[at+1] = uint16(v), uint16(v>>16) } //nolint:gosec // G115: low word first
	e := newElectrics(r, d.spec.Serial)
	tenths := func(v float64) int64 { return int64(math.Round(v * 10)) }
	for p := range 3 {
		put(0x0000+2*p, tenths(e.volts[p]))
		put(0x0006+2*p, tenths(e.volts[p]*math.Sqrt(3)))
		put(0x000C+2*p, int64(math.Round(e.amps[p]*1000)))
		put(0x0012+2*p, tenths(e.watts[p]))
		put(0x0018+2*p, tenths(e.voltAmps[p]))
		put(0x001E+2*p, tenths(e.vars[p]))
		put(0x0040+2*p, int64(r.ImportWh()/100)/3) //nolint:gosec // G115: a counter's digits
	}
	image[0x000B] = em24Code // between the voltages, by a read of its own
	put(0x0028, tenths(e.totalW))
	put(0x002A, tenths(e.totalVA))
	put(0x002C, tenths(e.totalVAr))
	image[0x0033] = uint16(tenths(e.hertz)) //nolint:gosec // G115: about 500
	put(0x0034, int64(r.ImportWh()/100))    //nolint:gosec // G115: a counter's digits
	put(0x004E, int64(r.ExportWh()/100))    //nolint:gosec // G115: a counter's digits
	if r.NoPower {
		put(0x0028, em24None)
	}
	if r.NoCounters {
		put(0x0034, em24None)
		put(0x004E, em24None)
	}
	return window(image, 0, address, count)
}
