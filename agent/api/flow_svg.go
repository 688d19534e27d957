package api

import (
	"html/template"
	"strings"
	"unicode/utf8"
)

// Geometry of the flow picture, in pixels from the top.
const (
	flowBar    = 52  // height of each of the two bars
	flowGap    = 148 // between them, where the ribbons run
	flowHeight = 2*flowBar + flowGap + 2*flowCap
	flowCap    = 20 // for the captions above and below
	flowSeam   = 40 // between neighbours in a bar, in hundredths of a per cent
)

// colours for pictures outside the page; in it, the classes decide.
var placeFill = map[place]string{
	placeRoof: "#f4b73b", placeBattery: "#5aa9e6", placeNeighbours: "#08805f",
	placeGrid: "#7a64b4", placeStreet: "#7d8794", placeHouse: "#41506b",
}

// segment is an amount with its place in a bar.
type segment struct {
	amount
	x, width int64 // in hundredths of a per cent
}

// layOut spreads the amounts over the width of a bar, in proportion to whole.
func layOut(amounts []amount, whole int64) []segment {
	if whole == 0 {
		return nil
	}
	var out []segment
	var before int64
	for _, a := range amounts {
		// Both edges from running sums: rounding never leaves a gap.
		x := int64(ratio(uint64(before), uint64(whole), fullWidth))
		before += a.w
		end := int64(ratio(uint64(before), uint64(whole), fullWidth))
		out = append(out, segment{a, x, end - x})
	}
	return out
}

// drawFlow draws where the power comes from, where it goes, and which part goes
// where: two bars and the ribbons between them.
func drawFlow(p Power) template.HTML {
	f := newFlows(p)
	var c canvas
	if !f.complete || f.total() == 0 {
		return drawNoFlow(f)
	}
	sources, sinks := visible(f.sources, f.total()), visible(f.sinks, f.total())
	// What is left out makes room for the rest, on each side for itself.
	whole := max(total(sources), total(sinks))
	from, to := layOut(sources, whole), layOut(sinks, whole)

	c.picture("flow", flowHeight, "Power now", flowDescription(f))
	c.text("text", "comes from", "class", "caption", "x", "0", "y", "12", "fill", "#59636f", "font-size", "12")
	c.text("text", "goes to", "class", "caption", "x", "0", "y", num(flowHeight-4), "fill", "#59636f", "font-size", "12")
	c.stretched(flowHeight)
	drawRibbons(&c, bands(f.ribbons, from, to, whole))
	c.close("svg")
	drawBar(&c, from, flowCap)
	drawBar(&c, to, flowCap+flowBar+flowGap)
	return c.done()
}

// drawNoFlow is the picture of nothing, or of nothing known.
func drawNoFlow(f flows) template.HTML {
	text := "unknown"
	if f.complete {
		text = "nothing flows"
	}
	var c canvas
	c.picture("flow", flowHeight, "Power now", "Power now: "+text)
	for _, y := range []int64{flowCap, flowCap + flowBar + flowGap} {
		c.leaf("rect", "class", "empty", "x", "0.1%", "y", num(y), "width", "99.8%", "height", num(flowBar), "rx", "10",
			"fill", "none", "stroke", "#8b95a1", "stroke-dasharray", "4 5")
	}
	c.text("text", text, "class", "caption", "x", "50%", "y", num(flowHeight/2+4), "text-anchor", "middle", "fill", "#59636f", "font-size", "14")
	return c.done()
}

// drawBar draws one side: a rounded piece for each place, with its name and
// value where they fit.
func drawBar(c *canvas, segments []segment, y int64) {
	for i, s := range segments {
		x, width := s.x, s.width
		if i > 0 { // a seam between neighbours, taken from the right one
			x, width = x+flowSeam, max(width-flowSeam, 1)
		}
		c.open("g", "class", "at-"+string(s.place))
		c.leaf("rect", "class", "fill", "x", percent(x), "y", num(y), "width", percent(width), "height", num(flowBar),
			"rx", "10", "fill", placeFill[s.place])
		if class := labelClass(s); class != "" {
			middle := percent(x + width/2)
			c.text("text", s.place.label(), "class", "name "+class, "x", middle, "y", num(y+flowBar/2-6),
				"text-anchor", "middle", "font-size", "12")
			c.text("text", formatPower(&s.w), "class", "value "+class, "x", middle, "y", num(y+flowBar/2+13),
				"text-anchor", "middle", "font-size", "16", "font-weight", "650")
		}
		c.close("g")
	}
}

// labelClass says where a segment's label fits: everywhere, on wide screens
// only, or nowhere (the tiles below the picture have every value).
func labelClass(s segment) string {
	const phone, desk = 330, 600 // pixels the picture has at least
	runes := int64(max(utf8.RuneCountInString(s.place.label())*15/2, utf8.RuneCountInString(formatPower(&s.w))*10))
	need := (runes + 12) * fullWidth
	switch {
	case s.width*phone >= need:
		return "fits"
	case s.width*desk >= need:
		return "fits-wide"
	default:
		return ""
	}
}

// band is a ribbon with its two ends.
type band struct {
	ribbon
	top, bottom segment
}

// bands gives every ribbon its part of the segments at its ends, from left to
// right in each; ribbons with an end too thin to be seen are left out.
func bands(ribbons []ribbon, from, to []segment, whole int64) []band {
	taken := make(map[*segment]int64)
	take := func(segments []segment, p place, w int64) (segment, bool) {
		for i := range segments {
			s := &segments[i]
			if s.place != p {
				continue
			}
			width := min(int64(ratio(uint64(w), uint64(whole), fullWidth)), s.width-taken[s])
			x := s.x + taken[s]
			taken[s] += width
			return segment{amount{p, w}, x, width}, width > 0
		}
		return segment{}, false
	}
	var out []band
	for _, r := range ribbons {
		top, okTop := take(from, r.from, r.w)
		bottom, okBottom := take(to, r.to, r.w)
		if okTop && okBottom {
			out = append(out, band{r, top, bottom})
		}
	}
	return out
}

// drawRibbons draws the parts, each fading from the colour of its source into
// that of its sink.
func drawRibbons(c *canvas, bands []band) {
	const top, bottom = flowCap + flowBar + 3, flowCap + flowBar + flowGap - 3
	const mid = (top + bottom) / 2
	c.open("defs")
	for _, b := range bands {
		c.open("linearGradient", "id", b.gradient(), "x1", "0", "y1", "0", "x2", "0", "y2", "1")
		c.leaf("stop", "class", "stop-"+string(b.from), "offset", "0", "stop-color", placeFill[b.from])
		c.leaf("stop", "class", "stop-"+string(b.to), "offset", "1", "stop-color", placeFill[b.to])
		c.close("linearGradient")
	}
	c.close("defs")
	for _, b := range bands {
		x0, w0, x1, w1 := b.top.x, b.top.width, b.bottom.x, b.bottom.width
		if x0 > 0 {
			x0, w0 = x0+flowSeam, max(w0-flowSeam, 1)
		}
		if x1 > 0 {
			x1, w1 = x1+flowSeam, max(w1-flowSeam, 1)
		}
		d := strings.Join([]string{
			"M", num(x0), num(top), "C", num(x0), num(mid), num(x1), num(mid), num(x1), num(bottom),
			"L", num(x1 + w1), num(bottom), "C", num(x1 + w1), num(mid), num(x0 + w0), num(mid), num(x0 + w0), num(top), "Z",
		}, " ")
		c.leaf("path", "class", "ribbon", "d", d, "fill", "url(#"+b.gradient()+")", "fill-opacity", "0.45")
	}
}

func (b band) gradient() string { return "flow-" + string(b.from) + "-" + string(b.to) }

// flowDescription says the picture in words, every part of it.
func flowDescription(f flows) string {
	parts := make([]string, 0, len(f.ribbons))
	for _, r := range f.ribbons {
		parts = append(parts, formatPower(&r.w)+" from "+r.from.label()+" to "+r.to.label())
	}
	return strings.Join(parts, "; ")
}
