package api

// place is one end of a flow of power.
type place string

// The places, in the order they are drawn and matched: what the roof makes goes
// to the house first, and the grid comes last on both sides.
const (
	placeRoof       place = "roof"
	placeBattery    place = "battery"
	placeNeighbours place = "neighbours"
	placeGrid       place = "grid"
	placeStreet     place = "street" // neighbours and grid together, while the split is unknown
	placeHouse      place = "house"
)

// label is what people call a place.
func (p place) label() string {
	switch p {
	case placeRoof:
		return "Roof"
	case placeBattery:
		return "Battery"
	case placeNeighbours:
		return "Neighbours"
	case placeGrid:
		return "Grid"
	case placeStreet:
		return "Street"
	case placeHouse:
		return "House"
	}
	return string(p)
}

// amount is power at a place, not negative.
type amount struct {
	place place
	w     int64
}

// ribbon is the part of a source that goes to one sink.
type ribbon struct {
	from, to place
	w        int64
}

// flows is the power balance as sources and sinks. Amounts of 0 are left out.
type flows struct {
	sources, sinks []amount
	ribbons        []ribbon
	complete       bool // every part of the balance is known
}

// powerLimit bounds what enters the arithmetic of pictures, so that sums of
// whatever a meter claims stay far from overflow: 1 TW for a home.
const powerLimit = 1_000_000_000_000

func bounded(v int64) int64 { return min(max(v, -powerLimit), powerLimit) }

// newFlows splits the balance and matches sources with sinks in their order.
func newFlows(p Power) flows {
	f := flows{complete: p.HouseW != nil && p.ConnectionW != nil &&
		(p.SolarW != nil || !p.HasSolar) && (p.BatteryW != nil || !p.HasBattery)}
	f.add(placeHouse, p.HouseW, -1)
	f.add(placeRoof, p.SolarW, 1)
	f.add(placeBattery, p.BatteryW, -1)
	if p.NeighboursW != nil && p.GridW != nil {
		f.add(placeNeighbours, p.NeighboursW, 1)
		f.add(placeGrid, p.GridW, 1)
	} else {
		f.add(placeStreet, p.ConnectionW, 1)
	}
	f.match()
	return f
}

// add counts a signed power as a source if sign × w is positive, else as a sink.
func (f *flows) add(p place, w *int64, sign int64) {
	if w == nil || *w == 0 {
		return
	}
	v := sign * bounded(*w)
	switch {
	case v > 0 && p != placeHouse: // a house that gives power is a wrong sign somewhere, not a source
		f.sources = append(f.sources, amount{p, v})
	case v < 0 && p != placeRoof: // and so is a roof that takes it; at night an inverter may
		f.sinks = append(f.sinks, amount{p, -v})
	}
}

// match hands out the sources to the sinks, both in their order.
func (f *flows) match() {
	sinks := make([]amount, len(f.sinks))
	copy(sinks, f.sinks)
	i := 0
	for _, s := range f.sources {
		for s.w > 0 && i < len(sinks) {
			w := min(s.w, sinks[i].w)
			f.ribbons = append(f.ribbons, ribbon{s.place, sinks[i].place, w})
			s.w -= w
			if sinks[i].w -= w; sinks[i].w == 0 {
				i++
			}
		}
	}
}

// total is the larger of the two sides; they are equal if the balance is.
func (f flows) total() int64 {
	return max(total(f.sources), total(f.sinks))
}

func total(amounts []amount) int64 {
	var sum int64
	for _, a := range amounts {
		sum += a.w
	}
	return sum
}

// visible leaves out what is below 2 % of the picture: it would be a hairline.
func visible(amounts []amount, whole int64) []amount {
	var out []amount
	for _, a := range amounts {
		if a.w*50 >= whole {
			out = append(out, a)
		}
	}
	return out
}

// of returns the power of a place among the amounts, 0 if it has none.
func of(amounts []amount, p place) int64 {
	for _, a := range amounts {
		if a.place == p {
			return a.w
		}
	}
	return 0
}
