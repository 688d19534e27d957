package device

import "math"

// electrics are the quantities beside energy that meters show. They are made
// up around the reading's power, plausible and reproducible; nobody settles on
// them.
type electrics struct {
	volts                     [3]float64
	watts, voltAmps, amps     [3]float64
	vars                      [3]float64
	totalW, totalVA, totalVAr float64
	hertz                     float64
}

const powerFactor = 0.98

func newElectrics(r Reading, serial uint32) electrics {
	onePhase := float64(r.OnePhase) / 1000
	e := electrics{hertz: 50 + 0.04*wobble(r.Index, 0), totalW: float64(r.Power) / 1000}
	for phase, share := range [3]float64{0.5, 0.3, 0.2} {
		e.volts[phase] = 230 + 2.5*wobble(r.Index+int64(serial), phase+1)
		e.watts[phase] = (e.totalW - onePhase) * share
		if phase == 0 {
			e.watts[phase] += onePhase
		}
		e.voltAmps[phase] = math.Abs(e.watts[phase]) / powerFactor
		e.vars[phase] = e.voltAmps[phase] * math.Sqrt(1-powerFactor*powerFactor)
		e.amps[phase] = e.voltAmps[phase] / e.volts[phase]
		e.totalVA += e.voltAmps[phase]
		e.totalVAr += e.vars[phase]
	}
	return e
}

// wobble is a number in [-1, 1] that belongs to a refresh and a quantity.
func wobble(index int64, quantity int) float64 {
	return math.Sin(float64(index%100_003)*(1.7+0.31*float64(quantity))) * math.Cos(float64(index%9973)*0.613)
}
