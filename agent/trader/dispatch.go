package trader

// What the battery is to do now. Powers are W, import and charging positive; energies Wh or W·ms; times ms.

// Band is what a battery may do and hold.
type Band struct {
	MaxChargeW, MaxDischargeW int64 // at least 0
	// SoCBp is the state of charge in hundredths of a per cent; nil is unknown. At ReserveBp or below the battery is not
	// discharged, at CeilingBp or above not charged.
	SoCBp                *int64
	ReserveBp, CeilingBp int64
}

// Limits are what the grid operator allows the connection; nil is no limit. FloorW is what no limit of import takes away.
type Limits struct {
	ImportW, ExportW *int64
	FloorW           int64
}

// Course is how far an interval has come at the connection.
type Course struct {
	TargetWh  int64 // what the connection is to come to in the interval: bought minus sold
	CountedWh int64 // what its counters went on since the interval began: import minus export
	AgeMS     int64 // for how long the counters have stood at that
	LeftMS    int64 // until the interval ends
	LeastMS   int64 // never plan for a shorter time: nobody looks more often
	HouseW    int64 // the house with its sun, without the battery
	BatteryW  int64 // what the battery did meanwhile
}

const wattMSPerWh = 3_600_000

// Follow is the power of the battery with which the connection comes to its target: what is still to flow, spread evenly
// over the time that is left, so that it does not cross zero without need. It is within Band and Limits.
func Follow(c Course, b Band, l Limits) int64 {
	flowed := c.CountedWh*wattMSPerWh + (c.HouseW+c.BatteryW)*c.AgeMS
	connection := (c.TargetWh*wattMSPerWh - flowed) / max(c.LeftMS, c.LeastMS, 1)
	return Bounded(connection-c.HouseW, c.HouseW, b, l)
}

// Bounded is the power nearest to the wanted one that the battery may have. The limits of the connection come first,
// as far as the battery can: one of import reduces charging and then discharges, one of export the other way round.
func Bounded(wanted, houseW int64, b Band, l Limits) int64 {
	low, high := b.Range()
	w := min(max(wanted, low), high)
	if l.ImportW != nil {
		w = min(w, max(low, max(*l.ImportW, l.FloorW)-houseW))
	}
	if l.ExportW != nil {
		w = max(w, min(high, -*l.ExportW-houseW))
	}
	return w
}

// Range is from what to what the battery can now: discharging is negative.
func (b Band) Range() (low, high int64) {
	low, high = -max(0, b.MaxDischargeW), max(0, b.MaxChargeW)
	if b.SoCBp != nil && *b.SoCBp <= b.ReserveBp {
		low = 0
	}
	if b.SoCBp != nil && *b.SoCBp >= b.CeilingBp {
		high = 0
	}
	return low, high
}

// Production is what the roof may give so that the connection exports no more than allowed. Nil: there is no limit.
func Production(solarW, houseW, batteryW int64, l Limits) *int64 {
	if l.ExportW == nil {
		return nil
	}
	// Without its sun the home takes houseW + solarW + batteryW; that and the export is what may be produced.
	most := max(0, houseW+solarW+batteryW+*l.ExportW)
	return &most
}

// Store is a battery as the plan sees it.
type Store struct {
	Band
	CapacityWh int64
}

// margin is how much of the capacity a plan leaves free at both ends, in hundredths of a per cent: with it the battery
// makes up for what the forecast had not seen.
const margin = 1000

// Plan is what the connection will come to if the house, without the battery, comes to houseWh in an interval, and the
// battery stores what is too much and gives what is missing, with a margin kept at both ends. An unknown state of charge
// plans no battery.
func Plan(houseWh int64, s Store, lengthMS int64) (netWh int64) {
	if s.SoCBp == nil || s.CapacityWh <= 0 {
		return houseWh
	}
	energy := func(bp int64) int64 { return max(0, bp) * s.CapacityWh / 10_000 }
	room := energy(s.CeilingBp - margin - *s.SoCBp)
	stock := energy(*s.SoCBp - s.ReserveBp - margin)
	if houseWh < 0 {
		return houseWh + min(-houseWh, room, s.MaxChargeW*lengthMS/wattMSPerWh)
	}
	return houseWh - min(houseWh, stock, s.MaxDischargeW*lengthMS/wattMSPerWh)
}
