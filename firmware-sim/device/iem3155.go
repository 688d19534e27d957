package device

import (
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// iem3155 is the Schneider Electric iEM3155. Facts from the maker's "iEM3100
// series / iEM3200 series user manual" (DOCA0005EN), register list: holding
// registers, in the manual counted from 1; energies as 64-bit integers of Wh,
// powers as float32 of kW, texts of 20 registers; 8000… and FFC00000 are values
// that are not there.
type iem3155 struct{ spec Spec }

// What the manual calls 30, 130, 3000 and 3204 is one less on the wire.
const (
	iemNames  = 29
	iemSerial = 129
	iemBasics = 2999
	iemEnergy = 3203
)

func (iem3155) Shown(wh uint64) uint64 { return wh }

func (d iem3155) Registers(r Reading, table modbus.Table, address, count uint16) ([]uint16, error) {
	if table != modbus.Holding {
		return nil, modbus.IllegalDataAddress
	}
	switch {
	case address >= iemEnergy:
		image := make([]uint16, 8)
		imported, exported := r.ImportWh(), r.ExportWh()
		if r.NoCounters {
			imported, exported = 1<<63, 1<<63
		}
		for i, v := range []uint64{imported, exported} {
			putLong(image[4*i:], v>>32)
			putLong(image[4*i+2:], v)
		}
		return window(image, iemEnergy, address, count)
	case address >= iemBasics:
		return window(d.basics(r), iemBasics, address, count)
	case address >= iemSerial:
		image := make([]uint16, 2)
		putLong(image, uint64(d.spec.Serial))
		return window(image, iemSerial, address, count)
	}
	image := make([]uint16, 60)
	putText(image[0:20], "Energy Meter")
	putText(image[20:40], "iEM3155")
	putText(image[40:60], "Schneider Electric")
	return window(image, iemNames, address, count)
}

func (d iem3155) basics(r Reading) []uint16 {
	image := make([]uint16, 114)
	e := newElectrics(r, d.spec.Serial)
	put := func(manual int, v float64) { putFloat(image, manual-1-iemBasics, float32(v)) }
	for p := range 3 {
		put(3000+2*p, e.amps[p])
		put(3028+2*p, e.volts[p])
		put(3054+2*p, e.watts[p]/1000)
	}
	put(3060, e.totalW/1000)
	put(3068, e.totalVAr/1000)
	put(3076, e.totalVA/1000)
	put(3110, e.hertz)
	if r.NoPower {
		putFloat(image, 3060-1-iemBasics, math.Float32frombits(0xFFC00000))
	}
	return image
}
