package api

import (
	"html/template"
	"strings"
	"time"
)

// Geometry of the strip of intervals, in pixels from the top.
const (
	stripPriceTop = 16  // room for the label of the highest price
	stripPrice    = 72  // height of the price panel
	stripZero     = 182 // where sold (up) and bought (down) meet
	stripReach    = 54  // longest bar either way
	stripStates   = 256 // the row of states
	stripHeight   = 280
	stripSlots    = 96 // most intervals drawn
	stripMinSlots = 24 // fewer leave room on the left, for what has not been
)

// drawStrip draws the last intervals: the price as a line over the bars of what
// was sold (up) and bought (down), neighbours' part in their colour.
func drawStrip(intervals []Interval, now Price, currency string, zone *time.Location) template.HTML {
	if len(intervals) > stripSlots {
		intervals = intervals[len(intervals)-stripSlots:]
	}
	var c canvas
	c.picture("strip", stripHeight, "The last intervals", stripDescription(intervals, currency, zone))
	if len(intervals) == 0 {
		c.text("text", "no interval yet", "class", "caption", "x", "50%", "y", num(stripHeight/2), "text-anchor", "middle",
			"fill", "#59636f", "font-size", "14")
		return c.done()
	}
	s := newStrip(intervals, now)
	c.stretched(stripHeight)
	s.drawGaps(&c)
	s.drawBars(&c)
	s.drawPrice(&c)
	s.drawStates(&c)
	c.close("svg")
	s.drawLabels(&c, currency, zone)
	return c.done()
}

// strip is a list of intervals with its scales.
type strip struct {
	intervals []Interval
	now       Price
	slots     int64
	low, high int64 // of the price panel
	reach     int64 // Wh of the longest bar
}

func newStrip(intervals []Interval, now Price) strip {
	s := strip{intervals: intervals, now: now, slots: max(int64(len(intervals)), stripMinSlots)}
	first := true
	spread := func(p *int64) {
		if p == nil {
			return
		}
		v := min(max(*p, -priceLimit), priceLimit)
		if first {
			s.low, s.high, first = v, v, false
		}
		s.low, s.high = min(s.low, v), max(s.high, v)
	}
	spread(now.ImportPrice)
	spread(now.ExportPrice)
	for _, i := range intervals {
		spread(i.Price)
		up, down := i.parts()
		s.reach = max(s.reach, up[0]+up[1], down[0]+down[1])
	}
	if s.low == s.high { // one price only: in the middle
		s.low, s.high = s.low-1, s.high+1
	}
	return s
}

// priceLimit is that of the market rules (R1); energyLimit keeps the sums of
// whatever a meter claims far from overflow.
const (
	priceLimit  = 1 << 40
	energyLimit = 1 << 50
)

// parts returns what the bars of an interval are made of, sold up and bought
// down, neighbours' part first. Unknown parts are not drawn.
func (i Interval) parts() (up, down [2]int64) {
	split := func(part, whole *int64) (out [2]int64) {
		if part != nil {
			out[0] = min(max(*part, 0), energyLimit)
		}
		if whole != nil {
			out[1] = max(min(max(*whole, 0), energyLimit)-out[0], 0)
		}
		return out
	}
	return split(i.SoldWh, i.ExportWh), split(i.BoughtWh, i.ImportWh)
}

// slot returns the left edge and the width of the n-th interval; the newest is
// at the right end.
func (s strip) slot(n int) (x, width int64) {
	i := s.slots - int64(len(s.intervals)) + int64(n)
	x = i * fullWidth / s.slots
	return x, (i+1)*fullWidth/s.slots - x
}

func (s strip) priceY(p int64) int64 {
	p = min(max(p, s.low), s.high)
	return stripPriceTop + stripPrice - int64(ratio(uint64(p-s.low), uint64(s.high-s.low), stripPrice))
}

// drawGaps marks intervals without a reading over the whole height.
func (s strip) drawGaps(c *canvas) {
	for n, i := range s.intervals {
		if i.State == StateMissing {
			x, width := s.slot(n)
			c.leaf("rect", "class", "gap", "x", num(x), "y", num(stripZero-stripReach), "width", num(width), "height", num(2*stripReach),
				"fill", "#d7263d", "fill-opacity", "0.16")
		}
	}
}

func (s strip) drawBars(c *canvas) {
	c.leaf("rect", "class", "axis", "x", "0", "y", num(stripZero), "width", num(fullWidth), "height", "1", "fill", "#c3cad3")
	if s.reach == 0 {
		return
	}
	for n, i := range s.intervals {
		x, width := s.slot(n)
		inset := width / 8
		x, width = x+inset, width-2*inset
		bar := func(class, fill string, from, to int64) {
			if from != to {
				c.leaf("rect", "class", class, "x", num(x), "y", num(min(from, to)), "width", num(width), "height", num(max(from-to, to-from)), "fill", fill)
			}
		}
		length := func(wh int64) int64 { return int64(ratio(uint64(wh), uint64(s.reach), stripReach)) }
		up, down := i.parts()
		bar("fill-neighbours", placeFill[placeNeighbours], stripZero, stripZero-length(up[0]))
		bar("fill-grid", placeFill[placeGrid], stripZero-length(up[0]), stripZero-length(up[0]+up[1]))
		bar("fill-neighbours low", placeFill[placeNeighbours], stripZero+1, stripZero+1+length(down[0]))
		bar("fill-grid low", placeFill[placeGrid], stripZero+1+length(down[0]), stripZero+1+length(down[0]+down[1]))
	}
}

// drawPrice draws the cleared price as steps, broken where there is none, and
// the supplier's two prices as dashes.
func (s strip) drawPrice(c *canvas) {
	for _, p := range []*int64{s.now.ImportPrice, s.now.ExportPrice} {
		if p != nil {
			y := num(s.priceY(*p))
			c.leaf("path", "class", "bound", "d", "M 0 "+y+" H "+num(fullWidth), "fill", "none", "stroke", "#8b95a1",
				"stroke-dasharray", "2 4", "vector-effect", "non-scaling-stroke")
		}
	}
	var d []string
	pen := false
	for n, i := range s.intervals {
		if i.Price == nil {
			pen = false
			continue
		}
		x, width := s.slot(n)
		y := num(s.priceY(*i.Price))
		if pen {
			d = append(d, "V", y)
		} else {
			d = append(d, "M", num(x), y)
		}
		d = append(d, "H", num(x+width))
		pen = true
	}
	if len(d) > 0 {
		c.leaf("path", "class", "price", "d", strings.Join(d, " "), "fill", "none", "stroke", "#1d2733", "stroke-width", "2",
			"stroke-linejoin", "round", "vector-effect", "non-scaling-stroke")
	}
}

// drawStates draws a row that says how far each interval has come.
func (s strip) drawStates(c *canvas) {
	for n, i := range s.intervals {
		x, width := s.slot(n)
		c.leaf("rect", "class", "state-"+string(i.State), "x", num(x), "y", num(stripStates), "width", num(max(width-width/8, 1)), "height", "5",
			"fill", stateFill[i.State])
	}
}

var stateFill = map[IntervalState]string{
	StateOpen: "#e3e7ec", StateGateClosed: "#c9d0d8", StateCleared: "#9fb7c9", StateMissing: "#d7263d",
	StateProvisional: "#8cc9b4", StateSubstitute: "#e08e2b", StateSettled: "#08805f",
}

// drawLabels writes the supplier's prices at their lines and the hours below.
func (s strip) drawLabels(c *canvas, currency string, zone *time.Location) {
	label := func(x, y int64, anchor, text string) {
		c.text("text", text, "class", "caption", "x", percent(x), "y", num(y), "text-anchor", anchor, "fill", "#59636f", "font-size", "11")
	}
	if s.now.ImportPrice != nil {
		label(0, s.priceY(*s.now.ImportPrice)-4, "start", "grid "+formatPrice(s.now.ImportPrice, currency))
	}
	if s.now.ExportPrice != nil {
		label(0, s.priceY(*s.now.ExportPrice)+13, "start", "feed-in "+formatPrice(s.now.ExportPrice, currency))
	}
	label(0, stripZero-stripReach-6, "start", "sold ↑")
	label(0, stripZero+stripReach+14, "start", "bought ↓")
	if s.reach > 0 {
		label(fullWidth, stripZero+stripReach+14, "end", "longest bar "+formatEnergy(&s.reach))
	}
	// Three times are enough, and never run into each other on a phone.
	last := len(s.intervals) - 1
	for _, mark := range []struct {
		n      int
		anchor string
	}{{0, "start"}, {last / 2, "middle"}, {last, "end"}} {
		if mark.n == 0 && mark.anchor != "start" {
			continue
		}
		x, width := s.slot(mark.n)
		switch mark.anchor {
		case "middle":
			x += width / 2
		case "end":
			x += width
		}
		label(x, stripHeight-6, mark.anchor, s.intervals[mark.n].Start.In(zone).Format("15:04"))
	}
}

// stripDescription says the picture in words: how many, from when to when, and
// the span of the price.
func stripDescription(intervals []Interval, currency string, zone *time.Location) string {
	if len(intervals) == 0 {
		return "No interval yet."
	}
	var low, high *int64
	states := make(map[IntervalState]int64)
	for _, i := range intervals {
		states[i.State]++
		if i.Price == nil {
			continue
		}
		if low == nil || *i.Price < *low {
			low = i.Price
		}
		if high == nil || *i.Price > *high {
			high = i.Price
		}
	}
	first, last := intervals[0].Start.In(zone), intervals[len(intervals)-1].Start.In(zone)
	count := int64(len(intervals))
	settled, missing := states[StateSettled], states[StateMissing]
	text := formatCount(&count) + " intervals from " + first.Format("15:04") + " to " + last.Format("15:04") + ", " +
		formatCount(&settled) + " settled, " + formatCount(&missing) + " missing"
	if low != nil {
		text += "; the price was between " + formatPrice(low, currency) + " and " + formatPrice(high, currency)
	}
	return text + "."
}
