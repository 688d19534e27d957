package device

import (
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// abb is the ABB B23, a three-phase rail meter. Facts from the maker's "B23/B24
// User Manual" (2CMC485003M0201): holding registers, high word first; energies as
// 64-bit integers of 0.01 kWh from 5000h on, instantaneous values from 5B00h on
// (0.1 V, 0.01 A, 0.01 W), identification from 8900h on; all ones (7FFF… where
// there is a sign) is a value that is not there; registers between the blocks
// cannot be read.
type abb struct{ spec Spec }

const (
	abbEnergy    = 0x5000
	abbInstant   = 0x5B00
	abbIdentity  = 0x8900
	abbType      = 0x8960
	abbNone      = math.MaxUint64
	abbNoneInt32 = math.MaxInt32
)

// Shown: a hundredth of a kWh is the least that it tells.
func (abb) Shown(wh uint64) uint64 { return wh / 10 * 10 }

func (d abb) Registers(r Reading, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalDataAddress
	}
	switch {
	case address >= abbType:
		image := make([]uint16, 6)
		putText(image, "B23 112-100")
		return window(image, abbType, address, count)
	case address >= abbIdentity:
		image := make([]uint16, 0x10)
		putLong(image, uint64(d.spec.Serial))
		putText(image[8:], "B1.21.0")
		return window(image, abbIdentity, address, count)
	case address >= abbInstant:
		return window(d.instant(r), abbInstant, address, count)
	}
	image := make([]uint16, 12)
	imported, exported := r.ImportWh()/10, r.ExportWh()/10
	net := imported - exported // two's complement is the format
	if r.NoCounters {
		imported, exported, net = abbNone, abbNone, math.MaxInt64
	}
	for i, v := range []uint64{imported, exported, net} {
		putLong(image[4*i:], v>>32)
		putLong(image[4*i+2:], v)
	}
	return window(image, abbEnergy, address, count)
}

func (d abb) instant(r Reading) []uint16 {
	image := make([]uint16, 0x30)
	e := newElectrics(r, d.spec.Serial)
	put := func(at int, v, unit float64) { putLong(image[at:], uint64(int64(math.Round(v/unit)))) } //nolint:gosec // G115: two's complement is the format
	for p := range 3 {
		put(0x00+2*p, e.volts[p], 0.1)
		put(0x06+2*p, e.volts[p]*math.Sqrt(3), 0.1)
		put(0x0C+2*p, e.amps[p], 0.01)
		put(0x16+2*p, e.watts[p], 0.01)
	}
	put(0x14, e.totalW, 0.01)
	if r.NoPower {
		putLong(image[0x14:], abbNoneInt32)
	}
	image[0x2C] = uint16(math.Round(e.hertz * 100))
	return image
}
