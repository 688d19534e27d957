package device

import (
	"math"

	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// sdm630 is the Eastron SDM630-Modbus, a three-phase rail meter. Facts from
// the maker's "SDM630 Modbus Protocol Implementation" V1.7 and the manual of the
// V2: input registers are float32, high word first; energies in kWh; at most 40
// values in one request; total = import + export.
type sdm630 struct{ spec Spec }

const (
	sdmInputs   = 0x017E // input registers 0x0000 to 0x017D
	sdmHoldings = 0x001E
	sdmIdentity = 0xFC00 // serial number (2), meter code, software version
	sdmMaxCount = 80
	sdmCode     = 0x0070
	sdmVersion  = 0x0107
	// ExactKilowattHours is below what a float32 in kWh tells every Wh from its
	// neighbours with room to spare.
	ExactKilowattHours = 8192
)

// Shown is what is left of a count in a float32 of kWh: the count itself up to
// ExactKilowattHours and a good deal beyond.
func (sdm630) Shown(wh uint64) uint64 {
	return uint64(math.Round(float64(kilowattHours(wh)) * 1000))
}

// kilowattHours rounds once: a count has at most 53 bits, its quotient is the
// nearest float64, and the distance between float32 and float64 is so great
// that rounding twice never matters below the Wh.
func kilowattHours(wh uint64) float32 { return float32(float64(wh) / 1000) }

func (d sdm630) Registers(r Reading, table modbus.Table, address, count uint16) ([]uint16, error) {
	if count > sdmMaxCount {
		return nil, modbus.IllegalDataValue
	}
	if table == modbus.Input {
		return window(d.inputs(r), 0, address, count)
	}
	if address >= sdmIdentity {
		identity := []uint16{uint16(d.spec.Serial >> 16), uint16(d.spec.Serial), sdmCode, sdmVersion} //nolint:gosec // G115: the two halves
		return window(identity, sdmIdentity, address, count)
	}
	return window(d.holdings(), 0, address, count)
}

// window cuts a request out of an image that begins at base.
func window(image []uint16, base, address, count uint16) ([]uint16, error) {
	from := int(address) - int(base)
	if from < 0 || from+int(count) > len(image) {
		return nil, modbus.IllegalDataAddress
	}
	return image[from : from+int(count)], nil
}

func (d sdm630) inputs(r Reading) []uint16 {
	image := make([]uint16, sdmInputs)
	put := func(address int, value float64) { putFloat(image, address, float32(value)) }
	e := newElectrics(r, d.spec.Serial)
	var sumVolts, sumAmps float64
	for p := range 3 {
		put(0x0000+2*p, e.volts[p])
		put(0x0006+2*p, e.amps[p])
		put(0x000C+2*p, e.watts[p])
		put(0x0012+2*p, e.voltAmps[p])
		put(0x0018+2*p, e.vars[p])
		put(0x001E+2*p, math.Copysign(powerFactor, e.watts[p]))
		put(0x0024+2*p, math.Acos(powerFactor)*180/math.Pi)
		put(0x00C8+2*p, e.volts[p]*math.Sqrt(3))
		sumVolts += e.volts[p]
		sumAmps += e.amps[p]
	}
	put(0x002A, sumVolts/3)
	put(0x002E, sumAmps/3)
	put(0x0030, sumAmps)
	put(0x0034, e.totalW)
	put(0x0038, e.totalVA)
	put(0x003C, e.totalVAr)
	put(0x003E, math.Copysign(powerFactor, e.totalW))
	put(0x0042, math.Acos(powerFactor)*180/math.Pi)
	put(0x0046, e.hertz)
	put(0x00CE, sumVolts/3*math.Sqrt(3))

	if r.NoPower {
		for _, address := range []int{0x000C, 0x000E, 0x0010, 0x0034} {
			putFloat(image, address, notANumber)
		}
	}
	imported, exported := r.ImportWh(), r.ExportWh()
	if r.NoCounters {
		for _, address := range []int{0x0048, 0x004A, 0x0156, 0x0158} {
			putFloat(image, address, notANumber)
		}
		return image
	}
	putFloat(image, 0x0048, kilowattHours(imported))
	putFloat(image, 0x004A, kilowattHours(exported))
	putFloat(image, 0x0156, kilowattHours(imported+exported))
	for p, share := range [3]float64{0.5, 0.3, 0.2} {
		put(0x015A+2*p, float64(imported)*share/1000)
		put(0x0160+2*p, float64(exported)*share/1000)
		put(0x0166+2*p, float64(imported+exported)*share/1000)
	}
	return image
}

// holdings is the meter's setup as delivered.
func (d sdm630) holdings() []uint16 {
	image := make([]uint16, sdmHoldings)
	for address, value := range map[int]float32{
		0x0002: 60,                   // demand period, minutes
		0x000A: 3,                    // three phases, four wires
		0x000C: 100,                  // pulse width, ms
		0x0014: float32(d.spec.Unit), // node address
		0x0018: 1000,                 // password
		0x001C: 2,                    // 9600 baud
	} {
		putFloat(image, address, value)
	}
	return image
}

// notANumber is the quiet one that float32 units produce.
var notANumber = math.Float32frombits(0x7FC00000)

func putFloat(image []uint16, address int, value float32) {
	bits := math.Float32bits(value)
	image[address], image[address+1] = uint16(bits>>16), uint16(bits) //nolint:gosec // G115: the two halves
}
