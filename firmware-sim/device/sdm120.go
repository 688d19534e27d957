package device

import "github.com/commonwatt/commonwatt/firmware-sim/modbus"

// sdm120 is the Eastron SDM120-Modbus, a one-phase rail meter. Facts from the
// maker's "SDM120 Modbus Protocol" V2.5: as the SDM630, but with the registers of
// one phase only; what lies between them reads as 0.
type sdm120 struct{ spec Spec }

func (sdm120) Shown(wh uint64) uint64 { return sdm630{}.Shown(wh) }

func (d sdm120) Registers(r Reading, table modbus.Table, address, count uint16) ([]uint16, error) {
	if count > sdmMaxCount {
		return nil, modbus.IllegalDataValue
	}
	if table == modbus.Holding {
		return sdm630(d).Registers(r, table, address, count)
	}
	image := make([]uint16, 0x015A)
	e := newElectrics(r, d.spec.Serial)
	put := func(at int, v float64) { putFloat(image, at, float32(v)) }
	put(0x0000, e.volts[0])
	put(0x0006, e.totalVA/e.volts[0])
	put(0x000C, e.totalW)
	put(0x0012, e.totalVA)
	put(0x0018, e.totalVAr)
	put(0x001E, powerFactor)
	put(0x0046, e.hertz)
	if r.NoPower {
		putFloat(image, 0x000C, notANumber)
	}
	imported, exported := r.ImportWh(), r.ExportWh()
	for at, v := range map[int]float32{
		0x0048: kilowattHours(imported), 0x004A: kilowattHours(exported), 0x0156: kilowattHours(imported + exported),
	} {
		if r.NoCounters {
			v = notANumber
		}
		putFloat(image, at, v)
	}
	return window(image, 0, address, count)
}
